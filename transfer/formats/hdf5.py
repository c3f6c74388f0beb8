"""HDF5 files, opened warily: nothing outside the file is followed, and sizes are known before anything is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from robot.config import ConfigError
from transfer.formats import sources
from transfer.formats.parquet import short
from transfer.formats.sources import size_told

MAGIC = b"\x89HDF\r\n\x1a\n"
NAMES = (".hdf5", ".h5")
DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError)
"""What h5py raises on damaged files."""


class Hdf5Refused(ValueError):
    """A file, or a part of one, cannot be read; `kind` is the finding that says so."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def is_hdf5(path: Path) -> bool:
    """By the name; the library and the file's first bytes are asked when it is opened."""
    return path.is_file() and path.suffix in NAMES


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An h5py.File for reading; every error of the library becomes Hdf5Refused, also inside the block."""
    try:
        import h5py
    except ImportError as error:
        raise ConfigError(f"{path}: HDF5 needs h5py: pip install 'terrafirma[hdf5]'.") from error
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            yield file
    except Hdf5Refused:
        raise
    except DAMAGE as error:
        raise Hdf5Refused("unreadable", f"not a whole HDF5 file ({short(error)}).") from error


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Every error of the library becomes Hdf5Refused, which names the member."""
    try:
        yield
    except Hdf5Refused:
        raise
    except DAMAGE as error:
        raise Hdf5Refused("unreadable", f"{name} cannot be read ({short(error)}).") from error


def has(path: Path, *members: str) -> bool:
    """Whether a file has all these groups or data sets, if only as links; False for what cannot be opened."""
    try:
        with opened(path) as file:
            return all(link_of(file, name) for name in members)
    except Hdf5Refused as error:
        return error.kind == "outside"
    except ConfigError:
        return False


def link_of(file: Any, name: str) -> bool:
    """Whether `name` is inside the file, step by step; Hdf5Refused where a step leads out of it."""
    import h5py

    with _reading(name):
        group, done = file, ""
        for part in (p for p in name.split("/") if p):
            if not isinstance(group, h5py.Group):
                return False
            link = group.get(part, getlink=True)
            done = f"{done}/{part}"
            if isinstance(link, h5py.ExternalLink):
                raise Hdf5Refused(
                    "outside", f"{done} links to another file ('{link.filename}'), which is not followed."
                )
            if isinstance(link, h5py.SoftLink):
                raise Hdf5Refused("outside", f"{done} is a soft link ('{link.path}'), which is not followed.")
            if link is None:
                return False
            group = group[part]
        return True


def children(file: Any, name: str) -> list[str]:
    """Names in a group, sorted; empty where it is none."""
    import h5py

    with _reading(name):
        if not link_of(file, name) or not isinstance(file[name], h5py.Group):
            return []
        return sorted(file[name])


def declared(file: Any, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of a data set of numbers; Hdf5Refused where it is none, or keeps its values in other files."""
    import h5py

    with _reading(name):
        if not link_of(file, name) or not isinstance(file[name], h5py.Dataset):
            raise Hdf5Refused("missing_column", f"it has no data set {name}.")
        found = file[name]
        if found.external or found.is_virtual:
            raise Hdf5Refused("outside", f"{name} keeps its values in other files, which are not read.")
        if found.dtype.kind not in "biuf":
            raise Hdf5Refused("text", f"{name} holds no numbers ({found.dtype}).")
        return found.shape, found.dtype


def array(file: Any, name: str) -> np.ndarray:
    """The numbers of a data set, read only where sources.MEMORY allows."""
    shape, dtype = declared(file, name)
    size = int(np.prod(shape, dtype=np.float64)) * max(dtype.itemsize, 1)
    if size > sources.MEMORY:
        told = f"{name} would take {size_told(size)}, more than {size_told(sources.MEMORY)}; split it."
        raise Hdf5Refused("too_large", told)
    with _reading(name):
        values: np.ndarray = file[name][()]
        return values


def text(file: Any, name: str, attribute: str, most: int = 1 << 20) -> str:
    """An attribute that is a short text; empty where there is none."""
    with _reading(name):
        value = file[name].attrs.get(attribute, "")
        value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return value[:most] if isinstance(value, str) else ""

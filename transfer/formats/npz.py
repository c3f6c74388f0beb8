"""NumPy archives: arrays (n,) and (n, k) of equal length as columns. Nothing is unpickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from robot.spec import RobotSpec
from transfer.formats import Recording, sources
from transfer.formats.sources import Source, flat, refused, size_told, table_of, unmapped

FORMAT = "NumPy archive"
_Header = tuple[tuple[int, ...], np.dtype[Any]]


def detect(path: Path) -> bool:
    """By the name."""
    return path.is_file() and path.suffix == ".npz"


def read(path: Path, spec: RobotSpec) -> Iterator[Recording]:
    """What is wrong with the file, or a map to confirm."""
    return unmapped(episodes(path), spec)


def episodes(path: Path) -> Iterator[Source]:
    """The one episode of an archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield _read(archive, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        yield refused(path.stem, FORMAT, "unreadable", f"not a whole NumPy archive ({_short(error)}).")


def _read(archive: zipfile.ZipFile, path: Path) -> Source:
    declared = sum(item.file_size for item in archive.infolist())
    if declared > sources.MEMORY:
        return sources.too_large(path.stem, FORMAT, declared)
    arrays, unread = dict[str, np.ndarray](), list[str]()
    for item in archive.infolist():
        name = item.filename.removesuffix(".npy")
        with archive.open(item) as stream:
            shape, dtype = _header(stream)
            if dtype.hasobject:
                detail = f"array '{name}' holds pickled objects, which are never read; save numbers."
                return refused(path.stem, FORMAT, "unreadable", detail)
            size = int(np.prod(shape, dtype=np.float64)) * dtype.itemsize
            if size > item.file_size:
                detail = f"array '{name}' claims {size_told(size)} in {size_told(item.file_size)}."
                return refused(path.stem, FORMAT, "unreadable", detail)
        if dtype.kind not in "biuf" or len(shape) not in (1, 2) or 0 in shape:
            unread.append(name)
            continue
        with archive.open(item) as stream:
            arrays[name] = npy.read_array(stream, allow_pickle=False)
    return _source(path.stem, arrays, unread)


def _header(stream: Any) -> _Header:
    """Shape and type that an array declares."""
    version = npy.read_magic(stream)
    shape, _, dtype = npy.read_array_header_1_0(stream) if version == (1, 0) else npy.read_array_header_2_0(stream)
    return shape, dtype


def _source(name: str, arrays: dict[str, np.ndarray], unread: list[str]) -> Source:
    if not arrays:
        return refused(name, FORMAT, "empty", "it has no array of numbers with one or two dimensions.")
    lengths = [len(a) for a in arrays.values()]
    rows = max(set(lengths), key=lambda n: (lengths.count(n), n))
    unread += [n for n, a in arrays.items() if len(a) != rows]
    columns = {c: v for n, a in arrays.items() if len(a) == rows for c, v in flat(n, a).items()}
    return Source(name=name, format=FORMAT, table=table_of(columns), unread=tuple(unread))


def _short(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]

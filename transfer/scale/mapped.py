"""Training data that one process makes and all read: arrays in files, mapped into memory.

A process has in memory what it has touched of them, the processes of one host have it once, and who is started again
does not make it anew. WindowData and ImageData are kept as a folder: NAME.npy for each array, and card.yaml.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from policies.encoders.ranks import Ranks
from robot import config, files

CARD = "card.yaml"
KEYS = ("out", "resume")
"""Of a stage's configuration, those that the data do not depend on."""

Data = TypeVar("Data")


def shared(folder: Path, ranks: Ranks, cfg: Any, kind: type[Data], make: Callable[[], Data]) -> Data:
    """The data of kind `kind`, a dataclass of arrays, that `make()` makes of the configuration `cfg`.

    Alone, it is just that. Of torchrun's processes rank 0 makes it, unless the folder has it of the same configuration,
    and the others wait.
    """
    if not ranks.elastic:
        return make()
    if ranks.leads:
        plain = {k: v for k, v in config.to_plain(cfg).items() if k not in KEYS}
        made_of = hashlib.sha256(config.dump_yaml(plain).encode()).hexdigest()
        if not (folder / CARD).is_file() or config.load_yaml(folder / CARD)["made_of"] != made_of:
            write(folder, make(), made_of)
    ranks.wait()
    return read(folder, kind)


def write(folder: Path, data: Any, made_of: str) -> None:
    """Keep a dataclass of arrays, mappings of arrays and plain values."""
    shutil.rmtree(folder, ignore_errors=True)
    with files.replacing_folder(folder) as new:
        card: dict[str, Any] = {"made_of": made_of}
        for field in fields(data):
            value = getattr(data, field.name)
            if isinstance(value, np.ndarray):
                np.save(new / f"{field.name}.npy", value)
            elif isinstance(value, dict) and any(isinstance(v, np.ndarray) for v in value.values()):
                np.savez(new / f"{field.name}.npz", **value)
            elif value is not None:
                card[field.name] = config.to_plain(value)
        config.save(new / CARD, card)


def read(folder: Path, kind: type[Data]) -> Data:
    """What write() has kept; a page of an array is read when it is touched."""
    values = config.load_yaml(folder / CARD)
    del values["made_of"]
    for name, value in values.items():
        values[name] = tuple(value) if isinstance(value, list) else value
    for path in folder.glob("*.npy"):
        values[path.stem] = np.load(path, mmap_mode="c")  # torch warns of arrays that cannot be written
    for path in folder.glob("*.npz"):
        with np.load(path) as found:
            values[path.stem] = dict(found)
    return kind(**values)

"""Sources: files whose columns have names but no meaning yet, such as NPZ, parquet, HDF5 and LeRobot data sets.

A format of this kind offers `episodes(path)` and reads nothing by itself: which column is which joint, in which unit
and with which sign, a person says in a map (column_map.py). Without one, proposal.py writes a guess for that person.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from robot.log import Channel
from robot.spec import RobotSpec
from transfer.dataset import Finding
from transfer.formats import Recording
from transfer.formats.tables import Table
from transfer.screen import finding

MEMORY = 2 << 30
"""Most bytes that a recording's numbers, or its pictures, may take, by what a file declares before it is read."""
FRAME = "frame"
"""Column that counts the rows, for files that have no clock."""
TABLES = {
    "lerobot": "transfer.formats.lerobot",
    "robomimic": "transfer.formats.robomimic",
    "aloha": "transfer.formats.aloha",
    "npz": "transfer.formats.npz",
    "parquet": "transfer.formats.parquet",
}
"""Formats of this kind, name -> module; text tables are read by column_map.py itself."""

Pictures = tuple[dict[str, Channel], tuple[Finding, ...]]
"""Cameras that could be read, and what was wrong with others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """Which column is the time stamp, as far as the format knows."""

    column: str
    unit: str = "s"
    scale: float | None = 1.0
    """Units of one count; None where only a person can know."""
    nominal: str = ""
    """One sentence where stamps are counted and were not measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One episode as columns."""

    name: str
    format: str
    """What the file is, for people: `LeRobotDataset v3.0`."""
    table: Table
    """No columns where nothing could be read; its findings then say why."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Column -> the unit that the file itself, or the definition of its format, states."""
    clock: Clock | None = None
    """None where it must be guessed from names and steps."""
    cameras: tuple[str, ...] = ()
    pictures: Callable[[Collection[str]], Pictures] | None = None
    """Reads some of the cameras, when asked."""
    meta: Mapping[str, str] = field(default_factory=dict)
    episodes: int = 1
    """How many the file holds."""
    unread: tuple[str, ...] = ()
    """What of the file is no column: texts, pictures, arrays of more dimensions."""


class Tabular(Protocol):
    """What each module of TABLES offers beside detect() and read()."""

    def detect(self, path: Path) -> bool: ...

    def episodes(self, path: Path) -> Iterator[Source]:
        """The file's episodes, one in memory at a time."""
        ...


def tabular(path: Path) -> Tabular | None:
    """The format of TABLES that a file or folder has, or None."""
    for module in TABLES.values():
        candidate = cast(Tabular, importlib.import_module(module))
        if candidate.detect(path):
            return candidate
    return None


def unmapped(sources: Iterable[Source], spec: RobotSpec) -> Iterator[Recording]:
    """Recordings of a file that no map describes: none, but what is wrong with it, and a map to look at and confirm."""
    from transfer.formats.proposal import propose

    for source in sources:
        if source.table.columns:
            yield propose(source, spec)
            return
        yield Recording(log=None, findings=source.table.findings, format=source.format)


def refused(name: str, format: str, kind: str, detail: str, where: str = "file") -> Source:
    """A source of which nothing can be read."""
    return Source(name=name, format=format, table=table_of({}, (finding(kind, "", where, detail),)))


def table_of(columns: Mapping[str, np.ndarray], findings: tuple[Finding, ...] = ()) -> Table:
    """Columns (n,) as a Table without lines; integers stay integers, so that stamps in nanoseconds stay exact."""
    with np.errstate(invalid="ignore"):  # damaged files hold signalling NaNs
        kept = {n: c if c.dtype.kind in "iu" else c.astype(np.float64) for n, c in columns.items()}
    return Table(kept, np.zeros(0, np.int64), findings)


def flat(name: str, values: np.ndarray, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """An array (n,) or (n, k) as columns `name`, or `name/<component>`."""
    if values.ndim == 1:
        return {name: values}
    parts = list(names) if names is not None else [str(k) for k in range(values.shape[1])]
    return {f"{name}/{part}": values[:, k] for k, part in enumerate(parts)}


def size_told(n_bytes: int) -> str:
    """A size for a sentence."""
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 1 << 30 else f"{n_bytes / 2**20:.1f} MiB"


def too_large(name: str, format: str, n_bytes: int) -> Source:
    """A file whose numbers would take more memory than MEMORY."""
    detail = f"its numbers would take {size_told(n_bytes)}, more than {size_told(MEMORY)}; split it, or cut it down."
    return refused(name, format, "too_large", detail)

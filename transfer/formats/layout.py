"""Layouts: which columns of a table make which channel, in which unit and with which sign.

The layouts that ship (csv.LAYOUTS) and those that a person writes in YAML (column_map.py) are this one type. All
channels of a row get the row's time stamp, as logged: a command that acts later is for identification to find
(`timing/command/shift`), not for reading to hide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robot.config import nearest
from robot.log import UNITS, Channel, EpisodeLog
from robot.spec import RobotSpec
from transfer.dataset import Finding
from transfer.formats import Recording
from transfer.formats.tables import Dialect, Table
from transfer.screen import finding

Array = npt.NDArray[np.float64]

LONGEST_S = 9e9
"""A time stamp beyond this, some 285 years [s], is none."""
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Units of time stamps -> seconds."""
FACTORS: dict[str, dict[str, float]] = {
    "rad": {"rad": 1.0, "deg": np.pi / 180.0, "turn": 2.0 * np.pi, "mrad": 1e-3},
    "rad/s": {"rad/s": 1.0, "deg/s": np.pi / 180.0, "turn/s": 2.0 * np.pi, "rpm": np.pi / 30.0, "mrad/s": 1e-3},
    "N m": {"N m": 1.0, "mN m": 1e-3, "kg cm": 0.0980665, "lbf in": 0.1129848},
    "m/s^2": {"m/s^2": 1.0, "g": 9.80665},
}
"""Unit of a channel -> units that its columns may be in -> factor."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One component of a channel: value = sign x (scale x factor of the unit x cell - offset)."""

    column: str
    """Name in the header."""
    unit: str = ""
    """What the cells are in; empty for the channel's own unit."""
    scale: float = 1.0
    """What the cells are multiplied by beside the unit's factor, such as a torque constant [N m/A]."""
    sign: int = 1
    """-1 where the column's axis runs the other way than the robot's joint."""
    offset: float = 0.0
    """Subtracted after the scale, in the channel's unit."""

    def values(self, cells: Array, unit: str) -> Array:
        """(n,) in the channel's `unit`, of the cells (n,)."""
        factor = FACTORS.get(unit, {}).get(self.unit, 1.0)
        return self.sign * (self.scale * factor * cells - self.offset)


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How one table becomes one episode."""

    name: str
    time: str = "time"
    """Column of the time stamps."""
    time_s: float = 1.0
    """Seconds of one unit of it."""
    channels: Mapping[str, tuple[Column, ...]]
    """Channel -> columns, in the order of the robot's joints."""
    components: Mapping[str, tuple[str, ...]] | None = None
    """Channel -> names of its components where these are not the joints."""
    dialect: Dialect = field(default_factory=Dialect)
    late_rows: int | None = None
    """Rows by which the recording loop is known to send a command late; None where nobody has said."""
    companion: str = ""
    """Ending of the file beside `<run>.csv` that holds what was commanded, in the same columns; empty for none."""
    optional: tuple[str, ...] = ("joint.velocity", "joint.effort")
    """Channels without which the rest is still worth reading."""

    def columns(self) -> dict[str, str]:
        """Every column that is read -> the channel that it makes."""
        return {self.time: "time"} | {x.column: c for c, columns in self.channels.items() for x in columns}

    def share(self, table: Table) -> float:
        """Share of this layout's columns that a table has."""
        wanted = self.columns()
        return sum(x in table.columns for x in wanted) / len(wanted)


def columns(*names: str) -> tuple[Column, ...]:
    """Columns that are in their channel's unit already."""
    return tuple(Column(column=name) for name in names)


def episode_of(layout: Layout, table: Table, path: Path, spec: RobotSpec) -> Recording:
    """The episode that a table holds; rows without a readable time stamp are left out, and a finding says so."""
    findings = [*table.findings, *_mismatches(layout, table, spec)]
    complete = [c for c, cs in layout.channels.items() if all(x.column in table.columns for x in cs)]
    wrong_width = any(len(cs) != len(spec.joints) for c, cs in layout.channels.items() if c in _OF_JOINTS)
    required = [c for c in layout.channels if c not in layout.optional]
    if wrong_width or layout.time not in table.columns or not set(required) <= set(complete):
        return Recording(log=None, findings=tuple(findings))
    keep = _timed(layout, table)
    t_ns = nanoseconds(table.columns[layout.time][keep], layout.time_s)
    channels = {}
    for name in complete:
        unit = UNITS.get(name, "1")
        cells = [x.values(table.columns[x.column][keep], unit) for x in layout.channels[name]]
        names = (layout.components or {}).get(name, spec.joint_names)
        channels[name] = Channel(name, unit, names, t_ns, np.stack(cells, axis=1))
    meta = {"source": path.name, "layout": layout.name, "stamps": "row"}
    if layout.late_rows is not None:
        meta["late_rows"] = str(layout.late_rows)
    episode = EpisodeLog(path.name.split(".")[0], spec.name, spec.fingerprint(), channels, meta)
    return Recording(log=episode, findings=tuple(findings))


def nanoseconds(cells: npt.NDArray[Any], seconds: float) -> npt.NDArray[np.int64]:
    """Stamps [ns] of counts of so many seconds each; whole numbers of whole nanoseconds are never rounded."""
    if cells.dtype.kind in "iu" and seconds * 1e9 == round(seconds * 1e9):
        return cells.astype(np.int64) * round(seconds * 1e9)
    return np.round(cells * (seconds * 1e9)).astype(np.int64)


def _timed(layout: Layout, table: Table) -> npt.NDArray[np.bool_]:
    """Rows whose time stamp is a number that int64 nanoseconds hold."""
    cells = table.columns.get(layout.time, np.zeros(0)).astype(np.float64)
    return np.isfinite(cells) & (np.abs(cells) < LONGEST_S / layout.time_s)


_OF_JOINTS = tuple(name for name in UNITS if name.startswith(("joint.", "command.")))


def _mismatches(layout: Layout, table: Table, spec: RobotSpec) -> list[Finding]:
    """Columns that are missing, another number of joints, rows without a time stamp."""
    have = list(table.columns)
    findings = [
        finding("missing_column", c, "line 1", f"layout '{layout.name}' needs column '{x}'. {nearest(x, have)}")
        for x, c in layout.columns().items()
        if x not in table.columns
    ]
    widths = {len(cs) for c, cs in layout.channels.items() if c in _OF_JOINTS}
    if widths - {len(spec.joints)}:
        detail = f"layout '{layout.name}' has {widths.pop()} joint(s); robot '{spec.name}' has {len(spec.joints)}."
        findings.append(finding("other_robot", "", "line 1", detail))
    timed = _timed(layout, table)
    if not timed.all():
        row, count = int(np.argmin(timed)), int((~timed).sum())
        findings.append(finding("nan", "time", table.where(row), f"{count} rows have no time stamp and are left out."))
    return findings

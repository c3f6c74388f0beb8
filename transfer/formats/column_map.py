"""Any columns of numbers, described in YAML: which one is which joint's position, in which unit, with which sign.

    time: {column: t, unit: ms}
    channels:
      joint.position: {shoulder: {column: theta_1, unit: deg, sign: -1}, elbow: {column: theta_2, unit: deg}}
      command.effort: {shoulder: {column: current_1, scale: 0.546}, elbow: {column: current_2, scale: 0.546}}

`terrafirma ingest map=FILE` reads every table of text with it, and every format of sources.TABLES: NPZ, parquet, HDF5,
LeRobot data sets. Each mistake in the map is one sentence that says where it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from robot import config
from robot.config import ConfigError, nearest
from robot.log import UNITS, EpisodeLog
from robot.recorder import AXES, QUATERNION
from robot.spec import RobotSpec
from transfer.dataset import Finding
from transfer.formats import Recording
from transfer.formats.layout import FACTORS, SECONDS, Column, Layout, episode_of
from transfer.formats.sources import Source, tabular
from transfer.formats.tables import Dialect, parse
from transfer.screen import finding

TEXT = (".csv", ".csv.gz", ".txt", ".tsv", ".dat")
UNKNOWN = "?"
"""What a proposed map has for a unit that nothing tells."""
COMPONENTS = {"imu.gyro": AXES, "imu.accel": AXES, "imu.orientation": QUATERNION}
"""Channels whose components are not the joints."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeColumn:
    """Where the time stamps are."""

    column: str = "time"
    unit: Literal["s", "ms", "us", "ns"] = "s"
    scale: float = 1.0
    """Units of one count, for clocks that count something else: 1/8000 s is `unit: s, scale: 1.25e-4`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnMap:
    """A map file."""

    time: TimeColumn = field(default_factory=TimeColumn)
    channels: dict[str, dict[str, Column]]
    """Channel -> joint (of an IMU: axis) -> column."""
    delimiter: str = ","
    comment: str = ""
    """What lines begin with that are no rows."""
    late_rows: int | None = None
    """Rows by which the recording loop is known to send a command late."""
    cameras: dict[str, str] | None = None
    """Camera of the robot -> camera of the file; null: all, under the file's names; {}: none."""
    confirmed: bool = True
    """False in a map that was guessed, until a person has looked at it."""

    def __post_init__(self) -> None:
        if not self.confirmed:
            raise ConfigError(
                "confirmed is false: this map was guessed. Look at its columns, units and signs, then write true."
            )
        if not self.time.scale > 0.0:
            raise ConfigError(f"time.scale is {self.time.scale}; it must be above 0.")
        if len(self.delimiter) != 1:
            raise ConfigError(f"delimiter is {self.delimiter!r}; it must be one character.")
        used: dict[str, str] = {}
        for channel, columns in self.channels.items():
            if channel not in UNITS or channel == "event":
                known = [n for n in UNITS if n != "event"]
                raise ConfigError(f"channels.{channel} is no channel. {nearest(channel, known)}")
            for name, column in columns.items():
                _check(f"channels.{channel}.{name}", column, UNITS[channel])
                if column.column in used:
                    raise ConfigError(
                        f"column '{column.column}' is both {used[column.column]} and {channel}.{name}; name each once."
                    )
                used[column.column] = f"{channel}.{name}"
        if "joint.position" not in self.channels:
            raise ConfigError("channels has no joint.position; without positions nothing can be screened or fitted.")

    def layout(self, spec: RobotSpec, source: str) -> Layout:
        """The map for one robot; ConfigError when a channel lacks a joint of the robot, or names one that it lacks."""
        channels = {}
        for channel, given in self.channels.items():
            names = COMPONENTS.get(channel, spec.joint_names)
            if wrong := next((n for n in given if n not in names), None):
                raise ConfigError(f"{source}: channels.{channel} names '{wrong}'. {nearest(wrong, names)}")
            if lacking := next((n for n in names if n not in given), None):
                raise ConfigError(f"{source}: channels.{channel} has no '{lacking}'; it must name {', '.join(names)}.")
            channels[channel] = tuple(given[n] for n in names)
        return Layout(
            name=f"map/{Path(source).stem}",
            time=self.time.column,
            time_s=SECONDS[self.time.unit] * self.time.scale,
            channels=channels,
            components={c: n for c, n in COMPONENTS.items() if c in channels},
            dialect=Dialect(delimiter=self.delimiter, comment=self.comment),
            late_rows=self.late_rows,
            optional=(),
        )


def _check(key: str, column: Column, unit: str) -> None:
    known = FACTORS.get(unit, {unit: 1.0})
    if column.unit == UNKNOWN:
        raise ConfigError(f"{key}.unit is '?': the file does not say it; write one of {', '.join(known)}.")
    if column.unit and column.unit not in known:
        raise ConfigError(f"{key}.unit is '{column.unit}'. {nearest(column.unit, list(known))}")
    if column.sign not in (1, -1):
        raise ConfigError(f"{key}.sign is {column.sign}; it must be 1 or -1.")
    if not column.scale > 0.0:
        raise ConfigError(f"{key}.scale is {column.scale}; it must be above 0 (a mirrored axis has sign: -1).")


@dataclass(frozen=True, slots=True)
class Mapped:
    """A Format that reads everything by one map."""

    map: ColumnMap
    source: str
    """The map's file."""

    @classmethod
    def of(cls, path: Path) -> Mapped:
        """The format of a map file; ConfigError names the file and key of a mistake."""
        return cls(config.load(ColumnMap, path), str(path))

    def detect(self, path: Path) -> bool:
        """Any file that is a table by its name, and what sources.TABLES knows."""
        return (path.is_file() and path.name.endswith(TEXT)) or tabular(path) is not None

    def read(self, path: Path, spec: RobotSpec) -> Iterator[Recording]:
        """The episodes of a file, with what was converted."""
        layout = self.map.layout(spec, self.source)
        reader = tabular(path)
        for source in reader.episodes(path) if reader is not None else [_text(path, layout.dialect)]:
            yield self._read(source, layout, path, spec)

    def _read(self, source: Source, layout: Layout, path: Path, spec: RobotSpec) -> Recording:
        if not source.table.columns:
            return Recording(log=None, findings=source.table.findings, format=source.format)
        recording = episode_of(layout, source.table, path, spec)
        used = layout.columns()
        findings = [f for f in recording.findings if f.kind != "text" or f.channel in used]
        findings += self._converted()
        if source.clock is not None and source.clock.nominal and source.clock.column == layout.time:
            findings.append(finding("nominal_clock", "", f"column {layout.time}", source.clock.nominal))
        log = recording.log
        if log is not None:
            log = replace(log, name=source.name, meta={**log.meta, **source.meta})
            log, more = self._with_pictures(log, source)
            findings += more
        return Recording(log=log, findings=tuple(findings), format=source.format)

    def _with_pictures(self, log: EpisodeLog, source: Source) -> tuple[EpisodeLog, list[Finding]]:
        chosen = {c: c for c in source.cameras} if self.map.cameras is None else self.map.cameras
        told = list[Finding]()
        for ours, theirs in chosen.items():
            if theirs not in source.cameras:
                detail = f"the map's camera '{ours}' is '{theirs}' of the file. {nearest(theirs, source.cameras)}"
                told.append(finding("missing_channel", f"camera.{ours}", "file", detail))
        wanted = {theirs for theirs in chosen.values() if theirs in source.cameras}
        if source.pictures is None or not wanted:
            return log, told
        cameras, findings = source.pictures(wanted)
        named = {f"camera.{ours}": cameras[theirs] for ours, theirs in chosen.items() if theirs in cameras}
        channels = {**log.channels, **{n: replace(c, name=n) for n, c in named.items()}}
        return replace(log, channels=channels), [*told, *findings]

    def _converted(self) -> list[Finding]:
        told = []
        for channel, given in self.map.channels.items():
            for name, column in given.items():
                if words := _in_words(column, UNITS[channel]):
                    told.append(finding("converted", channel, f"column {column.column}", f"{name}: {words} (map)."))
        return told


def _text(path: Path, dialect: Dialect) -> Source:
    return Source(name=path.name.split(".")[0], format="table of text", table=parse(path, dialect))


def _in_words(column: Column, unit: str) -> str:
    """What a column goes through; empty when nothing."""
    parts = [f"from {column.unit} to {unit}"] if column.unit not in ("", unit) else []
    parts += [f"times {column.scale:g}"] if column.scale != 1.0 else []
    parts += [f"less {column.offset:g}"] if column.offset else []
    parts += ["mirrored"] if column.sign < 0 else []
    return ", ".join(parts)

"""Recordings of many topics, described in YAML: which field of which topic is which joint's position, in which unit.

    stamps: header
    channels:
      joint.position:
        shoulder: {column: "/joint_states:position[arm_shoulder]"}
        elbow: {column: "/joint_states:position[arm_elbow]", sign: -1}
      command.effort:
        shoulder: {column: "/effort_controller/commands:data[0]"}
        elbow: {column: "/effort_controller/commands:data[1]", unit: mN m}
    cameras: {front: /front/image_raw}

`terrafirma ingest map=FILE` reads every bag, foreign MCAP and ULog with it: the key `stamps` tells it from the map of a
table (column_map.py). A column is TOPIC:PATH, as transfer/formats/topics.py says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from robot import config
from robot.config import ConfigError, nearest
from robot.log import UNITS
from robot.spec import RobotSpec
from transfer.formats import Format, Recording
from transfer.formats.column_map import ColumnMap, Mapped
from transfer.formats.layout import Column, Layout
from transfer.formats.topics import split


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicMap:
    """A map file."""

    stamps: Literal["header", "received"] = "header"
    """Whose clock is taken: the messages' own stamps where all are filled, or always that of the recorder."""
    channels: dict[str, dict[str, Column]]
    """Channel -> joint (of an IMU: axis) -> column, as TOPIC:PATH."""
    cameras: dict[str, str] = field(default_factory=dict)
    """Camera of the robot -> topic of its pictures."""
    late_rows: int | None = None
    """Rows by which the recording loop is known to send a command late."""
    confirmed: bool = True
    """False in a map that was guessed, until a person has looked at it."""

    def __post_init__(self) -> None:
        if not self.confirmed:
            raise ConfigError(
                "confirmed is false: this map was guessed. Look at its columns, units and signs, then write true."
            )
        ColumnMap(channels=self.channels)  # the rules are those of tables
        for channel, columns in self.channels.items():
            for name, column in columns.items():
                if not split(column.column)[1]:
                    raise ConfigError(
                        f"channels.{channel}.{name}.column is '{column.column}'; it must be TOPIC:PATH, such as "
                        "/joint_states:position[0]."
                    )

    def layout(self, spec: RobotSpec, source: str) -> Layout:
        """The columns in the order of the robot's joints; ConfigError as ColumnMap.layout, and for unknown cameras."""
        cameras = [c.name for c in spec.cameras]
        if wrong := next((c for c in self.cameras if c not in cameras), None):
            raise ConfigError(f"{source}: cameras names '{wrong}'. {nearest(wrong, cameras)}")
        return ColumnMap(channels=self.channels, late_rows=self.late_rows).layout(spec, source)


@dataclass(frozen=True, slots=True)
class MappedTopics:
    """A Format that reads every recording of topics by one map."""

    map: TopicMap
    source: str
    """The map's file."""

    def detect(self, path: Path) -> bool:
        """Bags, MCAP files and ULogs."""
        from transfer.formats import mcap, rosbag, ulog

        return any(module.detect(path) for module in (rosbag, mcap, ulog))

    def read(self, path: Path, spec: RobotSpec) -> list[Recording]:
        """The one episode of a recording, with what was converted."""
        from transfer.formats import mcap, rosbag, ulog

        reader = next((m for m in (rosbag, ulog) if m.detect(path)), mcap)
        return reader.read(path, spec, self.map, self.source)


def mapped(path: Path) -> Format:
    """The format that a map file describes; ConfigError names the file and key of a mistake."""
    said = config.load_yaml(path)
    if isinstance(said, dict) and "stamps" in said:
        return MappedTopics(config.load(TopicMap, path), str(path))
    return Mapped.of(path)


def proposal(channels: Mapping[str, Mapping[str, Column]], cameras: Mapping[str, str]) -> str:
    """A guessed map as YAML, for a person to confirm."""
    listed = {
        channel: {name: {"column": c.column, "unit": UNITS[channel], "sign": c.sign} for name, c in columns.items()}
        for channel, columns in channels.items()
    }
    return config.dump_yaml({"confirmed": False, "stamps": "header", "channels": listed, "cameras": dict(cameras)})


def told(channel: str, name: str, column: Column) -> str:
    """What a column goes through, in words; empty when nothing."""
    unit = UNITS[channel]
    parts = [f"from {column.unit} to {unit}"] if column.unit not in ("", unit) else []
    parts += [f"times {column.scale:g}"] if column.scale != 1.0 else []
    parts += [f"less {column.offset:g}"] if column.offset else []
    parts += ["mirrored"] if column.sign < 0 else []
    return f"{name}: {', '.join(parts)} (map)." if parts else ""

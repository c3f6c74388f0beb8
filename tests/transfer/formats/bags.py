"""Bags for the tests, written with rosbags: joints that swing, an IMU, pictures, and messages of other robots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from robot.spec import RobotSpec
from transfer.dataset import Finding
from transfer.formats import Format, Recording, format_of
from transfer.formats.topic_map import mapped

ROS2, ROS1 = get_typestore(Stores.ROS2_HUMBLE), get_typestore(Stores.ROS1_NOETIC)
START_S = 1_700_000_000
JOINTS = "sensor_msgs/msg/JointState"
Message = tuple[str, str, float, Any]
"""Topic, type, time of reception [s] since START_S, message."""


def swing(t: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, velocities and efforts of two joints."""
    q = np.array([0.5 * np.sin(3 * t), 0.3 * np.sin(5 * t)])
    v = np.array([1.5 * np.cos(3 * t), 1.5 * np.cos(5 * t)])
    return q, v, np.array([0.2 * np.sin(7 * t), 0.1 * np.cos(7 * t)])


def header(store: Any, t: float | None, frame: str = "base") -> Any:
    """A header stamped `t` [s] after START_S; None leaves it empty."""
    seconds, rest = (0, 0) if t is None else divmod(round(t * 1e9), 1_000_000_000)
    stamp = store.types["builtin_interfaces/msg/Time"](0 if t is None else START_S + seconds, rest)
    kind = store.types["std_msgs/msg/Header"]
    return kind(seq=0, stamp=stamp, frame_id=frame) if store is ROS1 else kind(stamp=stamp, frame_id=frame)


def joint_state(store: Any, t: float | None, names: Sequence[str], *values: np.ndarray) -> Any:
    """`values`: position, velocity, effort; those not given stay empty."""
    filled = [*values, *[np.zeros(0)] * (3 - len(values))]
    return store.types[JOINTS](header(store, t), list(names), *filled)


def motion(
    store: Any,
    names: Sequence[str] = ("shoulder", "elbow"),
    rows: int = 800,
    late_s: float = 0.0003,
    stamped: bool = True,
) -> Iterator[Message]:
    """States and commands of two joints at 500 Hz."""
    for k in range(rows):
        t = k / 500
        q, v, tau = swing(t)
        own = t if stamped else None
        yield "/joint_states", JOINTS, t + late_s, joint_state(store, own, names, q, v)
        yield "/joint_commands", JOINTS, t + late_s, joint_state(store, own, names, np.zeros(0), np.zeros(0), tau)


def write_ros2(
    path: Path,
    messages: Iterator[Message],
    plugin: StoragePlugin = StoragePlugin.MCAP,
    packed: CompressionMode | None = None,
    store: Any = ROS2,
) -> Path:
    """A folder of a bag."""
    writer = Writer(path, version=9, storage_plugin=plugin)
    if packed is not None:
        writer.set_compression(packed, CompressionFormat.ZSTD)
    connections: dict[str, Any] = {}
    with writer:
        for topic, kind, t, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            raw = store.serialize_cdr(message, kind)
            writer.write(connections[topic], START_S * 10**9 + round(t * 1e9), raw)
    return path


def write_ros1(path: Path, messages: Iterator[Message], packed: str = "", store: Any = ROS1, chunk: int = 0) -> Path:
    """A .bag file."""
    writer = Writer1(path)
    if packed:
        writer.set_compression(Writer1.CompressionFormat[packed])
    writer.chunk_threshold = chunk or writer.chunk_threshold
    connections: dict[str, Any] = {}
    with writer:
        for topic, kind, t, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            raw = store.serialize_ros1(message, kind)
            writer.write(connections[topic], START_S * 10**9 + round(t * 1e9), raw)
    return path


def with_types(store_name: Stores, **definitions: str) -> Any:
    """A store with own types; the names' double underscores are slashes."""
    store = get_typestore(store_name)
    for name, text in definitions.items():
        store.register(get_types_from_msg(text, name.replace("__", "/")))
    return store


def read(path: Path, spec: RobotSpec) -> Recording:
    """The one recording of a file, by the format that detects it."""
    reader = format_of(path)
    assert reader is not None, path
    (recording,) = reader.read(path, spec)
    return recording


def confirmed(recording: Recording, path: Path) -> Format:
    """The format of the proposed map, once a person has confirmed it."""
    assert recording.log is None and recording.proposal, recording.findings
    path.write_text(recording.proposal.replace("confirmed: false", "confirmed: true"))
    return mapped(path)


def told(recording: Recording) -> dict[str, Finding]:
    """Findings by kind."""
    return {f.kind: f for f in recording.findings}


def refusal(path: Path, spec: RobotSpec) -> Finding:
    """The blocking finding of a file that gives no episode."""
    recording = read(path, spec)
    assert recording.log is None, recording.log
    return next(f for f in recording.findings if f.blocking)

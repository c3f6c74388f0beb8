"""Recorders: what happened in a run becomes an EpisodeLog, also when the process is killed in the middle.

`Recorder` appends to an MCAP file without chunks and hands its buffer to the system every `flush_s`, so that
after kill -9 all but the last moment is there (robot.log.load reads such a file). close() rewrites it chunked
and compressed under the same name. `MemoryRecorder` keeps a short episode in memory.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from mcap.writer import Writer

from robot import log as logs
from robot.log import UNITS, Channel, EpisodeLog
from robot.spec import RobotSpec
from robot.state import JointCommand, Sample

AXES = ("x", "y", "z")
QUATERNION = ("w", "x", "y", "z")


class Sink(Protocol):
    """Where rows go."""

    def row(self, channel: str, components: tuple[str, ...], t_ns: int, value: Any) -> None:
        """Append one row to a channel, which its first row creates."""
        ...


def write_sample(sink: Sink, sample: Sample, seen: dict[str, int]) -> None:
    """Append a reading, each part under its own stamp; `seen` remembers the stamps of the images before."""
    joints = sample.joints
    sink.row("joint.position", joints.names, joints.t_ns, joints.position)
    sink.row("joint.velocity", joints.names, joints.t_ns, joints.velocity)
    sink.row("joint.effort", joints.names, joints.t_ns, joints.effort)
    if sample.imu is not None:
        sink.row("imu.gyro", AXES, sample.imu.t_ns, sample.imu.gyro)
        sink.row("imu.accel", AXES, sample.imu.t_ns, sample.imu.accel)
        if sample.imu.orientation is not None:
            sink.row("imu.orientation", QUATERNION, sample.imu.t_ns, sample.imu.orientation)
    for camera, (t_ns, image) in sample.images.items():
        if seen.get(camera) != t_ns:
            seen[camera] = t_ns
            sink.row(f"camera.{camera}", (), t_ns, image)


def write_command(sink: Sink, command: JointCommand, t_ns: int) -> None:
    """Append what was sent, stamped with the time of sending; targets only where gains give them an effect."""
    sink.row("command.effort", command.names, t_ns, command.effort)
    if command.kp.any():
        sink.row("command.position", command.names, t_ns, command.position)
    if command.kd.any():
        sink.row("command.velocity", command.names, t_ns, command.velocity)


class MemoryRecorder:
    """A Sink that becomes an EpisodeLog at close()."""

    def __init__(self, name: str, spec: RobotSpec, meta: Mapping[str, str] | None = None) -> None:
        self._head = (name, spec.name, spec.fingerprint())
        self._meta = dict(meta or {})
        self._rows: dict[str, tuple[tuple[str, ...], list[int], list[Any]]] = {}

    def row(self, channel: str, components: tuple[str, ...], t_ns: int, value: Any) -> None:
        """Append one row; arrays are copied."""
        _, times, values = self._rows.setdefault(channel, (components, [], []))
        times.append(t_ns)
        values.append(value if isinstance(value, str) else np.array(value))

    def close(self) -> EpisodeLog:
        """The episode."""
        channels = {n: _channel(n, c, t, v) for n, (c, t, v) in self._rows.items()}
        return EpisodeLog(*self._head, channels, self._meta)


class Recorder:
    """A Sink that survives kill -9: an append-only MCAP file."""

    def __init__(
        self, path: Path, name: str, spec: RobotSpec, meta: Mapping[str, str] | None = None, flush_s: float = 0.05
    ) -> None:
        """Create `path` (an existing file is replaced); a kill loses at most the last `flush_s` seconds."""
        self.path, self._flush_s = Path(path), flush_s
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self.path.open("wb", buffering=1 << 20)
        self._writer = Writer(self._stream, use_chunking=False)
        self._writer.start(profile="ros2", library="terrafirma")
        self._fingerprint = spec.fingerprint()
        logs.write_header(self._writer, EpisodeLog(name, spec.name, self._fingerprint, {}, dict(meta or {})))
        self._stream.flush()
        self._log: EpisodeLog | None = None
        self._channels: dict[str, int] = {}
        self._sequence, self._flushed = 0, time.monotonic()

    def row(self, channel: str, components: tuple[str, ...], t_ns: int, value: Any) -> None:
        """Append one row; OSError when the disk is full or gone."""
        if channel not in self._channels:
            self._channels[channel] = logs.add_channel(
                self._writer, _channel(channel, components, [t_ns], [value]), self._fingerprint
            )
        self._writer.add_message(self._channels[channel], t_ns, logs.encode(value, t_ns), t_ns, self._sequence)
        self._sequence += 1
        now = time.monotonic()
        if now - self._flushed >= self._flush_s:
            self._stream.flush()
            self._flushed = now

    def close(self) -> EpisodeLog:
        """End the file, rewrite it chunked and compressed, and return the episode; safe to call twice."""
        if self._log is None:
            if not self._stream.closed:
                self._writer.finish()
                self._stream.close()
            self._log = logs.load(self.path)
            self._log.save(self.path)  # should this fail, the recording stands as it was
        return self._log


def _channel(name: str, components: tuple[str, ...], times: list[int], values: list[Any]) -> Channel:
    text = isinstance(values[0], str)
    unit = UNITS.get(name, "uint8" if name.startswith("camera.") else "1")
    array: npt.NDArray[Any] = np.array(values, dtype=object) if text else np.stack(values)
    return Channel(name, unit, components, np.array(times, np.int64), array)

"""Recorders: what happened in a run becomes an EpisodeLog, also when the process is killed in the middle.

`Recorder` appends to an MCAP file from a thread of its own and hands its buffer to the system every `flush_s`, so that
after kill -9 all but the last moment is there (robot.log.load reads such a file). close() rewrites it chunked and
compressed under the same name. `MemoryRecorder` keeps a short episode in memory.
"""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from robot import log as logs
from robot import pictures
from robot.episode_file import EpisodeFile, channel_of, compact
from robot.log import EpisodeLog
from robot.realtime import step_back
from robot.spec import RobotSpec
from robot.state import JointCommand, Sample

AXES = ("x", "y", "z")
QUATERNION = ("w", "x", "y", "z")
SYNC_S = 1.0
"""A power cut loses at most about this much."""
WITH_PICTURES = 64 << 20
"""Bytes of a file up to which close() returns its pictures, too: in memory they are many times as large."""
ROW_BYTES = 300
"""What a row in the queue takes beside its values."""


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
        channels = {n: channel_of(n, c, t, v) for n, (c, t, v) in self._rows.items()}
        return EpisodeLog(*self._head, channels, self._meta)


class Recorder:
    """A Sink that survives kill -9 and a full disk: an append-only MCAP file, written by a thread of its own.

    row() never waits and never fails. Rows that find the queue full are dropped and counted: `meta["dropped"]`, and an
    event where it happened. When the disk is full the recording ends there, the run goes on, and close() raises.
    A recording that grows beyond `part_bytes` goes on in `NAME.1.mcap`, `NAME.2.mcap`, …, each an episode by itself.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        spec: RobotSpec,
        meta: Mapping[str, str] | None = None,
        flush_s: float = 0.05,
        part_bytes: int = 1 << 30,
        queue_bytes: int = 64 << 20,
    ) -> None:
        """Create `path` (an existing file is replaced); a kill loses at most the last `flush_s` seconds."""
        self.path, self._flush_s = Path(path), flush_s
        self._part_bytes, self._queue_bytes = part_bytes, queue_bytes
        self._head = EpisodeLog(name, spec.name, spec.fingerprint(), {}, dict(meta or {}))
        self._compress = pictures.can_compress()
        self._file: EpisodeFile | None = EpisodeFile(self.path, self._head, self._compress)
        self._parts = [self.path]
        self._queue: deque[tuple[str, tuple[str, ...], int, Any]] = deque()
        self._taken = self._written = 0
        """Bytes that came into the queue and that left it: each changed by one thread only."""
        self.dropped = 0
        """Rows that were lost because the queue was full."""
        self.problem: OSError | None = None
        """Why the recording ended before the run, if it did."""
        self._told, self._synced = 0, time.monotonic()
        self._log: EpisodeLog | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._thread.start()

    def row(self, channel: str, components: tuple[str, ...], t_ns: int, value: Any) -> None:
        """Queue one row; arrays are copied."""
        if self._taken - self._written > self._queue_bytes:
            self.dropped += 1
            return
        if not isinstance(value, str):
            value = np.array(value)
        self._taken += _bytes(value)
        self._queue.append((channel, components, t_ns, value))

    def close(self) -> EpisodeLog:
        """End the file, rewrite it chunked and compressed, and return the episode; safe to call twice.

        Of an episode that is in parts or large the numbers are returned, and no pictures. OSError when the disk was
        full: what was written before can be read from the file.
        """
        if self._log is None:
            self._ending.set()
            self._thread.join()
            if self.problem is not None:
                raise self.problem
            for k, part in enumerate(self._parts):
                compact(part, self._more(k))
            small = len(self._parts) == 1 and self.path.stat().st_size < WITH_PICTURES
            self._log = _joined([logs.load(part, cameras=small) for part in self._parts])
        return self._log

    def _write(self) -> None:
        """The thread: empty the queue every `flush_s`, until the end."""
        step_back()
        while not self._ending.wait(self._flush_s):
            self._drain()
        self._drain()
        if self._file is not None:
            self._try(self._file.finish)
            self._file = None

    def _drain(self) -> None:
        t_ns, begin = 0, time.monotonic()
        while self._queue:
            channel, components, t_ns, value = self._queue.popleft()
            if self._file is not None and self._file.size() > self._part_bytes:
                self._try(self._next_part)
            if self._file is not None:
                self._try(self._file.row, channel, components, t_ns, value)
            self._written += _bytes(value)
            time.sleep(0)  # the control loop may have the interpreter between any two rows
            if self._file is not None and time.monotonic() - begin > self._flush_s:  # also while the queue does not end
                self._try(self._settle, t_ns)
                begin = time.monotonic()
        if self._file is not None and t_ns:
            self._try(self._settle, t_ns)

    def _settle(self, t_ns: int) -> None:
        """What is due after the queue is empty: tell of dropped rows, flush, sync."""
        assert self._file is not None
        if self.dropped > self._told:
            self._file.row("event", (), t_ns, f"recorder: {self.dropped - self._told} rows dropped, the queue was full")
            self._told = self.dropped
        self._file.flush()
        if time.monotonic() - self._synced >= SYNC_S:
            self._file.sync()
            self._synced = time.monotonic()

    def _next_part(self) -> None:
        """End the file and begin another one."""
        if self._file is not None:
            self._file.finish()
            part = self.path.with_suffix(f".{len(self._parts)}{self.path.suffix}")
            head = replace(self._head, meta={**self._head.meta, "part": str(len(self._parts))})
            self._file = EpisodeFile(part, head, self._compress)
            self._parts.append(part)

    def _try(self, do: Callable[..., None], *arguments: Any) -> None:
        """Call; on a full disk, or a row that no file can hold, end the recording: what was flushed before stays."""
        try:
            do(*arguments)
        except Exception as error:  # a thread that died would lose all that follows without a word
            other = f"a row cannot be written, {type(error).__name__}: {error}"
            self.problem = error if isinstance(error, OSError) else OSError(errno.EINVAL, other)
            if self._file is not None:
                self._file.abandon()
            self._file = None

    def _more(self, part: int) -> dict[str, str]:
        """What is known only at the end."""
        more = {"dropped": str(self.dropped)} if self.dropped and part == 0 else {}
        return more | ({"parts": str(len(self._parts))} if len(self._parts) > 1 and part == 0 else {})


def _bytes(value: Any) -> int:
    return len(value) + ROW_BYTES if isinstance(value, str) else int(value.nbytes) + ROW_BYTES


def _joined(parts: list[EpisodeLog]) -> EpisodeLog:
    """Episodes in a row as one."""
    first = parts[0]
    if len(parts) == 1:
        return first
    channels = {}
    for name in {n: None for part in parts for n in part.channels}:
        pieces = [part[name] for part in parts if name in part]
        t_ns, values = (np.concatenate([getattr(p, field) for p in pieces]) for field in ("t_ns", "values"))
        channels[name] = replace(pieces[0], t_ns=t_ns, values=values)
    return replace(first, channels=channels)

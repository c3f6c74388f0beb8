"""Exchange: one reading and one answer in memory that two processes share, and the pipes by which they take turns.

The supervisor writes a request and rings; the policy process answers and rings back. Neither touches the memory in the
other's turn, so nothing is ever read half written. Where one of them dies, the system closes its pipes, which the other
sees at once.
"""

from __future__ import annotations

import mmap
import os
import select
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from robot.state import Imu, JointCommand, Joints, Sample

ACT, RESET = 1, 2
"""Requests."""
DONE, STALE = 0, 1
"""Answers; with STALE the text says why there is no command."""
_TEXT = 1024


@dataclass(frozen=True, slots=True)
class Shape:
    """How large the parts are."""

    names: tuple[str, ...]
    """Joints, in the spec's order."""
    actions: int
    goal: int
    cameras: Mapping[str, tuple[int, int]]
    """Camera -> (height, width) of what the network sees."""


class Board:
    """The shared memory as numpy views; the same layout in both processes."""

    def __init__(self, shape: Shape, handle: int) -> None:
        self.shape, n = shape, len(shape.names)
        fields: list[tuple[Any, ...]] = [
            ("request", "i8", (2,)), ("stamps", "i8", (3,)), ("has", "i8", (2,)), ("joints", "f8", (3, n)),
            ("imu", "f8", (10,)), ("goal", "f8", (shape.goal,)), ("answer", "i8", (4,)), ("command", "f8", (5, n)),
            ("action", "f4", (shape.actions,)), ("text", "u1", (_TEXT,)), ("fresh", "i8", (len(shape.cameras),)),
            ("image_ns", "i8", (len(shape.cameras),)),
            *((f"image_{name}", "u1", (*size, 3)) for name, size in shape.cameras.items()),
        ]  # fmt: skip
        dtype = np.dtype(fields, align=True)
        if os.fstat(handle).st_size < dtype.itemsize:
            os.ftruncate(handle, dtype.itemsize)
        self._map = mmap.mmap(handle, dtype.itemsize)
        record = np.frombuffer(self._map, dtype, 1)
        views: dict[str, npt.NDArray[Any]] = {name: record[name][0] for name in dtype.names or ()}
        self._request, self._stamps, self._has = views["request"], views["stamps"], views["has"]
        self._joints, self._imu, self._goal = views["joints"], views["imu"], views["goal"]
        self._answer, self._command, self._action = views["answer"], views["command"], views["action"]
        self._text, self._fresh, self._image_ns = views["text"], views["fresh"], views["image_ns"]
        self._images = [views[f"image_{name}"] for name in shape.cameras]

    # the supervisor's turn

    def ask(self, kind: int, sequence: int) -> None:
        """Write what is wanted."""
        self._request[0], self._request[1] = kind, sequence

    def show(self, sample: Sample, joints: Joints, goal: npt.NDArray[np.float64] | None) -> None:
        """Write a reading, whose joints are in the spec's order; images have the network's size."""
        imu, fresh = sample.imu, self._fresh
        self._stamps[0], self._stamps[1] = sample.t_ns, joints.t_ns
        self._joints[0], self._joints[1], self._joints[2] = joints.position, joints.velocity, joints.effort
        self._has[0] = imu is not None
        if imu is not None:
            self._stamps[2], self._has[1] = imu.t_ns, imu.orientation is not None
            self._imu[:3], self._imu[3:6] = imu.gyro, imu.accel
            if imu.orientation is not None:
                self._imu[6:] = imu.orientation
        if goal is not None:
            self._goal[:] = goal
        for i, camera in enumerate(self.shape.cameras):
            fresh[i] = camera in sample.images
            if fresh[i]:
                self._image_ns[i] = sample.images[camera][0]
                self._images[i][...] = sample.images[camera][1]

    def result(self, t_ns: int) -> tuple[int, str, JointCommand, npt.NDArray[np.float32]]:
        """Status, text (why it is stale, or unfamiliar), command and action of the answer; all copies."""
        text = bytes(self._text[: self._answer[1]]).decode(errors="replace") if self._answer[1] else ""
        position, velocity, effort, kp, kd = self._command.copy()
        command = JointCommand(
            names=self.shape.names, t_ns=t_ns, position=position, velocity=velocity, effort=effort, kp=kp, kd=kd
        )
        return int(self._answer[0]), text, command, self._action.copy()

    # the policy process's turn

    @property
    def request(self) -> int:
        """What is wanted."""
        return int(self._request[0])

    def reading(self) -> Sample:
        """The reading; its arrays are valid for this turn only."""
        joints = Joints(
            names=self.shape.names, t_ns=int(self._stamps[1]), position=self._joints[0], velocity=self._joints[1],
            effort=self._joints[2],
        )  # fmt: skip
        imu = None
        if self._has[0]:
            orientation = self._imu[6:] if self._has[1] else None
            imu = Imu(t_ns=int(self._stamps[2]), gyro=self._imu[:3], accel=self._imu[3:6], orientation=orientation)
        images = {
            c: (int(self._image_ns[i]), self._images[i]) for i, c in enumerate(self.shape.cameras) if self._fresh[i]
        }
        return Sample(t_ns=int(self._stamps[0]), joints=joints, imu=imu, images=images)

    @property
    def goal(self) -> npt.NDArray[np.float64]:
        """The task's goal; valid for this turn only."""
        return self._goal

    def reply(self, status: int, text: str = "") -> None:
        """Write the answer's status and text."""
        data = text.encode()[:_TEXT]
        self._answer[0], self._answer[1] = status, len(data)
        if data:
            self._text[: len(data)] = np.frombuffer(data, np.uint8)

    def command(self, command: JointCommand, action: npt.NDArray[np.float32]) -> None:
        """Write the answer's command and action."""
        self._command[0], self._command[1], self._command[2] = command.position, command.velocity, command.effort
        self._command[3], self._command[4] = command.kp, command.kd
        self._action[:] = action


def shared_memory() -> int:
    """A handle of memory without a name, which a child inherits and the system frees."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("terrafirma")
    with tempfile.TemporaryFile() as stream:
        return os.dup(stream.fileno())


class Bell:
    """One end of a pair of pipes: ring() wakes the other process, heard() waits for it."""

    def __init__(self, hears: int, rings: int) -> None:
        self.hears, self.rings = hears, rings
        self._poll = select.poll()
        self._poll.register(hears, select.POLLIN)

    def ring(self) -> None:
        """Wake the other; BrokenPipeError when it is gone."""
        os.write(self.rings, b"!")

    def heard(self, timeout_s: float | None = None) -> bool:
        """Whether the other has rung within the time (None: for ever); EOFError when it is gone."""
        if not self._poll.poll(None if timeout_s is None else timeout_s * 1e3):
            return False
        if not os.read(self.hears, 1):
            raise EOFError
        return True

    def gone(self) -> bool:
        """Whether the other has closed its end."""
        return any(event & (select.POLLHUP | select.POLLERR) for _, event in self._poll.poll(0))

    def close(self) -> None:
        """Close this end."""
        os.close(self.hears)
        os.close(self.rings)

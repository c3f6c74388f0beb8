"""Comparison: in shadow mode, how far the policy's commands are from those of the controller that drives."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from robot.spec import RobotSpec
from robot.state import JointCommand, Joints, Sample

Array = npt.NDArray[np.float64]


class Comparison:
    """Differences of torque at the joints, accumulated over a run.

    What the policy would have sent for one reading is compared with what the next reading tells of it: the other
    controller's command where the driver sees that, else the torque that the motors report.
    """

    def __init__(self, spec: RobotSpec) -> None:
        self._names = spec.joint_names
        self._wish: Array | None = None
        self._at: tuple[Array, Array] | None = None
        self._count, self._squares = 0, np.zeros(len(self._names))
        self._largest = np.zeros(len(self._names))
        self._reference = ""

    def saw(self, sample: Sample, joints: Joints) -> None:
        """A new reading; its joints are in the spec's order."""
        if self._wish is not None and self._at is not None:
            if sample.command is not None:
                self._add(self._wish - torque_of(sample.command.ordered(self._names), *self._at), "command")
            elif np.isfinite(joints.effort).all():
                self._add(self._wish - joints.effort, "measured effort")
        self._at, self._wish = (joints.position, joints.velocity), None

    def wished(self, command: JointCommand) -> None:
        """What the policy would send for the reading that was seen last."""
        if self._at is not None:
            self._wish = torque_of(command, *self._at)

    def _add(self, difference: Array, reference: str) -> None:
        self._reference = reference
        self._count += 1
        self._squares += difference**2
        self._largest = np.maximum(self._largest, np.abs(difference))

    def result(self) -> dict[str, Any]:
        """{n, reference, rms: {joint: [N m]}, largest: {joint: [N m]}}; n is 0 where nothing could be compared."""
        rms = np.sqrt(self._squares / max(self._count, 1))
        return {
            "n": self._count,
            "reference": self._reference or None,
            "rms": dict(zip(self._names, rms.tolist(), strict=True)),
            "largest": dict(zip(self._names, self._largest.tolist(), strict=True)),
        }


def torque_of(command: JointCommand, position: Array, velocity: Array) -> Array:
    """(n_joints,) [N m] that a command asks for at a state, its gains included."""
    own = command.kp * (command.position - position) + command.kd * (command.velocity - velocity)
    return np.asarray(own + command.effort)

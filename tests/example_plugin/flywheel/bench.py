"""A driver of the flywheel's bench. This one has no bench: it integrates the equation of motion on a clock of its own.

J dω/dt = τ - b ω, by semi-implicit Euler steps of 1 ms. A driver of real hardware has the same methods.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from robot.config import ConfigError
from robot.driver import DriverError, StopReason
from robot.spec import RobotSpec
from robot.state import JointCommand, Joints, Sample

STEP_NS = 1_000_000
INERTIA, DAMPING = 0.002, 0.002  # [kg m^2], [N m s/rad]


class FlywheelBench:
    """One disc; commands act at once and stay until the next."""

    simulated = True
    """Time passes in wait() and read() alone."""

    def __init__(self, spec: RobotSpec, inertia: float) -> None:
        self.spec, self.inertia = spec, inertia
        self._now, self._position, self._velocity = 0, 0.0, 0.0
        self._command = JointCommand.of_effort(spec.joint_names, 0, np.zeros(1))
        self._read_at = -1
        self._closed = False

    @classmethod
    def from_config(cls, spec: RobotSpec, *, inertia: float = INERTIA) -> FlywheelBench:
        """`inertia` [kg m²] of the disc that is on the shaft."""
        if len(spec.joints) != 1 or not inertia > 0.0:
            raise ConfigError(
                f"driver=flywheel_bench has one joint and an inertia above 0, not {spec.name}, {inertia}."
            )
        return cls(spec, inertia)

    def now_ns(self) -> int:
        return self._now

    def wait(self, until_ns: int) -> None:
        """Turn the disc until then."""
        while self._now < until_ns:
            step_ns = min(STEP_NS, until_ns - self._now)
            self._velocity += 1e-9 * step_ns * (self._effort() - DAMPING * self._velocity) / self.inertia
            self._position += 1e-9 * step_ns * self._velocity
            self._now += step_ns

    def read(self, timeout_s: float) -> Sample:
        """A reading of now; there is a new one every millisecond."""
        if self._closed:
            raise DriverError("the flywheel's bench is closed; open it again")
        if self._now <= self._read_at:
            self.wait(self._read_at + STEP_NS)
        self._read_at = self._now
        state = {"position": self._position, "velocity": self._velocity, "effort": self._effort()}
        arrays = {name: np.array([value]) for name, value in state.items()}
        return Sample(t_ns=self._now, joints=Joints(names=self.spec.joint_names, t_ns=self._now, **arrays))

    def write(self, command: JointCommand) -> JointCommand:
        """The torque is clipped to the motor's; returns what acts."""
        given = command.ordered(self.spec.joint_names)
        limit = self.spec.effort_limits
        self._command = replace(given, effort=np.clip(given.effort, -limit, limit))
        return self._command

    def stop(self, reason: StopReason) -> None:
        self._command = JointCommand.safe(self.spec, self._now, np.array([self._position]))

    def close(self) -> None:
        self._closed = True

    def _effort(self) -> float:
        """Torque of the motor's own law [N m], within its limit."""
        c = self._command
        asked = c.kp * (c.position - self._position) + c.kd * (c.velocity - self._velocity) + c.effort
        return float(np.clip(asked[0], -self.spec.effort_limits[0], self.spec.effort_limits[0]))

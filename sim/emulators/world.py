"""The robot behind an emulated bus: a SimDriver kept at real time, seen and ordered motor by motor."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from robot.drivers.wiring import Wiring
from robot.state import JointCommand, Joints
from sim.driver import SimDriver, truth_of

Array = npt.NDArray[np.float64]

MOST_BEHIND_NS = 20_000_000
"""A machine that is too slow loses simulated time beyond this, rather than run after it for ever."""


class World:
    """One simulated robot whose motors have ids, directions and zeros of their own: the true wiring."""

    def __init__(self, sim: SimDriver, wires: Wiring, now_ns: int, seed: int) -> None:
        n = len(wires.ids)
        self._sim, self.wires, self._seed = sim, wires, seed
        self._offset_ns = sim.now_ns() - now_ns
        self._orders = np.zeros((5, n))
        """position, velocity, effort, kp, kd of each joint, in the joint's sense."""
        self._changed = True
        self.reversed = np.ones(n)
        """-1 for a motor that turns against its torque."""
        self.joints = truth_of(sim)

    def rest(self) -> None:
        """Begin again: the same robot, at its start, at rest, without orders."""
        self._sim.restart(self._seed)
        self._orders[:] = 0.0
        self._changed, self.reversed[:] = True, 1.0
        self.joints = truth_of(self._sim)

    def behind_ns(self, now_ns: int) -> int:
        """How far the world is behind a time [ns]."""
        return now_ns + self._offset_ns - self._sim.now_ns()

    def advance(self, now_ns: int) -> Joints:
        """Simulate up to now; what the joints really do."""
        if self._changed:
            position, velocity, effort, kp, kd = self._orders.copy()
            names = self.wires.names
            self._sim.write(
                JointCommand(names=names, t_ns=0, position=position, velocity=velocity, effort=effort, kp=kp, kd=kd)
            )
            self._changed = False
        until = now_ns + self._offset_ns
        if (behind := until - self._sim.now_ns()) > MOST_BEHIND_NS:
            self._offset_ns -= behind - MOST_BEHIND_NS
            until = now_ns + self._offset_ns
        if until > self._sim.now_ns():
            self._sim.wait(until)
            self.joints = truth_of(self._sim)
        return self.joints

    def motor(self, k: int) -> tuple[float, float, float]:
        """Position [rad], velocity [rad/s] and torque [N m] of one motor in its own sense."""
        sense, zero = self.wires.direction[k], self.wires.zero[k]
        j = self.joints
        return sense * j.position[k] + zero, sense * j.velocity[k], sense * self.reversed[k] * j.effort[k]

    def order(
        self,
        k: int,
        position: float = 0.0,
        velocity: float = 0.0,
        effort: float = 0.0,
        kp: float = 0.0,
        kd: float = 0.0,
    ) -> None:
        """What a motor is to do, in its own sense: kp (position - q) + kd (velocity - v) + effort."""
        sense, q = self.wires.direction[k], self.joints.position[k]
        target = sense * (position - self.wires.zero[k])
        if self.reversed[k] < 0.0:  # it goes as far the other way, and its own damping drives it
            target, velocity, effort = 2.0 * q - target, -velocity, -effort
        order = np.array([target, sense * velocity, sense * effort, kp, kd])
        if not np.array_equal(order, self._orders[:, k]):
            self._orders[:, k], self._changed = order, True

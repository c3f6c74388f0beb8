"""From what motors report to what joints do: unwrapped, in the joints' sense, and nothing that cannot be.

A position that wraps at the end of its encoder is followed across the wrap. One that jumps farther than the joint can
have moved is taken for corrupt and not given out; when that goes on, the sensor is at fault.
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from robot.driver import DriverError, StaleState
from robot.drivers.wiring import Wiring
from robot.spec import RobotSpec
from robot.state import Joints

Array = npt.NDArray[np.float64]

STILL = 0.2
"""Joints slower than this [rad/s] are at rest: above the noise of the motors' own speed."""
STILL_FOR_NS = 100_000_000
"""For so long a robot is still that is at rest, and not at the turning point of a swing."""
SLACK = 0.15
"""A reading may jump by this [rad] beyond what speed explains: noise, backlash, and stamps that are off."""
PATIENCE = 3
"""Readings in a row that may be impossible."""


def wait(until_ns: int) -> None:
    """Sleep until a time of time.monotonic_ns(), at once if that has passed."""
    while (left := until_ns - time.monotonic_ns()) > 0:
        time.sleep(left * 1e-9)


class Readings:
    """Follows one robot's joints from reading to reading.

    The few numbers of a reading are plain ones (see robot/one_robot.py); arrays come where something is odd.
    """

    def __init__(self, spec: RobotSpec, wiring: Wiring, turn: Array) -> None:
        """`turn`: (n_joints,) what a motor's position jumps by where it wraps [rad]; inf where it does not."""
        self._wiring, self._turn = wiring, turn
        low, high = np.array([j.position_limits for j in spec.joints]).T
        bounded = np.isfinite(low) & np.isfinite(high)
        middle = np.where(bounded, 0.5 * (np.where(bounded, low, 0.0) + np.where(bounded, high, 0.0)), 0.0)
        self._near: list[float] = np.where(bounded, middle, spec.default_pose).tolist()
        """Where the joints are taken to be before a reading [rad]."""
        self._sense, self._zero = wiring.direction.tolist(), wiring.zero.tolist()
        self._half = (0.5 * turn).tolist()
        self._speed = [1.5 * j.velocity_limit for j in spec.joints]
        self._odd = 0
        self.first_turns: Array | None = None
        self._none = np.zeros(len(wiring.ids))
        self.turns = self._wraps = self._none
        """(n_joints,) turns of the encoder that are added to its reading, and the angle [rad] that they make."""
        self.last: Joints | None = None

    def take(self, t_ns: int, position: list[float], velocity: list[float], effort: list[float]) -> Joints:
        """A reading of the motors, each (n_joints,) in the motor's sense [rad, rad/s, N m], as one of the joints.

        StaleState for one that cannot be, DriverError when that has happened three times in a row.
        """
        sense = self._sense
        joint = [s * (p - zero) for s, p, zero in zip(sense, position, self._zero, strict=True)]
        turns = wraps = self._none
        if not all(abs(n - q) < half for n, q, half in zip(self._near, joint, self._half, strict=True)):
            turns, wraps = self._turns(np.array(self._near) - np.array(joint))
            joint = (np.array(joint) + wraps).tolist()
        if self.last is not None:
            self._check(joint, self.last, t_ns)
        if self.first_turns is None:
            self.first_turns = turns
        self.turns, self._wraps, self._odd, self._near = turns, wraps, 0, joint
        self.last = Joints(
            names=self._wiring.names,
            t_ns=t_ns,
            position=np.array(joint),
            velocity=np.array([s * v for s, v in zip(sense, velocity, strict=True)]),
            effort=np.array([s * e for s, e in zip(sense, effort, strict=True)]),
        )
        return self.last

    def _turns(self, away: Array) -> tuple[Array, Array]:
        """(n_joints,) whole turns of the encoder in a difference of angles [rad], and the angle that they make."""
        with np.errstate(invalid="ignore"):
            turns = np.where(np.isfinite(self._turn), np.round(away / self._turn), 0.0)
            return turns, np.where(turns != 0.0, turns * self._turn, 0.0)

    def _check(self, position: list[float], last: Joints, t_ns: int) -> None:
        elapsed = max(0.0, (t_ns - last.t_ns) * 1e-9)
        beyond = [
            abs(q - before) - SLACK - speed * elapsed
            for q, before, speed in zip(position, self._near, self._speed, strict=True)
        ]
        if all(jump <= 0.0 for jump in beyond):
            return
        self._odd += 1
        i = int(np.argmax(beyond))
        text = (
            f"joint '{last.names[i]}' seems to have jumped from {last.position[i]:.3f} to {position[i]:.3f} rad in "
            f"{(t_ns - last.t_ns) * 1e-9:.3f} s"
        )
        if self._odd >= PATIENCE:
            raise DriverError(f"{text}; check its encoder and cable")
        raise StaleState(f"{text}: the reading is taken for corrupt")

    def wrapped(self) -> int | None:
        """The index of a joint that has turned past the end of its encoder since the first reading, or None."""
        if self.turns is self.first_turns or self.first_turns is None:
            return None
        if not (odd := self.turns != self.first_turns).any():
            return None
        return int(np.argmax(odd))

    def to_motor(self, joint: Array) -> Array:
        """(n_joints,) joint positions [rad] as the motors count them now, wraps included."""
        return self._wiring.to_motor(joint - self.wraps())

    def wraps(self) -> Array:
        """(n_joints,) what is added to the motors' positions for their wraps [rad], in the joints' sense."""
        return self._wraps

    def moving(self, newest_ns: int) -> str | None:
        """Why motors may not be enabled now, or None: a joint moves, or nothing was read for half a second."""
        if self.last is None or newest_ns - self.last.t_ns > 500_000_000:
            return "no joint was read in the last 0.5 s"
        speed = np.abs(self.last.velocity)
        if (speed <= STILL).all():
            return None
        i = int(np.argmax(speed))
        return f"joint '{self.last.names[i]}' moves at {self.last.velocity[i]:.2f} rad/s"

"""Limits: which part of a wish an actuator may be given. Position, velocity, torque, rate, in that order.

Torque is the motor's whole torque, its own gains at the measured state included, and so is its rate of change.

A wish that is inside all of them passes as it is, and is found to be so in one walk over the joints: on the few numbers
of a tick that is quicker than array operations.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from robot.spec import RobotSpec
from robot.state import JointCommand, Joints

Array = npt.NDArray[np.float64]

BRAKE_S = 0.1
"""A joint that would reach the end of its travel within this time is braked [s]."""


class Limits:
    """Clips commands per joint to travel, speed, torque and rate, in that order."""

    def __init__(self, spec: RobotSpec, period_s: float) -> None:
        joints = spec.joints
        self.names = spec.joint_names
        self._low, self._high = np.array([j.position_limits for j in joints]).T
        self._bounded = bool(np.isfinite(self._low).any() or np.isfinite(self._high).any())
        self._speed = np.array([j.velocity_limit for j in joints])
        self._torque = spec.effort_limits
        self._step = self._speed * period_s
        self._slew, self._brake = np.full(len(joints), np.inf), np.zeros(len(joints))
        self._slew[spec.driven] = [a.effort_rate_limit * period_s for a in spec.actuators]
        self._brake[spec.driven] = [a.safe_kd for a in spec.actuators]
        self._host_torque = np.zeros(len(joints), dtype=bool)
        """Joints whose gains act in the torque that we bound; a position servo bounds its own."""
        self._host_torque[spec.driven] = [a.kind == "torque" for a in spec.actuators]
        bounds = (self._speed, self._low, self._high, self._torque, self._slew)
        self._bounds: list[tuple[float, ...]] = list(zip(*(b.tolist() for b in bounds), strict=True))
        """A joint's speed, lowest and highest position, torque and change of torque in a tick."""
        self.reset()

    def reset(self) -> None:
        """Begin a run: the first command is slewed from no torque and from the measured pose."""
        self._last = np.zeros(len(self.names))
        """[N m] of the command before, the motor's own gains included."""
        self._position: Array | None = None
        """[rad] the targets of the command before; NaN for a joint that had none, None when no joint had one."""
        self._held: tuple[Array, Array] | None = None
        """Lowest and highest [rad] of the targets that the motors may have had when that command was made."""
        self._doubtful = False

    def lapse(self) -> None:
        """A reading has not come, so the command before may not have arrived: servos acknowledge no goal.

        The next targets keep the speed limit from those of that command and from those that it was to replace.
        """
        self._doubtful = True

    def refuse_state(self, joints: Joints) -> tuple[str, str] | None:
        """Kind and reason why a reading, in the spec's order, must end the run; None when it is sound."""
        worst: tuple[str, str] | None = None
        rows = zip(joints.position.tolist(), joints.velocity.tolist(), self._bounds, self.names, strict=True)
        for q, v, (speed, *_), name in rows:
            if not (math.isfinite(q) and math.isfinite(v)):
                return "state", (
                    f"joint '{name}' reads position {q}, velocity {v}; not a number: check its sensor and cable"
                )
            if not -speed <= v <= speed:
                worst = worst or ("velocity", f"joint '{name}' moves at {v:.3g}; its velocity_limit is {speed:g}")
        return worst

    def refuse_command(self, command: JointCommand) -> tuple[str, str] | None:
        """Kind and reason why a command must end the run: a value that is not finite."""
        values = (command.effort, command.position, command.velocity, command.kp, command.kd)
        total = 0.0
        for value in values[: 2 if command.position is command.kp else 5]:  # of torques, the rest is one array of zeros
            total += sum(value.tolist())
        if math.isfinite(total):
            return None
        for i, name in enumerate(self.names):
            if not all(math.isfinite(value[i]) for value in values):
                return "command", f"the command for joint '{name}' is not a number: effort {command.effort[i]}"
        return "command", "the command is out of all measure"

    def apply(self, command: JointCommand, joints: Joints, share: float = 1.0) -> tuple[JointCommand, tuple[str, ...]]:
        """The command within the limits, and which limits clipped it (`torque/elbow`); both in the spec's order.

        `share` of the torque and of the speed of targets is allowed.
        """
        gains = any(command.kp.tolist()) or any(command.kd.tolist())
        if not gains:
            self._position = self._held = None  # the next target moves on from where the joint is by then
        if not gains and self._fits(command.effort, joints, share):
            self._last = command.effort
            return command, ()
        clipped: list[str] = []
        position, velocity, effort = command.position, command.velocity, command.effort
        if gains:
            position = self._clip(position, self._low, self._high, "position", clipped)
            velocity = self._clip(velocity, -share * self._speed, share * self._speed, "velocity", clipped)
            lowest, highest = self._held = self._had(joints.position)
            step = share * self._step
            pulls = command.kp > 0
            position = np.where(pulls, position, joints.position)
            bottom, top = np.where(pulls, highest - step, -np.inf), np.where(pulls, lowest + step, np.inf)
            position = self._clip(position, bottom, top, "speed", clipped)
            self._doubtful = False
        low, high = -share * self._torque, share * self._torque
        if self._bounded:
            bottom, top = self._brakes(joints)
            effort = self._clip(effort, bottom, top, "travel", clipped)
            low, high = np.clip(bottom, low, high), np.clip(top, low, high)
        own, slew = np.zeros(len(self.names)), self._slew
        if gains:
            # what a frame cannot carry is not wished for: else the target would have to jump to make room for it
            effort = self._clip(effort, -self._torque, self._torque, "torque", clipped)
            own = self._own(replace(command, position=position, velocity=velocity), joints)
            brakes = (command.kp == 0) & (velocity == 0) & (effort == 0)
            slew = np.where(brakes, np.inf, slew)  # pure damping, the safe action, comes at once
        total = self._clip(effort + own, low, high, "torque", clipped)
        total = self._clip(total, self._last - slew, self._last + slew, "rate", clipped)
        self._last = total
        if not gains:
            return replace(command, position=position, velocity=velocity, effort=total), tuple(clipped)
        sent = replace(command, position=position, velocity=velocity)
        allowed = np.clip(own, total - self._torque, total + self._torque)
        if (own != allowed).any():
            sent = self._softer(sent, joints, own, allowed, (highest - step, lowest + step))
            allowed = self._own(sent, joints)
        self._position = np.where(command.kp > 0, sent.position, np.nan)
        return replace(sent, effort=np.clip(total - allowed, -self._torque, self._torque)), tuple(clipped)

    def _had(self, measured: Array) -> tuple[Array, Array]:
        """Lowest and highest [rad] of the targets that the motors may have now.

        A joint that had none, as while it was damped or driven by torque, moves on from where it is `measured`.
        """
        if self._position is None:
            return measured, measured
        none = np.isnan(self._position)
        last = np.where(none, measured, self._position)
        if not self._doubtful or self._held is None:
            return last, last
        lowest, highest = self._held
        return np.where(none, last, np.minimum(lowest, last)), np.where(none, last, np.maximum(highest, last))

    def _fits(self, effort: Array, joints: Joints, share: float) -> bool:
        """Whether a torque command needs no clipping at all, as nearly every one in a run."""
        rows = zip(
            effort.tolist(), self._last.tolist(), joints.position.tolist(), joints.velocity.tolist(), self._bounds,
            strict=True,
        )  # fmt: skip
        for wish, last, q, v, (_, lowest, highest, torque, slew) in rows:
            if not (-share * torque <= wish <= share * torque and -slew <= wish - last <= slew):
                return False
            if not (lowest < q < highest and lowest < q + v * BRAKE_S < highest):
                return False
        return True

    def _brakes(self, joints: Joints) -> tuple[Array, Array]:
        """(lowest, highest) torque with which no joint is driven over the end of its travel.

        At the end there is none outwards; on the way there, speed that would reach it within BRAKE_S is taken away
        with the actuator's own damping.
        """
        q, v = joints.position, joints.velocity
        too_fast_up = v - np.maximum(self._high - q, 0.0) / BRAKE_S
        too_fast_down = v - np.minimum(self._low - q, 0.0) / BRAKE_S
        top = np.where((q >= self._high) | (too_fast_up > 0), -self._brake * np.maximum(too_fast_up, 0.0), np.inf)
        bottom = np.where(
            (q <= self._low) | (too_fast_down < 0), -self._brake * np.minimum(too_fast_down, 0.0), -np.inf
        )
        return bottom, top

    def _softer(
        self, c: JointCommand, joints: Joints, own: Array, allowed: Array, reach: tuple[Array, Array]
    ) -> JointCommand:
        """The command with which the motors' own gains ask for `allowed` where they ask for more, `own` [N m].

        Else a joint that is held back would need more feed-forward than its torque limit to stay within it. A target
        comes nearer to the joint as far as its speed lets it (`reach`: lowest and highest [rad]); what it then still
        pulls too much is taken off kp. So one wrong reading that tells of a joint far away makes no target jump, and at
        the true state the gains ask for less than here.
        """
        q, v, much = joints.position, joints.velocity, own != allowed
        pull = allowed - c.kd * (c.velocity - v)
        pulls = much & (c.kp > 0)
        wanted = np.where(pulls, q + pull / np.where(pulls, c.kp, 1.0), c.position)
        position = np.where(pulls, np.clip(wanted, *reach), wanted)
        away = position - q
        short = pulls & (position != wanted) & (away != 0.0)
        kp = np.where(short, np.clip(pull / np.where(short, away, 1.0), 0.0, c.kp), c.kp)
        drags = much & (kp == 0) & (c.kd > 0)
        velocity = np.where(drags, v + allowed / np.where(drags, c.kd, 1.0), c.velocity)
        return replace(c, position=position, velocity=velocity, kp=kp)

    def _own(self, c: JointCommand, joints: Joints) -> Array:
        """(n_joints,) [N m] of the motors' own gains, where we bound their torque."""
        own = c.kp * (c.position - joints.position) + c.kd * (c.velocity - joints.velocity)
        return np.where(self._host_torque, own, 0.0)

    def _clip(self, value: Array, low: Array, high: Array, what: str, clipped: list[str]) -> Array:
        inside = np.minimum(np.maximum(value, low), high)
        changed = inside != value
        if np.count_nonzero(changed):
            clipped += [f"{what}/{self.names[i]}" for i in np.flatnonzero(changed)]
        return inside

"""Which command may leave: limits, watchdog, monitor, fault latch. Pure numpy, and each refusal has a reason.

A *fault* ends the run and stays latched until a person starts another. A *warning* (a command was clipped, an
observation is unfamiliar) is logged when it begins, and the run goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from robot.monitor import Monitor
from robot.spec import RobotSpec
from robot.state import JointCommand, Joints

Array = npt.NDArray[np.float64]
Kind = Literal["state", "velocity", "command", "watchdog", "driver", "unfamiliar", "recorder"]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a run ended: when [ns, driver's clock], what kind, and a sentence."""

    t_ns: int
    kind: Kind
    reason: str


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
        self._slew = np.full(len(joints), np.inf)
        self._slew[spec.driven] = [a.effort_rate_limit * period_s for a in spec.actuators]
        self._host_torque = np.zeros(len(joints), dtype=bool)
        """Joints whose gains act in the torque that we bound; a position servo bounds its own."""
        self._host_torque[spec.driven] = [a.kind == "torque" for a in spec.actuators]
        self.reset()

    def reset(self) -> None:
        """Begin a run: the first command is slewed from no torque and from the measured pose."""
        self._effort = np.zeros(len(self.names))
        self._position: Array | None = None

    def refuse_state(self, joints: Joints) -> tuple[Kind, str] | None:
        """Why a reading, in the spec's order, must end the run; None when it is sound."""
        speed = np.abs(joints.velocity)
        sound = np.isfinite(joints.position) & (speed <= self._speed)  # NaN compares as false
        if np.count_nonzero(sound) == len(sound):
            return None
        broken = ~(np.isfinite(joints.position) & np.isfinite(speed))
        if broken.any():
            i = int(np.argmax(broken))
            return "state", (
                f"joint '{self.names[i]}' reads position {joints.position[i]}, velocity {joints.velocity[i]}; "
                "not a number: check its sensor and cable"
            )
        i = int(np.argmax(speed - self._speed))
        return "velocity", (
            f"joint '{self.names[i]}' moves at {joints.velocity[i]:.3g}; its velocity_limit is {self._speed[i]:g}"
        )

    def refuse_command(self, command: JointCommand) -> tuple[Kind, str] | None:
        """Why a command must end the run: a value that is not finite."""
        total = command.effort + command.position + command.velocity + command.kp + command.kd
        if np.count_nonzero(np.isfinite(total)) == len(total):
            return None
        i = int(np.argmin(np.isfinite(total)))
        return "command", f"the command for joint '{self.names[i]}' is not a number: effort {command.effort[i]}"

    def apply(self, command: JointCommand, joints: Joints) -> tuple[JointCommand, tuple[str, ...]]:
        """The command within the limits, and which limits clipped it (`torque/elbow`); both in the spec's order."""
        gains = bool(np.count_nonzero(command.kp) or np.count_nonzero(command.kd))
        if not gains and self._torque_fits(command.effort, joints.position):
            self._effort = command.effort
            return command, ()
        clipped: list[str] = []
        position, velocity = command.position, command.velocity
        if gains:
            position = self._clip(position, self._low, self._high, "position", clipped)
            velocity = self._clip(velocity, -self._speed, self._speed, "velocity", clipped)
            last = joints.position if self._position is None else self._position
            position = np.where(command.kp > 0, position, last)
            position = self._clip(position, last - self._step, last + self._step, "speed", clipped)
            self._position = position
        effort = command.effort
        if self._bounded:  # at the end of its travel a joint is not pushed further out
            top = np.where(joints.position >= self._high, 0.0, np.inf)
            bottom = np.where(joints.position <= self._low, 0.0, -np.inf)
            effort = self._clip(effort, bottom, top, "travel", clipped)
        effort = self._clip(effort, -self._torque, self._torque, "torque", clipped)
        if gains:
            effort = self._bound_total(replace(command, position=position, velocity=velocity, effort=effort), joints)
        effort = self._clip(effort, self._effort - self._slew, self._effort + self._slew, "rate", clipped)
        self._effort = effort
        return replace(command, position=position, velocity=velocity, effort=effort), tuple(clipped)

    def _torque_fits(self, effort: Array, position: Array) -> bool:
        """Whether a torque command needs no clipping at all, as nearly every one in a run."""
        if self._bounded and np.count_nonzero((position >= self._high) | (position <= self._low)):
            return False
        fits = (np.abs(effort) <= self._torque) & (np.abs(effort - self._effort) <= self._slew)
        return bool(np.count_nonzero(fits) == len(fits))

    def _bound_total(self, c: JointCommand, joints: Joints) -> Array:
        """Feed-forward that keeps the motor's whole torque within the limit, its own gains included."""
        own = c.kp * (c.position - joints.position) + c.kd * (c.velocity - joints.velocity)
        bounded = np.clip(own + c.effort, -self._torque, self._torque) - own
        return np.where(self._host_torque & ((c.kp > 0) | (c.kd > 0)), bounded, c.effort)

    def _clip(self, value: Array, low: Array, high: Array, what: str, clipped: list[str]) -> Array:
        inside = np.minimum(np.maximum(value, low), high)
        changed = inside != value
        if np.count_nonzero(changed):
            clipped += [f"{what}/{self.names[i]}" for i in np.flatnonzero(changed)]
        return inside


class Safety:
    """Everything between a policy's wish and the wire; holds the latched faults and the warnings of one run."""

    def __init__(
        self,
        spec: RobotSpec,
        period_s: float,
        monitor: Monitor | None = None,
        unfamiliar: Literal["warn", "fault"] = "warn",
    ) -> None:
        """`unfamiliar`: what an observation far from the training data does."""
        self.spec, self.limits = spec, Limits(spec, period_s)
        self._monitor, self._unfamiliar = monitor, unfamiliar
        self._watchdog_ns = round(spec.watchdog_s * 1e9)
        self.faults: list[Fault] = []
        self.reset(0)

    def reset(self, now_ns: int) -> None:
        """Begin a run at `now_ns`. Latched faults stay: make a new Safety after a person has looked."""
        self.limits.reset()
        self._heard_ns = now_ns
        self._active: dict[str, frozenset[str]] = {}
        self.warnings: list[str] = []
        """Warnings that have begun since the caller emptied the list."""

    @property
    def tripped(self) -> bool:
        return bool(self.faults)

    def trip(self, t_ns: int, kind: Kind, reason: str) -> None:
        """Latch a fault."""
        self.faults.append(Fault(t_ns, kind, reason))

    def silent(self, now_ns: int) -> bool:
        """Nothing could be decided for want of a reading: trips the watchdog when that lasts too long."""
        silence = now_ns - self._heard_ns
        if silence > self._watchdog_ns:
            self.trip(
                now_ns,
                "watchdog",
                f"no complete reading for {silence * 1e-9:.3f} s; watchdog_s is {self.spec.watchdog_s}",
            )
        return self.tripped

    def accept(self, joints: Joints, now_ns: int) -> bool:
        """Whether the run may go on with this reading, whose joints are in the spec's order."""
        refusal = self.limits.refuse_state(joints)
        if refusal is not None:
            self.trip(now_ns, *refusal)
        if (age := now_ns - joints.t_ns) > self._watchdog_ns:
            self.trip(now_ns, "watchdog", f"a reading is {age * 1e-9:.3f} s old; watchdog_s is {self.spec.watchdog_s}")
        return not self.tripped

    def familiar(self, observation: npt.NDArray[np.floating] | None, now_ns: int) -> bool:
        """Compare what the policy saw with its training; False when that is to end the run."""
        text = None
        if self._monitor is not None and observation is not None:
            text = self._monitor.unfamiliar(observation)
        if text is not None and self._unfamiliar == "fault":
            self.trip(now_ns, "unfamiliar", text)
        self._warn("unfamiliar", () if text is None else (text,))
        return not self.tripped

    def guard(self, command: JointCommand, joints: Joints, now_ns: int) -> JointCommand | None:
        """The command that may be sent, within all limits; None when there is a fault."""
        refusal = self.limits.refuse_command(command)
        if refusal is not None:
            self.trip(now_ns, *refusal)
        if self.tripped:
            return None
        self._heard_ns = now_ns
        allowed, clipped = self.limits.apply(command, joints)
        self._warn("clipped", clipped)
        return allowed

    def _warn(self, kind: str, texts: tuple[str, ...]) -> None:
        """Report each warning once, when it begins; an `unfamiliar` one counts as the same whatever its figures."""
        now = {f"{kind}: {text}": kind if kind == "unfamiliar" else text for text in texts}
        before = self._active.get(kind, frozenset())
        self.warnings += [sentence for sentence, key in now.items() if key not in before]
        self._active[kind] = frozenset(now.values())

"""Which command may leave: readings, limits, watchdog, familiarity, health, fault latch. Each refusal has a reason.

A *fault* ends the run and stays latched until a person starts another. A *warning* (a command was clipped, an
observation is unfamiliar) is logged when it begins, and the run goes on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError
from robot.limits import Limits
from robot.spec import RobotSpec
from robot.state import Health, JointCommand, Joints, Sample

Array = npt.NDArray[np.float64]
Kind = Literal[
    "state", "velocity", "command", "watchdog", "clock", "driver", "policy", "unfamiliar", "health", "recorder"
]
Unfamiliar = Literal["warn", "limit", "fault"]
Verdict = Literal["fresh", "repeated", "fault"]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a run ended: when [ns, driver's clock], what kind, and a sentence."""

    t_ns: int
    kind: Kind
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SafetyConfig:
    """What the runtime does beyond the limits of the robot's own spec."""

    unfamiliar: Unfamiliar = "warn"
    """When the policy sees what training never saw: warn, leave it `limited` of torque and speed, or end the run."""
    limited: float = 0.3
    """Share of torque and of the targets' speed while the policy is limited."""
    max_temperature: float = 75.0
    """[°C]; an actuator that reports more ends the run, one within 10 °C of it is warned of."""
    voltage: tuple[float, float] = (0.0, math.inf)
    """[V]; a supply outside ends the run."""
    camera_s: float = 0.5
    """Age of the newest image [s] above which the policy is blind, which counts as silence of the robot."""

    def __post_init__(self) -> None:
        if not 0.0 < self.limited <= 1.0:
            raise ConfigError(f"safety.limited is {self.limited}; it must be above 0 and at most 1.")
        if not self.voltage[0] < self.voltage[1]:
            raise ConfigError(f"safety.voltage is {list(self.voltage)}; the first must be lower.")


class Safety:
    """Everything between a policy's wish and the wire; holds the latched faults and the warnings of one run."""

    def __init__(
        self,
        spec: RobotSpec,
        period_s: float,
        config: SafetyConfig | None = None,
    ) -> None:
        self.spec, self.limits = spec, Limits(spec, period_s)
        self._config = config or SafetyConfig()
        self._watchdog_ns = round(spec.watchdog_s * 1e9)
        self._ahead_ns = round(period_s * 1e9)
        self.faults: list[Fault] = []
        self.reset(0)

    def reset(self, now_ns: int) -> None:
        """Begin a run at `now_ns`. Latched faults stay: make a new Safety after a person has looked."""
        self.limits.reset()
        self._heard_ns = now_ns
        self._last_ns: int | None = None
        self._share = 1.0
        self._active: dict[str, frozenset[str]] = {}
        self._told: str | None = None
        self._images: dict[str, int] = {}
        self.warnings: list[str] = []
        """Warnings that have begun since the caller emptied the list."""

    @property
    def tripped(self) -> bool:
        return bool(self.faults)

    def trip(self, t_ns: int, kind: Kind, reason: str) -> None:
        """Latch a fault."""
        self.faults.append(Fault(t_ns, kind, reason))

    def silent(self, now_ns: int, why: str = "") -> bool:
        """Nothing could be decided for want of a reading: trips the watchdog when that lasts too long."""
        self.limits.lapse()
        silence = now_ns - self._heard_ns
        if silence > self._watchdog_ns:
            self.trip(
                now_ns,
                "watchdog",
                f"no complete reading for {silence * 1e-9:.3f} s; watchdog_s is {self.spec.watchdog_s}"
                + (f" ({why})" if why else ""),
            )
        return self.tripped

    def told(self, now_ns: int) -> None:
        """The motors have been told something."""
        self._heard_ns = now_ns

    def punctual(self, now_ns: int) -> bool:
        """Whether the motors were told something in time; trips the watchdog where this process itself stood still."""
        pause = now_ns - self._heard_ns
        if pause > self._watchdog_ns:
            self.trip(
                now_ns,
                "watchdog",
                f"the motors were told nothing for {pause * 1e-9:.3f} s; watchdog_s is {self.spec.watchdog_s}",
            )
        return not self.faults

    def accept(self, joints: Joints, now_ns: int) -> Verdict:
        """What to do with this reading, whose joints are in the spec's order: a repeated one is as good as none."""
        refusal = self.limits.refuse_state(joints)
        if refusal is not None:
            self.trip(now_ns, *refusal)  # type: ignore[arg-type]
        age, last = now_ns - joints.t_ns, self._last_ns
        if age > self._watchdog_ns:
            self.trip(now_ns, "watchdog", f"a reading is {age * 1e-9:.3f} s old; watchdog_s is {self.spec.watchdog_s}")
        elif age < -self._ahead_ns:
            self.trip(now_ns, "clock", f"a reading is {-age * 1e-9:.3f} s from the future: its stamp is no use")
        elif last is not None and joints.t_ns < last:
            self.trip(now_ns, "clock", f"a reading is {(last - joints.t_ns) * 1e-9:.3f} s older than the one before")
        if self.faults:
            return "fault"
        self._last_ns = joints.t_ns
        return "repeated" if joints.t_ns == last else "fresh"

    def healthy(self, health: Health, now_ns: int) -> bool:
        """Whether the run may go on with what the actuators say of themselves, in the spec's order."""
        names, most, (lowest, highest) = self.spec.joint_names, self._config.max_temperature, self._config.voltage
        if health.errors:
            self.trip(now_ns, "health", "; ".join(health.errors))
        warm = []
        for name, temperature, voltage in zip(names, health.temperature.tolist(), health.voltage.tolist(), strict=True):
            if temperature > most:
                self.trip(now_ns, "health", f"actuator of '{name}' is {temperature:.0f} °C hot; {most:g} is allowed")
            elif temperature > most - 10.0:
                warm.append(f"actuator of '{name}' is warm, near its {most:g} °C")
            if voltage < lowest or voltage > highest:
                self.trip(now_ns, "health", f"the supply of '{name}' is {voltage:.1f} V; [{lowest:g}, {highest:g}]")
        self._warn("health", tuple(warm))
        return not self.faults

    def seen(self, sample: Sample, cameras: tuple[str, ...], now_ns: int) -> str | None:
        """Which of the cameras has gone blind, in a sentence; None while all have sent an image of late."""
        for camera in cameras:
            if camera in sample.images:
                self._images[camera] = sample.images[camera][0]
            age = (now_ns - self._images.get(camera, now_ns)) * 1e-9
            if age > self._config.camera_s:
                return f"the newest image of camera '{camera}' is {age:.2f} s old"
        return None

    def familiar(self, unfamiliar: str | None, now_ns: int) -> bool:
        """Whether the run may go on when the policy sees what training never saw, for the reason given."""
        if unfamiliar is not None and self._config.unfamiliar == "fault":
            self.trip(now_ns, "unfamiliar", unfamiliar)
        limited = unfamiliar is not None and self._config.unfamiliar == "limit"
        self._share = self._config.limited if limited else 1.0
        if unfamiliar is not self._told:  # a commander says the same thing in tick after tick
            self._told = unfamiliar
            self._warn("unfamiliar", () if unfamiliar is None else (unfamiliar,))
        return not self.faults

    def guard(self, command: JointCommand, joints: Joints, now_ns: int) -> JointCommand | None:
        """The command that may be sent, within all limits; None when there is a fault."""
        refusal = self.limits.refuse_command(command)
        if refusal is not None:
            self.trip(now_ns, *refusal)  # type: ignore[arg-type]
        if self.faults:
            return None
        self._heard_ns = now_ns
        allowed, clipped = self.limits.apply(command, joints, self._share)
        self._warn("clipped", clipped)
        return allowed

    def _warn(self, kind: str, texts: tuple[str, ...]) -> None:
        """Report each warning once, when it begins; an `unfamiliar` one counts as the same whatever its figures."""
        before = self._active.get(kind)
        if not texts and not before:
            return
        now = {f"{kind}: {text}": kind if kind == "unfamiliar" else text for text in texts}
        self.warnings += [sentence for sentence, key in now.items() if key not in (before or ())]
        self._active[kind] = frozenset(now.values())

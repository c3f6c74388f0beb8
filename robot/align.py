"""Alignment: before the policy begins, joints with position gains are brought to the default pose, slowly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError
from robot.spec import RobotSpec
from robot.state import JointCommand, Joints

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignConfig:
    """How joints are brought to the default pose."""

    speed: float = 0.5
    """[rad/s] of the joint that has farthest to go; the others arrive with it."""
    tolerance: float = 0.1
    """[rad] from the default pose that are near enough: gravity and friction keep a servo from its target."""
    patience_s: float = 2.0
    """Time for which a joint that has not arrived is waited for [s]; the policy begins all the same."""

    def __post_init__(self) -> None:
        if not (self.speed > 0 and self.tolerance > 0 and self.patience_s >= 0):
            raise ConfigError("align: speed and tolerance must be above 0, patience_s at least 0.")


class Alignment:
    """A straight way in joint space from the measured pose to the default one, with the actuators' own gains."""

    def __init__(self, spec: RobotSpec, config: AlignConfig | None, joints: Joints, now_ns: int) -> None:
        """`joints` in the spec's order. Joints without position gains are damped, and not waited for."""
        self._names, self._config, self._goal = spec.joint_names, config or AlignConfig(), spec.default_pose
        self._begin_ns, self._start = now_ns, joints.position.copy()
        self._kp, self._kd, damping = np.zeros((3, len(spec.joints)))
        for joint, actuator in zip(spec.driven, spec.actuators, strict=True):
            self._kp[joint], self._kd[joint] = actuator.kp, actuator.kd
            damping[joint] = actuator.safe_kd if actuator.safe_action == "damp" else 0.0
        self._held = self._kp > 0
        self._kd = np.where(self._held, self._kd, damping)
        away = float(np.abs(self._goal - self._start)[self._held].max(initial=0.0))
        self._seconds = 0.0 if config is None or away <= self._config.tolerance else away / self._config.speed
        self.why = self._reason(config, away)
        """Why it lasts as long as it does, for the log."""

    def _reason(self, config: AlignConfig | None, away: float) -> str:
        if not self._held.any():
            return "no joint has position gains"
        if config is None:
            return "not asked for"
        return f"{away:.3g} rad from the default pose, {self._seconds:.1f} s"

    def command(self, now_ns: int) -> JointCommand:
        """Where the joints are to be at `now_ns`."""
        elapsed = (now_ns - self._begin_ns) * 1e-9
        share = min(elapsed / self._seconds, 1.0) if self._seconds else 1.0
        position = np.where(self._held, self._start + share * (self._goal - self._start), self._start)
        zero = np.zeros(len(position))
        return JointCommand(
            names=self._names, t_ns=now_ns, position=position, velocity=zero, effort=zero, kp=self._kp, kd=self._kd
        )

    def over(self, joints: Joints, now_ns: int) -> bool:
        """Whether the policy may begin: all has arrived, or was waited for long enough."""
        elapsed = (now_ns - self._begin_ns) * 1e-9
        if elapsed < self._seconds:
            return False
        near = bool((np.abs(joints.position - self._goal)[self._held] <= self._config.tolerance).all())
        return not self._seconds or near or elapsed >= self._seconds + self._config.patience_s

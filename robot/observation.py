"""The one place where a measured state becomes the policy's input, and its output a command.

sim/vecenv.py (training), transfer (evaluation) and robot/loop.py (the robot) all call encode() and decode()
here. numpy only: this file runs on board. To add a feature: a row in FEATURES, a new LAYOUT_VERSION, retrain;
old bundles are then refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError, nearest
from robot.spec import ActuatorSpec, RobotSpec
from robot.state import JointCommand, Joints, Sample

Array = npt.NDArray[np.float64]
Signals = Mapping[str, Array]
"""signal name -> (batch, n) in the signal's unit, joints in the RobotSpec's order."""

LAYOUT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Feature:
    """One block of the observation vector."""

    signal: str
    """The signal it is computed from: one of robot.spec.SIGNALS, or `goal`."""
    prefix: str
    compute: Callable[[Array, Array], Array]
    """Of the signal (B, n) and the robot's default pose (n_joints,)."""
    each: Callable[[float, float], float] | None = None
    """The same of one joint's number and its default position; None where it takes more than that."""


FEATURES: dict[str, Feature] = {
    "joint_position": Feature("joint.position", "position", lambda q, rest: q - rest, lambda q, rest: q - rest),
    "joint_cos": Feature("joint.position", "cos", lambda q, _: np.cos(q), lambda q, _: _or_nan(math.cos, q)),
    "joint_sin": Feature("joint.position", "sin", lambda q, _: np.sin(q), lambda q, _: _or_nan(math.sin, q)),
    "joint_velocity": Feature("joint.velocity", "velocity", lambda v, _: v, lambda v, _: v),
    "joint_effort": Feature("joint.effort", "effort", lambda e, _: e, lambda e, _: e),
    "imu_gyro": Feature("imu.gyro", "gyro", lambda w, _: w),
    "imu_accel": Feature("imu.accel", "accel", lambda a, _: a),
    "imu_gravity": Feature("imu.orientation", "gravity", lambda q, _: gravity_direction(q)),
    "goal": Feature("goal", "goal", lambda g, _: g),
    "joint_change": Feature("joint.position", "change", lambda q, _: q),
}
"""name -> how it is computed. `previous_action` stands beside these: it comes from decode(), not from a sensor.

Of `joint_change` the value of the control step before is taken off (0 at the first): a velocity to whoever trusts the
angles alone [rad per control step].
"""
CHANGE = FEATURES["joint_change"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservationConfig:
    """What the policy sees."""

    layout: int = LAYOUT_VERSION
    features: tuple[str, ...]
    """Rows of FEATURES, or `previous_action`, in the order in which they are concatenated."""
    goal: tuple[str, ...] = ()
    """Component names of the task's goal, when `goal` is among the features."""
    history: int = 0
    """Past steps kept for an encoder; 0 keeps none."""
    cameras: tuple[str, ...] = ()
    """Cameras whose newest image is an input of its own."""

    def __post_init__(self) -> None:
        if self.layout != LAYOUT_VERSION:
            raise ConfigError(
                f"the observation layout is version {self.layout}; this terrafirma knows {LAYOUT_VERSION}: retrain or "
                "use the version that made the file."
            )
        for name in self.features:
            if name not in FEATURES and name != "previous_action":
                raise ConfigError(f"feature '{name}' is unknown. {nearest(name, [*FEATURES, 'previous_action'])}")
        if self.history < 0:
            raise ConfigError(f"history is {self.history}; it must be at least 0.")


@dataclass(frozen=True, kw_only=True, slots=True)
class ActionConfig:
    """What the policy's outputs in [-1, 1] mean."""

    kind: Literal["effort", "position", "velocity"] = "effort"
    actuators: tuple[str, ...]
    """The actuators that are driven, in the order of the outputs; the others are sent 0 N m."""
    scale: tuple[float, ...]
    """Command at output 1: [N m] for effort, [rad] from the default pose for position, [rad/s] for velocity."""
    kp: tuple[float, ...] = ()
    """[N m/rad] with which a torque motor holds a position; default: the actuator's own."""
    kd: tuple[float, ...] = ()
    """[N m s/rad] with which a torque motor holds a velocity, or damps on its way; default: the actuator's own."""

    def __post_init__(self) -> None:
        if len(self.scale) != len(self.actuators) or not self.actuators:
            raise ConfigError(f"action.scale has {len(self.scale)} values for {len(self.actuators)} actuators.")
        for name, gains in (("kp", self.kp), ("kd", self.kd)):
            if gains and (len(gains) != len(self.actuators) or min(gains) < 0.0):
                raise ConfigError(
                    f"action.{name} is {list(gains)}; it needs one value of at least 0 for each of the "
                    f"{len(self.actuators)} actuators, or none."
                )
        if self.kind == "effort" and (self.kp or self.kd):
            raise ConfigError("action.kp and action.kd are for kind position or velocity; torques need no gains.")

    def gains(self, actuator: ActuatorSpec) -> tuple[float, float]:
        """kp [N m/rad] and kd [N m s/rad] with which one of the driven actuators is commanded."""
        i = self.actuators.index(actuator.name)
        kp, kd = self.kp[i] if self.kp else actuator.kp, self.kd[i] if self.kd else actuator.kd
        return (0.0, kd) if self.kind == "velocity" else (kp, kd)


class Observation:
    """Encoder of inputs and decoder of outputs for a batch of robots, with their history."""

    def __init__(self, spec: RobotSpec, config: ObservationConfig, action: ActionConfig, batch: int = 1) -> None:
        """ConfigError when a feature needs a signal that the robot does not measure, or an actuator is unknown."""
        self.spec, self.config, self.action, self.batch = spec, config, action, batch
        names = [a.name for a in spec.actuators]
        for name in action.actuators:
            if name not in names:
                raise ConfigError(f"action drives actuator '{name}'. {nearest(name, names)}")
        self._to_joints = np.zeros((len(action.actuators), len(spec.joints)))
        """(A, n_joints) an output of 1 as a command; outputs times this are exact, each column having one entry."""
        for i, (name, scale) in enumerate(zip(action.actuators, action.scale, strict=True)):
            self._to_joints[i, spec.driven[names.index(name)]] = scale
        self._default_pose = spec.default_pose
        self.origin, self.low, self.high = self._commanded()
        self._kp, self._kd = np.zeros((2, len(spec.joints)))
        for joint, actuator in zip(spec.driven, spec.actuators, strict=True):
            if actuator.name in action.actuators:
                self._kp[joint], self._kd[joint] = action.gains(actuator)
            elif action.kind == "position":  # held at its default
                self._kp[joint], self._kd[joint] = actuator.kp, actuator.kd
        cameras = [c.name for c in spec.cameras]
        for camera in config.cameras:
            if camera not in cameras:
                raise ConfigError(f"observation.cameras names '{camera}'. {nearest(camera, cameras)}")
        self.components = tuple(n for feature in config.features for n in self._names_of(feature))
        self.plan = self._lay_out()
        """Where each feature stands in the observation vector; None is the previous action."""
        reach = np.abs(self._to_joints).sum(axis=0)
        self._inside = action.kind == "effort" and bool((reach <= self.high).all())
        """Whether no output asks for more torque than the limits allow."""
        self._names, self._zero = spec.joint_names, np.zeros(len(spec.joints))
        self._least, self._most = np.array([-1.0]), np.array([1.0])
        self._zero.flags.writeable = False
        self._previous = np.zeros((batch, len(action.actuators)))
        self._history = np.zeros((batch, config.history, self.history_size), dtype=np.float32)
        self._mask = np.zeros((batch, config.history), dtype=np.float32)
        self._last = np.zeros((batch, self.size), dtype=np.float32)
        # angles of this control step and of the one before, which counts 0 where there was none
        self._now, self._before = np.zeros((2, batch, len(spec.joints)))
        self._moved = np.zeros((batch, 1))

    def _names_of(self, feature: str) -> list[str]:
        """Component names of one feature; ConfigError when the robot does not measure its signal."""
        if feature == "previous_action":
            return [f"previous_action/{a}" for a in self.action.actuators]
        signal, prefix = FEATURES[feature].signal, FEATURES[feature].prefix
        if signal == "goal":
            return [f"{prefix}/{p}" for p in self.config.goal]
        self.spec.sensor(signal)
        parts = self.spec.joint_names if signal.startswith("joint.") else ("x", "y", "z")
        return [f"{prefix}/{p}" for p in parts]

    def _commanded(self) -> tuple[Array, Array, Array]:
        """(n_joints,) what the command of an output of 0 is, and the least and the most that is ever commanded."""
        spec, zero = self.spec, np.zeros(len(self.spec.joints))
        if self.action.kind == "effort":
            return zero, -spec.effort_limits, spec.effort_limits
        if self.action.kind == "velocity":
            speed = np.array([j.velocity_limit for j in spec.joints])
            return zero, -speed, speed
        low, high = np.array([j.position_limits for j in spec.joints]).T
        return spec.default_pose, low, high

    def _lay_out(self) -> list[tuple[slice, Feature | None]]:
        plan, column = [], 0
        for name in self.config.features:
            end = column + len(self._names_of(name))
            plan.append((slice(column, end), FEATURES.get(name)))
            column = end
        return plan

    @property
    def size(self) -> int:
        """Length of the observation vector."""
        return len(self.components)

    @property
    def previous_action(self) -> Array:
        """(B, A) the last outputs that decode() was given, clipped."""
        return self._previous

    @property
    def action_size(self) -> int:
        return len(self.action.actuators)

    @property
    def history_size(self) -> int:
        """Length of one history row: an observation and the action that followed it."""
        return self.size + self.action_size

    @property
    def signals(self) -> tuple[str, ...]:
        """The signals that encode() needs."""
        needed = [FEATURES[f].signal for f in self.config.features if f != "previous_action"]
        return tuple(dict.fromkeys(needed))

    def reset(self, ids: npt.NDArray[np.intp] | slice = slice(None)) -> None:
        """Forget the history and previous action of some robots, as at the start of an episode."""
        self._previous[ids] = 0.0
        self._history[ids] = 0.0
        self._mask[ids] = 0.0
        self._moved[ids] = 0.0

    def encode(
        self, signals: Signals, into: dict[str, npt.NDArray[np.float32]] | None = None
    ) -> dict[str, npt.NDArray[np.float32]]:
        """The policy's inputs: `observation` (B, D) and, with a history, `history` (B, H, K), `history_mask` (B, H).

        The newest past step is the last row; mask 0 marks rows before the episode began. The arrays are copies that
        stay valid after the next call, or those of `into`, which are filled and must be left alone until decode().
        """
        inputs = self._blank() if into is None else into
        observation = inputs["observation"]
        for columns, feature in self.plan:
            if feature is None:
                observation[:, columns] = self._previous
            elif feature is CHANGE:
                self._now = signals["joint.position"].copy()
                observation[:, columns] = (self._now - self._before) * self._moved
            else:
                observation[:, columns] = feature.compute(signals[feature.signal], self._default_pose)
        self._last = observation
        if self.config.history:
            np.copyto(inputs["history"], self._history)
            np.copyto(inputs["history_mask"], self._mask)
        return inputs

    def _blank(self) -> dict[str, npt.NDArray[np.float32]]:
        inputs = {"observation": np.empty((self.batch, self.size), dtype=np.float32)}
        if self.config.history:
            inputs |= {"history": np.empty_like(self._history), "history_mask": np.empty_like(self._mask)}
        return inputs

    def decode(self, action: npt.NDArray[np.floating]) -> Array:
        """Outputs (B, A) to commands (B, n_joints) in the action's unit, clipped to the robot's limits.

        Also remembers the action, so that the next encode() sees it. The one place with units and clips.
        """
        clipped = _between(np.asarray(action, dtype=np.float64), self._least, self._most)
        self._previous = clipped
        if "joint_change" in self.config.features:
            self._before = self._now.copy()
            self._moved[:] = 1.0
        if self.config.history:
            self._history[:, :-1] = self._history[:, 1:]
            self._history[:, -1, : self.size] = self._last
            self._history[:, -1, self.size :] = clipped
            self._mask[:, :-1] = self._mask[:, 1:]
            self._mask[:, -1] = 1.0
        command = clipped.dot(self._to_joints)
        return command if self._inside else _between(self.origin + command, self.low, self.high)

    def to_command(self, values: Array, t_ns: int) -> JointCommand:
        """One decoded row (n_joints,) as a JointCommand; what it does not use is one shared array of zeros."""
        names, zero, kp, kd = self._names, self._zero, self._kp, self._kd
        if self.action.kind == "effort":
            position = velocity = kp = kd = zero
            effort = values
        elif self.action.kind == "velocity":
            position = kp = effort = zero
            velocity = values
        else:
            velocity = effort = zero
            position = values
        return JointCommand(names=names, t_ns=t_ns, position=position, velocity=velocity, effort=effort, kp=kp, kd=kd)


def gravity_direction(quaternion: Array) -> Array:
    """Unit vector of gravity in the sensor's frame, (B, 3), from its orientation w x y z in the world, (B, 4)."""
    w, x, y, z = quaternion.T
    return np.stack([2.0 * (w * y - x * z), -2.0 * (y * z + w * x), 2.0 * (x * x + y * y) - 1.0], axis=1)


def _or_nan(function: Callable[[float], float], x: float) -> float:
    """What arrays say of an infinite angle, where Python would raise."""
    return function(x) if math.isfinite(x) else math.nan


def _between(values: Array, low: Array | float, high: Array | float) -> Array:
    """np.clip, at a third of its price on the few values of one tick."""
    return np.minimum(np.maximum(values, low), high)


def signals_of(sample: Sample, spec: RobotSpec, goal: Array | None = None) -> dict[str, Array]:
    """One reading as a batch of one, joints in the spec's order."""
    return signals_in(sample, sample.joints.ordered(spec.joint_names), goal)


def signals_in(sample: Sample, joints: Joints, goal: Array | None = None) -> dict[str, Array]:
    """The same for joints that are in the spec's order already."""
    signals = {
        "joint.position": joints.position[None],
        "joint.velocity": joints.velocity[None],
        "joint.effort": joints.effort[None],
    }
    if sample.imu is not None:
        signals |= {"imu.gyro": sample.imu.gyro[None], "imu.accel": sample.imu.accel[None]}
        if sample.imu.orientation is not None:
            signals["imu.orientation"] = sample.imu.orientation[None]
    if goal is not None:
        signals["goal"] = goal[None]
    return signals

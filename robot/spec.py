"""RobotSpec: what the controller must know of a robot, and nothing of the simulator.

`configs/robot/<name>.yaml` has the spec under `spec:` and the simulator's part under `model:`. The spec is
copied into every bundle and every log; its fingerprint is how the files of another robot are refused.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from robot import config, folders
from robot.config import ConfigError

Array = npt.NDArray[np.float64]

SIGNALS = {
    "joint.position": "rad",
    "joint.velocity": "rad/s",
    "joint.effort": "N m",
    "imu.gyro": "rad/s",
    "imu.accel": "m/s^2",
    "imu.orientation": "1",
}
"""Signals a robot may measure, and their units. Cameras are apart: `camera.<name>`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JointSpec:
    """One joint, in the order in which every array of the project lists it."""

    name: str
    unit: Literal["rad", "m"] = "rad"
    position_limits: tuple[float, float] = (-math.inf, math.inf)
    """Travel [rad]; infinite for a joint that may turn for ever."""
    velocity_limit: float
    """[rad/s]; the runtime guard stops the robot above it."""
    default_position: float = 0.0
    """Rest pose [rad], to which the runtime ramps."""

    def __post_init__(self) -> None:
        low, high = self.position_limits
        if not low < high:
            raise ConfigError(f"joint '{self.name}': position_limits are [{low}, {high}]; the first must be lower.")
        if not low <= self.default_position <= high:
            raise ConfigError(f"joint '{self.name}': default_position {self.default_position} is outside its limits.")
        if not self.velocity_limit > 0:
            raise ConfigError(f"joint '{self.name}': velocity_limit is {self.velocity_limit}; it must be above 0.")


@dataclass(frozen=True, kw_only=True, slots=True)
class ActuatorSpec:
    """One actuator and what it accepts."""

    name: str
    joint: str
    kind: Literal["torque", "position_pd", "velocity", "dcmotor"] = "torque"
    effort_limit: float
    """[N m] at the joint; 0 is a passive actuator (the undriven joint of a pendubot)."""
    effort_rate_limit: float = math.inf
    """[N m/s]; the runtime guard slews commands to it."""
    kp: float = 0.0
    """[N m/rad], of the actuator's own position loop."""
    kd: float = 0.0
    """[N m s/rad]."""
    gear: float = 1.0
    """Rotor turns per joint turn; reflects the rotor's inertia as gear² x inertia."""
    safe_action: Literal["damp", "hold", "zero"] = "damp"
    """What the actuator does after a fault or a stop."""
    safe_kd: float = 1.0
    """[N m s/rad], of the safe action `damp`."""

    def __post_init__(self) -> None:
        if not (self.effort_limit >= 0 and math.isfinite(self.effort_limit)):
            raise ConfigError(
                f"actuator '{self.name}': effort_limit is {self.effort_limit}; it must be finite and at least 0."
            )
        if not self.effort_rate_limit > 0:
            raise ConfigError(f"actuator '{self.name}': effort_rate_limit must be above 0.")


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorSpec:
    """One measured signal; what is not listed cannot be observed by a policy."""

    signal: str
    resolution: float = 0.0
    """Step of the readings, in the signal's unit; 0 is continuous."""
    noise: float = 0.0
    """Standard deviation of the readings, in the signal's unit."""
    latency_s: float = 0.0
    """Age of a reading when it arrives [s]."""

    def __post_init__(self) -> None:
        if self.signal not in SIGNALS:
            raise ConfigError(f"sensor signal '{self.signal}' is unknown. {config.nearest(self.signal, list(SIGNALS))}")
        if min(self.resolution, self.noise, self.latency_s) < 0:
            raise ConfigError(f"sensor '{self.signal}': resolution, noise and latency_s must be at least 0.")


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraSpec:
    """One camera; images are uint8 of shape (height, width, 3), RGB."""

    name: str
    width: int
    height: int
    rate_hz: float = 30.0
    fovy_deg: float = 45.0
    latency_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RobotSpec:
    """Everything the controller knows of one robot."""

    name: str
    joints: tuple[JointSpec, ...]
    actuators: tuple[ActuatorSpec, ...]
    sensors: tuple[SensorSpec, ...]
    cameras: tuple[CameraSpec, ...] = ()
    control_period_s: float
    """Nominal control period [s]; a bundle may state a multiple of its own."""
    watchdog_s: float = 0.1
    """Silence [s] after which the runtime latches a fault."""

    def __post_init__(self) -> None:
        for what, names in (
            ("joint", [j.name for j in self.joints]),
            ("actuator", [a.name for a in self.actuators]),
            ("sensor", [s.signal for s in self.sensors]),
            ("camera", [c.name for c in self.cameras]),
        ):
            double = next((n for n in names if names.count(n) > 1), None)
            if double:
                raise ConfigError(f"robot '{self.name}' lists {what} '{double}' twice.")
        for actuator in self.actuators:
            if actuator.joint not in self.joint_names:
                raise ConfigError(
                    f"actuator '{actuator.name}' drives joint '{actuator.joint}', which robot '{self.name}' lacks. "
                    f"{config.nearest(actuator.joint, list(self.joint_names))}"
                )
        driven = [a.joint for a in self.actuators]
        if driven != [j for j in self.joint_names if j in driven] or len(set(driven)) != len(driven):
            raise ConfigError(f"robot '{self.name}': actuators must follow the order of the joints, one a joint.")
        if not self.control_period_s > 0 or not self.watchdog_s > 0:
            raise ConfigError(f"robot '{self.name}': control_period_s and watchdog_s must be above 0.")

    @property
    def joint_names(self) -> tuple[str, ...]:
        return tuple(j.name for j in self.joints)

    @property
    def default_pose(self) -> Array:
        """(n_joints,) [rad]."""
        return np.array([j.default_position for j in self.joints])

    @property
    def driven(self) -> npt.NDArray[np.intp]:
        """(n_actuators,) index of each actuator's joint."""
        return np.array([self.joint_names.index(a.joint) for a in self.actuators], dtype=np.intp)

    @property
    def effort_limits(self) -> Array:
        """(n_joints,) [N m]; 0 on a joint without an actuator."""
        limits = np.zeros(len(self.joints))
        limits[self.driven] = [a.effort_limit for a in self.actuators]
        return limits

    def sensor(self, signal: str) -> SensorSpec:
        """The sensor of a signal; ConfigError when this robot has none."""
        for sensor in self.sensors:
            if sensor.signal == signal:
                return sensor
        raise ConfigError(
            f"robot '{self.name}' does not measure '{signal}'. It measures: "
            f"{', '.join(s.signal for s in self.sensors)}. "
            "Estimate it from those, or distil a student that does not need it."
        )

    def fingerprint(self) -> str:
        """16 hex digits over the canonical YAML; equal only for equal specs."""
        return hashlib.sha256(config.dump_yaml(self).encode()).hexdigest()[:16]


def find_robot(name: str | Path) -> Path:
    """The YAML file of a robot: a path as given, or of that name in one of the folders of configs (folders.py)."""
    path = Path(name)
    return path if path.suffix in (".yaml", ".yml") else folders.find("robot", str(name))


def load_spec(name: str | Path) -> RobotSpec:
    """The spec of a robot by its name or YAML file; the simulator's part of the file is not looked at."""
    path = find_robot(name)
    data = config.load_yaml(path)
    if not isinstance(data, dict) or "spec" not in data:
        raise ConfigError(f"{path}: has no `spec:`; a robot file has `spec:` and, for the simulator, `model:`.")
    return config.convert(RobotSpec, data["spec"], source=str(path), key="spec")

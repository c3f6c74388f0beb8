"""One reading of the robot and one order to it, each with names, units and time stamps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from robot.spec import RobotSpec

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Joints:
    """Measured joint state; arrays of shape (n_joints,), in the order of `names`."""

    names: tuple[str, ...]
    t_ns: int
    """When the joints were measured [ns], on the driver's clock."""
    position: Array
    """[rad] or [m], as the RobotSpec says."""
    velocity: Array
    """[rad/s] or [m/s]."""
    effort: Array
    """[N m] or [N], the motor's own estimate; NaN where the robot has none."""

    def __post_init__(self) -> None:
        for name in ("position", "velocity", "effort"):
            array = np.asarray(getattr(self, name), dtype=np.float64)
            if array.shape != (len(self.names),):
                raise ValueError(f"{name} has shape {array.shape}; joints {self.names} need ({len(self.names)},)")
            object.__setattr__(self, name, array)

    def ordered(self, names: tuple[str, ...]) -> Joints:
        """The same reading in the order of `names`; KeyError names a joint that was not measured."""
        if names == self.names:
            return self
        missing = [n for n in names if n not in self.names]
        if missing:
            raise KeyError(f"joint '{missing[0]}' is not in this reading; it has {', '.join(self.names)}")
        index = [self.names.index(n) for n in names]
        return Joints(
            names=names,
            t_ns=self.t_ns,
            position=self.position[index],
            velocity=self.velocity[index],
            effort=self.effort[index],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Imu:
    """One inertial reading in the sensor's frame."""

    t_ns: int
    gyro: Array
    """Angular velocity x y z [rad/s]."""
    accel: Array
    """Specific force x y z [m/s²]: +9.81 on the axis that points up at rest."""
    orientation: Array | None = None
    """Unit quaternion w x y z of the sensor in the world; None where the unit does not estimate it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """What the actuators say of themselves; arrays of shape (n_joints,) in the order of the joints' reading.

    A slow bus may tell it more seldom than the joints' state: a reading without news has none.
    """

    temperature: Array
    """[°C]; NaN where the actuator does not tell."""
    voltage: Array
    """[V] of the supply; NaN where the actuator does not tell."""
    errors: tuple[str, ...] = ()
    """What an actuator reports as its own fault, in words; any of them ends the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What a driver read in one cycle."""

    t_ns: int
    """When the cycle's reading was complete [ns]; each part carries its own stamp beside it."""
    joints: Joints
    imu: Imu | None = None
    images: Mapping[str, tuple[int, npt.NDArray[np.uint8]]] = field(default_factory=dict)
    """camera name -> (t_ns, uint8 image of shape (height, width, channels))."""
    health: Health | None = None
    command: JointCommand | None = None
    """What another controller was seen to send, where the driver can tell: what shadow mode compares with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JointCommand:
    """What the actuators are asked to do: kp (position - q) + kd (velocity - v) + effort.

    Arrays of shape (n_joints,) in the order of `names`; a torque-controlled joint has kp = kd = 0.
    """

    names: tuple[str, ...]
    t_ns: int
    """When the command was decided [ns], on the driver's clock."""
    position: Array
    """Target [rad]; without effect where kp is 0."""
    velocity: Array
    """Target [rad/s]; without effect where kd is 0."""
    effort: Array
    """Feed-forward torque [N m]."""
    kp: Array
    """[N m/rad]."""
    kd: Array
    """[N m s/rad]."""

    @classmethod
    def of_effort(cls, names: tuple[str, ...], t_ns: int, effort: Array) -> JointCommand:
        """A pure torque command [N m]."""
        zero = np.zeros(len(names))
        return cls(names=names, t_ns=t_ns, position=zero, velocity=zero, effort=effort, kp=zero, kd=zero)

    @classmethod
    def damping(cls, names: tuple[str, ...], t_ns: int, kd: Array) -> JointCommand:
        """The safe frame of a torque motor: no torque, resisting motion with `kd` [N m s/rad]."""
        zero = np.zeros(len(names))
        return cls(names=names, t_ns=t_ns, position=zero, velocity=zero, effort=zero, kp=zero, kd=kd)

    @classmethod
    def safe(cls, spec: RobotSpec, t_ns: int, position: Array) -> JointCommand:
        """Each actuator's safe action at the measured `position` (n_joints,): damp, hold or nothing."""
        zero = np.zeros(len(spec.joints))
        kp, kd = zero.copy(), zero.copy()
        for joint, actuator in zip(spec.driven, spec.actuators, strict=True):
            if actuator.safe_action == "hold":
                kp[joint], kd[joint] = actuator.kp, actuator.kd
            elif actuator.safe_action == "damp":
                kd[joint] = actuator.safe_kd
        return cls(
            names=spec.joint_names, t_ns=t_ns, position=position.copy(), velocity=zero, effort=zero, kp=kp, kd=kd
        )

    def ordered(self, names: tuple[str, ...]) -> JointCommand:
        """The same command in the order of `names`; KeyError names a joint that is missing or too many."""
        if names == self.names:
            return self
        odd = sorted(set(names) ^ set(self.names))
        if odd:
            raise KeyError(
                f"joint '{odd[0]}' is not in both: command {', '.join(self.names)}; wanted {', '.join(names)}"
            )
        index = [self.names.index(n) for n in names]
        return JointCommand(
            names=names,
            t_ns=self.t_ns,
            position=self.position[index],
            velocity=self.velocity[index],
            effort=self.effort[index],
            kp=self.kp[index],
            kd=self.kd[index],
        )

"""Targets of the motors, their servo loops, their supply and their gearboxes; sim/actuator.py reads nearly all.

A position servo has motor constants and a supply where the robot's YAML names its type (`model.servo`), a `dcmotor`
where the MJCF has them. Quantities that make something less than ideal stand at IDEAL until they are set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import mujoco
from mujoco.batch import Batch

from sim.servos import SERVOS
from sim.targets.target import Array, Ids, Target, constant, dof_of, joints

if TYPE_CHECKING:
    from robot.spec import ActuatorSpec
    from sim.model import Model

UNLIMITED = 1e3
"""A speed [rad/s] that stands for no ceiling."""
UNLIMITED_ACCELERATION = 1e6
"""An acceleration [rad/s²] that stands for no ceiling."""
IDEAL = {
    "gain": 1.0, "torque_constant": 1.0, "resistance": 1.0, "no_load_speed": UNLIMITED, "speed_ceiling": UNLIMITED,
    "acceleration_ceiling": UNLIMITED_ACCELERATION,
}  # fmt: skip
"""quantity -> its value where it has no effect; 0 for all others."""

Objects = Callable[["Model"], tuple[str, ...]]


def _of_kind(*kinds: str) -> Objects:
    """Actuators of these kinds that are driven at all."""
    return lambda model: tuple(a.name for a in model.spec.actuators if a.kind in kinds and a.effort_limit > 0)


DRIVEN = _of_kind("torque", "position_pd", "velocity", "dcmotor")
FORCED = _of_kind("torque", "position_pd", "velocity")
SERVO = _of_kind("position_pd")


def electrical(model: Model) -> tuple[str, ...]:
    """Actuators whose motor constants are known."""
    return _of_kind("dcmotor", "position_pd")(model) if model.robot.model.servo else _of_kind("dcmotor")(model)


def _bus(model: Model) -> tuple[str, ...]:
    return ("bus",) if electrical(model) else ()


def _row_of(model: Model, name: str) -> int:
    return int(mujoco.mj_name2id(model.mj, mujoco.mjtObj.mjOBJ_ACTUATOR, name))


def _spec_of(model: Model, name: str) -> ActuatorSpec:
    return next(a for a in model.spec.actuators if a.name == name)


def _constant_of(quantity: str, gainprm: int) -> Callable[[Model, str], float]:
    """A motor constant: of the servo's type, or of the MJCF's dcmotor."""

    def nominal(model: Model, name: str) -> float:
        if _spec_of(model, name).kind == "dcmotor":
            return float(model.mj.actuator_gainprm[_row_of(model, name), gainprm])
        return float(getattr(SERVOS[model.robot.model.servo], quantity))

    return nominal


def _voltage(model: Model, name: str) -> float:
    """Of the servo's type; for dcmotors the largest control."""
    if model.robot.model.servo:
        return SERVOS[model.robot.model.servo].supply
    rows = [_row_of(model, a) for a in electrical(model)]
    return float(model.mj.actuator_ctrlrange[rows, 1].max()) or 24.0


def _kp(model: Model, name: str) -> float:
    return float(model.mj.actuator_gainprm[_row_of(model, name), 0])


def _kd(model: Model, name: str) -> float:
    return float(-model.mj.actuator_biasprm[_row_of(model, name), 2])


def _torque_limit(model: Model, name: str) -> float:
    row = _row_of(model, name)
    if model.mj.actuator_forcelimited[row]:
        return float(model.mj.actuator_forcerange[row, 1])
    return float(_spec_of(model, name).effort_limit)


def _gear(model: Model, name: str) -> float:
    return float(_spec_of(model, name).gear)


def _write_gear(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
    """The rotor's inertia is felt with the square of the gear; the torque's share of it is sim/actuator.py's."""
    square = (values / _gear(model, name)) ** 2
    tendon = _tendon(model, name)
    if tendon >= 0:
        batch.expand("tendon_armature")[ids, tendon] *= square
    else:
        batch.expand("dof_armature")[ids, dof_of(model, _spec_of(model, name).joint)] *= square


def _tendon(model: Model, name: str) -> int:
    return int(mujoco.mj_name2id(model.mj, mujoco.mjtObj.mjOBJ_TENDON, f"rotor_{name}"))


def _rotor(model: Model, name: str) -> float:
    actuator, tendon = _spec_of(model, name), _tendon(model, name)
    if tendon >= 0:
        return float(model.mj.tendon_armature[tendon])
    return float(model.mj.dof_armature[dof_of(model, actuator.joint)] / actuator.gear**2)


def _write_rotor(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
    """On the tendon `rotor_<actuator>` where the rotor couples two joints, else gear² x value on the joint."""
    actuator, tendon = _spec_of(model, name), _tendon(model, name)
    if tendon >= 0:
        batch.expand("tendon_armature")[ids, tendon] = values
    else:
        batch.expand("dof_armature")[ids, dof_of(model, actuator.joint)] = values * actuator.gear**2


def _friction(unit: str, high: float) -> Target:
    return Target(unit, 0.0, high, joints, constant(0.0))


SPEED = (0.01, UNLIMITED)

ROWS: dict[tuple[str, str], Target] = {
    ("motor", "rotor_inertia"): Target(
        "kg m^2", 0.0, 1.0, DRIVEN, _rotor, _write_rotor, fields=("tendon_armature", "dof_armature"), derived=True
    ),
    # rotor turns per joint turn: torque grows with it, the rotor's inertia with its square
    ("motor", "gear"): Target(
        "1", 1e-3, 1e4, DRIVEN, _gear, _write_gear, fields=("tendon_armature", "dof_armature"), derived=True
    ),
    ("motor", "torque_constant"): Target(
        "N m/A", 1e-4, 1e3, electrical, _constant_of("torque_constant", 1)
    ),  # at the joint
    ("motor", "resistance"): Target("ohm", 1e-3, 1e4, electrical, _constant_of("resistance", 0)),
    # speed at which a torque motor has no torque left: the straight line down to it begins at the torque limit
    ("motor", "no_load_speed"): Target("rad/s", *SPEED, _of_kind("torque"), constant(UNLIMITED)),
    ("supply", "voltage"): Target("V", 0.1, 1e3, _bus, _voltage),
    ("supply", "resistance"): Target("ohm", 0.0, 100.0, _bus, constant(0.0)),  # of source and wires: the voltage sags
    ("actuator", "kp"): Target("N m/rad", 0.0, 1e5, SERVO, _kp),
    ("actuator", "kd"): Target("N m s/rad", 0.0, 1e4, _of_kind("position_pd", "velocity"), _kd),
    ("actuator", "torque_limit"): Target("N m", 0.0, 1e4, DRIVEN, _torque_limit),
    ("actuator", "gain"): Target("1", 0.0, 10.0, FORCED, constant(1.0)),  # delivered / commanded torque
    ("actuator", "bias"): Target("N m", -100.0, 100.0, FORCED, constant(0.0)),
    ("actuator", "backlash"): Target(
        "rad", 0.0, 0.5, SERVO, constant(0.0)
    ),  # play between joint and encoder, end to end
    ("actuator", "dead_zone"): Target("rad", 0.0, 0.5, SERVO, constant(0.0)),  # an error that the servo does not act on
    ("actuator", "encoder_step"): Target("rad", 0.0, 0.5, SERVO, constant(0.0)),  # of the position that the servo sees
    ("actuator", "speed_ceiling"): Target("rad/s", *SPEED, SERVO, constant(UNLIMITED)),  # of the goal's own profile
    ("actuator", "acceleration_ceiling"): Target(
        "rad/s^2", 0.01, UNLIMITED_ACCELERATION, SERVO, constant(UNLIMITED_ACCELERATION)
    ),
    # friction of the gearbox, BAM's M1 to M6 with joint/damping and joint/frictionloss: see sim/friction.py
    ("joint", "stribeck_ratio"): Target("1", 1.0, 10.0, joints, constant(1.0)),  # breakaway / Coulomb friction
    ("joint", "stribeck_friction"): _friction("N m", 100.0),  # or what sticking adds
    ("joint", "stribeck_velocity"): Target("rad/s", 1e-3, 10.0, joints, constant(0.1)),
    ("joint", "stribeck_exponent"): Target("1", 0.1, 20.0, joints, constant(2.0)),
    ("joint", "motor_friction"): _friction("1", 1.0),  # share of the motor's torque
    ("joint", "load_friction"): _friction("1", 1.0),  # share of the load's torque
    ("joint", "motor_stribeck"): _friction("1", 2.0),  # the same, while it sticks
    ("joint", "load_stribeck"): _friction("1", 2.0),
    ("joint", "motor_quadratic"): _friction("1/(N m)", 1.0),
    ("joint", "load_quadratic"): _friction("1/(N m)", 1.0),
}

NATIVE = {
    ("motor", "gear"), ("motor", "torque_constant"), ("motor", "resistance"), ("actuator", "kp"), ("actuator", "kd"),
    ("actuator", "torque_limit"), ("actuator", "gain"), ("actuator", "bias"),
}  # fmt: skip
"""What sim/actuator.py writes into model fields, once a reset."""
STATEFUL = {
    ("motor", "no_load_speed"), ("supply", "voltage"), ("supply", "resistance"), ("actuator", "backlash"),
    ("actuator", "dead_zone"), ("actuator", "encoder_step"), ("actuator", "speed_ceiling"),
    ("actuator", "acceleration_ceiling"),
}  # fmt: skip
"""What needs the state before each physics step."""
RUBBING = {key for key in ROWS if key[0] == "joint"}
"""Friction of the gearbox."""

"""Targets of the motors, their servo loops, their supply and their gearboxes; sim/actuator.py reads nearly all.

A position servo has motor constants and a supply where the robot's YAML names its type (`model.servo`), a `dcmotor`
where the MJCF has them. Quantities that make something less than ideal stand at IDEAL until they are set.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import mujoco
import numpy as np
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
    "acceleration_ceiling": UNLIMITED_ACCELERATION, "torque_limit": math.inf,
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


def _driven_joints(model: Model) -> tuple[str, ...]:
    return tuple(a.joint for a in model.spec.actuators if a.effort_limit > 0)


def _loaded_joints(model: Model) -> tuple[str, ...]:
    """Joints that gravity loads: neither a balanced rotor nor one about the vertical."""
    mj, rng, load = model.mj, np.random.default_rng(0), np.zeros(len(model.spec.joints))
    data = mujoco.MjData(mj)
    for _ in range(3):
        data.qpos[model.qpos_index] = mj.qpos0[model.qpos_index] + rng.uniform(-1.0, 1.0, len(load))
        mujoco.mj_forward(mj, data)
        load = np.maximum(load, np.abs(data.qfrc_bias[model.dof_index]))
    heavy = load > 1e-3 * model.spec.effort_limits
    return tuple(j for j, loaded in zip(model.spec.joint_names, heavy, strict=True) if loaded)


def _gears(unit: str, high: float, objects: Objects, step: float, applies: str, *needs: tuple[str, float]) -> Target:
    return Target(unit, 0.0, high, objects, constant(0.0), step=step, applies=applies, needs=needs)


def _ceiling(unit: str, none: float, objects: Objects, probe: float, applies: str) -> Target:
    """A ceiling that stands at `none` until it is set; `probe` is one that is felt."""
    return Target(unit, 0.01, none, objects, constant(none), step=none - probe, applies=applies)


A_DRIVEN, A_SERVO = "driven actuators", "position servos"
WITH_CONSTANTS = "actuators with known motor constants: dcmotor, and servos of a type (model.servo)"
A_FORCED = "driven actuators, but for dcmotor"
RUBS, MOVES, BEARS = "joints", "driven joints", "joints that gravity loads"

ROWS: dict[tuple[str, str], Target] = {
    ("motor", "rotor_inertia"): Target(
        "kg m^2", 0.0, 1.0, DRIVEN, _rotor, _write_rotor, fields=("tendon_armature", "dof_armature"), derived=True,
        applies=A_DRIVEN,
    ),
    # rotor turns per joint turn: torque grows with it, the rotor's inertia with its square
    ("motor", "gear"): Target(
        "1", 1e-3, 1e4, DRIVEN, _gear, _write_gear, fields=("tendon_armature", "dof_armature"), derived=True,
        applies=A_DRIVEN,
    ),
    # torque and back-EMF at the joint
    ("motor", "torque_constant"): Target(
        "N m/A", 1e-4, 1e3, electrical, _constant_of("torque_constant", 1), applies=WITH_CONSTANTS
    ),
    ("motor", "resistance"): Target(
        "ohm", 1e-3, 1e4, electrical, _constant_of("resistance", 0), applies=WITH_CONSTANTS
    ),
    # where a torque motor has no torque left: the straight line down to it begins at the torque limit
    ("motor", "no_load_speed"): _ceiling("rad/s", UNLIMITED, _of_kind("torque"), 2.0, "driven torque motors"),
    ("supply", "voltage"): Target("V", 0.1, 1e3, _bus, _voltage, applies=f"the bus of {WITH_CONSTANTS}"),
    # of source and wires: the voltage sags under the current
    ("supply", "resistance"): Target(
        "ohm", 0.0, 100.0, _bus, constant(0.0), step=2.0, applies=f"the bus of {WITH_CONSTANTS}"
    ),
    ("actuator", "kp"): Target("N m/rad", 0.0, 1e5, SERVO, _kp, applies=A_SERVO),
    ("actuator", "kd"): Target(
        "N m s/rad", 0.0, 1e4, _of_kind("position_pd", "velocity"), _kd, step=0.5, applies="position, velocity servos"
    ),
    # the firmware's D gain, which acts on the error: it damps the joint and leads with the speed of the goal's profile
    ("actuator", "error_kd"): Target("N m s/rad", 0.0, 1e4, SERVO, constant(0.0), step=0.5, applies=A_SERVO),
    ("actuator", "torque_limit"): Target("N m", 0.0, 1e4, FORCED, _torque_limit, applies=A_FORCED),
    ("actuator", "gain"): Target("1", 0.0, 10.0, FORCED, constant(1.0), applies=A_FORCED),  # delivered / commanded
    ("actuator", "bias"): Target("N m", -100.0, 100.0, FORCED, constant(0.0), applies=A_FORCED),
    # play between joint and encoder, end to end
    ("actuator", "backlash"): Target("rad", 0.0, 0.5, SERVO, constant(0.0), step=0.05, applies=A_SERVO),
    # an error that the servo does not act on
    ("actuator", "dead_zone"): Target("rad", 0.0, 0.5, SERVO, constant(0.0), step=0.05, applies=A_SERVO),
    # of the position that the servo sees, and of its goals
    ("actuator", "encoder_step"): Target("rad", 0.0, 0.5, SERVO, constant(0.0), step=0.05, applies=A_SERVO),
    # of the profile in which the firmware moves its goal
    ("actuator", "speed_ceiling"): _ceiling("rad/s", UNLIMITED, SERVO, 0.5, A_SERVO),
    ("actuator", "acceleration_ceiling"): _ceiling("rad/s^2", UNLIMITED_ACCELERATION, SERVO, 1.0, A_SERVO),
    # friction of the gearbox, BAM's M1 to M6 with joint/damping and joint/frictionloss: see sim/friction.py
    # breakaway / Coulomb
    ("joint", "stribeck_ratio"): Target(
        "1", 1.0, 10.0, joints, constant(1.0), applies=RUBS, needs=(("frictionloss", 0.002),)
    ),
    ("joint", "stribeck_friction"): _gears("N m", 100.0, joints, 0.05, RUBS),  # or what sticking adds
    ("joint", "stribeck_velocity"): Target(
        "rad/s", 1e-3, 10.0, joints, constant(0.1), step=1.0, applies=RUBS, needs=(("stribeck_friction", 0.1),)
    ),
    ("joint", "stribeck_exponent"): Target(
        "1", 0.1, 20.0, joints, constant(2.0), applies=RUBS,
        needs=(("stribeck_friction", 0.1), ("stribeck_velocity", 1.0)),
    ),
    ("joint", "motor_friction"): _gears("1", 1.0, _driven_joints, 0.3, MOVES),  # share of the motor's torque
    ("joint", "load_friction"): _gears("1", 1.0, _loaded_joints, 0.3, BEARS),  # share of the load's torque
    # the same, while it sticks
    ("joint", "motor_stribeck"): _gears("1", 2.0, _driven_joints, 0.5, MOVES, ("stribeck_velocity", 1.0)),
    ("joint", "load_stribeck"): _gears("1", 2.0, _loaded_joints, 0.5, BEARS, ("stribeck_velocity", 1.0)),
    ("joint", "motor_quadratic"): _gears("1/(N m)", 1.0, _loaded_joints, 1.0, BEARS, ("stribeck_velocity", 1.0)),
    ("joint", "load_quadratic"): _gears("1/(N m)", 1.0, _loaded_joints, 1.0, BEARS, ("stribeck_velocity", 1.0)),
}  # fmt: skip

NATIVE = {
    ("motor", "gear"), ("motor", "torque_constant"), ("motor", "resistance"), ("actuator", "kp"), ("actuator", "kd"),
    ("actuator", "torque_limit"), ("actuator", "gain"), ("actuator", "bias"),
}  # fmt: skip
"""What sim/actuator.py writes into model fields, once a reset."""
STATEFUL = {
    ("motor", "no_load_speed"), ("supply", "voltage"), ("supply", "resistance"), ("actuator", "backlash"),
    ("actuator", "dead_zone"), ("actuator", "encoder_step"), ("actuator", "speed_ceiling"),
    ("actuator", "acceleration_ceiling"), ("actuator", "error_kd"), ("actuator", "kp"),
}  # fmt: skip
"""What needs the state before each physics step."""
RUBBING = {key for key in ROWS if key[0] == "joint"}
"""Friction of the gearbox."""

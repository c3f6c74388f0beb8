"""Targets of the motors and of the friction that depends on speed; most are outer: sim/actuator.py reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mujoco
from mujoco.batch import Batch

from sim.targets.target import Array, Ids, Target, actuators, constant, dof_of, joints

if TYPE_CHECKING:
    from sim.model import Model


def _tendon(model: Model, name: str) -> int:
    return int(mujoco.mj_name2id(model.mj, mujoco.mjtObj.mjOBJ_TENDON, f"rotor_{name}"))


def _rotor(model: Model, name: str) -> float:
    actuator = next(a for a in model.spec.actuators if a.name == name)
    tendon = _tendon(model, name)
    if tendon >= 0:
        return float(model.mj.tendon_armature[tendon])
    return float(model.mj.dof_armature[dof_of(model, actuator.joint)] / actuator.gear**2)


def _write_rotor(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
    """On the tendon `rotor_<actuator>` where the rotor couples two joints, else gear² x value on the joint."""
    tendon = _tendon(model, name)
    if tendon >= 0:
        batch.expand("tendon_armature")[ids, tendon] = values
        return
    actuator = next(a for a in model.spec.actuators if a.name == name)
    batch.expand("dof_armature")[ids, dof_of(model, actuator.joint)] = values * actuator.gear**2


ROWS: dict[tuple[str, str], Target] = {
    ("motor", "rotor_inertia"): Target(
        "kg m^2", 0.0, 1.0, actuators, _rotor, _write_rotor, fields=("tendon_armature", "dof_armature"), derived=True
    ),
    ("joint", "stribeck_ratio"): Target("1", 1.0, 10.0, joints, constant(1.0)),  # breakaway / Coulomb friction
    ("joint", "stribeck_velocity"): Target("rad/s", 1e-3, 10.0, joints, constant(0.1)),
    ("actuator", "gain"): Target("1", 0.0, 10.0, actuators, constant(1.0)),  # delivered / commanded torque
    ("actuator", "bias"): Target("N m", -100.0, 100.0, actuators, constant(0.0)),
}

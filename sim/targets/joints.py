"""Targets of the joints' passive mechanics: damping, friction, armature, springs, limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mujoco.batch import Batch

from sim.targets.target import Array, Ids, Target, dof_of, joint_id, joints

if TYPE_CHECKING:
    from sim.model import Model


def _dof_row(unit: str, high: float, field: str, step: float, derived: bool = False, low: float = 0.0) -> Target:
    def nominal(model: Model, name: str) -> float:
        return float(getattr(model.mj, field)[dof_of(model, name)])

    def write(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
        batch.expand(field)[ids, dof_of(model, name)] = values

    return Target(unit, low, high, joints, nominal, write, (field,), derived=derived, step=step)


def _stiffness(model: Model, name: str) -> float:
    return float(model.mj.jnt_stiffness[joint_id(model, name)])


def _write_stiffness(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
    batch.expand("jnt_stiffness")[ids, joint_id(model, name)] = values


def _limited(model: Model) -> tuple[str, ...]:
    return tuple(j for j in joints(model) if model.mj.jnt_limited[joint_id(model, j)])


def _limit_row(side: int) -> Target:
    def nominal(model: Model, name: str) -> float:
        return float(model.mj.jnt_range[joint_id(model, name), side])

    def write(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
        batch.expand("jnt_range")[ids, joint_id(model, name), side] = values

    return Target("rad", -1e3, 1e3, _limited, nominal, write, ("jnt_range",), applies="joints that the MJCF limits")


ROWS: dict[tuple[str, str], Target] = {
    # a joint with less than 0 drives itself: no robot's, but the public robustness benchmark asks for it
    ("joint", "damping"): _dof_row("N m s/rad", 1e3, "dof_damping", step=0.01, low=-1.0),
    ("joint", "frictionloss"): _dof_row("N m", 1e3, "dof_frictionloss", step=0.01),
    # of the rotor as the joint feels it; motor/<actuator>/rotor_inertia is the same before the gear
    ("joint", "armature"): _dof_row("kg m^2", 1e3, "dof_armature", step=0.001, derived=True),
    # a spring towards the joint's springref
    ("joint", "stiffness"): Target(
        "N m/rad", 0.0, 1e4, joints, _stiffness, _write_stiffness, ("jnt_stiffness",), step=0.1
    ),
    ("joint", "range_low"): _limit_row(0),
    ("joint", "range_high"): _limit_row(1),
}

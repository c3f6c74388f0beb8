"""Targets of the joints' passive mechanics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mujoco.batch import Batch

from sim.targets.target import Array, Ids, Target, dof_of, joints

if TYPE_CHECKING:
    from sim.model import Model


def _dof_row(unit: str, high: float, field: str, derived: bool = False) -> Target:
    def nominal(model: Model, name: str) -> float:
        return float(getattr(model.mj, field)[dof_of(model, name)])

    def write(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
        batch.expand(field)[ids, dof_of(model, name)] = values

    return Target(unit, 0.0, high, joints, nominal, write, fields=(field,), derived=derived)


ROWS: dict[tuple[str, str], Target] = {
    ("joint", "damping"): _dof_row("N m s/rad", 1e3, "dof_damping"),
    ("joint", "frictionloss"): _dof_row("N m", 1e3, "dof_frictionloss"),
}

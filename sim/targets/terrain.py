"""Targets of the ground: how high the bumps of a heightfield rise above the floor, and which part of it is under foot.

MuJoCo shares the heights among all simulations, so one field of bumps lies hidden below the floor and each simulation
raises it as far as it wants, and moves it sideways to stand on another part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import mujoco
import numpy as np
from mujoco.batch import Batch

from sim.targets.contact import touching
from sim.targets.target import Array, Ids, Target, Write, constant, geom_id

if TYPE_CHECKING:
    from sim.model import Model

HIDDEN_M = 0.01
"""How far the highest bump lies below the floor (z = 0) while no randomization raises it."""
SMOOTH = 2
"""Passes of averaging neighbours: bumps are a few grid cells wide."""


def roughen(mj: mujoco.MjModel) -> None:
    """Fill heightfields that the MJCF leaves flat with bumps, always the same, and hide them below the floor."""
    for g in np.flatnonzero(mj.geom_type == mujoco.mjtGeom.mjGEOM_HFIELD):
        field = int(mj.geom_dataid[g])
        start, shape = int(mj.hfield_adr[field]), (int(mj.hfield_nrow[field]), int(mj.hfield_ncol[field]))
        heights = mj.hfield_data[start : start + shape[0] * shape[1]]
        if heights.any():
            continue
        heights[:] = _bumps(*shape).ravel()
        mj.geom_pos[g, 2] = -mj.hfield_size[field, 2] - HIDDEN_M
        mujoco.mj_setConst(mj, mujoco.MjData(mj))


def _bumps(rows: int, columns: int) -> Array:
    """Smooth random heights in [0, 1]; whatever repeats does so at the edges."""
    height = np.random.default_rng(0).uniform(size=(rows, columns))
    for _ in range(SMOOTH):
        for axis in (0, 1):
            height = (np.roll(height, 1, axis) + 2.0 * height + np.roll(height, -1, axis)) / 4.0
    return np.asarray((height - height.min()) / np.ptp(height))


def fields(model: Model) -> tuple[str, ...]:
    """Named heightfields that can be touched."""
    kinds = model.mj.geom_type
    return tuple(g for g in touching(1)(model) if kinds[geom_id(model, g)] == mujoco.mjtGeom.mjGEOM_HFIELD)


def _write_height(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
    g = geom_id(model, name)
    batch.expand("geom_pos")[ids, g, 2] = values - model.mj.hfield_size[model.mj.geom_dataid[g], 2]


def _write_patch(axis: int) -> Write:
    def write(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
        batch.expand("geom_pos")[ids, geom_id(model, name), axis] = values

    return write


def _patch_row(axis: int) -> Target:
    def nominal(model: Model, name: str) -> float:
        return float(model.mj.geom_pos[geom_id(model, name), axis])

    return Target(
        "m", -100.0, 100.0, fields, nominal, _write_patch(axis), ("geom_pos",),
        derived=True, applies=FIELDS, step=1.0, needs=(("height", 0.08),),
    )  # fmt: skip


FIELDS = "named heightfields that can be touched"

ROWS: dict[tuple[str, str], Target] = {
    # of the highest bump above the floor
    ("terrain", "height"): Target(
        "m", 0.0, 1.0, fields, constant(0.0), _write_height, ("geom_pos",), derived=True, applies=FIELDS, step=0.08
    ),
    ("terrain", "patch_x"): _patch_row(0),
    ("terrain", "patch_y"): _patch_row(1),
}

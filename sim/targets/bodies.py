"""Targets of the bodies: mass, centre of mass, inertia.

The order of the rows is the order of writing: a mass scales the inertia, which an inertia of its own overrides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from mujoco.batch import Batch

from sim.targets.target import Array, Ids, Target, body_id

if TYPE_CHECKING:
    from sim.model import Model


def bodies(model: Model) -> tuple[str, ...]:
    """Bodies with a mass."""
    mj = model.mj
    return tuple(mj.body(i).name for i in range(1, mj.nbody) if mj.body_mass[i] > 0)


def _mass(model: Model, name: str) -> float:
    return float(model.mj.body_mass[body_id(model, name)])


def _write_mass(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
    """The inertia about the centre of mass keeps its radii of gyration: it scales with the mass."""
    i = body_id(model, name)
    mass, inertia = batch.expand("body_mass"), batch.expand("body_inertia")
    inertia[ids, i] *= (values / mass[ids, i])[:, None]
    mass[ids, i] = values


def _com(model: Model, name: str) -> float:
    return float(np.linalg.norm(model.mj.body_ipos[body_id(model, name)]))


def _write_com(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
    i = body_id(model, name)
    direction = model.mj.body_ipos[i] / np.linalg.norm(model.mj.body_ipos[i])
    batch.expand("body_ipos")[ids, i] = values[:, None] * direction


def _inertia(model: Model, name: str) -> float:
    return float(model.mj.body_inertia[body_id(model, name)].max())


def _write_inertia(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
    i = body_id(model, name)
    shape = model.mj.body_inertia[i] / model.mj.body_inertia[i].max()
    batch.expand("body_inertia")[ids, i] = values[:, None] * shape


ROWS: dict[tuple[str, str], Target] = {
    ("body", "mass"): Target(
        "kg", 1e-6, 1e4, bodies, _mass, _write_mass, fields=("body_mass", "body_inertia"), derived=True
    ),
    # distance along the nominal direction
    ("body", "com"): Target("m", 0.0, 10.0, bodies, _com, _write_com, fields=("body_ipos",), derived=True),
    # largest principal moment
    ("body", "inertia"): Target(
        "kg m^2", 1e-14, 1e4, bodies, _inertia, _write_inertia, fields=("body_inertia",), derived=True
    ),
}

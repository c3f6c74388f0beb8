"""Targets of the bodies: mass, centre of mass, inertia, payload.

The order of the rows is the order of writing: a mass scales the inertia, which an inertia of its own overrides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import mujoco
import numpy as np
from mujoco.batch import Batch

from sim.targets.felt import felt
from sim.targets.inertia import FIELDS, add_point, general_bodies
from sim.targets.target import Array, Ids, Target, body_id, constant, moving_bodies

if TYPE_CHECKING:
    from sim.model import Model


def _mass(model: Model, name: str) -> float:
    return float(model.mj.body_mass[body_id(model, name)])


def _write_mass(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
    """The inertia about the centre of mass keeps its radii of gyration: it scales with the mass."""
    i = body_id(model, name)
    mass, inertia = batch.expand("body_mass"), batch.expand("body_inertia")
    inertia[ids, i] *= (values / mass[ids, i])[:, None]
    mass[ids, i] = values


def _with_direction(model: Model) -> tuple[str, ...]:
    """Moving bodies whose centre of mass is away from their origin, so that its distance has a direction."""
    return tuple(b for b in moving_bodies(model) if _com(model, b) > 0.0)


def _com(model: Model, name: str) -> float:
    return float(np.linalg.norm(model.mj.body_ipos[body_id(model, name)]))


def _write_com(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
    i = body_id(model, name)
    direction = model.mj.body_ipos[i] / np.linalg.norm(model.mj.body_ipos[i])
    batch.expand("body_ipos")[ids, i] = values[:, None] * direction


def _com_row(axis: int) -> Target:
    def nominal(model: Model, name: str) -> float:
        return float(model.mj.body_ipos[body_id(model, name), axis])

    def write(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
        batch.expand("body_ipos")[ids, body_id(model, name), axis] = values

    objects = felt(write, general_bodies, lambda model, name: nominal(model, name) + 0.02)
    applies = 'moving bodies that feel it and are not compiled as simple (simple="false" in the MJCF)'
    return Target("m", -10.0, 10.0, objects, nominal, write, ("body_ipos",), derived=True, applies=applies, step=0.02)


def _inertia(model: Model, name: str) -> float:
    return float(model.mj.body_inertia[body_id(model, name)].max())


def _write_inertia(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
    i = body_id(model, name)
    shape = model.mj.body_inertia[i] / model.mj.body_inertia[i].max()
    batch.expand("body_inertia")[ids, i] = values[:, None] * shape


def _write_payload(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
    """A point mass at the centre of mass that the rows above have left."""
    batch.expand("body_mass")[ids, body_id(model, name)] += values


def _site_id(model: Model, name: str) -> int:
    return int(mujoco.mj_name2id(model.mj, mujoco.mjtObj.mjOBJ_SITE, name))


def _sites(model: Model) -> tuple[str, ...]:
    mj, general = model.mj, general_bodies(model)
    on = (i for i in range(mj.nsite) if mj.body(int(mj.site_bodyid[i])).name in general)
    return tuple(mj.site(i).name for i in on if mj.site(i).name)


def _write_site_payload(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
    i = _site_id(model, name)
    place = np.broadcast_to(model.mj.site_pos[i], (len(ids), 3))
    add_point(batch, int(model.mj.site_bodyid[i]), ids, values, place)


MOVING = "moving bodies with a mass"
FEELING = "moving bodies that feel it"

ROWS: dict[tuple[str, str], Target] = {
    ("body", "mass"): Target(
        "kg", 1e-6, 1e4, moving_bodies, _mass, _write_mass, ("body_mass", "body_inertia"), derived=True, applies=MOVING
    ),
    # distance along the nominal direction
    ("body", "com"): Target(
        "m", 0.0, 10.0, _with_direction, _com, _write_com, ("body_ipos",), derived=True,
        applies="moving bodies whose centre of mass is away from their origin",
    ),
    ("body", "com_x"): _com_row(0),  # in the body's frame
    ("body", "com_y"): _com_row(1),
    ("body", "com_z"): _com_row(2),
    # largest principal moment
    ("body", "inertia"): Target(
        "kg m^2", 1e-14, 1e4, moving_bodies, _inertia, _write_inertia, ("body_inertia",), derived=True,
        applies=MOVING, step=0.01,
    ),
}  # fmt: skip

PAYLOADS: dict[tuple[str, str], Target] = {
    ("body", "payload"): Target(
        "kg", 0.0, 1e3, felt(_write_payload, moving_bodies, lambda model, name: 0.1), constant(0.0), _write_payload,
        ("body_mass",), derived=True, applies=FEELING, step=0.1,
    ),
    ("site", "payload"): Target(
        "kg", 0.0, 1e3, _sites, constant(0.0), _write_site_payload, FIELDS, derived=True,
        applies='sites of moving bodies that are not compiled as simple (simple="false" in the MJCF)', step=0.1,
    ),
}  # fmt: skip
"""Added after every deformation."""

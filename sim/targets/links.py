"""Targets of the links' geometry: everything on a link is stretched along it, and no shape is left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mujoco
import numpy as np
from mujoco.batch import Batch

from sim.targets.inertia import deform, rotation
from sim.targets.target import Array, Ids, Target, body_id

if TYPE_CHECKING:
    from sim.model import Model

PLACES = {"geom": "geom_pos", "site": "site_pos", "cam": "cam_pos", "light": "light_pos"}
LONG = {
    mujoco.mjtGeom.mjGEOM_CAPSULE: (None, None, 1),
    mujoco.mjtGeom.mjGEOM_CYLINDER: (None, None, 1),
    mujoco.mjtGeom.mjGEOM_BOX: (0, 1, 2),
    mujoco.mjtGeom.mjGEOM_ELLIPSOID: (0, 1, 2),
}
"""Geom type -> the column of geom_size that is its extent along its own x, y, z; others keep their size."""
ALONG = 0.99
"""Cosine to the link from which an axis of a geom counts as lying along it."""
LEAST_M = 1e-3


def links(model: Model) -> tuple[str, ...]:
    """Bodies that turn or slide on another and have an end: a child, a site or a geom away from their origin."""
    mj = model.mj
    free = mujoco.mjtJoint.mjJNT_FREE
    jointed = {int(b) for b, kind in zip(mj.jnt_bodyid, mj.jnt_type, strict=True) if kind != free}
    return tuple(
        mj.body(b).name
        for b in sorted(jointed)
        if mj.body(b).name and mj.body_simple[b] == 0 and np.linalg.norm(_end(mj, b)) > LEAST_M
    )


def _end(mj: mujoco.MjModel, b: int) -> Array:
    """Where the link ends, in its own frame [m]: at its only child, else at the farthest site or geom."""
    children = np.flatnonzero(mj.body_parentid == b)
    children = children[children != 0]
    if len(children) == 1 and np.linalg.norm(mj.body_pos[children[0]]) > LEAST_M:
        return np.array(mj.body_pos[children[0]])
    places = [mj.geom_pos[mj.geom_bodyid == b], mj.site_pos[mj.site_bodyid == b], np.zeros((1, 3))]
    every = np.concatenate(places)
    return np.array(every[np.linalg.norm(every, axis=1).argmax()])


def _length(model: Model, name: str) -> float:
    return float(np.linalg.norm(_end(model.mj, body_id(model, name))))


def _write_length(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
    """The mass stays and spreads along the link; what stands across it keeps its place and size."""
    mj, b = model.mj, body_id(model, name)
    end = _end(mj, b)
    length = np.linalg.norm(end)
    axis, factor = end / length, values / length
    matrices = np.eye(3) + (factor - 1.0)[:, None, None] * np.outer(axis, axis)
    deform(batch, b, ids, matrices)
    for kind, field in PLACES.items():
        for i in np.flatnonzero(getattr(mj, f"{kind}_bodyid") == b):
            batch.expand(field)[ids, i] = matrices @ getattr(mj, field)[i]
    for child in np.flatnonzero(mj.body_parentid == b):
        batch.expand("body_pos")[ids, child] = matrices @ mj.body_pos[child]
    for geom in np.flatnonzero(mj.geom_bodyid == b):
        columns = LONG.get(mujoco.mjtGeom(mj.geom_type[geom]), ())
        cosines = np.abs(axis @ rotation(mj.geom_quat[geom][None])[0])
        for column, cosine in zip(columns, cosines, strict=False):
            if column is not None and cosine > ALONG:
                batch.expand("geom_size")[ids, geom, column] = mj.geom_size[geom, column] * factor


ROWS: dict[tuple[str, str], Target] = {
    ("link", "length"): Target(
        "m", LEAST_M, 100.0, links, _length, _write_length, derived=True,
        fields=("body_mass", "body_ipos", "body_iquat", "body_inertia", "body_pos", "geom_size", *PLACES.values()),
        applies="bodies that turn or slide on another and have a child, a site or a geom away from their origin",
    ),
}  # fmt: skip

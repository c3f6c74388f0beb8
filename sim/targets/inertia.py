"""Targets that deform a body's mass distribution as a whole: every value gives a physical inertia.

The nominal distribution is shifted (com_x, com_y, com_z in bodies.py, with `how: offset`), stretched and sheared in
the body's frame, and its density scaled: together these ten numbers reach every physical set of mass, centre of mass
and inertia, and none that is not. For the pseudo-inertia J' = U J U^T with
U = e^alpha [[e^d1, s12, s13, t1], [0, e^d2, s23, t2], [0, 0, e^d3, t3], [0, 0, 0, 1]]:
density = alpha, stretch_x = d1, shear_xy = s12 e^-d2 and so on (the stretch comes first, then the shear).
Source: Rucker & Wensing, IEEE RA-L 7(2), 2022 (log-Cholesky coordinates of the pseudo-inertia).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from mujoco.batch import Batch

from sim.targets.felt import felt
from sim.targets.target import Array, Ids, Target, Write, body_id, constant, moving_bodies

if TYPE_CHECKING:
    from sim.model import Model

FIELDS = ("body_mass", "body_ipos", "body_iquat", "body_inertia")


def general_bodies(model: Model) -> tuple[str, ...]:
    """Moving bodies whose centre of mass and principal axes may leave the body's frame."""
    return tuple(b for b in moving_bodies(model) if model.mj.body_simple[body_id(model, b)] == 0)


def rotation(quaternions: Array) -> Array:
    """Rotation matrices (n, 3, 3) of quaternions (n, 4), w first."""
    w, x, y, z = np.moveaxis(quaternions, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternion(matrices: Array) -> Array:
    """Unit quaternions (n, 4), w first, of rotation matrices (n, 3, 3); the inverse of rotation()."""
    m = np.moveaxis(matrices, (-2, -1), (0, 1))
    sums = np.stack([
        [1 + m[0, 0] + m[1, 1] + m[2, 2], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
        [m[2, 1] - m[1, 2], 1 + m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
        [m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], 1 - m[0, 0] + m[1, 1] - m[2, 2], m[1, 2] + m[2, 1]],
        [m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], 1 - m[0, 0] - m[1, 1] + m[2, 2]],
    ])  # fmt: skip
    # each row is the quaternion times 4 of one of its components: the largest component divides best
    largest = np.argmax(np.einsum("iin->in", sums), axis=0)
    found = sums[largest, :, np.arange(len(matrices))]
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def second_moment(batch: Batch, i: int, ids: Ids) -> Array:
    """(n, 3, 3) integral of x x^T dm of body i about its centre of mass, in the body's axes [kg m^2]."""
    principal = batch.expand("body_inertia")[ids, i]
    axes = rotation(batch.expand("body_iquat")[ids, i])
    moments = 0.5 * principal.sum(axis=1, keepdims=True) - principal
    return np.einsum("nij,nj,nkj->nik", axes, moments, axes)


def write_second_moment(batch: Batch, i: int, ids: Ids, moment: Array) -> None:
    """Principal inertia and its axes of body i, from the second moment about its centre of mass (n, 3, 3)."""
    found, axes = np.linalg.eigh(moment)  # ascending moments are descending inertias, as MuJoCo's compiler sorts them
    axes[np.linalg.det(axes) < 0.0, :, 2] *= -1.0
    found = found.clip(0.0)  # a point mass has none; rounding may leave -1e-19
    batch.expand("body_inertia")[ids, i] = found.sum(axis=1, keepdims=True) - found
    batch.expand("body_iquat")[ids, i] = quaternion(axes)


def deform(batch: Batch, i: int, ids: Ids, matrices: Array) -> None:
    """Move every bit of mass of body i from x to A x in the body's frame; `matrices` A are (n, 3, 3)."""
    center = batch.expand("body_ipos")
    moment = matrices @ second_moment(batch, i, ids) @ np.swapaxes(matrices, 1, 2)
    center[ids, i] = np.einsum("nij,nj->ni", matrices, center[ids, i])
    write_second_moment(batch, i, ids, moment)


def add_point(batch: Batch, i: int, ids: Ids, mass: Array, place: Array) -> None:
    """Add point masses (n,) [kg] to body i at `place` (n, 3) [m] in its frame."""
    masses, center = batch.expand("body_mass"), batch.expand("body_ipos")
    arm = place - center[ids, i]
    share = mass / (masses[ids, i] + mass)
    moment = second_moment(batch, i, ids)
    moment += (share * masses[ids, i])[:, None, None] * arm[:, :, None] * arm[:, None, :]
    center[ids, i] += share[:, None] * arm
    masses[ids, i] += mass
    write_second_moment(batch, i, ids, moment)


def _density(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
    i, factor = body_id(model, name), np.exp(2.0 * values)
    batch.expand("body_mass")[ids, i] *= factor
    batch.expand("body_inertia")[ids, i] *= factor[:, None]


def _element(row: int, column: int) -> Write:
    """A stretch (row = column; the value is its logarithm) or a shear."""

    def write(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
        matrices = np.tile(np.eye(3), (len(ids), 1, 1))
        matrices[:, row, column] = np.exp(values) if row == column else values
        deform(batch, body_id(model, name), ids, matrices)

    return write


def _row(write: Write, candidates: Callable[[Model], tuple[str, ...]] = general_bodies) -> Target:
    objects = felt(write, candidates, lambda model, name: 0.2)
    applies = 'moving bodies that feel it and are not compiled as simple (simple="false" in the MJCF)'
    return Target("1", -2.0, 2.0, objects, constant(0.0), write, FIELDS, derived=True, applies=applies, step=0.2)


ROWS: dict[tuple[str, str], Target] = {
    ("body", "density"): _row(_density, moving_bodies),  # mass and inertia are multiplied by e^(2 value)
    ("body", "stretch_x"): _row(_element(0, 0)),  # logarithm of the stretch
    ("body", "stretch_y"): _row(_element(1, 1)),
    ("body", "stretch_z"): _row(_element(2, 2)),
    ("body", "shear_xy"): _row(_element(0, 1)),  # x grows by value times y
    ("body", "shear_xz"): _row(_element(0, 2)),
    ("body", "shear_yz"): _row(_element(1, 2)),
}

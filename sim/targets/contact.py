"""Targets of the contacts: friction and softness of the geoms that can touch something.

MuJoCo takes the parameters of a contact from both geoms: those of the higher priority, else the larger friction and
the mean softness. A geom whose value never decides a contact is no object of that target. Pairs that the MJCF writes
out have parameters of their own, which are not targets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import mujoco
from mujoco.batch import Batch

from sim.targets.target import Array, Ids, Target, geom_id

if TYPE_CHECKING:
    from sim.model import Model


Objects = Callable[["Model"], tuple[str, ...]]


def _can_touch(mj: mujoco.MjModel, a: int, b: int) -> bool:
    """Whether MuJoCo looks for a contact between two geoms."""
    if not ((mj.geom_contype[a] & mj.geom_conaffinity[b]) or (mj.geom_contype[b] & mj.geom_conaffinity[a])):
        return False
    first, second = int(mj.geom_bodyid[a]), int(mj.geom_bodyid[b])
    welded = int(mj.body_weldid[first]), int(mj.body_weldid[second])
    if welded[0] == welded[1]:
        return False
    low, high = sorted((first, second))
    if (low << 16) + high in mj.exclude_signature:
        return False
    parents = [int(mj.body_weldid[mj.body_parentid[w]]) for w in welded]
    related = (welded[0] != 0 and welded[0] == parents[1]) or (welded[1] != 0 and welded[1] == parents[0])
    return not related or bool(mj.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_FILTERPARENT)


def _apart(mj: mujoco.MjModel, data: mujoco.MjData, a: int, b: int) -> bool:
    """Whether a geom keeps its distance from a plane that stands still: all that moves it turns about the normal."""
    for plane, other in ((a, b), (b, a)):
        still = mj.geom_type[plane] == mujoco.mjtGeom.mjGEOM_PLANE and mj.body_weldid[mj.geom_bodyid[plane]] == 0
        if still and _only_turns(mj, data, int(mj.geom_bodyid[other]), data.geom_xmat[plane].reshape(3, 3)[:, 2]):
            gap = mj.geom_margin[plane] + mj.geom_margin[other]
            return bool(mujoco.mj_geomDistance(mj, data, plane, other, gap + 1e-3, None) > gap)
    return False


def _only_turns(mj: mujoco.MjModel, data: mujoco.MjData, body: int, axis: Array) -> bool:
    """Whether every joint between the world and a body is a hinge along `axis`."""
    while body > 0:
        for j in range(mj.body_jntadr[body], mj.body_jntadr[body] + mj.body_jntnum[body]):
            if mj.jnt_type[j] != mujoco.mjtJoint.mjJNT_HINGE or abs(data.xaxis[j] @ axis) < 1.0 - 1e-9:
                return False
        body = int(mj.body_parentid[body])
    return True


def decides(mj: mujoco.MjModel, a: int, b: int, condim: int = 1) -> bool:
    """Whether geom a has a say in contacts with b, and they have at least `condim` dimensions."""
    priority = int(mj.geom_priority[a]), int(mj.geom_priority[b])
    if not _can_touch(mj, a, b) or priority[0] < priority[1]:
        return False
    own, other = int(mj.geom_condim[a]), int(mj.geom_condim[b])
    return (own if priority[0] > priority[1] else max(own, other)) >= condim


def touching(condim: int) -> Objects:
    """Named geoms that decide contacts of at least `condim` dimensions: 1 normal, 3 sliding, 4 torsional, 6 rolling."""

    def objects(model: Model) -> tuple[str, ...]:
        mj = model.mj
        off = mujoco.mjtDisableBit.mjDSBL_CONTACT | mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
        if mj.opt.disableflags & off:
            return ()
        data = mujoco.MjData(mj)
        mujoco.mj_kinematics(mj, data)
        named, every = [g for g in range(mj.ngeom) if mj.geom(g).name], range(mj.ngeom)
        return tuple(
            mj.geom(g).name
            for g in named
            if any(decides(mj, g, other, condim) and not _apart(mj, data, g, other) for other in every)
        )

    return objects


RAISED = (("terrain/{}/height", 0.08),)
"""A hidden heightfield touches nothing, and nobody sees it, until it is raised."""


def _springy(model: Model) -> tuple[str, ...]:
    """Those whose softness is given as a time constant and a damping ratio; negative numbers are stiffness itself."""
    return tuple(g for g in touching(1)(model) if model.mj.geom_solref[geom_id(model, g), 0] > 0.0)


def _row(unit: str, high: float, field: str, column: int, objects: Objects, applies: str, step: float = 0.0) -> Target:
    def nominal(model: Model, name: str) -> float:
        return float(getattr(model.mj, field)[geom_id(model, name), column])

    def write(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
        batch.expand(field)[ids, geom_id(model, name), column] = values

    return Target(unit, 0.0, high, objects, nominal, write, (field,), applies=applies, step=step, needs=RAISED)


TOUCHING = "named geoms that can touch something and whose priority is not below the other's"

ROWS: dict[tuple[str, str], Target] = {
    ("geom", "friction"): _row(
        "1", 10.0, "geom_friction", 0, touching(3), f"{TOUCHING}, with condim 3 or more", step=1.0
    ),
    ("geom", "torsional"): _row("m", 1.0, "geom_friction", 1, touching(4), f"{TOUCHING}, with condim 4 or more"),
    ("geom", "rolling"): _row("m", 1.0, "geom_friction", 2, touching(6), f"{TOUCHING}, with condim 6"),
    # softness: time constant and damping ratio of the contact's spring, and the most of it that acts
    ("geom", "contact_time"): _row("s", 1.0, "geom_solref", 0, _springy, TOUCHING),
    ("geom", "contact_damping"): _row("1", 10.0, "geom_solref", 1, _springy, TOUCHING),
    ("geom", "impedance"): _row("1", 0.9999, "geom_solimp", 1, touching(1), TOUCHING),
}

"""Start states from which the effect of a target can be seen: spread over the joints, at their limits, or in touch."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
import numpy.typing as npt

from sim.driver import home_poses
from sim.model import Model
from sim.targets.contact import decides

Array = npt.NDArray[np.float64]

COUNT = 6
CANDIDATES, ENOUGH = 400, 30
"""States that are tried, and touching ones of which the best are chosen."""
UNLIMITED_RAD = 1.5
"""Spread of a joint without limits."""


@dataclass(frozen=True, slots=True)
class Starts:
    """n start states of all joints of a model, free ones included."""

    position: Array
    """(n, n_joints) of the RobotSpec's joints [rad]."""
    velocity: Array
    """(n, n_joints) [rad/s]"""
    poses: dict[str, Array]
    """Free joint -> (n, 7)"""
    twists: dict[str, Array]
    """Free joint -> (n, 6)"""


def ordinary_starts(model: Model, rng: np.random.Generator) -> Starts:
    """COUNT states: spread over the middle of the joints' travel, the last two at its ends and moving outwards."""
    low, high = _travel(model)
    share = rng.uniform(0.2, 0.8, (COUNT, len(low)))
    velocity = rng.uniform(-1.0, 1.0, (COUNT, len(low)))
    base = _base(model)
    if base:  # it stands on its legs
        default = (model.spec.default_pose - low) / (high - low)
        share = np.clip(default + 0.2 * (share - 0.5), 0.0, 1.0)
    share[-2], share[-1] = 0.0, 1.0
    velocity[-2], velocity[-1] = -1.0, 1.0
    poses = {name: np.tile(pose, (COUNT, 1)) for name, pose in _home(model).items()}
    twists = {name: rng.uniform(-0.5, 0.5, (COUNT, 6)) * (1.0, 1.0, 0.0, 1.0, 1.0, 1.0) for name in poses}
    return Starts(low + share * (high - low), velocity, poses, twists)


def touching_starts(
    model: Model, mj: mujoco.MjModel, geom: str, condim: int, rng: np.random.Generator, moving: bool = False
) -> Starts | None:
    """COUNT states in which a geom decides a contact of at least `condim` dimensions; None when none was found.

    `mj` is the model with the targets that are in force; free bodies are thrown about to meet the geom. With `moving`
    what it touches must be able to give way. Of many states those with the shallowest contacts are taken.
    """
    data, low_high = mujoco.MjData(mj), _travel(model)
    g = mj.geom(geom).id
    found: list[tuple[float, int, Array, dict[str, Array]]] = []
    for _ in range(CANDIDATES):
        position, poses = rng.uniform(*low_high), {}
        data.qpos[:] = mj.qpos0
        data.qpos[model.qpos_index] = position
        mujoco.mj_kinematics(mj, data)
        for name, home in _home(model).items():
            poses[name] = _thrown(model, mj, data, name, home[0], g, rng)
            start = int(mj.joint(name).qposadr[0])
            data.qpos[start : start + 7] = poses[name]
        mujoco.mj_fwdPosition(mj, data)
        if _touches(mj, data, g, condim, moving):
            found.append((-float(data.contact.dist.min()), len(found), position, poses))
        if len(found) == ENOUGH:
            break
    if not found:
        return None
    chosen = [sorted(found)[i % min(COUNT, len(found))] for i in range(COUNT)]
    position = np.stack([c[2] for c in chosen])
    poses = {name: np.stack([c[3][name] for c in chosen]) for name in chosen[0][3]}
    twists = {name: rng.uniform(-0.5, 0.5, (COUNT, 6)) for name in poses}
    return Starts(position, rng.uniform(-1.0, 1.0, position.shape), poses, twists)


def loose(model: Model, body: str) -> bool:
    """Whether a body moves freely and carries no other: a thing to be handled, not a part of the robot."""
    mj = model.mj
    b = mj.body(body).id
    free = mj.body_jntnum[b] > 0 and mj.jnt_type[mj.body_jntadr[b]] == mujoco.mjtJoint.mjJNT_FREE
    return bool(free) and not (mj.body_parentid == b).any()


def _travel(model: Model) -> tuple[Array, Array]:
    mj = model.mj
    ids = [mj.joint(name).id for name in model.spec.joint_names]
    limited = mj.jnt_limited[ids].astype(bool)
    low = np.where(limited, mj.jnt_range[ids, 0], -UNLIMITED_RAD)
    return low, np.where(limited, mj.jnt_range[ids, 1], UNLIMITED_RAD)


def _base(model: Model) -> str:
    """The free joint of the robot itself, which carries its other joints; empty for a robot that is bolted down."""
    mj = model.mj
    for j in np.flatnonzero(mj.jnt_type == mujoco.mjtJoint.mjJNT_FREE):
        if (mj.body_parentid == mj.jnt_bodyid[j]).any():
            return str(mj.joint(j).name)
    return ""


def _home(model: Model) -> dict[str, Array]:
    """Free joint -> (1, 7) pose at the first keyframe, or as the MJCF has it."""
    mj = model.mj
    free = np.flatnonzero(mj.jnt_type == mujoco.mjtJoint.mjJNT_FREE)
    return {mj.joint(j).name: mj.qpos0[None, mj.jnt_qposadr[j] :][:, :7].copy() for j in free} | home_poses(model)


def _thrown(
    model: Model, mj: mujoco.MjModel, data: mujoco.MjData, name: str, home: Array, geom: int, rng: np.random.Generator
) -> Array:
    """A pose of a free body: at home or near a geom for a loose one, anywhere above the ground for the robot's base."""
    pose = home.copy()
    if name == _base(model):
        pose[2] = rng.uniform(0.0, 1.2) * home[2]
        pose[3:] = rng.standard_normal(4) if rng.random() < 0.7 else home[3:]
        pose[3:] /= np.linalg.norm(pose[3:])
    elif rng.random() < 0.7 and data.geom_xpos[geom].any():
        pose[:3] = data.geom_xpos[geom] + rng.uniform(-1.0, 1.0, 3) * (mj.geom_rbound[geom] or 0.1)
    return pose


def _touches(mj: mujoco.MjModel, data: mujoco.MjData, geom: int, condim: int, moving: bool) -> bool:
    """Whether the geom decides one of the contacts, with something that moves where that is asked for."""
    pairs = [(int(a), int(b)) for a, b in data.contact.geom]
    others = [b for a, b in [*pairs, *((b, a) for a, b in pairs)] if a == geom]
    return any(decides(mj, geom, b, condim) and (not moving or mj.body_weldid[mj.geom_bodyid[b]] > 0) for b in others)

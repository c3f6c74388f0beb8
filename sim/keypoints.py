"""Keypoints: named points of a robot, where a camera sees them, and whether it does.

A point is `joint/<name>` (the joint's anchor), `site/<name>`, or `body/<name>` (its centre of mass).
"""

from __future__ import annotations

import mujoco
import numpy as np
import numpy.typing as npt

from robot.config import ConfigError, nearest
from sim.model import Model
from sim.visual import Array, Shot, Visual

KINDS = {
    "joint": (mujoco.mjtObj.mjOBJ_JOINT, "xanchor"),
    "site": (mujoco.mjtObj.mjOBJ_SITE, "site_xpos"),
    "body": (mujoco.mjtObj.mjOBJ_BODY, "xipos"),
}
"""Kind -> MuJoCo's type, and the MjData field with the places."""
OUTSIDE, HIDDEN, VISIBLE = 0, 1, 2
"""Of a point in an image, as COCO counts: not in it, behind something, to be seen."""
SLACK_M = 0.005
"""A point this far behind a surface still lies on it."""


def default_points(model: Model) -> tuple[str, ...]:
    """Joints of the RobotSpec, sites, and the bodies at the ends that carry no site; free bodies are such ends."""
    mj = model.mj
    sites = [mj.site(i).name for i in range(mj.nsite) if mj.site(i).name]
    parents = {int(p) for p in mj.body_parentid[1:]}
    with_site = {int(b) for b in mj.site_bodyid}
    ends = [b for b in range(1, mj.nbody) if b not in parents and b not in with_site and mj.body(b).name]
    return (
        *(f"joint/{name}" for name in model.spec.joint_names),
        *(f"site/{name}" for name in sites),
        *(f"body/{mj.body(b).name}" for b in ends),
    )


class Keypoints:
    """The points of one robot in the frames of one visual model."""

    def __init__(self, visual: Visual, names: tuple[str, ...] = ()) -> None:
        """Default: default_points(). ConfigError for a point that the robot lacks."""
        self._visual, self.names = visual, names or default_points(visual.model)
        self._points = [self._find(name) for name in self.names]
        mj = visual.mj
        bodies = np.zeros((len(self.names), mj.nbody), dtype=bool)
        for i, (kind, index) in enumerate(self._points):
            body = {"joint": mj.jnt_bodyid, "site": mj.site_bodyid}.get(kind, np.arange(mj.nbody))[index]
            bodies[i, body] = True
            bodies[i, mj.body_parentid[body]] |= kind == "joint" and mj.body_parentid[body] > 0
        self._own = np.concatenate([bodies[:, mj.geom_bodyid], np.zeros((len(self.names), 1), dtype=bool)], axis=1)

    def _find(self, name: str) -> tuple[str, int]:
        kind, _, own = name.partition("/")
        index = mujoco.mj_name2id(self._visual.model.mj, KINDS[kind][0], own) if kind in KINDS else -1
        if index < 0:
            known = list(default_points(self._visual.model))
            raise ConfigError(f"keypoint '{name}': the robot has no such point. {nearest(name, known)}")
        return kind, index

    def project(self, shot: Shot, height: int, width: int) -> tuple[Array, Array]:
        """Pixels (n, k, 2), column and row from the top left corner, and depths (n, k) [m] of the states of `shot`.

        Reads the visual's batch: call it before another shot is made.
        """
        n, batch = len(shot), self._visual.batch
        place = np.stack([batch.bind(KINDS[kind][1])[:n, i] for kind, i in self._points], axis=1)
        seen = np.einsum("nkj,nji->nki", place - shot.camera_position[:, None], shot.camera_matrix)
        left, right, bottom, top = shot.edges().T[..., None]
        depth = -seen[..., 2]
        safe = np.where(depth > 1e-6, depth, np.nan)
        column = (seen[..., 0] / safe - left) / (right - left) * width
        row = (top - seen[..., 1] / safe) / (top - bottom) * height
        return np.stack([column, row], axis=-1), depth

    def visibility(
        self, pixels: Array, depth: Array, seen_depth: npt.NDArray[np.float32], seen_geom: npt.NDArray[np.int16]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """(n, k) OUTSIDE, HIDDEN or VISIBLE, and whether it is a prop that hides the point.

        From the passes `depth` and `segmentation` (n, h, w). A point inside its own body is seen where that body is.
        """
        height, width = seen_geom.shape[1:]
        inside = inside_image(pixels, width, height)
        column, row = np.where(inside[..., None], pixels, 0.0).astype(np.intp).transpose(2, 0, 1)
        image = np.arange(len(pixels))[:, None]
        surface, geom = seen_depth[image, row, column], seen_geom[image, row, column]
        own = self._own[np.arange(len(self.names)), geom]  # geom -1, nothing, is the last column
        free = own | (surface == 0.0) | (surface >= depth - SLACK_M)
        seen = np.where(inside, np.where(free, VISIBLE, HIDDEN), OUTSIDE).astype(np.uint8)
        return seen, (seen == HIDDEN) & (geom >= self._visual.props.start)


def inside_image(pixels: Array, width: int, height: int) -> npt.NDArray[np.bool_]:
    """(...) whether pixels (..., 2) lie in an image; NaN does not."""
    with np.errstate(invalid="ignore"):
        return np.asarray(((pixels >= 0.0) & (pixels < (width, height))).all(axis=-1))

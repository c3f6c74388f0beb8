"""Motions as one HTML page that opens without a network: the robot in WebGL, its traces beside it.

The page's code is transfer/report/viewer.html; here the data are put in: triangles, poses of the bodies
and traces as base64. To show another thing: a key here, and what draws it there.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from sim import shapes
from sim.motion import Motion

GOAL_RGBA = (0.1, 0.65, 0.25, 0.55)
GOAL_M = 0.02
"""Radius of the ball at the goal [m]."""


def build_page(title: str, motions: Sequence[Motion]) -> str:
    """The page's HTML; about 0.1 MB and 0.3 MB for every 600 frames of a robot with a dozen bodies."""
    scenes: dict[str, dict[str, Any]] = {}
    episodes = []
    for motion in motions:
        poses = shapes.body_poses(motion.model, motion.qpos)
        scene = scene_of(motion.model, poses)
        key = hashlib.sha256(json.dumps([scene["shapes"], scene["cameras"]]).encode()).hexdigest()
        scenes.setdefault(key, scene)
        episodes.append(episode_of(motion, poses) | {"scene": list(scenes).index(key)})
    ball = shapes.ellipsoid(np.full(3, GOAL_M))
    data = {"scenes": list(scenes.values()), "episodes": episodes, "goal": _shape(ball, 0, GOAL_RGBA, False)}
    page = (resources.files("transfer.report") / "viewer.html").read_text(encoding="utf-8")
    # a robot's name may hold anything: `</` must not close the script
    text = json.dumps(data).replace("</", "<\\/")
    return page.replace("{{title}}", html.escape(title)).replace("{{data}}", text)


def scene_of(model: mujoco.MjModel, poses: npt.NDArray[np.float32]) -> dict[str, Any]:
    """What stays the same in an episode: shapes, cameras, where to look; `poses` (n_frames, nbody, 7)."""
    parts, base = shapes.shapes(model), shapes.moving_base(model)
    centre, radius = shapes.extent(parts, poses[:1] if base >= 0 else poses)
    fixed = [i for i in range(model.ncam) if model.cam_mode[i] == int(mujoco.mjtCamLight.mjCAMLIGHT_FIXED)]
    cameras = [
        {
            "name": model.cam(i).name,
            "body": int(model.cam_bodyid[i]),
            "position": model.cam_pos[i].tolist(),
            "quaternion": model.cam_quat[i].tolist(),
            "fovy": float(model.cam_fovy[i]),
        }
        for i in fixed
    ]
    return {
        "shapes": [_shape((s.vertices, s.triangles), s.body, s.rgba, s.is_floor) for s in parts],
        "cameras": cameras,
        "bodies": model.nbody,
        "centre": centre.tolist(),
        "radius": radius,
        "squares": float(10.0 ** np.round(np.log10(radius / 2.0))),  # side of the floor's squares [m]
        "follow": base,
    }


def episode_of(motion: Motion, poses: npt.NDArray[np.float32]) -> dict[str, Any]:
    """What an episode adds to its scene."""
    traces = [
        {
            "name": t.name,
            "unit": t.unit,
            "components": list(t.components),
            "time": _base64(t.time.astype(np.float32)),
            "values": _base64(t.values.astype(np.float32)),
        }
        for t in motion.traces
    ]
    return {
        "name": motion.name,
        "notes": list(motion.notes),
        "frame_s": motion.frame_s,
        "poses": _base64(poses),
        "traces": traces,
        "goal": motion.goal,
    }


def _shape(mesh: tuple[Any, Any], body: int, rgba: tuple[float, ...], floor: bool) -> dict[str, Any]:
    return {
        "body": body,
        "rgba": [round(x, 4) for x in rgba],
        "floor": floor,
        "vertices": _base64(np.asarray(mesh[0], np.float32)),
        "triangles": _base64(np.asarray(mesh[1], np.uint32)),
    }


def _base64(values: npt.NDArray[Any]) -> str:
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode("ascii")

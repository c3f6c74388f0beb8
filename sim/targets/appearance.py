"""Targets of what the cameras see; all are outer: sim/appearance.py makes them into images.

The nominal of each is "no change": the scene as the MJCF has it, seen by the camera of the RobotSpec. To add one: a row
here, and the function that reads it, in SCENE_EFFECTS or IMAGE_EFFECTS of sim/appearance.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from sim.targets.contact import RAISED
from sim.targets.target import Target, constant, only

if TYPE_CHECKING:
    from sim.model import Model

PATTERNS = ("plain", "checker", "stripes", "gradient", "fine_noise", "coarse_noise", "spots")
"""What a surface or the background can carry; a target's number counts in this order, rounded down."""
PROPS = ("ball", "box", "rod", "disc")
"""Objects that are not the robot's. Near the camera one is an occluder, farther away a distractor; size 0: absent."""
PATTERN_LIMIT = float(len(PATTERNS))
HEADLIGHT = "headlight"


PLACED = (("size", 0.4),)
"""What must be in force for a prop's other targets to be seen."""


def cameras(model: Model) -> tuple[str, ...]:
    """Cameras of the MJCF."""
    return tuple(model.mj.camera(i).name for i in range(model.mj.ncam))


def lights(model: Model) -> tuple[str, ...]:
    """Lights of the MJCF; one without a name is `light<number>`."""
    return tuple(model.mj.light(i).name or f"light{i}" for i in range(model.mj.nlight))


def placed_lights(model: Model) -> tuple[str, ...]:
    """Lights of the MJCF that shine from somewhere, not from everywhere at once."""
    directional = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    return tuple(name for i, name in enumerate(lights(model)) if model.mj.light_type[i] != directional)


def all_lights(model: Model) -> tuple[str, ...]:
    """Lights of the MJCF, and the one at the camera."""
    return (*lights(model), HEADLIGHT)


def geoms(model: Model) -> tuple[str, ...]:
    """Geoms with a name that are drawn: of the groups 0 to 2, and not transparent."""
    mj = model.mj
    shown = [i for i in range(mj.ngeom) if mj.geom_group[i] < 3 and geom_rgba(model, i)[3] > 0.0]
    return tuple(mj.geom(i).name for i in shown if mj.geom(i).name)


def props(model: Model) -> tuple[str, ...]:
    return PROPS


def _edged_props(model: Model) -> tuple[str, ...]:
    """Props that do not look the same from all sides."""
    return tuple(p for p in PROPS if p != "ball")


def geom_rgba(model: Model, geom: int) -> np.ndarray:
    """(4,) colour as MuJoCo draws it: the geom's own, or its material's where the geom says nothing."""
    mj = model.mj
    material, own = int(mj.geom_matid[geom]), mj.geom_rgba[geom]
    return mj.mat_rgba[material] if material >= 0 and np.allclose(own, (0.5, 0.5, 0.5, 1.0)) else own


def fovy(model: Model, name: str) -> float:
    """Vertical field of view [deg]: the RobotSpec's, or the MJCF's for a camera that the robot does not list."""
    listed = {c.name: c.fovy_deg for c in model.spec.cameras}
    return float(listed.get(name, model.mj.camera(name).fovy[0]))


def _channel(index: int) -> Callable[[Model, str], float]:
    return lambda model, name: float(np.clip(geom_rgba(model, model.mj.geom(name).id)[index], 0.0, 1.0))


def backdrop(mj: mujoco.MjModel) -> np.ndarray:
    """(3,) colour of what lies behind everything: the mean of the MJCF's skybox, black without one."""
    for texture in np.flatnonzero(mj.tex_type == mujoco.mjtTexture.mjTEXTURE_SKYBOX):
        channels = int(mj.tex_nchannel[texture])
        size = int(mj.tex_width[texture]) * int(mj.tex_height[texture]) * channels
        start = int(mj.tex_adr[texture])
        return mj.tex_data[start : start + size].reshape(-1, channels)[:, :3].mean(axis=0) / 255.0
    return np.zeros(3)


def _backdrop(index: int) -> Callable[[Model, str], float]:
    return lambda model, name: float(backdrop(model.mj)[index])


Needs = tuple[tuple[str, float], ...]


def _camera(unit: str, low: float, high: float, nominal: float = 0.0, step: float = 0.0, needs: Needs = ()) -> Target:
    return Target(unit, low, high, cameras, constant(nominal), step=step, needs=needs)


def _prop(unit: str, low: float, high: float, nominal: float, step: float = 0.0, needs: Needs = PLACED) -> Target:
    return Target(unit, low, high, props, constant(nominal), step=step, needs=needs)


def _where_seen(row: Target) -> Target:
    """Nothing is seen of a robot whose MJCF has no camera."""
    return dataclasses.replace(row, objects=lambda model: row.objects(model) if model.mj.ncam else ())


_ROWS: dict[tuple[str, str], Target] = {
    # where the camera is, against its mount: along and about its own axes (right, up, backwards)
    ("camera", "x"): _camera("m", -5.0, 5.0),
    ("camera", "y"): _camera("m", -5.0, 5.0),
    ("camera", "z"): _camera("m", -5.0, 5.0, step=0.2),
    ("camera", "pitch"): _camera("rad", -np.pi, np.pi),
    ("camera", "yaw"): _camera("rad", -np.pi, np.pi),
    ("camera", "roll"): _camera("rad", -np.pi, np.pi, step=0.2),
    # what its lens does
    ("camera", "fovy"): Target("deg", 1.0, 170.0, cameras, fovy),
    ("camera", "principal_x"): _camera("1", -0.5, 0.5),  # principal point, from the middle, in image widths
    ("camera", "principal_y"): _camera("1", -0.5, 0.5),  # in image heights, downwards
    ("camera", "defocus"): _camera("1", 0.0, 0.1),  # standard deviation of the blur, in image heights
    ("camera", "shake"): _camera("1", 0.0, 0.2, step=0.05),  # length of the motion blur, in image heights
    # from the image's right, anticlockwise
    ("camera", "shake_direction"): _camera("rad", -np.pi, np.pi, step=1.5, needs=(("shake", 0.05),)),
    # how long it takes light in [s]: what moves is smeared, where the picture is made of several `samples`
    ("camera", "shutter"): _camera("s", 0.0, 0.1, step=0.05),
    # what its sensor does
    ("camera", "exposure"): _camera("stop", -5.0, 5.0, step=1.0),  # each stop doubles the light
    ("camera", "gain_red"): _camera("1", 0.1, 10.0, 1.0),  # white balance, against green
    ("camera", "gain_blue"): _camera("1", 0.1, 10.0, 1.0),
    ("camera", "saturation"): _camera("1", 0.0, 3.0, 1.0),  # factor on what distinguishes a colour from its grey
    ("camera", "noise"): _camera("1", 0.0, 0.5),  # standard deviation in the dark, of full scale
    ("camera", "shot_noise"): _camera("1", 0.0, 0.5),  # standard deviation at full scale; grows with the root of light
    # height of a title's letters, in image heights; the number's last digits choose what it says, and where
    ("camera", "title"): _camera("1", 0.0, 0.3, step=0.1),
    # the scene
    ("light", "x"): Target("m", -10.0, 10.0, placed_lights, constant(0.0), step=0.5),  # offset, in its body's axes
    ("light", "y"): Target("m", -10.0, 10.0, placed_lights, constant(0.0), step=0.5),
    ("light", "z"): Target("m", -10.0, 10.0, placed_lights, constant(0.0), step=0.5),
    ("light", "intensity"): Target("1", 0.0, 10.0, all_lights, constant(1.0)),
    ("geom", "red"): Target("1", 0.0, 1.0, geoms, _channel(0), needs=RAISED),
    ("geom", "green"): Target("1", 0.0, 1.0, geoms, _channel(1), needs=RAISED),
    ("geom", "blue"): Target("1", 0.0, 1.0, geoms, _channel(2), needs=RAISED),
    # number in PATTERNS
    ("geom", "texture"): Target("1", 0.0, PATTERN_LIMIT, geoms, constant(0.0), step=1.0, needs=RAISED),
    ("scene", "red"): Target("1", 0.0, 1.0, only("background"), _backdrop(0)),
    ("scene", "green"): Target("1", 0.0, 1.0, only("background"), _backdrop(1)),
    ("scene", "blue"): Target("1", 0.0, 1.0, only("background"), _backdrop(2)),
    ("scene", "texture"): Target(
        "1", 0.0, PATTERN_LIMIT, only("background"), constant(0.0), step=1.0, needs=(("red", 1.0),)
    ),
    # things that lie about behind the robot: their number, rounded down; its last digits choose which, and where
    ("scene", "clutter"): Target("1", 0.0, 100.0, only("background"), constant(0.0), step=8.0),
    # props, placed in the picture
    # diameter, in image heights at its distance
    ("prop", "size"): _prop("1", 0.0, 2.0, 0.0, step=0.2, needs=()),
    ("prop", "distance"): _prop("m", 0.01, 100.0, 0.15, step=3.0),  # from the camera, along its axis
    ("prop", "u"): _prop("1", -1.0, 1.0, 0.0),  # place, from the middle to the right, in image widths
    ("prop", "v"): _prop("1", -1.0, 1.0, 0.0),  # downwards, in image heights
    ("prop", "turn"): Target("rad", -np.pi, np.pi, _edged_props, constant(0.5), step=1.0, needs=PLACED),
    ("prop", "red"): _prop("1", 0.0, 1.0, 0.5),
    ("prop", "green"): _prop("1", 0.0, 1.0, 0.5),
    ("prop", "blue"): _prop("1", 0.0, 1.0, 0.5),
}
ROWS = {key: _where_seen(row) for key, row in _ROWS.items()}

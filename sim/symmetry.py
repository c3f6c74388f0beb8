"""Mirror symmetry of a robot and a task: which component becomes which, with which sign, in the mirror image.

A mirror with the normal n turns a vector v into v - 2 (v . n) n and an axis of rotation a into 2 (a . n) n - a. So a
hinge becomes the hinge of its partner's name, and its angle changes its sign where the mirrored axis and the partner's
own point apart: that is read from the model at its default pose. What names alone tell (goals, privileged signals) the
task says. tests/sim/test_symmetry.py lets robots and their mirror images move, and compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import mujoco
import numpy as np
import numpy.typing as npt

from robot.config import ConfigError

if TYPE_CHECKING:
    from sim.model import Model

Array = npt.NDArray[np.float64]
Table = tuple[tuple[int, ...], tuple[float, ...]]
"""index and sign: component i of the mirror image is sign[i] times component index[i]."""
AXES = "xyz"
TURNS = ("position", "velocity", "effort", "sin", "change", "joint_position", "joint_sin")
EVEN = ("cos", "joint_cos")
"""Prefixes of joint components that change their sign with the joint's, and that do not."""
VECTORS, ROTATIONS = ("accel", "gravity", "body_position"), ("gyro",)
"""Prefixes of components that end in x, y, z."""
PARALLEL = 0.999


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """A plane through the robot in its default pose."""

    normal: Literal["x", "y"]
    """Axis of the world that is turned around."""
    swaps: tuple[tuple[str, str], ...] = ()
    """Words in names that change places: left and right."""
    flips: tuple[str, ...] = ()
    """Components of the goal and of privileged signals that change their sign."""

    def partner(self, name: str) -> str:
        """The name of what a part of the robot becomes."""
        for a, b in self.swaps:
            for one, other in ((a, b), (b, a)):
                if one in name:
                    return name.replace(one, other)
        return name

    def sign(self, axis: str, rotation: bool = False) -> float:
        """Of a vector's, or a rotation's, component along an axis."""
        return 1.0 if (axis == self.normal) == rotation else -1.0


def joint_signs(model: Model, mirror: Mirror) -> dict[str, float]:
    """Joint -> sign that its partner's angle has in the mirror image; ConfigError where the robot is not symmetric."""
    mj, data = model.mj, mujoco.MjData(model.mj)
    data.qpos[model.qpos_index] = rest = model.spec.default_pose
    mujoco.mj_kinematics(mj, data)
    names, signs = list(model.spec.joint_names), {}
    for name, at in zip(names, rest, strict=True):
        other = mirror.partner(name)
        if other not in names:
            raise ConfigError(f"robot '{model.spec.name}' has no joint '{other}', the mirror image of '{name}'.")
        axis, image = (data.xaxis[mj.joint(n).id] for n in (name, other))
        turned = np.array([mirror.sign(a, rotation=True) for a in AXES]) * axis
        along = float(turned @ image)
        if abs(along) < PARALLEL or abs(np.sign(along) * at - rest[names.index(other)]) > 1e-6:
            raise ConfigError(
                f"robot '{model.spec.name}' is not symmetric: joint '{other}' is no mirror image of joint '{name}'."
            )
        signs[name] = float(np.sign(along))
    return signs


def table(components: Sequence[str], model: Model, mirror: Mirror) -> Table:
    """The mirror image of a vector whose components have these names; ConfigError for one that has none."""
    signs = joint_signs(model, mirror)
    joints = {a.name: a.joint for a in model.spec.actuators}
    found = [_image(name, mirror, signs, joints) for name in components]
    missing = next((n for n, _ in found if n not in components), None)
    if missing is not None:
        raise ConfigError(f"the mirror image needs component '{missing}', which is not there.")
    return tuple(list(components).index(n) for n, _ in found), tuple(sign for _, sign in found)


def _image(name: str, mirror: Mirror, signs: dict[str, float], joints: dict[str, str]) -> tuple[str, float]:
    """From which component the mirror image's component `name` comes, and its sign."""
    prefix, _, rest = name.partition("/")
    other, flipped = mirror.partner(name), -1.0 if name in mirror.flips else 1.0
    if prefix in TURNS and rest in signs:
        return other, signs[rest]
    if prefix == "previous_action":
        return other, signs[joints[rest]]
    if prefix in EVEN and rest in signs:
        return other, 1.0
    axis = rest.rpartition("/")[2]
    if prefix in (*VECTORS, *ROTATIONS) and axis in AXES:
        return other, mirror.sign(axis, prefix in ROTATIONS)
    return other, flipped

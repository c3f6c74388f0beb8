"""Cameras in simulation: images of n states of a robot, by one of two renderers that agree in geometry.

`egl` is MuJoCo's rasterizer on a GL context without a display; `ray` casts rays on all cores and needs no GL; `auto`
takes the first where it works. Both draw the same Shot (sim/visual.py), between the effects of sim/appearance.py.
To add a renderer: a class with `draw(shot, passes)` as RayRenderer has it, and its row in RENDERERS.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any, Protocol

import mujoco
import numpy as np
import numpy.typing as npt
from mujoco.batch import Batch

from robot.config import ConfigError, nearest
from sim.appearance import Ids, Look, Outer, backdrop_images, change_images, change_scene
from sim.model import Model
from sim.render_ray import RayRenderer
from sim.visual import Array, Shot, Visual

PASSES = ("rgb", "depth", "segmentation")
"""What can be asked of a camera: uint8 (n, h, w, 3); float32 (n, h, w) along its axis [m], 0 where there is nothing;
int16 (n, h, w) geom ids, -1 where there is nothing."""

EVEN = (0.7548776662466927, 0.5698402909980532)
"""1 / g and 1 / g^2 of the plastic number g."""


class Renderer(Protocol):
    """What draws Shots of one visual model at one size."""

    name: str

    def draw(self, shot: Shot, passes: Collection[str]) -> dict[str, npt.NDArray[Any]]: ...


def _egl(visual: Visual, width: int, height: int) -> Renderer:
    from sim.render_egl import EglRenderer

    return EglRenderer(visual, width, height)


RENDERERS: dict[str, Callable[[Visual, int, int], Renderer]] = {"egl": _egl, "ray": RayRenderer}


@functools.cache
def why_no_egl() -> str:
    """Why the GL renderer cannot be used here, in a sentence that says what to do; empty when it can."""
    from sim.render_egl import context

    try:
        context()
    except ConfigError as error:
        return str(error)
    return ""


def choose(renderer: str) -> str:
    """`auto` as the renderer that it stands for here; ConfigError for one that is unknown or does not work."""
    if renderer == "auto":
        return "ray" if why_no_egl() else "egl"
    if renderer not in RENDERERS:
        raise ConfigError(f"renderer={renderer}: there is no such renderer. {nearest(renderer, ['auto', *RENDERERS])}")
    if renderer == "egl" and why_no_egl():
        raise ConfigError(why_no_egl())
    return renderer


class Camera:
    """One camera of a robot: states in, images out. Any number of simulations, which may differ in appearance."""

    def __init__(
        self,
        model: Model,
        name: str,
        width: int = 0,
        height: int = 0,
        *,
        renderer: str = "auto",
        nthread: int = 0,
        visual: Visual | None = None,
    ) -> None:
        """Size 0: the RobotSpec's. `nthread`: of kinematics and rays, 0 for all cores.

        Cameras of one robot may share a `visual`. ConfigError for a camera that the MJCF lacks, or a renderer that
        does not work here.
        """
        listed = next((c for c in model.spec.cameras if c.name == name), None)
        self.name, self.model = name, model
        self.width = width or (listed.width if listed else height or 128)
        self.height = height or (listed.height if listed else self.width)
        self.visual = visual or Visual(model, nthread)
        self._id = self.visual.camera_id(name)
        self._renderer = RENDERERS[choose(renderer)](self.visual, self.width, self.height)

    @property
    def renderer(self) -> str:
        """Name of the renderer in use."""
        return self._renderer.name

    def images(
        self, qpos: Array, outer: Outer | None = None, rng: np.random.Generator | None = None
    ) -> npt.NDArray[np.uint8]:
        """(n, h, w, 3) RGB of n states (n, nq); see render()."""
        return self.render(qpos, ("rgb",), outer, rng=rng)["rgb"]

    def render(
        self,
        qpos: Array,
        passes: Collection[str] = PASSES,
        outer: Outer | None = None,
        ids: Ids | slice = slice(None),
        rng: np.random.Generator | None = None,
        source: Batch | None = None,
        fields: Collection[str] = (),
    ) -> dict[str, npt.NDArray[Any]]:
        """Pass -> images of n states (n, nq).

        `outer`: appearance as Plant.outer or Parameters.outer holds it, of which the rows `ids` are taken; without it
        all is nominal. `rng` is needed where the camera is noisy. `source`, of n simulations, has model `fields` of its
        own (link lengths, say) that can be seen.
        """
        look = self.look(outer, ids) if outer is not None else None
        return self.shoot(self.compose(qpos, look, source, fields), passes, look, rng)

    def look(self, outer: Outer, ids: Ids | slice = slice(None)) -> Look:
        """The appearance targets that concern this camera, of the simulations `ids`."""
        return Look(self.model, self.name, outer, ids)

    def compose(
        self, qpos: Array, look: Look | None = None, source: Batch | None = None, fields: Collection[str] = ()
    ) -> Shot:
        """The scene of n states, not drawn yet; see render()."""
        shot = self.visual.shot(self._id, qpos, self.width / self.height, source, fields)
        if look:
            change_scene(shot, look, self.visual)
        return self.visual.finish(shot)

    def shoot(
        self, shot: Shot, passes: Collection[str], look: Look | None = None, rng: np.random.Generator | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """Draw the scene that compose() made last; see render()."""
        out = self._draw(shot, passes, _backdrops(shot, self.height, self.width) if "rgb" in passes else None)
        if look and "rgb" in passes:
            out["rgb"] = change_images(out["rgb"], look, rng)
        return {name: out[name] for name in passes}

    def _draw(
        self, shot: Shot, passes: Collection[str], behind: npt.NDArray[np.uint8] | None
    ) -> dict[str, npt.NDArray[Any]]:
        """The passes, and what else had to be drawn for them; `behind` (n, h, w, 3) is seen where there is nothing."""
        out = self._renderer.draw(shot, {*passes, "depth"} if behind is not None else set(passes))
        if behind is not None:
            fill(out["rgb"], out["depth"] == 0.0, behind)
        return out

    def expose(
        self,
        qpos: Array,
        qvel: Array,
        look: Look,
        rng: np.random.Generator,
        samples: int,
        source: Batch | None = None,
        fields: Collection[str] = (),
    ) -> npt.NDArray[np.uint8]:
        """(n, h, w, 3) RGB, each the mean of `samples` draws: spread over the pixels' area, and over the time for which
        the shutter was open while the robot moved at qvel (n, nv); qpos (n, nq) is where it was halfway."""
        shutter, behind = look.camera("shutter"), None
        total = np.zeros((len(qpos), self.height, self.width, 3), dtype=np.float32)
        for k in range(samples):
            share = (k + 0.5) / samples - 0.5
            shot = self.compose(self._advanced(qpos, qvel, share * shutter), look, source, fields)
            # the additive sequence of Roberts (2018) covers the pixel evenly, whatever the number of samples
            shift = ((k + 0.5) * np.array(EVEN)) % 1.0 - 0.5
            shot.principal = shot.principal + shift / (self.width, self.height)
            behind = _backdrops(shot, self.height, self.width) if k == 0 else behind
            total += self._draw(shot, ("rgb",), behind)["rgb"]
        total /= samples
        total += 0.5
        return change_images(total.astype(np.uint8), look, rng)

    def _advanced(self, qpos: Array, qvel: Array, seconds: Array) -> Array:
        """(n, nq) states `seconds` (n,) later, at even velocity."""
        out = qpos.copy()
        for row, velocity, time in zip(out, qvel, seconds, strict=True):
            mujoco.mj_integratePos(self.model.mj, row, velocity, time)
        return out


def _backdrops(shot: Shot, height: int, width: int) -> npt.NDArray[np.uint8] | None:
    """backdrop_images(), None where all of them are black."""
    some = shot.background.any() or (shot.clutter >= 1.0).any()
    return backdrop_images(shot, height, width) if some else None


def fill(images: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], behind: npt.NDArray[np.uint8]) -> None:
    """Where the mask (n, h, w) is set, put `behind` into images (n, h, w, 3); in place."""
    import cv2

    tall = (-1, images.shape[2], 3)
    cv2.copyTo(np.ascontiguousarray(behind.reshape(tall)), mask.view(np.uint8).reshape(tall[:2]), images.reshape(tall))

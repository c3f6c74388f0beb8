"""The GL renderer: MuJoCo's own rasterizer on an EGL context, which needs no display; a GPU is used where there is one.

Shadows, reflections and multisampling are off: they make software rendering ten times slower, and cameras see no more
geometry for it. Nothing here is imported before a GL renderer is asked for.
"""

from __future__ import annotations

import atexit
import copy
import functools
import importlib
from collections.abc import Collection
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from robot.config import ConfigError
from sim.visual import GROUPS, Array, Shot, Visual

FIX = "run `apt-get install -y libegl1 libgl1-mesa-dri`, or use renderer=ray, which needs no GL"
OFF = ("SHADOW", "REFLECTION", "SKYBOX", "HAZE", "FOG")


@functools.cache
def context() -> Any:
    """The GL context of this process, made on first use; ConfigError names the fix where EGL does not work."""
    try:
        egl = importlib.import_module("mujoco.egl")
        made = egl.GLContext(1, 1)
        atexit.register(made.free)  # before EGL itself is shut down, which mujoco.egl has registered
        made.make_current()
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        raise ConfigError(f"renderer=egl: EGL does not work here ({error}); {FIX}.") from error
    return made


class EglRenderer:
    """Draws Shots of one visual model at one size."""

    name = "egl"

    def __init__(self, visual: Visual, width: int, height: int) -> None:
        self._visual, self._width, self._height = visual, width, height
        self._gl = context()
        self._gl.make_current()
        mj = self._mj = copy.copy(visual.mj)
        mj.vis.global_.offwidth, mj.vis.global_.offheight = width, height
        mj.vis.quality.offsamples, mj.vis.quality.shadowsize = 0, 0
        self._data = mujoco.MjData(mj)
        self._context = mujoco.MjrContext(mj, mujoco.mjtFontScale.mjFONTSCALE_50.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR.value
        self._scene = mujoco.MjvScene(mj, mj.ngeom + 1)
        for flag in OFF:
            self._scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{flag}")] = False
        self._option, self._free, self._rect = _option(), mujoco.MjvCamera(), mujoco.MjrRect(0, 0, width, height)
        first = mj.nmat - mj.ngeom
        self._slots = (first + np.arange(mj.ngeom)) * int(mujoco.mjtTextureRole.mjNTEXROLE) + int(
            mujoco.mjtTextureRole.mjTEXROLE_RGB
        )
        self._base = {k: np.array(getattr(mj, k)) for k in ("light_diffuse", "light_ambient", "light_specular")}
        head = mj.vis.headlight
        self._head = {k: np.array(getattr(head, k)) for k in ("diffuse", "ambient", "specular")}

    def draw(self, shot: Shot, passes: Collection[str]) -> dict[str, npt.NDArray[Any]]:
        """Pass -> images: rgb (n, h, w, 3) uint8, depth (n, h, w) float32 [m], segmentation (n, h, w) int16."""
        self._gl.make_current()
        n, h, w = len(shot), self._height, self._width
        kinds = {
            "rgb": ((n, h, w, 3), np.uint8),
            "depth": ((n, h, w), np.float32),
            "segmentation": ((n, h, w), np.int16),
        }
        out: dict[str, npt.NDArray[Any]] = {p: np.empty(*kinds[p]) for p in passes}
        colour, depth = np.empty((h, w, 3), np.uint8), np.empty((h, w), np.float32) if "depth" in passes else None
        edges, textures = self._visual.near * shot.edges(), self._visual.textures(shot)
        for i in range(n):
            self._pose(shot, i, edges[i], textures[i])
            if "rgb" in out:
                self._render(colour, depth, ids=False)
                out["rgb"][i] = colour[::-1]  # GL counts rows from below
            if "segmentation" in out or "rgb" not in out:
                self._render(colour, None if "rgb" in out else depth, ids=True)
                if "segmentation" in out:
                    out["segmentation"][i] = self._numbers(colour, shot.geom_rgba[i, :, 3] > 0.0)[::-1]
            if depth is not None:
                out["depth"][i] = self._metres(depth)[::-1]
        return out

    def _render(self, colour: npt.NDArray[np.uint8] | None, depth: npt.NDArray[np.float32] | None, ids: bool) -> None:
        flags = self._scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = ids
        mujoco.mjr_render(self._rect, self._scene, self._context)
        mujoco.mjr_readPixels(colour, depth, self._rect, self._context)

    def _pose(self, shot: Shot, i: int, edges: Array, texture: npt.NDArray[np.int64]) -> None:
        """Put simulation i of a shot into MuJoCo's scene; `edges` (4,) of the image, in the near plane [m]."""
        mj, data, scene, lights = self._mj, self._data, self._scene, self._mj.nlight
        data.geom_xpos[:], data.geom_xmat[:] = shot.geom_position[i], shot.geom_matrix[i].reshape(-1, 9)
        mj.geom_size[:] = shot.geom_size[i]
        mj.geom_rgba[:] = mj.mat_rgba[mj.nmat - mj.ngeom :] = shot.geom_rgba[i]
        self._context.mat_texid[self._slots] = texture
        data.light_xpos[:], data.light_xdir[:] = shot.light_position[i, :lights], shot.light_direction[i, :lights]
        strength = shot.light_intensity[i]
        for name, colour in self._base.items():
            getattr(mj, name)[:] = colour * strength[:lights, None]
        for name, colour in self._head.items():
            getattr(mj.vis.headlight, name)[:] = colour * strength[lights]
        mujoco.mjv_updateScene(mj, data, self._option, None, self._free, mujoco.mjtCatBit.mjCAT_ALL.value, scene)
        position, matrix = shot.camera_position[i], shot.camera_matrix[i]
        for camera in scene.camera:
            camera.pos, camera.forward, camera.up = position, -matrix[:, 2], matrix[:, 1]
            camera.frustum_center, camera.frustum_width = 0.5 * (edges[0] + edges[1]), 0.5 * (edges[1] - edges[0])
            camera.frustum_bottom, camera.frustum_top = edges[2], edges[3]
            camera.frustum_near, camera.frustum_far = self._visual.near, self._visual.far
            camera.orthographic = 0
        if scene.nlight > lights:
            scene.lights[0].pos, scene.lights[0].dir = shot.light_position[i, -1], shot.light_direction[i, -1]

    def _numbers(self, colour: npt.NDArray[np.uint8], opaque: npt.NDArray[np.bool_]) -> npt.NDArray[np.int16]:
        """Colours of the segmentation pass, which count the geoms that are drawn, to geom ids."""
        ids = np.append(-1, np.flatnonzero(self._visual.shown & opaque)).astype(np.int16)
        code = colour[..., 0]
        return ids[code if len(ids) <= 256 else code + 256 * colour[..., 1].astype(np.intp)]

    def _metres(self, raw: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Reversed z-buffer to depth along the camera's axis [m]; 0 where there is nothing."""
        near, far = np.float32(self._visual.near), np.float32(self._visual.far)
        return near * far / (near + raw * (far - near)) * (raw > 0.0)


def _option() -> mujoco.MjvOption:
    """What MuJoCo draws: geoms, and nothing that a ray would not meet."""
    option = mujoco.MjvOption()
    option.geomgroup[:] = GROUPS
    option.sitegroup[:] = option.jointgroup[:] = option.tendongroup[:] = option.actuatorgroup[:] = option.skingroup[
        :
    ] = 0
    return option

"""The colours of what rays have met: Lambert's law under MuJoCo's lights, and textures; no highlights, no shadows."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
import numpy.typing as npt

from sim.visual import Array, Shot, Visual

Index = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float32]

CUBE = ((2, 1, -1, -1), (2, 1, 1, -1), (0, 2, 1, 1), (0, 2, 1, -1), (0, 1, 1, -1), (0, 1, -1, -1))
"""Of the sides +x -x +y -y +z -z of a cube texture: the axes that run along a row and down it, and their signs (GL)."""


@dataclass(slots=True)
class Hits:
    """What rays have met: k pixels, sorted by image."""

    image: Index
    """(k,)"""
    pixel: Index
    """(k,) row-major place in the image."""
    depth: Array | Floats
    """(k,) along the camera's axis [m]."""
    geom: Index
    """(k,)"""
    place: Floats
    """(k, 3) in the world [m]."""
    normal: Floats
    """(k, 3) of the surface, in the world."""


def turned(vectors: npt.NDArray[np.floating], matrices: npt.NDArray[np.floating], counts: Index) -> npt.NDArray:
    """(k, 3) vectors, the first counts[0] of them turned by matrices[0] (3, 3), the next counts[1] by the next, ..."""
    out, end = np.empty_like(vectors), 0
    for matrix, count in zip(matrices, counts, strict=True):
        start, end = end, end + int(count)
        np.matmul(vectors[start:end], matrix.T, out=out[start:end])
    return out


class Shader:
    """Colours hits in one Shot after another."""

    def __init__(self, visual: Visual) -> None:
        self._visual, mj = visual, visual.mj
        head = mj.vis.headlight
        own = np.flatnonzero(mj.light_active)
        self._lights = [*own, *([mj.nlight] if head.active else [])]
        self._ambient = np.vstack([mj.light_ambient, head.ambient]).astype(np.float32)
        self._diffuse = np.vstack([mj.light_diffuse, head.diffuse]).astype(np.float32)
        self._images = [_texture(mj, i) for i in range(mj.ntex)]

    def begin(self, shot: Shot) -> None:
        """Take the colours, lights and textures of a shot."""
        self._shot = shot
        self._texture = self._visual.textures(shot)
        self._textured = bool((self._texture >= 0).any())
        self._size = self._visual.half_sizes(shot) if self._textured else shot.geom_size
        self._rgb = shot.geom_rgba[:, :, :3]
        self._position, self._axis = shot.light_position.astype(np.float32), shot.light_direction.astype(np.float32)
        self._strength = shot.light_intensity.astype(np.float32)

    def colours(self, hits: Hits) -> npt.NDArray[np.uint8]:
        """(k, 3) of the hits."""
        mj = self._visual.mj
        light = np.zeros((len(hits.pixel), 3), dtype=np.float32)
        for i in self._lights:
            strength = self._strength[hits.image, i]
            light += strength[:, None] * self._ambient[i]
            light += (strength * self._incidence(hits, int(i)))[:, None] * self._diffuse[i]
        light += mj.mat_emission[mj.geom_matid][hits.geom, None]
        light *= self._rgb[hits.image, hits.geom]
        if self._textured:
            self._paint(hits, light)
        light *= 255.0
        light += 0.5
        return np.minimum(light, 255.0, out=light).astype(np.uint8)

    def _incidence(self, hits: Hits, light: int) -> Floats:
        """(k,) share of a light that a surface takes: cosine, attenuation and spot."""
        mj, own = self._visual.mj, light < self._visual.mj.nlight
        if own and mj.light_type[light] == mujoco.mjtLightType.mjLIGHT_DIRECTIONAL:
            return np.maximum(-np.einsum("kj,kj->k", hits.normal, self._axis[hits.image, light]), 0.0)
        ray = hits.place - self._position[hits.image, light]
        distance = np.sqrt(np.einsum("kj,kj->k", ray, ray)) + np.float32(1e-9)
        share = np.maximum(-np.einsum("kj,kj->k", hits.normal, ray) / distance, 0.0)
        if own:
            constant, linear, square = (np.float32(v) for v in mj.light_attenuation[light])
            if linear or square or constant != 1.0:
                share /= constant + distance * (linear + distance * square)
            if mj.light_cutoff[light] < 90.0:
                along = np.einsum("kj,kj->k", ray, self._axis[hits.image, light]) / distance
                inside = along >= np.cos(np.radians(mj.light_cutoff[light]))
                share *= inside * np.maximum(along, 0.0) ** np.float32(mj.light_exponent[light])
        return share

    def _paint(self, hits: Hits, light: Floats) -> None:
        """Multiply by the textures, in place."""
        number = self._texture[hits.image, hits.geom]
        for texture in np.unique(number[number >= 0]):
            some = np.flatnonzero(number == texture)
            image, geom = hits.image[some], hits.geom[some]
            offset = hits.place[some] - self._shot.geom_position[image, geom]
            local = np.einsum("kji,kj->ki", self._shot.geom_matrix[image, geom], offset)
            flat = self._visual.mj.tex_type[texture] == mujoco.mjtTexture.mjTEXTURE_2D
            light[some] *= self._flat(texture, local, image, geom) if flat else self._cube(texture, local, image, geom)

    def _flat(self, texture: int, local: Array, image: Index, geom: Index) -> Floats:
        """(k, 3) of a texture laid over x and y of the geoms; MuJoCo's mapping, without its smoothing."""
        mj, picture = self._visual.mj, self._images[texture]
        material = mj.geom_matid[geom]
        scale = 0.5 * mj.mat_texrepeat[material]
        size = self._size[image, geom, :2]
        stretched = ~mj.mat_texuniform[material].astype(bool)[:, None] & (size > 0.0)
        place = local[:, :2] * scale / np.where(stretched, np.maximum(size, 1e-9), 1.0) * (1.0, -1.0) - 0.5
        height, width = picture.shape[:2]
        cell = np.floor((place % 1.0) * (width, height)).astype(np.intp)
        return picture[np.minimum(cell[:, 1], height - 1), np.minimum(cell[:, 0], width - 1)]

    def _cube(self, texture: int, local: Array, image: Index, geom: Index) -> Floats:
        """(k, 3) of a texture on the sides of a cube around the geoms, as GL looks it up."""
        mj, picture = self._visual.mj, self._images[texture]
        uniform = mj.mat_texuniform[mj.geom_matid[geom]].astype(bool)[:, None]
        local = np.where(uniform, local, local / np.maximum(self._size[image, geom], 1e-9))
        axis = np.abs(local).argmax(axis=1)
        k = np.arange(len(local))
        side = 2 * axis + (local[k, axis] < 0.0)
        table = np.array(CUBE)[side]
        largest = np.maximum(np.abs(local[k, axis]), 1e-9)
        width = picture.shape[1]
        across = 0.5 + 0.5 * table[:, 2] * local[k, table[:, 0]] / largest
        down = 0.5 + 0.5 * table[:, 3] * local[k, table[:, 1]] / largest
        column, row = (np.minimum((p * width).astype(np.intp), width - 1) for p in (across, down))
        return picture[(side * width + row) % picture.shape[0], column]


def _texture(mj: mujoco.MjModel, index: int) -> Floats:
    """(h, w, 3) of a texture of the model, in [0, 1]."""
    shape = int(mj.tex_height[index]), int(mj.tex_width[index]), int(mj.tex_nchannel[index])
    start = int(mj.tex_adr[index])
    data = mj.tex_data[start : start + int(np.prod(shape))].reshape(shape).astype(np.float32) / 255.0
    return data[:, :, :3] if shape[2] >= 3 else np.repeat(data[:, :, :1], 3, axis=2)

"""The ray renderer: one ray a pixel through mujoco.batch.Batch.ray, on all cores; it needs no GL.

Only pixels that a geom can cover get a ray: the boxes around the geoms, projected into the image, tell which. Planes
outside of those boxes are met in closed form. Surfaces are shaded by Lambert's law with MuJoCo's lights; there are no
highlights, shadows or transparency, so colours differ from the GL renderer's while geometry is the same.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from sim.targets.appearance import PATTERNS
from sim.visual import FLAT, GROUPS, TEXELS, Array, Shot, Visual, patterns

Index = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float32]

PLANE = int(mujoco.mjtGeom.mjGEOM_PLANE)
CHUNK = 1 << 20
"""Pixels drawn at a time; bounds the memory."""
CORNERS = np.stack(np.meshgrid(*[(-1.0, 1.0)] * 3, indexing="ij"), axis=-1).reshape(8, 3)


@dataclass(slots=True)
class Hits:
    """What the rays met; arrays of shape (k, ...), one row a pixel that shows something."""

    image: Index
    pixel: Index
    """Row-major place in its image."""
    depth: Array
    """Along the camera's axis [m]."""
    geom: Index
    normal: Array
    """(k, 3) in the world; zero-length for none asked."""


class RayRenderer:
    """Draws Shots of one visual model at one size."""

    name = "ray"

    def __init__(self, visual: Visual, width: int, height: int) -> None:
        self._visual, self._width, self._height = visual, width, height
        mj = visual.mj
        self._solid = np.flatnonzero(visual.shown & (mj.geom_type != PLANE))
        self._planes = np.flatnonzero(visual.shown & (mj.geom_type == PLANE))
        self._flat = np.isin(mj.geom_type, FLAT)
        self._bank = np.stack(list(patterns().values()))
        # the world's axes of a pixel: right and down, as shares of the image
        self._right = (np.arange(width) + 0.5) / width
        self._down = (np.arange(height) + 0.5) / height

    def draw(self, shot: Shot, passes: Collection[str]) -> dict[str, npt.NDArray[Any]]:
        """Pass -> images: rgb (n, h, w, 3) uint8, depth (n, h, w) float32 [m], segmentation (n, h, w) int16."""
        n, h, w = len(shot), self._height, self._width
        out: dict[str, npt.NDArray[Any]] = {}
        kinds = {
            "rgb": ((n, h, w, 3), np.uint8, 0),
            "depth": ((n, h, w), np.float32, 0),
            "segmentation": ((n, h, w), np.int16, -1),
        }
        for name in passes:
            shape, kind, empty = kinds[name]
            out[name] = np.full(shape, empty, kind)
        self._move(shot)
        step = max(1, CHUNK // (h * w))
        for begin in range(0, n, step):
            rows = np.arange(begin, min(n, begin + step))
            hits = self._cast(shot, rows, normals="rgb" in passes)
            if "depth" in out:
                out["depth"].reshape(n, -1)[hits.image, hits.pixel] = hits.depth
            if "segmentation" in out:
                out["segmentation"].reshape(n, -1)[hits.image, hits.pixel] = hits.geom
            if "rgb" in out:
                out["rgb"].reshape(n, -1, 3)[hits.image, hits.pixel] = self._shade(shot, hits)
        return out

    def _move(self, shot: Shot) -> None:
        """Put the props where the shot has them; everything else is there already."""
        visual, n = self._visual, len(shot)
        batch, props = visual.batch, visual.props
        if not (shot.geom_size[:, props, 0] > 0.0).any() and not visual.moved:
            return
        visual.moved = True
        count = props.stop - props.start
        batch.bind("mocap_pos")[:n, -count:] = shot.geom_position[:, props]
        quaternion = np.empty(4)
        place = batch.bind("mocap_quat")
        for i in range(n):
            for k in range(count):
                mujoco.mju_mat2Quat(quaternion, shot.geom_matrix[i, props.start + k].ravel())
                place[i, place.shape[1] - count + k] = quaternion
        batch.expand("geom_size")[:n, props] = shot.geom_size[:, props]
        batch.expand("geom_rbound")[:n, props] = np.linalg.norm(self._half_sizes(shot)[0][:, props], axis=-1)

    def _cast(self, shot: Shot, rows: Index, normals: bool) -> Hits:
        """One ray through every pixel of the images `rows` that may show something."""
        covered = self._covered(shot, rows)
        image, pixel = np.nonzero(covered)
        near_hits = self._meet_solids(shot, rows, image, pixel, normals)
        if not self._planes.size:
            return near_hits
        far_hits = self._meet_planes(shot, rows, *np.nonzero(~covered))
        parts = [np.concatenate([getattr(h, f) for h in (near_hits, far_hits)]) for f in Hits.__slots__]
        return Hits(*parts)

    def _directions(self, shot: Shot, image: Index, pixel: Index) -> Array:
        """(k, 3) in the world, of length 1 along the camera's axis, so that distances along them are depths."""
        left, right, bottom, top = shot.edges()[image].T
        x = left + (right - left) * self._right[pixel % self._width]
        y = top + (bottom - top) * self._down[pixel // self._width]
        local = np.stack([x, y, np.full_like(x, -1.0)], axis=1)
        if (image == image[:1]).all():
            return local @ shot.camera_matrix[image[0]].T if len(image) else local
        return np.einsum("kij,kj->ki", shot.camera_matrix[image], local)

    def _meet_solids(self, shot: Shot, rows: Index, image: Index, pixel: Index, normals: bool) -> Hits:
        """Hits of rays through given pixels (`image` counts within `rows`), with whatever geom is nearest."""
        visual, n = self._visual, len(rows)
        counts = np.bincount(image, minlength=n)
        longest = int(counts.max(initial=0))
        if longest == 0:
            return _none()
        slot = np.arange(len(image)) - np.repeat(np.cumsum(counts) - counts, counts)
        directions = np.zeros((n, longest, 3))
        directions[:, :, 0] = 1.0  # rows are filled up with rays that nobody reads
        directions[image, slot] = self._directions(shot, rows[image], pixel)
        origins = np.broadcast_to(shot.camera_position[rows, None], directions.shape)
        depth, geom, *more = visual.batch.ray(
            origins, directions, geomgroup=np.array(GROUPS, dtype=np.uint8), ids=rows.astype(np.int32), normal=normals
        )
        depth, geom = depth[image, slot], geom[image, slot]
        met = np.flatnonzero((geom >= 0) & (depth >= visual.near) & (depth < visual.far))
        normal = more[0][image[met], slot[met]] if normals else np.zeros((len(met), 3))
        return Hits(rows[image[met]], pixel[met], depth[met], geom[met].astype(np.intp), normal)

    def _meet_planes(self, shot: Shot, rows: Index, image: Index, pixel: Index) -> Hits:
        """Hits of rays that can meet nothing but planes."""
        visual, image = self._visual, rows[image]
        direction = self._directions(shot, image, pixel)
        best, which = np.full(len(image), visual.far), np.full(len(image), -1)
        for plane in self._planes:
            matrix, origin = shot.geom_matrix[:, plane], shot.geom_position[:, plane]
            height = np.einsum("nj,nj->n", shot.camera_position - origin, matrix[:, :, 2])
            slope = np.einsum("kj,kj->k", direction, matrix[image, :, 2])
            with np.errstate(divide="ignore", invalid="ignore"):
                depth = -height[image] / slope
            good = (slope < 0.0) & (depth >= visual.near) & (depth < best)
            for axis, limit in enumerate(visual.mj.geom_size[plane, :2]):
                if limit > 0.0:
                    start = np.einsum("nj,nj->n", shot.camera_position - origin, matrix[:, :, axis])
                    place = start[image] + depth * np.einsum("kj,kj->k", direction, matrix[image, :, axis])
                    good &= np.abs(place) <= limit
            best, which = np.where(good, depth, best), np.where(good, plane, which)
        met = np.flatnonzero(which >= 0)
        image, geom = image[met], which[met]
        return Hits(image, pixel[met], best[met], geom, shot.geom_matrix[image, geom, :, 2])

    def _half_sizes(self, shot: Shot) -> tuple[Array, Array]:
        """(n, ngeom, 3) half extents in each geom's frame, and the middles there."""
        mj, size = self._visual.mj, shot.geom_size
        half, middle = np.broadcast_to(mj.geom_aabb[:, 3:], size.shape).copy(), mj.geom_aabb[:, :3]
        kind, geom = mj.geom_type, mujoco.mjtGeom
        ball, round_ = kind == geom.mjGEOM_SPHERE, np.isin(kind, (geom.mjGEOM_CAPSULE, geom.mjGEOM_CYLINDER))
        plain = np.isin(kind, (geom.mjGEOM_BOX, geom.mjGEOM_ELLIPSOID))
        half[:, plain] = size[:, plain]
        half[:, ball] = size[:, ball, :1]
        half[:, round_, :2], half[:, round_, 2] = size[:, round_, :1], size[:, round_, 1]
        half[:, kind == geom.mjGEOM_CAPSULE, 2] += size[:, kind == geom.mjGEOM_CAPSULE, 0]
        return half, middle

    def _covered(self, shot: Shot, rows: Index) -> npt.NDArray[np.bool_]:
        """(len(rows), h * w) pixels inside the projected box of some geom that is no plane."""
        half, middle = self._half_sizes(shot)
        pick = np.ix_(rows, self._solid)
        local = middle[self._solid][:, None] + CORNERS * half[pick][:, :, None]
        world = np.einsum("ngij,ngcj->ngci", shot.geom_matrix[pick], local) + shot.geom_position[pick][:, :, None]
        seen = np.einsum("ngci,nij->ngcj", world - shot.camera_position[rows, None, None], shot.camera_matrix[rows])
        depth = -seen[..., 2]
        ahead = depth > self._visual.near
        left, right, bottom, top = (e[:, None, None] for e in shot.edges()[rows].T)
        with np.errstate(divide="ignore", invalid="ignore"):
            x, y = seen[..., 0] / depth, seen[..., 1] / depth
            column, row = (x - left) / (right - left), (top - y) / (top - bottom)
        partly = ahead.any(axis=2) & ~ahead.all(axis=2)
        low, high = np.where(partly, -np.inf, 0.0), np.where(partly, np.inf, 0.0)
        none = ~ahead.any(axis=2)
        spans = []
        for place, grid in ((column, self._right), (row, self._down)):
            margin = 1.0 / len(grid)
            first = np.where(partly, low, place.min(axis=2) - margin)
            last = np.where(partly, high, place.max(axis=2) + margin)
            inside = (grid >= first[..., None]) & (grid <= last[..., None]) & ~none[..., None]
            spans.append(inside.astype(np.float32))
        across, along = spans
        return (np.einsum("ngh,ngw->nhw", along, across, optimize=True) > 0.0).reshape(len(rows), -1)

    def _shade(self, shot: Shot, hits: Hits) -> npt.NDArray[np.uint8]:
        """(k, 3) colours of what was met, by Lambert's law."""
        mj, head = self._visual.mj, self._visual.mj.vis.headlight
        point = shot.camera_position[hits.image] + hits.depth[:, None] * self._directions(shot, hits.image, hits.pixel)
        normal = hits.normal.astype(np.float32)
        colour = shot.geom_rgba[hits.image, hits.geom, :3] * self._pattern(shot, hits, point)[:, None]
        light = np.zeros((len(hits.pixel), 3), dtype=np.float32)
        for i in range(mj.nlight + 1):
            own = i < mj.nlight
            if (own and not mj.light_active[i]) or not (own or head.active):
                continue
            ambient, diffuse = (mj.light_ambient[i], mj.light_diffuse[i]) if own else (head.ambient, head.diffuse)
            strength = shot.light_intensity[:, i].astype(np.float32)[hits.image, None]
            facing = self._incidence(shot, hits, point, normal, i)
            light += strength * (ambient + facing[:, None] * diffuse)
        light += mj.mat_emission[mj.geom_matid[hits.geom], None]
        return np.clip(255.0 * colour * light + 0.5, 0.0, 255.0).astype(np.uint8)

    def _incidence(self, shot: Shot, hits: Hits, point: Array, normal: Floats, light: int) -> Floats:
        """(k,) share of a light's strength that a surface takes: cosine, spot and attenuation."""
        mj = self._visual.mj
        own, kind = light < mj.nlight, mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
        axis = shot.light_direction[hits.image, light].astype(np.float32)
        if own and mj.light_type[light] == kind:
            return np.maximum(-np.einsum("kj,kj->k", normal, axis), 0.0)
        ray = (point - shot.light_position[hits.image, light]).astype(np.float32)
        distance = np.sqrt(np.einsum("kj,kj->k", ray, ray)) + 1e-9
        share = np.maximum(-np.einsum("kj,kj->k", normal, ray) / distance, 0.0)
        if own:
            constant, linear, square = mj.light_attenuation[light]
            share /= constant + distance * (linear + distance * square)
            along = np.einsum("kj,kj->k", ray, axis) / distance
            if mj.light_cutoff[light] < 90.0:
                inside = along >= np.cos(np.radians(mj.light_cutoff[light]))
                share *= np.where(inside, np.maximum(along, 0.0) ** mj.light_exponent[light], 0.0)
        return share

    def _pattern(self, shot: Shot, hits: Hits, point: Array) -> Floats:
        """(k,) factors of the surfaces' patterns."""
        number = shot.geom_pattern[hits.image, hits.geom]
        out = np.ones(len(number), dtype=np.float32)
        some = np.flatnonzero(number)
        if not some.size:
            return out
        image, geom = hits.image[some], hits.geom[some]
        local = np.einsum("kji,kj->ki", shot.geom_matrix[image, geom], point[some] - shot.geom_position[image, geom])
        flat = self._flat[geom]
        local[~flat] /= np.maximum(self._extent(shot)[image[~flat], geom[~flat]], 1e-9)
        axis = np.abs(local).argmax(axis=1)
        rest = np.array([[1, 2], [0, 2], [0, 1]])[axis]
        largest = np.take_along_axis(np.abs(local), axis[:, None], 1)
        sides = 0.5 + 0.5 * np.take_along_axis(local, rest, 1) / np.maximum(largest, 1e-9)
        place = np.where(flat[:, None], local[:, :2] - 0.5, np.clip(sides, 0.0, 1.0 - 1e-6))
        texel = np.floor(TEXELS * (place % 1.0)).astype(np.intp) % TEXELS
        out[some] = self._bank[number[some], texel[:, 1], texel[:, 0]]
        return out

    def _extent(self, shot: Shot) -> Array:
        return self._half_sizes(shot)[0]


def _none() -> Hits:
    empty = np.zeros(0, dtype=np.intp)
    return Hits(empty, empty, np.zeros(0), empty, np.zeros((0, 3)))


__all__ = ["PATTERNS", "RayRenderer"]

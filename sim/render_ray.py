"""The ray renderer: one ray a pixel through mujoco.batch.Batch.ray, on all cores; it needs no GL.

Only pixels that a geom can cover get a ray: the boxes around the geoms, projected into the image, tell which. Planes
elsewhere are met in closed form. sim/shading.py colours what was met. There are no shadows and no transparency, and a
body's skin, tendons and sites are not seen; the GL renderer is told to leave them out, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from sim.shading import Floats, Hits, Index, Shader, turned
from sim.visual import GROUPS, Array, Shot, Visual

PLANE = int(mujoco.mjtGeom.mjGEOM_PLANE)
CHUNK = 1 << 18
"""Pixels drawn at a time; bounds the memory."""


class RayRenderer:
    """Draws Shots of one visual model at one size."""

    name = "ray"

    def __init__(self, visual: Visual, width: int, height: int) -> None:
        self._visual, self._width, self._height = visual, width, height
        mj = visual.mj
        self._solid = np.flatnonzero(visual.shown & (mj.geom_type != PLANE))
        self._planes = np.flatnonzero(visual.shown & (mj.geom_type == PLANE))
        self._shader = Shader(visual)
        self._right = (np.arange(width) + 0.5) / width
        self._down = (np.arange(height) + 0.5) / height
        self._groups = np.array(GROUPS, dtype=np.uint8)

    def draw(self, shot: Shot, passes: Collection[str]) -> dict[str, npt.NDArray[Any]]:
        """Pass -> images: rgb (n, h, w, 3) uint8, depth (n, h, w) float32 [m], segmentation (n, h, w) int16."""
        n, pixels = len(shot), self._height * self._width
        kinds = {"rgb": ((n, pixels, 3), np.uint8, 0), "depth": ((n, pixels), np.float32, 0)}
        kinds["segmentation"] = ((n, pixels), np.int16, -1)
        out: dict[str, npt.NDArray[Any]] = {p: np.full(kinds[p][0], kinds[p][2], kinds[p][1]) for p in passes}
        self._visual.arrange(shot)
        self._shader.begin(shot)
        step = max(1, CHUNK // pixels)
        for begin in range(0, n, step):
            for hits in self._cast(shot, np.arange(begin, min(n, begin + step)), "rgb" in passes):
                if "depth" in out:
                    out["depth"][hits.image, hits.pixel] = hits.depth
                if "segmentation" in out:
                    out["segmentation"][hits.image, hits.pixel] = hits.geom
                if "rgb" in out:
                    out["rgb"][hits.image, hits.pixel] = self._shader.colours(hits)
        return {k: v.reshape(n, self._height, self._width, *v.shape[2:]) for k, v in out.items()}

    def _cast(self, shot: Shot, rows: Index, shaded: bool) -> Iterator[Hits]:
        """What the rays of the images `rows` meet; first where solids can be, then the planes elsewhere."""
        left, right, bottom, top = shot.edges()[rows].T[..., None]
        x, y = left + (right - left) * self._right, top + (bottom - top) * self._down
        covered = self._covered(shot, rows, x, y)
        yield self._meet_solids(shot, rows, covered, x, y, shaded)
        if self._planes.size:
            yield self._meet_planes(shot, rows, ~covered, x.astype(np.float32), y.astype(np.float32))

    def _meet_solids(
        self, shot: Shot, rows: Index, covered: npt.NDArray[np.bool_], x: Array, y: Array, shaded: bool
    ) -> Hits:
        """The nearest geom on the ray of each pixel covered; x (n, w) and y (n, h) are the pixels' tangents."""
        visual, n = self._visual, len(rows)
        image, pixel = np.nonzero(covered)
        counts = np.bincount(image, minlength=n)
        if not len(image):
            return Hits(image, pixel, np.zeros(0), image, np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32))
        slot = np.arange(len(image)) - np.repeat(np.cumsum(counts) - counts, counts)
        local = np.full((len(image), 3), -1.0)  # of length 1 along the axis, so that distances are depths
        local[:, 0], local[:, 1] = x[image, pixel % self._width], y[image, pixel // self._width]
        ray = turned(local, shot.camera_matrix[rows], counts)
        directions = np.zeros((n, int(counts.max()), 3))
        directions[:, :, 0] = 1.0  # rows are filled up with rays whose hits nobody reads
        directions[image, slot] = ray
        origins = np.broadcast_to(shot.camera_position[rows, None], directions.shape)
        depth, geom, *normals = visual.batch.ray(
            origins, directions, geomgroup=self._groups, ids=rows.astype(np.int32), normal=shaded
        )
        depth, geom = depth[image, slot], geom[image, slot]
        met = np.flatnonzero((geom >= 0) & (depth >= visual.near) & (depth < visual.far))
        image, pixel, slot, depth = image[met], pixel[met], slot[met], depth[met]
        normal = (normals[0][image, slot] if shaded else np.zeros((0, 3))).astype(np.float32)
        place = shot.camera_position[rows[image]] + depth[:, None] * ray[met]
        return Hits(rows[image], pixel, depth, geom[met].astype(np.intp), place.astype(np.float32), normal)

    def _meet_planes(self, shot: Shot, rows: Index, free: npt.NDArray[np.bool_], x: Floats, y: Floats) -> Hits:
        """The nearest plane on the ray of each pixel that no solid can cover."""
        visual, n = self._visual, len(rows)
        best = np.full((n, self._height, self._width), visual.far, dtype=np.float32)
        which = np.full(best.shape, -1, dtype=np.int16)
        for plane in self._planes:
            frame = shot.geom_matrix[rows, plane]
            offset = np.einsum("nj,nji->ni", shot.camera_position[rows] - shot.geom_position[rows, plane], frame)
            turn = np.einsum("nji,njk->nik", frame, shot.camera_matrix[rows]).astype(np.float32)

            def along(axis: int, turn: Floats = turn) -> Floats:
                """A component of the rays in the plane's frame."""
                a, b, c = turn[:, axis].T[..., None]
                return (a * x)[:, None, :] + (b * y - c)[:, :, None]

            slope = along(2)
            with np.errstate(divide="ignore"):
                depth = -offset[:, 2].astype(np.float32)[:, None, None] / slope
            good = (slope < 0.0) & (depth >= visual.near) & (depth < best)
            for axis, limit in enumerate(visual.mj.geom_size[plane, :2]):
                if limit > 0.0:
                    start = offset[:, axis].astype(np.float32)[:, None, None]
                    good &= np.abs(start + depth * along(axis)) <= limit
            np.copyto(best, depth, where=good)
            np.copyto(which, np.int16(plane), where=good)
        image, pixel = np.nonzero(free & (which.reshape(n, -1) >= 0))
        depth, geom = best.reshape(n, -1)[image, pixel], which.reshape(n, -1)[image, pixel].astype(np.intp)
        local = np.full((len(image), 3), -1.0, dtype=np.float32)
        local[:, 0], local[:, 1] = x[image, pixel % self._width], y[image, pixel // self._width]
        counts = np.bincount(image, minlength=n)
        place = turned(depth[:, None] * local, shot.camera_matrix[rows].astype(np.float32), counts)
        place += np.repeat(shot.camera_position[rows].astype(np.float32), counts, axis=0)
        image = rows[image]
        normal = shot.geom_matrix[:, :, :, 2].astype(np.float32)[image, geom]
        return Hits(image, pixel, depth, geom, place, normal)

    def _covered(self, shot: Shot, rows: Index, x: Array, y: Array) -> npt.NDArray[np.bool_]:
        """(len(rows), h * w) pixels inside the projected box of some geom that is no plane."""
        corners = self._visual.corners(shot, rows, self._solid)
        seen = np.einsum("ngci,nij->ngcj", corners - shot.camera_position[rows, None, None], shot.camera_matrix[rows])
        depth = -seen[..., 2]
        ahead = depth > self._visual.near
        some, all_ = ahead.any(axis=2) & (shot.geom_rgba[np.ix_(rows, self._solid)][..., 3] > 0.0), ahead.all(axis=2)
        spans = []
        for axis, grid in ((0, x), (1, y)):
            with np.errstate(divide="ignore", invalid="ignore"):
                place = seen[..., axis] / depth
            margin = np.abs(grid[:, 1:2] - grid[:, :1]) if grid.shape[1] > 1 else 1.0
            first = np.where(all_, place.min(axis=2) - margin, -np.inf)
            last = np.where(all_, place.max(axis=2) + margin, np.inf)
            inside = (grid[:, None] >= first[..., None]) & (grid[:, None] <= last[..., None]) & some[..., None]
            spans.append(inside.astype(np.float32))
        across, along = spans
        return (along.transpose(0, 2, 1) @ across > 0.0).reshape(len(rows), -1)

"""A model's visible geoms as triangles in their bodies' frames, and where the bodies are: all a viewer needs.

transfer/viewer.py draws them in a page, transfer/live.py in a browser. To add a kind of geom: a function that returns
(vertices with normals, triangles), and its row in `_mesh`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mesh = tuple[Array, npt.NDArray[np.int64]]
"""(k, 6) vertices, each a position [m] and a unit normal; (m, 3) indices of triangles, counter-clockwise outside."""

GEOM = mujoco.mjtGeom
AROUND, ALONG = 20, 10
"""Facets of round things around their axis, and from pole to pole."""
FLOOR_M = 10.0
"""Half side of a plane that is infinite in the model [m]."""
LOOKED_AT = 20
"""Frames that decide how much must fit into a picture."""
VISIBLE_GROUPS = 3
"""Geom groups from this one on are hidden, as in MuJoCo's own viewer."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One geom, in the frame of its body."""

    name: str
    body: int
    vertices: npt.NDArray[np.float32]
    """(k, 6) position [m] and unit normal."""
    triangles: npt.NDArray[np.uint32]
    """(m, 3)"""
    rgba: tuple[float, float, float, float]
    is_floor: bool = False


def shapes(model: mujoco.MjModel) -> list[Shape]:
    """The visible geoms of a model; a height field below the floor is none."""
    found = []
    for g in range(model.ngeom):
        rgba = model.mat_rgba[model.geom_matid[g]] if model.geom_matid[g] >= 0 else model.geom_rgba[g]
        if model.geom_group[g] >= VISIBLE_GROUPS or rgba[3] == 0.0:
            continue
        mesh = _mesh(model, g)
        if mesh is None:
            continue
        vertices, triangles = _moved(mesh, model.geom_pos[g], model.geom_quat[g])
        kind = model.geom_type[g]
        found.append(
            Shape(
                name=model.geom(g).name,
                body=int(model.geom_bodyid[g]),
                vertices=vertices.astype(np.float32),
                triangles=triangles.astype(np.uint32),
                rgba=(float(rgba[0]), float(rgba[1]), float(rgba[2]), float(rgba[3])),
                is_floor=bool(kind == int(GEOM.mjGEOM_PLANE)),
            )
        )
    return found


def body_poses(model: mujoco.MjModel, qpos: Array) -> npt.NDArray[np.float32]:
    """(n, nbody, 7) position [m] and quaternion w x y z of every body, for configurations (n, nq)."""
    data = mujoco.MjData(model)
    poses = np.empty((len(qpos), model.nbody, 7), np.float32)
    for row, q in zip(poses, qpos, strict=True):
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        row[:, :3], row[:, 3:] = data.xpos, data.xquat
    return poses


def extent(parts: Sequence[Shape], poses: npt.NDArray[np.float32]) -> tuple[Array, float]:
    """Middle and radius [m] of all shapes but the ground, over the frames of `poses` (n, nbody, 7)."""
    corners = []
    for part in parts:
        low, high = part.vertices[:, :3].min(axis=0), part.vertices[:, :3].max(axis=0)
        if part.is_floor or (high - low).max() > 2.0 * FLOOR_M:
            continue
        cuboid = np.stack(np.meshgrid(*zip(low, high, strict=True)), axis=-1).reshape(8, 3).astype(np.float64)
        turn = np.zeros(9)
        for pose in poses[:: max(1, len(poses) // LOOKED_AT), part.body]:
            mujoco.mju_quat2Mat(turn, pose[3:].astype(np.float64))
            corners.append(cuboid @ turn.reshape(3, 3).T + pose[:3])
    if not corners:
        return np.zeros(3), 1.0
    points = np.vstack(corners)
    low, high = points.min(axis=0), points.max(axis=0)
    return (low + high) / 2.0, float(np.linalg.norm(high - low) / 2.0) or 1.0


def moving_base(model: mujoco.MjModel) -> int:
    """The body that carries a robot which is not bolted down: the first free one with joints on it; -1 for none."""
    for j in range(model.njnt):
        body = int(model.jnt_bodyid[j])
        if (
            model.jnt_type[j] == int(mujoco.mjtJoint.mjJNT_FREE)
            and model.body_subtreemass[body] > model.body_mass[body]
        ):
            return body
    return -1


def _mesh(model: mujoco.MjModel, g: int) -> Mesh | None:
    kind, size = GEOM(int(model.geom_type[g])), np.array(model.geom_size[g])
    if kind == GEOM.mjGEOM_PLANE:
        half = np.where(size[:2] > 0.0, size[:2], FLOOR_M)
        return box(np.array([*half, 0.0]), faces=(4,))
    if kind == GEOM.mjGEOM_SPHERE:
        return ellipsoid(np.full(3, size[0]))
    if kind == GEOM.mjGEOM_ELLIPSOID:
        return ellipsoid(size)
    if kind == GEOM.mjGEOM_CAPSULE:
        return ellipsoid(np.full(3, size[0]), stretch=size[1])
    if kind == GEOM.mjGEOM_CYLINDER:
        return cylinder(size[0], size[1])
    if kind == GEOM.mjGEOM_BOX:
        return box(size)
    if kind == GEOM.mjGEOM_MESH:
        return _of_mesh(model, int(model.geom_dataid[g]))
    if kind == GEOM.mjGEOM_HFIELD:
        return _of_heights(model, g)
    return None


def box(half: Array, faces: tuple[int, ...] = (0, 1, 2, 3, 4, 5)) -> Mesh:
    """A box of half sizes `half`; faces count +x -x +y -y +z -z."""
    vertices, triangles = [], []
    for face in faces:
        axis, sign = face // 2, 1.0 - 2.0 * (face % 2)
        normal = np.zeros(3)
        normal[axis] = sign
        for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
            corner = np.zeros(3)
            corner[axis], corner[(axis + 1) % 3], corner[(axis + 2) % 3] = sign, a * sign, b
            vertices.append([*(corner * half), *normal])
        k = len(vertices) - 4
        triangles += [[k, k + 1, k + 2], [k, k + 2, k + 3]]
    return np.array(vertices), np.array(triangles)


def ellipsoid(radii: Array, stretch: float = 0.0) -> Mesh:
    """An ellipsoid of `radii`, its halves moved apart by `stretch` along z: with equal radii a capsule."""
    polar = np.linspace(0.0, np.pi, ALONG + 1)
    polar = np.sort(np.append(polar, np.pi / 2))  # the equator twice: once for either half
    around = np.linspace(0.0, 2.0 * np.pi, AROUND + 1)
    p, a = (grid.ravel() for grid in np.meshgrid(polar, around, indexing="ij"))
    unit = np.stack([np.sin(p) * np.cos(a), np.sin(p) * np.sin(a), np.cos(p)], axis=1)
    row = np.arange(len(p)) // (AROUND + 1)
    offset = np.where(row <= len(polar) // 2 - 1, stretch, -stretch)
    normal = unit / radii
    position = unit * radii
    position[:, 2] += offset
    return np.hstack([position, normal / np.linalg.norm(normal, axis=1, keepdims=True)]), _grid(len(polar), AROUND + 1)


def cylinder(radius: float, half: float) -> Mesh:
    """A cylinder along z, with its two lids."""
    around = np.linspace(0.0, 2.0 * np.pi, AROUND + 1)
    ring = np.stack([np.cos(around), np.sin(around)], axis=1)
    zero = np.zeros(AROUND + 1)
    side = [np.column_stack([ring * radius, zero + z, ring, zero]) for z in (half, -half)]
    lids = [
        np.vstack(
            [[0, 0, z, 0, 0, np.sign(z)], np.column_stack([ring * radius, zero + z, zero, zero, zero + np.sign(z)])]
        )
        for z in (half, -half)
    ]
    triangles = [_grid(2, AROUND + 1)]
    k = np.arange(1, AROUND + 1)
    base = 2 * (AROUND + 1)
    triangles.append(base + np.column_stack([zero[:-1], k, k + 1]).astype(np.int64))
    triangles.append(base + AROUND + 2 + np.column_stack([zero[:-1], k + 1, k]).astype(np.int64))
    return np.vstack([*side, *lids]), np.vstack(triangles)


def _grid(rows: int, columns: int) -> npt.NDArray[np.int64]:
    """Triangles between the vertices of a grid, row by row."""
    k = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    return np.vstack([np.column_stack([k, k + columns, k + 1]), np.column_stack([k + 1, k + columns, k + columns + 1])])


def _of_mesh(model: mujoco.MjModel, mesh: int) -> Mesh:
    first, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
    vertices = np.asarray(model.mesh_vert[first : first + count], dtype=np.float64)
    start = int(model.mesh_faceadr[mesh])
    corners = vertices[model.mesh_face[start : start + int(model.mesh_facenum[mesh])]]  # (m, 3, 3)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    flat = np.concatenate([corners, np.repeat(normal[:, None], 3, axis=1)], axis=2).reshape(-1, 6)
    return flat, np.arange(len(flat)).reshape(-1, 3)


def _of_heights(model: mujoco.MjModel, g: int) -> Mesh | None:
    """The surface of a height field; None when all of it lies below z = 0."""
    field = int(model.geom_dataid[g])
    rows, columns = int(model.hfield_nrow[field]), int(model.hfield_ncol[field])
    start = int(model.hfield_adr[field])
    x_half, y_half, top, _ = model.hfield_size[field]
    height = top * np.asarray(model.hfield_data[start : start + rows * columns], np.float64).reshape(rows, columns)
    if height.max() + model.geom_pos[g, 2] <= 0.0:
        return None
    x, y = np.meshgrid(np.linspace(-x_half, x_half, columns), np.linspace(-y_half, y_half, rows))
    slope_y, slope_x = np.gradient(height, 2 * y_half / (rows - 1), 2 * x_half / (columns - 1))
    normal = np.stack([-slope_x, -slope_y, np.ones_like(height)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    triangles = _grid(rows, columns)[:, ::-1]  # rows run along +y here, which turns them round
    return np.concatenate([np.stack([x, y, height], axis=-1), normal], axis=-1).reshape(-1, 6), triangles


def _moved(mesh: Mesh, position: Array, quaternion: Array) -> Mesh:
    turn = np.zeros(9)
    mujoco.mju_quat2Mat(turn, quaternion)
    matrix = turn.reshape(3, 3).T
    vertices, triangles = mesh
    return np.hstack([vertices[:, :3] @ matrix + position, vertices[:, 3:] @ matrix]), triangles

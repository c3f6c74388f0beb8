"""What there is to see: the visual model of a robot, and Shot, the scene of n images.

The visual model is the robot's MJCF with props and surface patterns added behind everything else, so that the ids of
bodies, geoms and positions stay those of the physics. Both renderers draw a Shot and look at nothing else.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import mujoco
import numpy as np
import numpy.typing as npt
from mujoco.batch import Batch

from robot.config import ConfigError, nearest
from sim.model import Model
from sim.patterns import add_textures, patterns
from sim.targets.appearance import PATTERNS, PROPS, backdrop, fovy, geom_rgba, lights

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]

GROUPS = (1, 1, 1, 0, 0, 0)
"""Geom groups that are drawn, as in MuJoCo's viewer."""
PROP_SHAPES = {
    "ball": mujoco.mjtGeom.mjGEOM_SPHERE,
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "rod": mujoco.mjtGeom.mjGEOM_CAPSULE,
    "disc": mujoco.mjtGeom.mjGEOM_CYLINDER,
}
PROP_SIZES = {"ball": (0.5, 0.0, 0.0), "box": (0.35, 0.35, 0.35), "rod": (0.12, 0.38, 0.0), "disc": (0.5, 0.08, 0.0)}
"""MuJoCo size of a prop of diameter 1 m."""
SHAPE_FIELDS = ("body_pos", "body_quat", "geom_pos", "geom_quat", "geom_size", "jnt_pos", "jnt_axis", "site_pos")
"""Model fields that physics may change per simulation and that can be seen."""
POSED = (
    "geom_xpos", "geom_xmat", "cam_xpos", "cam_xmat", "light_xpos", "light_xdir", "xanchor", "site_xpos", "xipos",
)  # fmt: skip
"""Fields that shot() computes; the last three are for keypoints."""
CORNERS = np.stack(np.meshgrid(*[(-1.0, 1.0)] * 3, indexing="ij"), axis=-1).reshape(8, 3)
AWAY = 1e6
"""Where the props are until they are placed [m]."""
FLAT = (int(mujoco.mjtGeom.mjGEOM_PLANE), int(mujoco.mjtGeom.mjGEOM_HFIELD))
"""Geom types that carry a flat pattern; the others carry it on the sides of a cube."""


@dataclass(slots=True)
class Shot:
    """What n images show; every array has n rows, and may be changed by the effects of sim/appearance.py."""

    geom_position: Array
    """(n, ngeom, 3) [m]"""
    geom_matrix: Array
    """(n, ngeom, 3, 3)"""
    geom_size: Array
    """(n, ngeom, 3)"""
    geom_rgba: npt.NDArray[np.float32]
    """(n, ngeom, 4)"""
    geom_pattern: npt.NDArray[np.int64]
    """(n, ngeom) number in PATTERNS."""
    camera_position: Array
    """(n, 3) [m]"""
    camera_matrix: Array
    """(n, 3, 3); its columns point right, up and backwards."""
    fovy: Array
    """(n,) [deg]"""
    principal: Array
    """(n, 2) of the principal point from the image's middle: in widths to the right, in heights downwards."""
    light_position: Array
    """(n, nlight + 1, 3) [m]; the last one is the headlight."""
    light_direction: Array
    light_intensity: Array
    """(n, nlight + 1) factor on the light's own colours."""
    background: npt.NDArray[np.float32]
    """(n, 3)"""
    background_pattern: npt.NDArray[np.int64]
    """(n,) number in PATTERNS."""
    clutter: Array
    """(n,) things in the background, as sim/clutter.py counts them."""
    aspect: float
    """Width of the image over its height."""

    def __len__(self) -> int:
        return len(self.camera_position)

    def edges(self) -> Array:
        """(n, 4) where the image ends: tangents of the angles to its left, right, bottom and top edge."""
        half = np.tan(np.radians(self.fovy) / 2.0)
        wide = half * self.aspect
        x, y = -2.0 * self.principal[:, 0] * wide, 2.0 * self.principal[:, 1] * half
        return np.stack([x - wide, x + wide, y - half, y + half], axis=1)


class Visual:
    """The visual model of a robot, and where everything in it is for n states."""

    def __init__(self, model: Model, nthread: int = 0) -> None:
        self.model, self.nthread = model, nthread
        self.mj = _compile(model)
        self.near = float(self.mj.vis.map.znear * self.mj.stat.extent)
        self.far = float(self.mj.vis.map.zfar * self.mj.stat.extent)
        self.shown = np.array(GROUPS, dtype=bool)[self.mj.geom_group] & (self.mj.geom_rgba[:, 3] > 0.0)
        """(ngeom,) whether a geom is drawn."""
        self.props = slice(self.mj.ngeom - len(PROPS), self.mj.ngeom)
        """The geoms of the props."""
        self._backdrop = backdrop(model.mj).astype(np.float32)
        self.batch = Batch(self.mj, 1, nthread)
        slot = int(mujoco.mjtTextureRole.mjTEXROLE_RGB)
        self._own_texture = self.mj.mat_texid[self.mj.geom_matid, slot].astype(np.int64)
        flat = np.isin(self.mj.geom_type, FLAT)
        self._first_texture = self.mj.ntex - 2 * len(PATTERNS) + np.where(flat, 0, 1)
        self._placed = self._faded = False
        plane = self.shown & (self.mj.geom_type == mujoco.mjtGeom.mjGEOM_PLANE)
        self._endless = np.flatnonzero(plane & (self.mj.geom_rgba[:, 3] == 1.0) & ~self.mj.geom_size[:, :2].any(axis=1))
        self._solid = np.flatnonzero(self.shown & ~plane)
        self._shapes: set[str] = set()

    def camera_id(self, name: str) -> int:
        names = [self.mj.camera(i).name for i in range(self.mj.ncam)]
        if name not in names:
            raise ConfigError(
                f"robot '{self.model.spec.name}': its MJCF has no camera '{name}'. {nearest(name, names)} "
                f"Add a <camera> to {self.model.robot.model.mjcf}."
            )
        return names.index(name)

    def geom_ids(self, names: Collection[str]) -> npt.NDArray[np.intp]:
        return np.array([self.mj.geom(name).id for name in names], dtype=np.intp)

    def light_ids(self, names: Collection[str]) -> npt.NDArray[np.intp]:
        known = lights(self.model)
        return np.array([known.index(name) for name in names], dtype=np.intp)

    def textures(self, shot: Shot) -> npt.NDArray[np.int64]:
        """(n, ngeom) texture of the visual model on each geom, -1 for none: its pattern's, else the MJCF's own."""
        return np.where(shot.geom_pattern > 0, self._first_texture + 2 * shot.geom_pattern, self._own_texture)

    def half_sizes(self, shot: Shot) -> Array:
        """(n, ngeom, 3) half extents of each geom in its own frame [m]."""
        mj, size, shape = self.mj, shot.geom_size, mujoco.mjtGeom
        half, kind = np.tile(mj.geom_aabb[:, 3:], (len(shot), 1, 1)), mj.geom_type
        ball, capsule = kind == shape.mjGEOM_SPHERE, kind == shape.mjGEOM_CAPSULE
        long = capsule | (kind == shape.mjGEOM_CYLINDER)
        plain = (kind == shape.mjGEOM_BOX) | (kind == shape.mjGEOM_ELLIPSOID) | (kind == shape.mjGEOM_PLANE)
        half[:, plain], half[:, ball] = size[:, plain], size[:, ball, :1]
        half[:, long, :2], half[:, long, 2] = size[:, long, :1], size[:, long, 1]
        half[:, capsule, 2] += size[:, capsule, 0]
        return half

    def corners(self, shot: Shot, rows: Ids, geoms: Ids) -> Array:
        """(len(rows), len(geoms), 8, 3) corners of the boxes around geoms, in the world [m]."""
        pick = np.ix_(rows, geoms)
        half, middle = self.half_sizes(shot)[pick], self.mj.geom_aabb[geoms, None, :3]
        local = middle + CORNERS * half[:, :, None]
        return np.einsum("ngij,ngcj->ngci", shot.geom_matrix[pick], local) + shot.geom_position[pick][:, :, None]

    def arrange(self, shot: Shot) -> None:
        """Let the batch have what rays are to meet: the props where a shot has them, and no solid around the camera."""
        n, count, batch = len(shot), len(PROPS), self.batch
        around = self._around(shot)
        if self._faded or around.any():
            self._faded = True
            for field, geoms in (("geom_rgba", slice(None)), ("mat_rgba", self.mj.geom_matid)):
                batch.expand(field)[:n, geoms, 3] = np.where(around, 0.0, self.mj.geom_rgba[:, 3])
        if not (self._placed or shot.geom_size[:, self.props].any()):
            return
        self._placed = True
        batch.bind("mocap_pos")[:n, -count:] = shot.geom_position[:, self.props]
        turn, quaternion = batch.bind("mocap_quat"), np.empty(4)
        for i, k in np.ndindex(n, count):
            mujoco.mju_mat2Quat(quaternion, shot.geom_matrix[i, self.props.start + k].ravel())
            turn[i, turn.shape[1] - count + k] = quaternion
        batch.expand("geom_size")[:n, self.props] = shot.geom_size[:, self.props]
        batch.expand("geom_rbound")[:n, self.props] = np.linalg.norm(self.half_sizes(shot)[:, self.props], axis=-1)

    def shot(
        self, camera: int, qpos: Array, aspect: float, source: Batch | None = None, fields: Collection[str] = ()
    ) -> Shot:
        """The scene of n states (n, nq), as the model has it.

        `source` is a batch of the physics whose simulations (n of them) have the model `fields` of their own.
        """
        n = len(qpos)
        self._hold(n)
        batch, ids = self.batch, np.arange(n, dtype=np.int32)
        batch.bind("qpos")[:n] = qpos
        for name in {*fields, *self._shapes} & set(SHAPE_FIELDS):
            rows = batch.expand(name)
            own = getattr(self.mj, name)
            given = source.expand(name) if source is not None and name in fields else own[None, : self._known(name)]
            rows[:n, : given.shape[1]] = given
            self._shapes.add(name)
        bound = {name: batch.bind(name) for name in POSED}
        batch.forward(ids, stage=mujoco.mjtStage.mjSTAGE_POS.value)
        mj, zeros = self.mj, np.zeros((n, 1, 3))
        size = batch.expand("geom_size")[:n].copy() if "geom_size" in self._shapes else np.tile(mj.geom_size, (n, 1, 1))
        size[:, self.props] = 0.0
        return Shot(
            geom_position=bound["geom_xpos"][:n].copy(),
            geom_matrix=bound["geom_xmat"][:n].reshape(n, mj.ngeom, 3, 3).copy(),
            geom_size=size,
            geom_rgba=np.tile(mj.geom_rgba, (n, 1, 1)),
            geom_pattern=np.zeros((n, mj.ngeom), dtype=np.int64),
            camera_position=bound["cam_xpos"][:n, camera].copy(),
            camera_matrix=bound["cam_xmat"][:n, camera].reshape(n, 3, 3).copy(),
            fovy=np.full(n, fovy(self.model, mj.camera(camera).name)),
            principal=np.zeros((n, 2)),
            light_position=np.concatenate([bound["light_xpos"][:n], zeros], axis=1),
            light_direction=np.concatenate([bound["light_xdir"][:n], zeros], axis=1),
            light_intensity=np.ones((n, mj.nlight + 1)),
            background=np.tile(self._backdrop, (n, 1)),
            background_pattern=np.zeros(n, dtype=np.int64),
            clutter=np.zeros(n),
            aspect=aspect,
        )

    def finish(self, shot: Shot) -> Shot:
        """After the effects: what stands in relation to the camera, which they may have moved."""
        shot.geom_rgba[self._buried(shot) | self._around(shot), 3] = 0.0
        back = shot.camera_matrix[:, :, 2]
        shot.light_position[:, -1], shot.light_direction[:, -1] = shot.camera_position, -back
        absent = shot.geom_size[:, self.props, :1] == 0.0
        behind = (shot.camera_position + 0.5 * self.far * back)[:, None]
        shot.geom_position[:, self.props] = np.where(absent, behind, shot.geom_position[:, self.props])
        return shot

    def _buried(self, shot: Shot) -> npt.NDArray[np.bool_]:
        """(n, ngeom) geoms that lie wholly below an endless plane, with the camera above it: terrain put away, say."""
        out = np.zeros(shot.geom_pattern.shape, dtype=bool)
        for plane in self._endless:
            normal = shot.geom_matrix[:, plane, :, 2]
            level = np.einsum("nj,nj->n", normal, shot.geom_position[:, plane])
            above = np.einsum("nj,nj->n", normal, shot.camera_position) > level
            highest = np.einsum("nj,ngcj->ngc", normal, self.corners(shot, np.arange(len(shot)), self._solid)).max(
                axis=2
            )
            out[:, self._solid] |= (highest < level[:, None]) & above[:, None]
        return out

    def _around(self, shot: Shot) -> npt.NDArray[np.bool_]:
        """(n, ngeom) solids that hold the camera: GL draws no surface from behind, and so no ray may meet one."""
        offset = shot.camera_position[:, None] - shot.geom_position
        local = np.abs(np.einsum("ngi,ngij->ngj", offset, shot.geom_matrix)) / np.maximum(self.half_sizes(shot), 1e-9)
        kind, shape = self.mj.geom_type, mujoco.mjtGeom
        inside = (local < 1.0).all(axis=2) & self.shown
        round_ = (kind == shape.mjGEOM_SPHERE) | (kind == shape.mjGEOM_ELLIPSOID)
        long = (kind == shape.mjGEOM_CYLINDER) | (kind == shape.mjGEOM_CAPSULE)
        inside &= ~round_ | (np.square(local).sum(axis=2) < 1.0)
        inside &= ~long | (np.square(local[..., :2]).sum(axis=2) < 1.0)
        return inside & (round_ | long | (kind == shape.mjGEOM_BOX))

    def _known(self, field: str) -> int:
        """Rows of a field that belong to the robot, not to the props."""
        return len(getattr(self.model.mj, field))

    def _hold(self, n: int) -> None:
        if n > self.batch.nsim:
            self.batch = Batch(self.mj, n, self.nthread)
            self._shapes.clear()
            self._placed = self._faded = False


def _compile(model: Model) -> mujoco.MjModel:
    """The robot's MJCF with props and patterns behind everything it has, and the parameters of `model`."""
    spec = _spec(model)
    for key in list(spec.keys):
        spec.delete(key)  # their mocap poses would not fit the props
    for name in PROPS:
        body = spec.worldbody.add_body(name=f"prop {name}", mocap=True)
        body.add_geom(name=f"prop {name}", type=PROP_SHAPES[name], size=PROP_SIZES[name], contype=0, conaffinity=0)
    for name, factor in patterns().items():
        add_textures(spec, name, factor)
    geoms = model.mj.ngeom + len(PROPS)
    for i in range(geoms):
        spec.add_material(name=f"surface {i}", texrepeat=(2.0, 2.0))
    mj = spec.compile()
    own = model.mj
    mj.stat.extent, mj.stat.center = own.stat.extent, own.stat.center  # props, 1 m wide, must not move the near plane
    mj.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT.value | mujoco.mjtDisableBit.mjDSBL_CONSTRAINT.value
    for field in (*SHAPE_FIELDS, "hfield_data", "cam_pos", "cam_quat", "light_pos", "light_dir"):
        getattr(mj, field)[: len(getattr(own, field))] = getattr(own, field)
    mj.body_pos[-len(PROPS) :] = (0.0, 0.0, -AWAY)
    first = mj.nmat - geoms
    for i in range(geoms):
        _give_surface(mj, i, first + i, geom_rgba(model, i) if i < own.ngeom else np.array((0.5, 0.5, 0.5, 1.0)))
    return mj


def _spec(model: Model) -> mujoco.MjSpec:
    text = model.robot.model.mjcf
    if text.lstrip().startswith("<"):
        return mujoco.MjSpec.from_string(text)
    return mujoco.MjSpec.from_file(str(Path(str(resources.files("sim"))) / "models" / text))


def _give_surface(mj: mujoco.MjModel, geom: int, material: int, rgba: Array) -> None:
    """A material of its own for a geom, which looks as it did."""
    before = int(mj.geom_matid[geom])
    if before >= 0:
        for field in ("emission", "specular", "shininess", "texid", "texrepeat", "texuniform"):
            values = getattr(mj, f"mat_{field}")
            values[material] = values[before]
    elif mj.geom_type[geom] in FLAT:
        mj.mat_texuniform[material] = True  # a pattern then has a size in metres
    mj.geom_matid[geom] = material
    mj.geom_rgba[geom] = mj.mat_rgba[material] = rgba

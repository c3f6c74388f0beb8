"""Two renderers, one geometry."""

from __future__ import annotations

import dataclasses

import mujoco
import numpy as np
import numpy.typing as npt
import pytest
from mujoco.batch import Batch

from robot.config import ConfigError
from sim.model import Model, find_robot
from sim.parameters import Parameters
from sim.render import PASSES, Camera, choose, why_no_egl
from sim.visual import Visual

SCENES = (
    ("simple_pendulum", "side"), ("double_pendulum_c1", "side"), ("so101", "front"), ("so101", "wrist"),
    ("quadruped", "side"),
)  # fmt: skip
needs_egl = pytest.mark.skipif(bool(why_no_egl()), reason=why_no_egl())
Array = npt.NDArray[np.float64]


def poses(model: Model, n: int, seed: int = 1) -> Array:
    qpos = np.tile(model.mj.qpos0, (n, 1))
    qpos[:, model.qpos_index] += np.random.default_rng(seed).uniform(-0.6, 0.6, (n, len(model.qpos_index)))
    return qpos


def overlap(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


@needs_egl
@pytest.mark.parametrize(("robot", "name"), SCENES)
def test_the_renderers_agree_in_geometry(robot: str, name: str) -> None:
    model = Model(find_robot(robot))
    qpos, visual = poses(model, 2), Visual(model)
    one, other = (
        Camera(model, name, 256, 256, renderer=r, visual=visual).render(qpos, ("depth", "segmentation"))
        for r in ("egl", "ray")
    )
    body = np.append(visual.mj.geom_bodyid, -1)
    a, b = body[one["segmentation"]], body[other["segmentation"]]
    seen = [i for i in np.union1d(a, b) if i >= 0 and (a == i).sum() > 400]  # smaller ones are mostly edges
    assert seen
    overlaps = {visual.mj.body(int(i)).name: overlap(a == i, b == i) for i in seen}
    assert np.mean(list(overlaps.values())) >= 0.97, overlaps
    assert min(overlaps.values()) >= 0.95, overlaps  # GL draws a small round body as a polygon, slightly smaller
    assert overlap(one["segmentation"] >= 0, other["segmentation"] >= 0) >= 0.97
    both = (one["segmentation"] == other["segmentation"]) & (one["depth"] > 0)
    difference = np.abs(one["depth"] / np.maximum(other["depth"], 1e-9) - 1.0)[both]
    assert np.quantile(difference, 0.99) < 1e-3  # the rest is the GL renderer's facets


@needs_egl
def test_the_renderers_agree_under_every_change_of_the_scene() -> None:

    model = Model(find_robot("so101"))
    visual, parameters = Visual(model), Parameters(model, batch_of(model, 2))
    changes = {
        "camera/front/x": 0.05, "camera/front/y": -0.03, "camera/front/z": 0.1, "camera/front/roll": 0.3,
        "camera/front/pitch": 0.05, "camera/front/yaw": -0.1, "camera/front/fovy": 60.0,
        "camera/front/principal_x": 0.1, "camera/front/principal_y": -0.15,
        "prop/ball/size": 0.2, "prop/ball/u": -0.2, "prop/box/size": 0.3, "prop/box/u": 0.2, "prop/box/v": 0.3,
        "prop/rod/size": 0.5, "prop/rod/v": -0.3, "prop/disc/size": 0.3, "prop/disc/turn": 1.2,
    }  # fmt: skip
    parameters.set({k: np.full(2, v) for k, v in changes.items()}, np.arange(2))
    qpos = poses(model, 2)
    plain = Camera(model, "front", 200, 128, renderer="ray", visual=visual).render(qpos, ("segmentation",))
    one, other = (
        Camera(model, "front", 200, 128, renderer=r, visual=visual).render(qpos, ("segmentation",), parameters.outer)
        for r in ("egl", "ray")
    )
    assert (one["segmentation"] == other["segmentation"]).mean() > 0.99
    assert (plain["segmentation"] == other["segmentation"]).mean() < 0.8
    assert set(np.unique(other["segmentation"])) >= set(range(visual.props.start, visual.props.stop))


def batch_of(model: Model, n: int) -> Batch:
    return Batch(model.mj, n, 1)


@needs_egl
def test_the_gl_renderer_draws_what_mujoco_draws() -> None:
    model = Model(find_robot("simple_pendulum"))
    qpos = poses(model, 3)
    made = Camera(model, "side", 96, 96, renderer="egl").render(qpos)
    assert made["rgb"].any()
    assert 1.6 < made["depth"][made["segmentation"] == model.mj.geom("rod").id].mean() < 1.8  # the camera is 1.7 m away
    assert np.ptp([image.astype(float).sum() for image in made["rgb"]]) > 0.0


def test_rays_measure_depth_and_geoms_where_they_are() -> None:
    model = Model(find_robot("simple_pendulum"))
    made = Camera(model, "side", 65, 65, renderer="ray").render(np.array([[0.0], [np.pi / 2]]))
    half = np.tan(np.radians(45.0) / 2.0)
    for image, (x, z) in enumerate(((0.0, -0.5), (0.5, 0.0))):  # the disc: hanging, and to the right
        column = int((0.5 + 0.5 * x / 1.7 / half) * 65)
        row = int((0.5 - 0.5 * z / 1.7 / half) * 65)
        assert made["segmentation"][image, row, column] == model.mj.geom("disc").id
        assert made["depth"][image, row, column] == pytest.approx(1.7 - 0.015, abs=1e-4)
    nothing = made["segmentation"] < 0
    assert (made["depth"][nothing] == 0.0).all() and (made["rgb"][nothing] == 0).all()
    assert (made["rgb"][~nothing].max(axis=-1) > 0).mean() > 0.9


def test_shading_is_lambert_s() -> None:
    """A plane seen from above by a headlight: MuJoCo's ambient, plus diffuse times the cosine."""
    robot = find_robot("so101")
    model = Model(robot)
    images = Camera(model, "front", 32, 32, renderer="ray").render(model.mj.qpos0[None], ("rgb", "segmentation"))
    table = model.mj.geom("table").id
    colours = images["rgb"][images["segmentation"] == table]
    lit = model.mj.vis.headlight.ambient + model.mj.light_ambient[0]
    assert (colours >= np.floor(255.0 * lit * model.mj.geom_rgba[table, :3])).all()
    assert np.ptp(colours[:, 0].astype(int)) > 10  # the lamp shines more on some of it


def test_images_do_not_depend_on_their_neighbours() -> None:
    model = Model(find_robot("so101"))
    camera, qpos = Camera(model, "front", 48, 40, renderer="ray"), poses(model, 5)
    together = camera.images(qpos)
    assert together.shape == (5, 40, 48, 3)
    assert (camera.images(qpos[3:4]) == together[3:4]).all()
    assert (Camera(model, "front", 48, 40, renderer="ray", nthread=1).images(qpos) == together).all()


def test_the_batch_s_own_geometry_is_seen() -> None:
    from sim.plant import Plant

    model = Model(find_robot("double_pendulum_c1"))
    plant = Plant(model, 2)
    plant.set({"link/lower/length": np.array([0.3, 0.5])})
    camera = Camera(model, "side", 96, 96, renderer="ray")
    made = camera.render(
        plant.qpos, ("segmentation",), source=plant.batch, fields=("body_pos", "geom_pos", "geom_size")
    )
    disc = model.mj.geom("disc").id
    lowest = [np.flatnonzero((s == disc).any(axis=1)).max() for s in made["segmentation"]]
    assert lowest[1] - lowest[0] > 5


def test_wrong_names_are_refused_in_a_sentence() -> None:
    model = Model(find_robot("simple_pendulum"))
    with pytest.raises(ConfigError, match=r"no camera 'sid'.*Did you mean 'side'"):
        Camera(model, "sid", renderer="ray")
    with pytest.raises(ConfigError, match=r"renderer=rays.*Did you mean 'ray'"):
        choose("rays")


def test_without_egl_the_error_names_the_fix_and_auto_takes_rays(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from sim import render_egl

    monkeypatch.setitem(sys.modules, "mujoco.egl", None)
    render_egl.context.cache_clear()
    why_no_egl.cache_clear()
    try:
        assert choose("auto") == "ray"
        with pytest.raises(ConfigError, match=r"apt-get install -y libegl1 libgl1-mesa-dri.*renderer=ray"):
            choose("egl")
    finally:
        render_egl.context.cache_clear()
        why_no_egl.cache_clear()


def test_the_visual_model_keeps_the_ids_and_the_clipping_planes_of_the_robot() -> None:
    for robot in ("simple_pendulum", "so101", "quadruped"):
        model = Model(find_robot(robot))
        visual, own = Visual(model).mj, model.mj
        assert [visual.geom(i).name for i in range(own.ngeom)] == [own.geom(i).name for i in range(own.ngeom)]
        assert visual.nq == own.nq and visual.stat.extent == own.stat.extent
        data, mine = mujoco.MjData(visual), mujoco.MjData(own)
        mujoco.mj_kinematics(visual, data)
        mujoco.mj_kinematics(own, mine)
        assert np.array_equal(data.geom_xpos[: own.ngeom], mine.geom_xpos)


def test_passes_are_those_that_were_asked_for() -> None:
    camera = Camera(Model(find_robot("simple_pendulum")), "side", 16, 16, renderer="ray")
    for name in PASSES:
        assert set(camera.render(np.zeros((1, 1)), (name,))) == {name}


@needs_egl
def test_a_camera_inside_a_solid_sees_out_of_it() -> None:
    """The wrist camera moved into its own housing: GL leaves out the housing's inside, and so do rays."""
    model = Model(find_robot("so101"))
    visual, parameters = Visual(model), Parameters(model, Batch(model.mj, 2, 1))
    parameters.set({"camera/wrist/x": np.array([0.01, 0.0]), "camera/wrist/z": np.array([0.006, 0.0])}, np.arange(2))
    shots = [
        Camera(model, "wrist", 96, 96, renderer=r, visual=visual).render(
            poses(model, 2), ("segmentation",), parameters.outer
        )["segmentation"]
        for r in ("egl", "ray")
    ]
    assert (shots[0] == shots[1]).mean() > 0.99


OF_ALL_SHAPES = """
<mujoco><asset>
  <mesh name="m" vertex="0 0 0 .3 0 0 0 .3 0 0 0 .3 .2 .2 .2"/><hfield name="h" nrow="12" ncol="12" size="1 1 .2 .1"/>
  <texture name="t" type="2d" builtin="checker" rgb1="1 0 0" rgb2="0 0 1" width="64" height="64"/>
  <material name="c" texture="t" texrepeat="3 3"/></asset>
<worldbody><light pos="0 0 2" directional="true" dir="0 0 -1"/>
  <geom type="hfield" hfield="h" pos="0 0 -.5" material="c" name="ground"/>
  <geom type="box" size=".1 .2 .1" pos=".4 .4 0" name="box" rgba="0 1 0 1"/>
  <camera name="side" pos="0 -2 .6" xyaxes="1 0 0 0 .3 1"/>
  <body name="p"><joint name="shoulder" axis="0 -1 0"/><geom type="mesh" mesh="m" name="mesh" density="100"/>
    <geom type="ellipsoid" size=".1 .15 .2" pos="-.4 0 .2" name="egg"/>
    <geom type="mesh" mesh="m" pos="-.3 0 -.2"/></body>
</worldbody><actuator><motor name="shoulder" joint="shoulder"/></actuator></mujoco>"""


@needs_egl
def test_meshes_heightfields_and_textures_agree() -> None:
    """A user's MJCF, given as text: geometry alike, and colours nearly so."""
    robot = find_robot("simple_pendulum")
    robot = dataclasses.replace(robot, model=dataclasses.replace(robot.model, mjcf=OF_ALL_SHAPES, parameters={}))
    model = Model(robot)
    visual, qpos = Visual(model), np.array([[0.2], [-0.5]])
    one, other = (Camera(model, "side", 256, 256, renderer=r, visual=visual).render(qpos) for r in ("egl", "ray"))
    for geom in range(model.mj.ngeom):
        assert overlap(one["segmentation"] == geom, other["segmentation"] == geom) >= 0.97
    assert np.abs(one["rgb"].astype(float) - other["rgb"]).mean() < 12.0
    ground = one["rgb"][one["segmentation"] == model.mj.geom("ground").id]
    assert (ground[:, 0] > 2 * ground[:, 2].astype(int)).mean() == pytest.approx(0.5, abs=0.15)  # red and blue squares

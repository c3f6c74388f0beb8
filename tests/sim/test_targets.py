"""Each target writes what a freshly compiled model would have: its own field and every constant derived from it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path

import mujoco
import numpy as np
import numpy.typing as npt
import pytest
from mujoco.batch import MODEL_FIELDS

from robot.config import ConfigError
from sim.model import TARGETS, Model, find_robot, split
from sim.parameters import Parameters
from sim.plant import Plant
from sim.targets.inertia import quaternion, rotation

Array = npt.NDArray[np.float64]
ROBOTS = ("simple_pendulum", "double_pendulum_c1", "so101", "quadruped")
UNORDERED = {"body_inertia", "body_iquat", "body_sameframe", "bvh_aabb"}
"""Fields that say the same in more than one way: principal axes have no order where moments are equal."""


def written(robot: str, values: dict[str, float]) -> mujoco.MjModel:
    """The model with targets set in one of two simulations; the other must stay as it was."""
    model = Model(find_robot(robot))
    plant = Plant(model, 2, nthread=1)
    plant.set({name: np.array([value]) for name, value in values.items()}, np.array([1]))
    same_fields(plant.batch.get_model(0), model.mj)
    return plant.batch.get_model(1)


def compiled(robot: str, change: Callable[[mujoco.MjSpec], None]) -> mujoco.MjModel:
    """The robot's MJCF compiled with a change, with the robot's own parameters on top."""
    config = find_robot(robot)
    spec = mujoco.MjSpec.from_file(str(Path(str(resources.files("sim"))) / "models" / config.model.mjcf))
    change(spec)
    mj = spec.compile()
    plain = Model(config)
    mj.opt.timestep, mj.opt.disableflags = plain.mj.opt.timestep, plain.mj.opt.disableflags
    if config.model.parameters:  # rotor inertias in the configs of these robots
        mj.tendon_armature[:], mj.dof_armature[:] = plain.mj.tendon_armature, plain.mj.dof_armature
    for g in np.flatnonzero(mj.geom_type == mujoco.mjtGeom.mjGEOM_HFIELD):
        mj.geom_pos[g] = plain.mj.geom_pos[g]
    mujoco.mj_setConst(mj, mujoco.MjData(mj))
    return mj


def same_fields(found: mujoco.MjModel, expected: mujoco.MjModel, skip: set[str] = frozenset()) -> None:
    for name in MODEL_FIELDS - skip:
        holders = (found.opt, expected.opt) if name.startswith("opt.") else (found, expected)
        a, b = (np.asarray(getattr(holder, name.removeprefix("opt."))) for holder in holders)
        if a.dtype.kind in "fiu":
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13, err_msg=name)


def body(name: str, **fields: object) -> Callable[[mujoco.MjSpec], None]:
    def change(spec: mujoco.MjSpec) -> None:
        for field, value in fields.items():
            setattr(spec.body(name), field, value)

    return change


def geom(name: str, **fields: object) -> Callable[[mujoco.MjSpec], None]:
    def change(spec: mujoco.MjSpec) -> None:
        for field, value in fields.items():
            setattr(spec.geom(name), field, value)

    return change


def joint(name: str, **fields: object) -> Callable[[mujoco.MjSpec], None]:
    def change(spec: mujoco.MjSpec) -> None:
        for field, value in fields.items():
            setattr(spec.joint(name), field, value)

    return change


def scaled_mass(name: str, mass: float) -> Callable[[mujoco.MjSpec], None]:
    def change(spec: mujoco.MjSpec) -> None:
        found = spec.body(name)
        found.fullinertia, found.inertia = found.fullinertia * mass / found.mass, found.inertia * mass / found.mass
        found.mass = mass

    return change


CASES: list[tuple[str, dict[str, float], Callable[[mujoco.MjSpec], None]]] = [
    ("simple_pendulum", {"body/pendulum/mass": 0.9}, scaled_mass("pendulum", 0.9)),
    ("double_pendulum_c1", {"body/lower/com": 0.2}, body("lower", ipos=[0, 0, -0.2])),
    ("double_pendulum_c1", {"body/upper/com_x": 0.03}, body("upper", ipos=[0.03, 0, -0.2])),
    ("double_pendulum_c1", {"body/lower/inertia": 0.02}, body("lower", inertia=[0.02] * 3)),
    ("double_pendulum_c1", {"body/lower/payload": 0.25}, body("lower", mass=0.630 + 0.25)),
    ("so101", {"body/gripper/mass": 0.12}, scaled_mass("gripper", 0.12)),
    ("so101", {"body/cube/mass": 0.12}, scaled_mass("cube", 0.12)),
    ("so101", {"body/gripper/density": 0.1}, scaled_mass("gripper", 0.087 * np.exp(0.2))),
    ("so101", {"joint/elbow_flex/damping": 0.7}, joint("elbow_flex", damping=[0.7, 0, 0])),
    ("so101", {"joint/elbow_flex/frictionloss": 0.1}, joint("elbow_flex", frictionloss=0.1)),
    ("so101", {"joint/elbow_flex/armature": 0.05}, joint("elbow_flex", armature=0.05)),
    ("so101", {"joint/elbow_flex/stiffness": 0.4}, joint("elbow_flex", stiffness=[0.4, 0, 0])),
    ("so101", {"joint/elbow_flex/range_high": 1.2}, joint("elbow_flex", range=[-1.69, 1.2])),
    ("so101", {"geom/cube/friction": 0.3}, geom("cube", friction=[0.3, 0.005, 0.0005])),
    ("so101", {"geom/cube/torsional": 0.02}, geom("cube", friction=[0.8, 0.02, 0.0005])),
    ("so101", {"geom/cube/contact_time": 0.03}, geom("cube", solref=[0.03, 1.0])),
    ("so101", {"geom/cube/contact_damping": 0.5}, geom("cube", solref=[0.01, 0.5])),
    ("so101", {"geom/cube/impedance": 0.99}, geom("cube", solimp=[0.9, 0.99, 0.001, 0.5, 2.0])),
    ("quadruped", {"body/trunk/mass": 6.5}, scaled_mass("trunk", 6.5)),
    ("quadruped", {"body/trunk/com_z": 0.05}, body("trunk", ipos=[0.0223, 0.002, 0.05])),
    ("quadruped", {"geom/FR_foot/friction": 0.4}, geom("FR_foot", friction=[0.4, 0.02, 0.01])),
    ("quadruped", {"terrain/terrain/height": 0.05, "terrain/terrain/patch_x": 1.5}, geom("terrain", pos=[0, 0, 0])),
]


@pytest.mark.parametrize(("robot", "values", "change"), CASES, ids=lambda x: "+".join(x) if isinstance(x, dict) else "")
def test_the_model_is_the_one_that_a_compiler_would_make(
    robot: str, values: dict[str, float], change: Callable[[mujoco.MjSpec], None]
) -> None:
    found, expected = written(robot, values), compiled(robot, change)
    if "terrain/terrain/height" in values:
        expected.geom_pos[expected.geom("terrain").id] = [1.5, 0.0, 0.05 - 0.12]
        mujoco.mj_setConst(expected, mujoco.MjData(expected))
    # a stop that moves does not tell the servo's firmware where to stop
    same_fields(found, expected, skip={"actuator_ctrlrange"} if "range" in next(iter(values)) else frozenset())


def pseudo_inertia(mj: mujoco.MjModel, name: str) -> Array:
    """(4, 4) of a body in its own frame: second moments, first moments, mass."""
    i = mj.body(name).id
    axes = np.zeros(9)
    mujoco.mju_quat2Mat(axes, mj.body_iquat[i])
    axes, center, mass = axes.reshape(3, 3), mj.body_ipos[i], mj.body_mass[i]
    tensor = axes @ np.diag(mj.body_inertia[i]) @ axes.T
    moment = 0.5 * np.trace(tensor) * np.eye(3) - tensor + mass * np.outer(center, center)
    return np.block([[moment, mass * center[:, None]], [mass * center[None], np.array([[mass]])]])


def of_pseudo_inertia(name: str, wanted: Array) -> Callable[[mujoco.MjSpec], None]:
    """Give a body the inertia that a (4, 4) pseudo-inertia stands for."""
    mass, center = wanted[3, 3], wanted[:3, 3] / wanted[3, 3]
    moment = wanted[:3, :3] - mass * np.outer(center, center)
    t = np.trace(moment) * np.eye(3) - moment

    def change(spec: mujoco.MjSpec) -> None:
        found = spec.body(name)
        found.mass, found.ipos, found.iquat, found.inertia = mass, center, [1, 0, 0, 0], [0, 0, 0]
        found.fullinertia = [t[0, 0], t[1, 1], t[2, 2], t[0, 1], t[0, 2], t[1, 2]]

    return change


@pytest.mark.parametrize(("robot", "name"), [("so101", "upper_arm"), ("so101", "gripper"), ("quadruped", "FR_thigh")])
def test_a_deformed_body_has_the_pseudo_inertia_of_the_source(robot: str, name: str) -> None:
    """J' = U J U^T with U of Rucker & Wensing; every constant as compiled from it."""
    rng = np.random.default_rng(3)
    alpha, d, (s12, s13, s23), t = 0.15, rng.normal(0, 0.2, 3), rng.normal(0, 0.2, 3), rng.normal(0, 0.02, 3)
    model = Model(find_robot(robot))
    upper = np.array([[np.exp(d[0]), s12, s13], [0, np.exp(d[1]), s23], [0, 0, np.exp(d[2])]])
    # ours shifts first: t = A shift
    u = np.exp(alpha) * np.block([[upper, (upper @ t)[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])
    wanted = u @ pseudo_inertia(model.mj, name) @ u.T
    values = {"density": alpha, "shear_xy": s12 * np.exp(-d[1])}
    values |= {f"stretch_{axis}": d[i] for i, axis in enumerate("xyz")}
    values |= {"shear_xz": s13 * np.exp(-d[2]), "shear_yz": s23 * np.exp(-d[2])}
    values |= {f"com_{axis}": model.mj.body(name).ipos[i] + t[i] for i, axis in enumerate("xyz")}
    found = written(robot, {f"body/{name}/{quantity}": value for quantity, value in values.items()})
    np.testing.assert_allclose(pseudo_inertia(found, name), wanted, rtol=1e-10, atol=1e-16)
    expected = compiled(robot, of_pseudo_inertia(name, wanted))
    same_fields(found, expected, skip=UNORDERED)
    np.testing.assert_allclose(np.sort(found.body(name).inertia), np.sort(expected.body(name).inertia), rtol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_every_deformation_is_physical(seed: int) -> None:
    """Positive mass, positive principal moments, and no moment above the sum of the two others."""
    rng, model = np.random.default_rng(seed), Model(find_robot("so101"))
    plant = Plant(model, 50, nthread=1)
    names = [f"body/gripper/{q}" for q in ("density", *(f"stretch_{a}" for a in "xyz"), "shear_xy", "shear_yz")]
    plant.set({name: rng.uniform(-2.0, 2.0, 50) for name in (*names, "body/gripper/shear_xz")})
    i = model.mj.body("gripper").id
    inertia = plant.batch.expand("body_inertia")[:, i]
    assert (plant.batch.expand("body_mass")[:, i] > 0).all() and (inertia > 0).all()
    assert (inertia.max(axis=1) <= inertia.sum(axis=1) / 2 * (1 + 1e-9)).all()
    plant.step(np.zeros((50, 6)))
    assert np.isfinite(plant.qpos).all() and not plant.unstable.any()


def test_a_payload_at_a_site_is_a_body_welded_there() -> None:
    def change(spec: mujoco.MjSpec) -> None:
        site = spec.site("gripperframe")
        spec.body("gripper").add_body(
            name="load", pos=site.pos, ipos=[0, 0, 0], mass=0.2, inertia=[1e-14] * 3, explicitinertial=True
        )

    found, expected = written("so101", {"site/gripperframe/payload": 0.2}), compiled("so101", change)
    np.testing.assert_allclose(found.dof_M0, expected.dof_M0, rtol=1e-9)
    np.testing.assert_allclose(found.dof_invweight0, expected.dof_invweight0, rtol=1e-9)


def test_a_longer_link_takes_everything_on_it_along() -> None:
    """The thigh: capsule, hip end in place, knee and everything below moved, mass the same."""
    plain, longer = Model(find_robot("quadruped")).mj, written("quadruped", {"link/FR_thigh/length": 0.213 * 1.2})
    factor = np.array([1.0, 1.0, 1.2])
    np.testing.assert_allclose(longer.body("FR_calf").pos, plain.body("FR_calf").pos * factor, rtol=1e-12)
    np.testing.assert_allclose(longer.geom("FR_thigh").pos, plain.geom("FR_thigh").pos * factor, rtol=1e-12)
    np.testing.assert_allclose(longer.geom("FR_thigh").size, [0.02, 0.1 * 1.2, 0.0], rtol=1e-12)
    np.testing.assert_allclose(longer.body("FR_thigh").ipos, plain.body("FR_thigh").ipos * factor, rtol=1e-12)
    assert longer.body("FR_thigh").mass == plain.body("FR_thigh").mass
    moments = [pseudo_inertia(m, "FR_thigh") for m in (plain, longer)]
    stretch = np.diag([*factor, 1.0])
    np.testing.assert_allclose(moments[1], stretch @ moments[0] @ stretch, rtol=1e-9, atol=1e-12)


def test_a_body_compiled_as_simple_refuses_what_it_cannot_show() -> None:
    model = Model(find_robot("so101"))
    with pytest.raises(ConfigError, match=r"body 'cube' of robot 'so101' cannot feel it.*simple=\"false\""):
        model.nominal("body/cube/com_x")


def test_what_changes_no_motion_is_no_target() -> None:
    """A planar pendulum does not feel its mass moved along the axle; the sleeve bearing of MuJoCo has no friction."""
    model = Model(find_robot("simple_pendulum"))
    assert "body/pendulum/com_x" in model.available() and "body/pendulum/com_y" not in model.available()
    with pytest.raises(ConfigError, match="cannot feel it"):
        model.nominal("body/pendulum/com_y")


def test_only_geoms_that_decide_a_contact_have_friction() -> None:
    model = Model(find_robot("so101"))
    frictions = model.objects(("geom", "friction"))
    assert {"cube", "table", "fixed_pad"} <= set(frictions)
    assert "base" not in frictions, "it stands still, and the cube that it can touch has priority"
    assert model.objects(("geom", "rolling")) == ()
    assert Model(find_robot("simple_pendulum")).objects(("geom", "friction")) == ()


def test_bumps_are_hidden_until_they_are_raised() -> None:
    model = Model(find_robot("quadruped"))
    g, field = model.mj.geom("terrain").id, model.mj.geom("terrain").dataid[0]
    assert model.mj.geom_pos[g, 2] + model.mj.hfield_size[field, 2] == pytest.approx(-0.01)
    assert model.mj.hfield_data.min() == 0.0 and model.mj.hfield_data.max() == 1.0


def test_draws_do_not_pile_up_over_a_thousand_resets() -> None:
    """The last of 1,000 sets leaves what a fresh plant has after that set alone, bit for bit; so for every field."""
    rng, model = np.random.default_rng(0), Model(find_robot("so101"))
    used, fresh = Plant(model, 3, nthread=1), Plant(Model(find_robot("so101")), 3, nthread=1)
    names = [n for n in model.available() if TARGETS[split(n)[0]].write is not None and rng.random() < 0.3]
    nominal = np.array([model.nominal(n) for n in names])
    values: dict[str, Array] = {}
    for _ in range(1000):
        some = rng.random(len(names)) < 0.1
        drawn = nominal * rng.uniform(0.9, 1.0, (3, len(names)))
        values = {n: drawn[:, i] for i, n in enumerate(names) if some[i]}
        used.set(values)
    fresh.set(values)
    for name in fresh.batch._expanded:
        np.testing.assert_array_equal(used.batch.expand(name), fresh.batch.expand(name), err_msg=name)
    used.set({})
    same_fields(used.batch.get_model(2), model.mj)


def test_quaternions_and_rotations_invert_each_other() -> None:
    q = np.random.default_rng(0).normal(size=(500, 4))
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    r = rotation(q)
    np.testing.assert_allclose(r @ np.swapaxes(r, 1, 2), np.tile(np.eye(3), (500, 1, 1)), atol=1e-14)
    np.testing.assert_allclose(np.abs((quaternion(r) * q).sum(axis=1)), 1.0, atol=1e-14)
    reference = np.zeros(9)
    mujoco.mju_quat2Mat(reference, q[0])
    np.testing.assert_allclose(r[0].ravel(), reference, atol=1e-15)


@pytest.mark.parametrize("robot", ROBOTS)
def test_every_target_can_be_set_and_read_back(robot: str) -> None:
    model = Model(find_robot(robot))
    plant = Plant(model, 2, nthread=1)
    for name in model.available():
        nominal = model.nominal(name)
        probe = TARGETS[split(name)[0]].probes(nominal)[0]
        assert probe != nominal
        plant.set({name: np.array([probe, nominal])})
        np.testing.assert_array_equal(plant.values[name], [probe, nominal])


def test_outer_targets_stand_in_one_array_a_quantity_in_the_order_of_the_objects() -> None:
    model = Model(find_robot("so101"))
    parameters = Parameters(model, Plant(model, 4, nthread=1).batch)
    noise, column = parameters.outer["body", "force_x"], model.objects(("body", "force_x")).index("gripper")
    ids = np.array([2, 0], dtype=np.intp)
    parameters.set({"body/gripper/force_x": np.array([3.0, -1.0])}, ids)
    np.testing.assert_array_equal(noise[:, column], [-1.0, 0.0, 3.0, 0.0])
    parameters.set({}, ids[:1])
    np.testing.assert_array_equal(noise[:, column], [-1.0, 0.0, 0.0, 0.0])
    assert parameters.outer["body", "force_x"] is noise

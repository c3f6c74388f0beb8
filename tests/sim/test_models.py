"""The shipped robots against the published figures: kinematics, gravity torques, masses, servos that hold and stand."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import numpy.typing as npt
import pytest

from robot.config import shipped
from sim.model import Model, find_robot

Array = npt.NDArray[np.float64]

ROBOTS = sorted(p.stem for p in (shipped() / "robot").glob("*.yaml"))

# q (pan, lift, elbow, wrist_flex, wrist_roll, gripper), tool position [m], tool quaternion, gravity torques [N m]
SO101 = [
    (
        (0, 0, 0, 0, 0, 0),
        (0.39136, -0.00001, 0.22647),
        (0.9997, 0.02434, 0, 0),
        (0, -0.5386, -0.4527, -0.1171, 0, 0.0035),
    ),
    (
        (0.5, 0, 0, 0, 0, 0),
        (0.34820, -0.16902, 0.22647),
        (0.96863, 0.02358, -0.00602, -0.24733),
        (0, -0.5386, -0.4527, -0.1171, 0, 0.0035),
    ),
    (
        (0, 0.5, 0, 0, 0, 0),
        (0.40460, -0.00001, 0.05858),
        (0.96863, 0.02358, 0.24733, -0.00602),
        (0, -0.6726, -0.4044, -0.1039, 0, 0.0030),
    ),
    (
        (0, 0, 0.5, 0, 0, 0),
        (0.35406, -0.00001, 0.08579),
        (0.96863, 0.02358, 0.24733, -0.00602),
        (0, -0.4903, -0.4044, -0.1039, 0, 0.0030),
    ),
    (
        (0, 0, 0, 0.5, 0, 0),
        (0.36808, -0.00001, 0.15110),
        (0.96863, 0.02358, 0.24733, -0.00602),
        (0, -0.5254, -0.4395, -0.1039, 0, 0.0030),
    ),
    (
        (0, 0, 0, 0, 0.5, 0),
        (0.39136, -0.00382, 0.22736),
        (0.97465, -0.22375, 0, 0),
        (0, -0.5386, -0.4527, -0.1171, -0.0012, 0.0032),
    ),
    (
        (0, -1.2, 1.2, 0.6, 0.3, 0.5),
        (0.23649, -0.00235, 0.09251),
        (0.94780, -0.11973, 0.29319, 0.03704),
        (0, -0.0905, -0.4342, -0.0986, -0.0010, 0.0034),
    ),
    (
        (0.7, -0.4, 0.9, -0.5, 1.1, 0.2),
        (0.25792, -0.19387, 0.16734),
        (0.81255, -0.47136, 0.17206, -0.29660),
        (0, -0.3400, -0.4175, -0.1170, -0.0028, 0.0017),
    ),
]


def at_pose(name: str, position: Array | None = None) -> tuple[Model, mujoco.MjData]:
    """A robot's model and its data with the joints at `position` (default: the spec's pose)."""
    model = Model(find_robot(name))
    data = mujoco.MjData(model.mj)
    data.qpos[model.qpos_index] = model.spec.default_pose if position is None else position
    data.ctrl[model.ctrl_index] = data.qpos[model.qpos_index]
    mujoco.mj_forward(model.mj, data)
    return model, data


def step(model: Model, data: mujoco.MjData, seconds: float) -> None:
    mujoco.mj_step(model.mj, data, round(seconds / model.mj.opt.timestep))


@pytest.mark.parametrize(("q", "place", "quaternion", "torque"), SO101)
def test_so101_has_the_published_kinematics_and_gravity_torques(
    q: tuple[float, ...], place: tuple[float, ...], quaternion: tuple[float, ...], torque: tuple[float, ...]
) -> None:
    model, data = at_pose("so101", np.array(q))
    found = np.zeros(4)
    mujoco.mju_mat2Quat(found, data.site("gripperframe").xmat)
    assert np.allclose(data.site("gripperframe").xpos, place, atol=6e-6)
    assert np.allclose(found, quaternion, atol=6e-6)
    assert np.allclose(data.qfrc_bias[model.dof_index], torque, atol=6e-5)


def test_so101_has_the_published_mass() -> None:
    model, _ = at_pose("so101")
    assert model.mj.body("base").subtreemass[0] == pytest.approx(0.632006, abs=1e-9)


def test_so101_pads_are_parallel_and_40_mm_apart_at_046_rad() -> None:
    model, data = at_pose("so101", np.array([0, 0, 0, 0, 0, 0.46]))
    mj = model.mj
    gap = mujoco.mj_geomDistance(mj, data, mj.geom("fixed_pad").id, mj.geom("moving_pad").id, 1.0, None)
    assert gap == pytest.approx(0.040, abs=5e-4)
    turned = data.geom("fixed_pad").xmat.reshape(3, 3).T @ data.geom("moving_pad").xmat.reshape(3, 3)
    assert np.allclose(np.abs(turned).max(axis=0), 1.0, atol=1e-3)


def test_so101_grips_the_cube_and_lifts_it() -> None:
    model, data = at_pose("so101", np.array([0, 0, 0, np.pi / 2, 0, 0.5]))
    # stand the cube where the jaws close: the arm goes down to it first
    low = np.array([0, 0.45, 0.25, np.pi / 2 - 0.7, 0, 0.5])
    data.qpos[model.qpos_index] = data.ctrl[model.ctrl_index] = low
    mujoco.mj_forward(model.mj, data)
    cube = model.mj.joint("cube").qposadr[0]
    data.qpos[cube : cube + 7] = [*data.site("grasp").xpos[:2], 0.0175, 1, 0, 0, 0]
    data.ctrl[5] = -0.1
    step(model, data, 1.0)
    for share in np.linspace(0, 1, 40):
        data.ctrl[1] = low[1] - 0.6 * share
        step(model, data, 0.05)
    step(model, data, 1.0)
    assert data.qpos[cube + 2] > 0.0175 + 0.05


def test_so101_rests_without_touching_anything_and_holds_its_pose() -> None:
    model, data = at_pose("so101")
    step(model, data, 3.0)
    touching = {model.mj.geom(g).name for c in data.contact for g in c.geom}
    assert touching == {"cube", "table"}
    assert np.abs(data.qpos[model.qpos_index] - model.spec.default_pose).max() < 0.05  # droop of 0.54 N m / 17.8
    assert np.abs(data.qvel).max() < 1e-2


def test_so101_sees_the_cube_in_front_and_its_jaws_from_the_wrist() -> None:
    model, data = at_pose("so101")
    assert {c.name for c in model.spec.cameras} == {"wrist", "front"}
    assert in_view(model, data, "front", data.body("cube").xpos)
    assert in_view(model, data, "front", data.site("grasp").xpos)
    assert in_view(model, data, "wrist", data.site("grasp").xpos)


def in_view(model: Model, data: mujoco.MjData, camera: str, point: Array) -> bool:
    """Whether a point [m] projects into a square image of the camera."""
    local = data.cam(camera).xmat.reshape(3, 3).T @ (point - data.cam(camera).xpos)
    half = np.tan(np.radians(model.mj.cam(camera).fovy[0]) / 2)
    return bool(local[2] < 0 and np.abs(local[:2]).max() < half * -local[2])


def test_quadruped_has_the_published_mass_feet_and_inertia() -> None:
    model, _ = at_pose("quadruped")
    data = mujoco.MjData(model.mj)
    mujoco.mj_resetDataKeyframe(model.mj, data, 0)
    data.qpos[2] = 0.27
    mujoco.mj_forward(model.mj, data)
    assert model.mj.body("trunk").subtreemass[0] == pytest.approx(12.7434, abs=1e-4)
    for leg, x, y in (("FR", 1, -1), ("FL", 1, 1), ("RR", -1, -1), ("RL", -1, 1)):
        foot = data.geom(f"{leg}_foot").xpos
        assert np.allclose(foot, (0.1881 * x, 0.12675 * y, 0.0052), atol=1e-4)
        assert np.allclose(model.mj.body(f"{leg}_hip").inertia, (0.000734064, 0.000468438, 0.000398719))
        assert np.allclose(model.mj.body(f"{leg}_thigh").inertia, (0.00478717, 0.00460903, 0.000709268))
    assert np.allclose(model.mj.body("trunk").inertia, (0.0716565, 0.0630105, 0.0168101))


def test_quadruped_is_mirrored() -> None:
    """Left and right, front and rear hips: mirrored inertia tensors in the trunk's axes."""
    mj = at_pose("quadruped")[0].mj

    def tensor(body: str) -> Array:
        turn = np.zeros(9)
        mujoco.mju_quat2Mat(turn, mj.body(body).iquat)
        turn = turn.reshape(3, 3)
        return np.asarray(turn @ np.diag(mj.body(body).inertia) @ turn.T)

    side, front = np.diag([1.0, -1.0, 1.0]), np.diag([-1.0, 1.0, 1.0])
    assert np.allclose(tensor("FR_hip"), side @ tensor("FL_hip") @ side, atol=1e-9)
    assert np.allclose(tensor("RL_hip"), front @ tensor("FL_hip") @ front, atol=1e-9)
    assert np.allclose(tensor("FR_thigh"), side @ tensor("FL_thigh") @ side, atol=1e-9)
    assert np.allclose(mj.body("RR_hip").ipos, front @ side @ mj.body("FL_hip").ipos)


def test_quadruped_stands_for_five_seconds() -> None:
    model, data = at_pose("quadruped")
    mujoco.mj_resetDataKeyframe(model.mj, data, 0)
    step(model, data, 5.0)
    touching = {model.mj.geom(c.geom[1]).name for c in data.contact}
    assert touching == {"FR_foot", "FL_foot", "RR_foot", "RL_foot"}
    assert data.contact.dist.min() > -0.002
    assert 0.22 < data.qpos[2] < 0.29
    assert np.degrees(np.arccos(data.body("trunk").xmat[8])) < 5.0
    weight = sum(data.sensor(f"{leg}_touch").data[0] for leg in ("FR", "FL", "RR", "RL"))
    assert weight == pytest.approx(12.7434 * 9.81, rel=0.02)
    assert np.linalg.norm(data.sensor("imu_accel").data) == pytest.approx(9.81, rel=0.02)


def test_quadruped_stands_on_its_terrain_once_that_is_raised() -> None:
    model, data = at_pose("quadruped")
    mj = model.mj
    mj.hfield_data[:] = 1.0
    mj.geom("terrain").pos[2] = 0.05 - mj.hfield_size[0, 2]  # 5 cm above the floor
    mujoco.mj_setConst(mj, mujoco.MjData(mj))
    mujoco.mj_resetDataKeyframe(mj, data, 0)
    data.qpos[2] += 0.05
    step(model, data, 2.0)
    assert {mj.geom(c.geom[0]).name for c in data.contact} == {"terrain"}
    assert min(data.geom(f"{leg}_foot").xpos[2] for leg in ("FR", "FL", "RR", "RL")) == pytest.approx(0.073, abs=2e-3)


def test_servo_bench_holds_its_load_where_the_gain_lets_it() -> None:
    model, data = at_pose("servo_bench")
    data.ctrl[0] = 1.26
    step(model, data, 4.0)
    droop = 1.26 - data.qpos[0]
    assert abs(0.830949 * droop - 0.49 * 9.81 * 0.1 * np.sin(data.qpos[0])) < 0.0135  # within the dry friction


def test_motor_bench_turns_at_the_published_speed() -> None:
    model, data = at_pose("motor_bench")
    data.ctrl[0] = 0.25
    step(model, data, 0.2)
    assert data.qvel[0] / (2 * np.pi) == pytest.approx(4.506, abs=0.01)


@pytest.mark.parametrize("name", ROBOTS)
def test_spec_and_mjcf_of_a_robot_agree(name: str) -> None:
    model = Model(find_robot(name))
    mj, spec = model.mj, model.spec
    for actuator, i in zip(spec.actuators, model.ctrl_index, strict=True):
        joint = mj.joint(int(mj.actuator_trnid[i, 0])).name
        assert actuator.joint == joint
        if actuator.kind == "position_pd":
            assert mj.actuator_gainprm[i, 0] == actuator.kp == -mj.actuator_biasprm[i, 1]
            assert -mj.actuator_biasprm[i, 2] == actuator.kd
            assert mj.actuator_forcerange[i].tolist() == [-actuator.effort_limit, actuator.effort_limit]
    for joint_spec in spec.joints:
        joint_id = mj.joint(joint_spec.name).id
        if mj.jnt_limited[joint_id]:
            assert joint_spec.position_limits == tuple(mj.jnt_range[joint_id])
    for camera in spec.cameras:
        assert mj.cam(camera.name).fovy[0] == camera.fovy_deg
    substeps = spec.control_period_s / model.robot.model.timestep_s
    assert substeps == pytest.approx(round(substeps))


def test_models_are_of_primitives_alone() -> None:
    for path in (Path(__file__).parents[2] / "sim" / "models").iterdir():
        assert path.suffix in (".xml", ".py") or path.name == "__pycache__"
        if path.suffix == ".xml":
            assert mujoco.MjModel.from_xml_path(str(path)).nmesh == 0

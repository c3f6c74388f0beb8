"""Robots derived from model files: they move as the file does, and what cannot be driven is refused with the reason.

Tolerances are those of the six digits that MuJoCo writes into an edited copy.
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import mujoco
import numpy as np
import pytest

from robot.config import ConfigError
from sim.mjcf import derive, robot_of, write
from sim.model import Model, find_robot
from sim.plant import Plant

ARM = """
<mujoco model="Two Link">
  <compiler angle="radian"/>
  <option timestep="0.004"/>
  <worldbody>
    <camera name="overhead" pos="0 0 2" resolution="64 48" fovy="50"/>
    <camera name="chase" mode="trackcom" pos="0 -2 0"/>
    <body>
      <joint name="lift" axis="0 1 0" range="0.2 2" limited="true" damping="0.2"/>
      <geom type="capsule" size=".02" fromto="0 0 0 .3 0 0"/>
      <site name="imu"/>
      <body name="fore/arm" pos=".3 0 0">
        <joint name="bend" axis="0 1 0" damping="0.1"/>
        <geom type="capsule" size=".02" fromto="0 0 0 .2 0 0"/>
        <body name="jaw" pos=".2 0 0">
          <joint name="grip" type="slide" axis="1 0 0" range="0 .05" limited="true" damping="1"/>
          <geom type="box" size=".01 .01 .01" pos=".02 0 0"/>
        </body>
      </body>
    </body>
    <body name="ball" pos="1 0 1"><freejoint/><geom size=".03"/></body>
  </worldbody>
  <actuator>
    <motor joint="lift" gear="-5" ctrlrange="-1 2" ctrllimited="true"/>
    <general name="servo" joint="bend" gainprm="0.5" biastype="affine" biasprm="0 -40 -2" gear="2"
             ctrlrange="-100 100" ctrllimited="true" forcerange="-3 3" forcelimited="true"/>
    <velocity name="grip" joint="grip" kv="8" ctrlrange="-1 1" ctrllimited="true"/>
  </actuator>
  <sensor><gyro name="my_gyro" site="imu"/></sensor>
  <keyframe><key name="home" qpos="0.5 0.1 0.02 1 0 1 1 0 0 0"/></keyframe>
</mujoco>
"""

URDF = """
<robot name="pole">
  <link name="base"/>
  <link name="rod"><inertial><mass value="1"/><origin xyz="0 0 -0.5"/>
    <inertia ixx="0.1" iyy="0.1" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <joint name="hinge" type="revolute"><parent link="base"/><child link="rod"/><axis xyz="0 1 0"/>
    <limit lower="-2" upper="2" effort="7" velocity="9"/></joint>
</robot>
"""


def save(folder: Path, text: str, name: str = "file.xml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def with_actuators(actuators: str, joint: str = '<joint name="j" axis="0 1 0"/>') -> str:
    """A model of one body on `joint`."""
    body = f'<body name="b">{joint}<geom size=".1" pos=".2 0 0"/><site name="s"/></body>'
    tendon = '<tendon><fixed name="t"><joint joint="j" coef="1"/></fixed></tendon>' if 'tendon="t"' in actuators else ""
    return f"<mujoco><worldbody>{body}</worldbody>{tendon}<actuator>{actuators}</actuator></mujoco>"


def test_everything_that_the_file_says_is_in_the_spec(tmp_path: Path) -> None:
    spec = derive(save(tmp_path, ARM)).config.spec
    assert spec.name == "two_link"
    assert spec.joint_names == ("lift", "bend", "grip")
    assert [j.unit for j in spec.joints] == ["rad", "rad", "m"]
    assert spec.joints[0].position_limits == (0.2, 2.0)
    assert np.isinf(spec.joints[1].position_limits).all()
    assert spec.default_pose.tolist() == [0.5, 0.1, 0.02]
    assert [a.kind for a in spec.actuators] == ["torque", "position_pd", "velocity"]
    assert spec.actuators[0].effort_limit == 10.0  # 2 x gear 5
    assert (spec.actuators[1].kp, spec.actuators[1].kd, spec.actuators[1].effort_limit) == (160.0, 8.0, 6.0)
    assert spec.actuators[2].kd == 8.0
    assert [(c.name, c.width, c.height, c.fovy_deg) for c in spec.cameras] == [("overhead", 64, 48, 50.0)]
    assert [s.signal for s in spec.sensors] == ["joint.position", "joint.velocity", "imu.gyro"]


def test_every_guess_and_every_change_is_said(tmp_path: Path) -> None:
    text = "\n".join(derive(save(tmp_path, ARM)).guesses)
    for piece in ("fore_arm", "-5 N m", "chase", "imu.gyro", "no speed limit", "control period", "joint_3"):
        assert piece in text
    assert "Actuators grip: no force limit is stated" in text


def test_the_edited_model_moves_as_the_file_does(tmp_path: Path) -> None:
    path = save(tmp_path, ARM)
    old, model = mujoco.MjModel.from_xml_path(str(path)), Model(robot_of(path))
    unit = np.array([-5.0, 0.5 / (40 * 2), 1.0])  # motor: gain x gear; servo: gain / (40 x gear); velocity: none
    rng = np.random.default_rng(0)
    for _ in range(20):
        before, after = mujoco.MjData(old), mujoco.MjData(model.mj)
        before.qpos[:3] = after.qpos[:3] = rng.uniform([0.2, -3, 0], [2, 3, 0.05])
        before.qvel[:3] = after.qvel[:3] = rng.normal(size=3)
        before.ctrl = rng.uniform(-3, 3, 3) * [1, 30, 1]  # beyond the ranges too
        after.ctrl[model.ctrl_index] = before.ctrl * unit
        mujoco.mj_forward(old, before)
        mujoco.mj_forward(model.mj, after)
        assert np.allclose(before.qacc, after.qacc, rtol=1e-4, atol=1e-3)


@pytest.mark.filterwarnings("ignore:compiler attribute 'settotalmass'")
@pytest.mark.parametrize("path", sorted((Path(str(resources.files("gymnasium"))) / "envs/mujoco/assets").glob("*.xml")))
def test_gymnasiums_models_become_robots_that_move_as_before(path: Path) -> None:
    old, model = mujoco.MjModel.from_xml_path(str(path)), Model(robot_of(path))
    before, after = mujoco.MjData(old), mujoco.MjData(model.mj)
    share = np.random.default_rng(1).uniform(-1, 1, old.nu)
    before.ctrl = share * old.actuator_ctrlrange[:, 1]
    after.ctrl = share * model.mj.actuator_ctrlrange[:, 1]
    assert [model.mj.actuator(i).trnid[0] for i in range(old.nu)] == old.actuator_trnid[:, 0].tolist()
    mujoco.mj_step(old, before, 10)
    mujoco.mj_step(model.mj, after, 10)
    assert np.allclose(before.qpos, after.qpos, rtol=0, atol=2e-5)


def test_a_written_robot_is_found_by_its_file_and_runs(tmp_path: Path) -> None:
    derived = derive(save(tmp_path, ARM))
    path = write(derived, tmp_path / "out")
    robot = find_robot(path)
    assert robot.spec == derived.config.spec
    assert derived.guesses[0] in path.read_text()
    plant = Plant(Model(robot), 2)
    rest = np.tile(robot.spec.default_pose, (2, 1))
    plant.reset(rest, np.zeros((2, 3)))
    plant.step(plant.rest_command(rest))
    assert np.isfinite(plant.position).all()


def test_a_file_that_needs_no_change_is_used_as_it_is() -> None:
    path = Path(str(resources.files("sim"))) / "models" / "so101.xml"
    derived, shipped = robot_of(path), find_robot("so101")
    assert derived.model.mjcf == str(path)
    assert derived.spec.actuators == tuple(
        type(a)(name=a.name, joint=a.joint, kind=a.kind, effort_limit=a.effort_limit, kp=a.kp, safe_action="hold")
        for a in shipped.spec.actuators
    )
    assert [j.position_limits for j in derived.spec.joints] == [j.position_limits for j in shipped.spec.joints]


def test_a_urdf_gets_motors_and_its_own_limits(tmp_path: Path) -> None:
    spec = robot_of(save(tmp_path, URDF, "pole.urdf")).spec
    assert [(a.kind, a.effort_limit) for a in spec.actuators] == [("torque", 7.0)]
    assert (spec.joints[0].velocity_limit, spec.joints[0].position_limits) == (9.0, (-2.0, 2.0))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (with_actuators('<motor name="a" tendon="t"/>'), "'a' drives a tendon"),
        (with_actuators('<muscle name="a" joint="j" lengthrange="0 1"/>'), "a muscle"),
        (with_actuators('<intvelocity name="a" joint="j" kp="1" actrange="-1 1"/>'), "'integrator'"),
        (with_actuators('<motor name="a" site="s" gear="1 0 0 0 0 0"/>'), "'a' drives a site"),
        (with_actuators('<motor name="a" joint="j"/><motor name="b" joint="j"/>'), "two actuators, 'a' and 'b'"),
        (with_actuators('<motor name="a" joint="j"/>', '<joint name="j" type="ball"/>'), "no hinge or slide"),
        (with_actuators(""), "no actuators, and joint 'j' states no force limit"),
        (with_actuators("", '<freejoint name="f"/>'), "no hinge or slide joint"),
        ("<mujoco><worldbody><body/></mujoco>", "MuJoCo cannot load it"),
    ],
)
def test_what_cannot_be_driven_is_refused_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        derive(save(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        derive(tmp_path / "none.xml")


def test_third_party_files_become_robots_or_are_refused() -> None:
    """TERRAFIRMA_WHEELS names a folder of unpacked wheels that carry robot models."""
    folder = os.environ.get("TERRAFIRMA_WHEELS")
    if not folder:
        pytest.skip("TERRAFIRMA_WHEELS names no folder of unpacked wheels with MJCFs (pip download --no-deps, unzip)")
    paths = sorted(p for p in Path(folder).rglob("*") if p.suffix in (".xml", ".urdf"))
    assert paths, f"{folder} has no .xml or .urdf below it"
    robots = 0
    for path in paths:
        try:
            robot = robot_of(path)
        except ConfigError as refused:
            assert str(path) in str(refused) and len(str(refused)) > len(str(path)) + 20
            continue
        robots += 1
        Model(robot)
    assert robots

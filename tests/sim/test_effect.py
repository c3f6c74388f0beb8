"""Every target that a robot has does something to it, and the measure of that sees nothing where nothing is."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from robot import cli
from robot.config import ConfigError
from sim import targets
from sim.effect import Effect, Rig, effects, needed, survey
from sim.laws import Normal, Point, Uniform
from sim.model import TARGETS, Model, RobotConfig, SimConfig, find_robot
from sim.randomization import Randomization, Term

ROBOTS = (
    "simple_pendulum", "double_pendulum_a0", "double_pendulum_c1", "servo_bench", "motor_bench", "so101", "quadruped",
)  # fmt: skip
OUT_OF_REACH = {"so101": {"upper_arm", "upper_arm_motor"}}
"""Geoms whose joints' limits keep them from all that they could touch; nothing but a search can tell."""


def measured(rig: Rig, target: str) -> Effect:
    """The effect at the first valid value that shows one."""
    found = [rig.effect(target, [v], needed(rig.model, target)) for v in probes(rig, target)]
    return max(found, key=lambda e: e.standardized)


def probes(rig: Rig, target: str) -> tuple[float, ...]:
    return TARGETS[targets.split(target)[0]].probes(rig.model.nominal(target))


@pytest.mark.parametrize("robot", ROBOTS)
def test_every_applicable_target_has_an_effect(robot: str) -> None:
    """Of each quantity one object, another one in each robot; `terrafirma doctor robot=R dr=null` tries them all."""
    found = survey(find_robot(robot), one_each=True)
    assert len(found) > 60
    idle = [e.target for e in found if not e.felt and e.target.split("/")[1] not in OUT_OF_REACH.get(robot, set())]
    assert not idle, f"targets without effect: {idle}"


def test_every_target_applies_to_some_shipped_robot() -> None:
    """All but rolling friction: none of these robots has a contact of six dimensions, and a wheel is made below."""
    models = [Model(find_robot(r)) for r in ROBOTS]
    assert [key for key in TARGETS if not any(m.objects(key) for m in models)] == [("geom", "rolling")]


WHEEL = """
<mujoco>
  <option timestep="0.002"/>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 1"/>
    <camera name="side" pos="0 -1 0.1" xyaxes="1 0 0 0 0 1"/>
    <body name="arm" pos="0 0 1"><joint name="shoulder" axis="0 1 0"/><geom size="0.01" pos="0 0 1" mass="0.1"/></body>
    <body name="ball" pos="0.5 0 0.05" simple="false">
      <freejoint name="ball"/><geom name="ball" type="sphere" size="0.05" mass="0.2" condim="6"/>
    </body>
  </worldbody>
  <actuator><motor name="shoulder" joint="shoulder"/></actuator>
</mujoco>"""


def test_a_ball_rolls_with_friction_and_feels_where_its_mass_is() -> None:
    """What no shipped robot has: contacts of six dimensions, and a loose body that is not compiled as simple."""
    plain = find_robot("simple_pendulum")
    rig = Rig(dataclasses.replace(plain, model=SimConfig(mjcf=WHEEL)))
    assert rig.model.objects(("geom", "rolling")) == ("floor", "ball")
    for target in ("geom/ball/rolling", "geom/ball/torsional", "body/ball/com_x", "body/ball/shear_xy"):
        assert measured(rig, target).felt, target


def test_nothing_is_seen_without_a_camera_and_stiffness_of_its_own_is_no_time_constant() -> None:
    """As many third-party files have it: a survey of such a robot ends well."""
    blind = WHEEL.replace('<camera name="side" pos="0 -1 0.1" xyaxes="1 0 0 0 0 1"/>', "")
    stiff = blind.replace('size="5 5 1"', 'size="5 5 1" solref="-1000 -10"')
    plain = find_robot("simple_pendulum")
    robot = RobotConfig(spec=dataclasses.replace(plain.spec, cameras=()), model=SimConfig(mjcf=stiff))
    found = {e.target for e in survey(robot, one_each=True)}
    assert "geom/floor/contact_time" not in found and not [t for t in found if t.split("/")[0] in ("camera", "light")]
    assert Model(robot).objects(("geom", "contact_time")) == ("ball",)


@pytest.mark.parametrize("target", ["body/pendulum/mass", "joint/shoulder/damping"])
def test_a_target_that_writes_nothing_is_found_out(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key, _ = targets.split(target)
    idle = dataclasses.replace(TARGETS[key], write=lambda batch, model, name, ids, values: None)
    rig = Rig(find_robot("simple_pendulum"))
    assert measured(rig, target).felt
    monkeypatch.setitem(TARGETS, key, idle)
    rig = Rig(find_robot("simple_pendulum"))
    assert measured(rig, target).standardized == 0.0 and not measured(rig, target).felt


def test_an_effect_says_in_units_what_it_is() -> None:
    """A sensor's offset of 0.1 rad is a reading that is 0.1 rad off, and nothing else."""
    rig = Rig(find_robot("servo_bench"))
    found = rig.effect("sensor/servo/offset", [0.1], {})
    assert (found.signal, found.unit) == ("reading of joint.position", "rad")
    resolution = rig.spec.sensor("joint.position").resolution
    assert found.difference == pytest.approx(0.1, abs=resolution)


def test_measuring_twice_gives_the_same() -> None:
    rig = Rig(find_robot("so101"))
    for target in ("sensor/joint.position/noise", "body/gripper/push", "geom/cube/friction"):
        first = measured(rig, target)
        measured(rig, "body/gripper/mass")
        assert measured(rig, target) == first


def prior(*terms: Term, robot: str = "double_pendulum_c1") -> Randomization:
    return Randomization(name="prior", robot=robot, terms=terms)


def test_a_term_is_measured_among_draws_of_the_others() -> None:
    """Without friction its Stribeck velocity is nothing; with a term of friction beside it, it is something."""
    velocity = Term(targets=("joint/elbow/stribeck_velocity",), law=Uniform(low=0.1, high=3.0))
    friction = Term(targets=("joint/elbow/stribeck_friction",), law=Uniform(low=0.05, high=0.15))
    robot = find_robot("double_pendulum_c1")
    assert [e.felt for e in effects(robot, prior(velocity))] == [False]
    assert [e.felt for e in effects(robot, prior(velocity, friction))] == [True, True]


def test_both_ends_of_a_law_are_tried() -> None:
    term = Term(targets=("world/gravity/tilt_x",), law=Normal(mean=0.0, sd=0.05))
    (found,) = effects(find_robot("double_pendulum_c1"), prior(term))
    low, high = found.changed
    assert -0.2 < low < -0.05 and 0.05 < high < 0.2 and found.felt


def test_a_target_that_the_robot_lacks_is_refused_by_name() -> None:
    term = Term(targets=("joint/wrist/damping",), law=Point(values=(0.1,)))
    with pytest.raises(ConfigError, match="no joint 'wrist'"):
        effects(find_robot("double_pendulum_c1"), prior(term))


def test_doctor_prints_each_term_and_ends_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["doctor", "robot=simple_pendulum", "dr=simple_pendulum_default", f"out={tmp_path}"]
    assert cli.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == str(tmp_path / "result.json")
    assert lines[1].split()[:5] == ["body/pendulum/mass", "0.6755", *lines[1].split()[2:5]] and " sd)" in lines[1]
    result = json.loads((tmp_path / "result.json").read_text())
    assert all(c["ok"] for c in result["checks"]) and len(result["terms"]) == 6
    assert all(np.isfinite(t["standardized"]) and t["standardized"] > 1e-3 for t in result["terms"])


def test_doctor_without_a_randomization_tries_what_the_robot_has(tmp_path: Path) -> None:
    assert cli.main(["doctor", "robot=motor_bench", "dr=null", "quick=true", f"out={tmp_path}"]) == 0
    names = [c["name"] for c in json.loads((tmp_path / "result.json").read_text())["checks"]]
    assert {"motor/motor/torque_constant", "camera/side/fovy", "timing/command/delay"} <= set(names)


def test_doctor_refuses_a_term_that_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        "name: idle\nterms:\n"
        "  - {targets: [body/pendulum/push_rate], law: {kind: uniform, low: 0.1, high: 2.0}}\n"
        "  - {targets: [body/pendulum/mass], how: scale, law: {kind: uniform, low: 0.9, high: 1.1}}\n"
    )
    (tmp_path / "idle.yaml").write_text(text)
    words = ["doctor", "robot=simple_pendulum", f"posterior={tmp_path / 'idle.yaml'}", f"out={tmp_path / 'out'}"]
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert (
        "body/pendulum/push_rate does nothing to robot 'simple_pendulum'; it is felt together with push" in captured.err
    )
    checks = json.loads((tmp_path / "out" / "result.json").read_text())["checks"]
    assert [c["ok"] for c in checks] == [False, True]

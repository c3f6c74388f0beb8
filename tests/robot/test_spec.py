"""RobotSpec: consistency of what a robot file says, its fingerprint, and where robots are found."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from robot import config
from robot.config import ConfigError
from robot.spec import ActuatorSpec, JointSpec, RobotSpec, SensorSpec, find_robot, load_spec


def test_shipped_robots_load_by_name() -> None:
    spec = load_spec("simple_pendulum")
    assert spec.name == "simple_pendulum"
    np.testing.assert_array_equal(spec.effort_limits, [1.5])
    assert load_spec(find_robot("double_pendulum_c1")).joint_names == ("shoulder", "elbow")


def test_unknown_robot_lists_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"'simple_pendulun' is unknown.*Did you mean 'simple_pendulum'"):
        load_spec("simple_pendulun")


def test_robot_file_needs_no_simulator_part_but_a_spec(tmp_path: Path, two_link: RobotSpec) -> None:
    path = tmp_path / "mine.yaml"
    config.save(path, {"spec": two_link})
    assert load_spec(path) == two_link
    path.write_text("model: {}")
    with pytest.raises(ConfigError, match="has no `spec:`"):
        load_spec(path)


def test_fingerprint_survives_yaml_and_tells_specs_apart(two_link: RobotSpec) -> None:
    again = config.convert(RobotSpec, config.parse_yaml(config.dump_yaml(two_link), "x"))
    assert again == two_link and again.fingerprint() == two_link.fingerprint()
    changed = dataclasses.replace(two_link, control_period_s=0.01 + 1e-12)
    assert changed.fingerprint() != two_link.fingerprint()
    assert len(two_link.fingerprint()) == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joints": (JointSpec(name="a", velocity_limit=1.0),) * 2}, "joint 'a' twice"),
        ({"actuators": (ActuatorSpec(name="x", joint="elbw", effort_limit=1.0),)}, "Did you mean 'elbow'"),
        ({"control_period_s": 0.0}, "above 0"),
        ({"sensors": (SensorSpec(signal="joint.position"),) * 2}, "sensor 'joint.position' twice"),
    ],
)
def test_inconsistent_spec_is_refused(two_link: RobotSpec, change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(two_link, **change)


def test_actuators_follow_the_joints(two_link: RobotSpec) -> None:
    with pytest.raises(ConfigError, match="order of the joints"):
        dataclasses.replace(two_link, actuators=two_link.actuators[::-1])


def test_pendubot_has_no_effort_on_its_passive_joint(two_link: RobotSpec) -> None:
    spec = dataclasses.replace(two_link, actuators=two_link.actuators[:1])
    np.testing.assert_array_equal(spec.effort_limits, [2.0, 0.0])
    np.testing.assert_array_equal(spec.driven, [0])


def test_part_refuses_impossible_values() -> None:
    with pytest.raises(ConfigError, match="first must be lower"):
        JointSpec(name="a", velocity_limit=1.0, position_limits=(1.0, -1.0))
    with pytest.raises(ConfigError, match="outside its limits"):
        JointSpec(name="a", velocity_limit=1.0, position_limits=(1.0, 2.0))
    with pytest.raises(ConfigError, match="finite"):
        ActuatorSpec(name="a", joint="a", effort_limit=float("inf"))
    with pytest.raises(ConfigError, match=r"Did you mean 'joint\.velocity'"):
        SensorSpec(signal="joint.velocty")

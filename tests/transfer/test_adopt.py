"""robot=mjcf path=FILE: the words are taken out, the robot and its papers are left."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot.config import ConfigError
from robot.result import Run
from sim.model import find_robot
from transfer.adopt import adopt, take_robot_file

POLE = """
<mujoco model="pole">
  <worldbody><body pos="0 0 1">
    <joint name="hinge" axis="0 1 0" damping="0.1"/><geom type="capsule" size=".02" fromto="0 0 0 0 0 -.4"/>
  </body></worldbody>
  <actuator><motor name="hinge" joint="hinge" ctrlrange="-2 2"/></actuator>
</mujoco>
"""


@pytest.fixture
def pole(tmp_path: Path) -> Path:
    path = tmp_path / "pole.xml"
    path.write_text(POLE)
    return path


def test_the_words_become_a_robot_and_other_words_stay(pole: Path) -> None:
    words, robot = take_robot_file(
        "evaluate", ["robot=mjcf", f"path={pole}", "n=3"], {"robot": "x", "dr": "other_default"}
    )
    assert words == ["n=3", "dr=null"]
    assert robot is not None and robot.spec.joint_names == ("hinge",)
    plain = ["robot=so101", "path=logs.csv"]
    assert take_robot_file("ingest", plain, {"robot": "x"}) == (plain, None)


def test_a_robots_yaml_stands_in_for_a_name(pole: Path, tmp_path: Path) -> None:
    written = adopt(pole, Run("doctor", tmp_path / "run", seed=0, budget="full", settings=None))["robot"]
    words, robot = take_robot_file("evaluate", [f"robot={written}", "n=3"], {"robot": "x"})
    assert words == ["n=3"] and robot is not None and robot.spec.joint_names == ("hinge",)


def test_ingest_has_a_path_of_its_own() -> None:
    with pytest.raises(ConfigError, match="path= of ingest are the recordings"):
        take_robot_file("ingest", ["robot=mjcf", "path=x.csv"], {"robot": "x"})


def test_without_a_path_it_says_so() -> None:
    with pytest.raises(ConfigError, match="needs path=FILE"):
        take_robot_file("evaluate", ["robot=mjcf"], {"robot": "x"})


def test_adopting_leaves_a_robot_that_can_be_used(
    pole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = adopt(pole, Run("doctor", tmp_path / "out"))
    assert find_robot(keys["robot"]).spec.actuators[0].effort_limit == 2.0
    assert all(c["ok"] for c in keys["checks"])
    assert any("speed limit" in g for g in keys["guesses"])
    assert keys["guesses"][0] in capsys.readouterr().out


def test_an_unstable_pose_is_a_failed_check(tmp_path: Path) -> None:
    path = tmp_path / "wild.xml"
    path.write_text(POLE.replace('damping="0.1"', 'damping="0.1" stiffness="-1e9" springref="0.5"'))
    checks = {c["name"]: c for c in adopt(path, Run("doctor", tmp_path / "out"))["checks"]}
    assert not checks["rest"]["ok"] and "timestep" in checks["rest"]["fix"]

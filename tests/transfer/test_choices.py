"""The robot of a policy or recording: by its name, or by the file that is given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from robot import config
from robot.config import ConfigError
from sim.model import RobotConfig, find_robot
from transfer import cli
from transfer.choices import robot_of
from transfer.stages import export, finetune


def changed(name: str = "simple_pendulum") -> RobotConfig:
    """A robot of a person's own: the pendulum with another limit, perhaps under another name."""
    robot = find_robot("simple_pendulum")
    return replace(robot, spec=replace(robot.spec, name=name, watchdog_s=0.3))


def test_a_policys_robot_is_the_one_that_is_given() -> None:
    mine = changed()
    assert robot_of(mine.spec, mine) is mine
    with pytest.raises(ConfigError, match="its configuration now is one with"):
        robot_of(mine.spec)
    with pytest.raises(ConfigError, match="robot= is 'so101' with"):
        robot_of(mine.spec, find_robot("so101"))
    with pytest.raises(ConfigError, match=r"give its file: robot=FILE\.yaml"):
        robot_of(changed("bob").spec)


@pytest.mark.parametrize("stage", [export, finetune])
def test_export_and_finetune_take_a_robots_file(tmp_path: Path, stage: object) -> None:
    name = stage.__name__.split(".")[-1]  # type: ignore[attr-defined]
    config.save(tmp_path / "bob.yaml", changed("bob"))
    converted = cli._convert(name, stage, [f"robot={tmp_path / 'bob.yaml'}", "policy=p"])
    assert converted.robot is not None and converted.robot.spec == changed("bob").spec
    assert cli._convert(name, stage, ["policy=p"]).robot is None

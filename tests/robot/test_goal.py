"""`run goal=`: where a policy is sent, which its bundle names and the command line gives."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from robot import run
from robot.config import ConfigError
from robot.spec import RobotSpec
from tests.robot.fakes import OBSERVATION, make_bundle


@pytest.fixture()
def sent(tmp_path: Path, two_link: RobotSpec) -> Path:
    """A bundle whose task has a goal of two components."""
    observation = dataclasses.replace(OBSERVATION, features=("joint_velocity", "goal"), goal=("x", "y"))
    return make_bundle(tmp_path / "sent", two_link, observation)


def options(bundle: Path, goal: tuple[float, ...] = ()) -> run.RunOptions:
    return run.RunOptions(bundle=bundle, driver="sim", seconds=1.0, goal=goal)


def test_the_goal_of_the_command_line_is_what_the_policy_sees(sent: Path) -> None:
    (controller,) = run.loaded(options(sent, (0.25, -0.1)))
    assert controller.goal is not None
    np.testing.assert_array_equal(controller.goal, [0.25, -0.1])


def test_a_goal_of_other_components_is_refused_with_their_names(sent: Path) -> None:
    with pytest.raises(ConfigError, match=r"takes \[x, y\]"):
        run.loaded(options(sent, (0.25,)))


def test_a_task_without_a_goal_takes_none(tmp_path: Path, two_link: RobotSpec) -> None:
    with pytest.raises(ConfigError, match="takes none"):
        run.loaded(options(make_bundle(tmp_path / "b", two_link), (0.25,)))

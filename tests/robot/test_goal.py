"""`run goal=`: where a policy is sent, which its bundle names and the command line gives."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from robot import run, stages
from robot.config import ConfigError
from robot.loop import ControlLoop
from robot.recorder import MemoryRecorder
from robot.safety import Safety
from robot.spec import RobotSpec
from tests.robot.fakes import OBSERVATION, FakeDriver, make_bundle


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


def test_replay_asks_for_the_goal_of_the_run(sent: Path, tmp_path: Path, two_link: RobotSpec) -> None:
    """The log knows it; with another goal the same bundle would not do the same."""
    (controller,) = run.loaded(options(sent, (0.25, -0.1)))
    spec, meta = two_link, {"goal": "0.25,-0.1"}
    recorder = MemoryRecorder("run", spec, meta)
    report = ControlLoop(controller, FakeDriver(spec), Safety(spec, 0.01), recorder).run(0.3)
    assert report.log is not None
    path = report.log.save(tmp_path / "episode.mcap")
    assert run._goal(options(sent, (0.25, -0.1))) == meta
    outcome = stages.replay(stages.ReplayOptions(log=path, bundle=sent, out=tmp_path / "out"), {})
    assert json.loads(outcome.result.read_text())["max_action_difference"] == 0.0

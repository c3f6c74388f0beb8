"""What a simulator foretells from a measured state: exact for the very robot that moved, whatever is on its way."""

from __future__ import annotations

import numpy as np
import pytest

from policies.encoders.windows import cut
from robot.config import ConfigError
from robot.observation import Observation
from sim.model import find_robot
from sim.open_loop import OpenLoop, missing
from sim.randomization import Point, Randomization, Term
from sim.tasks import load_task
from sim.vecenv import BatchedEnv
from transfer.windows import with_base

QUIET = ("sensor/joint.velocity/noise", "sensor/joint.velocity/resolution", "sensor/joint.position/resolution")


def fixed(values: dict[str, float]) -> Randomization:
    return Randomization(name="fixed", terms=(Term(targets=tuple(values), law=Point(values=tuple(values.values()))),))


def test_the_right_simulator_foretells_what_happens_and_another_does_not() -> None:
    robot, task = find_robot("double_pendulum_c1"), load_task("pendubot_swingup")
    truth = {"body/lower/mass": 0.7, "joint/elbow/frictionloss": 0.05, "timing/command/delay": 0.013}
    values = truth | dict.fromkeys(QUIET, 0.0)
    env = BatchedEnv(task, robot, fixed(values), 6, seed=0, nthread=1)
    rng, rows = np.random.default_rng(0), []
    observation, began = env.reset()["observation"], np.ones(6, dtype=bool)
    for _ in range(60):
        action = rng.uniform(-1.0, 1.0, (6, 1)).astype(np.float32)
        rows.append((observation, action, began))
        step = env.step(action)
        observation, began = step.inputs["observation"], step.done
    seen, action, start = (np.stack(column, axis=1) for column in zip(*rows, strict=True))
    windows = cut(seen, action, start, history=12, horizon=20, count=5, rng=rng)
    period = task.control_period_s
    right = with_base(windows, OpenLoop(robot, task.observation, task.action, period, truth, nthread=1))
    nominal = with_base(windows, OpenLoop(robot, task.observation, task.action, period, {}, nthread=1))
    assert right.simulator == truth and nominal.simulator == {}
    assert right.base is not None and nominal.base is not None
    np.testing.assert_allclose(right.base, windows.future, atol=5e-3)  # 32-bit angles, and friction at rest
    assert np.abs(nominal.base - windows.future).max() > 0.1
    assert right.take(np.arange(3)).base.shape == (3, 20, 7)


def test_a_state_that_is_not_observed_gives_no_base() -> None:
    robot, task = find_robot("quadruped"), load_task("quadruped_velocity")
    assert missing(robot, task.observation, task.action) == "where its base is"
    with pytest.raises(ConfigError, match="'quadruped': the observation does not show where its base is"):
        OpenLoop(robot, task.observation, task.action, task.control_period_s, {})
    arm, reach = find_robot("so101"), load_task("arm_reach")
    assert missing(arm, reach.observation, reach.action) == ""


def test_servos_are_foretold_from_where_they_stand() -> None:
    robot, task = find_robot("so101"), load_task("arm_reach")
    layout = Observation(robot.spec, task.observation, task.action)
    loop = OpenLoop(robot, task.observation, task.action, task.control_period_s, {}, nthread=1)
    still = np.zeros((2, layout.size), np.float32)  # at the default pose
    none = np.zeros((2, 3, layout.action_size), np.float32), np.zeros((2, 3), np.float32)
    foretold = loop(still, *none, np.zeros((2, 10, layout.action_size), np.float32))
    positions = [i for i, name in enumerate(layout.components) if name.startswith("position/")]
    assert foretold.shape == (2, 10, layout.size) and np.abs(foretold[..., positions]).max() < 0.05

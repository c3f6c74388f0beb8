"""Recordings become the same windows that training sees."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robot.log import Channel, EpisodeLog
from sim.model import RobotConfig, find_robot
from sim.randomization import NOMINAL
from sim.tasks import Task, load_task
from sim.vecenv import BatchedEnv
from transfer.windows import Trajectory, inputs_at, trajectory, windows_of


@pytest.fixture
def robot() -> RobotConfig:
    robot = find_robot("simple_pendulum")
    quiet = tuple(replace(s, noise=0.0, resolution=0.0) for s in robot.spec.sensors)
    return replace(robot, spec=replace(robot.spec, sensors=quiet))


@pytest.fixture
def task() -> Task:
    return load_task("pendulum_swingup")


def log_of(robot: RobotConfig, channels: dict[str, tuple[np.ndarray, np.ndarray]]) -> EpisodeLog:
    """channels: name -> (seconds, values (n,))."""
    units = {"joint.position": "rad", "joint.velocity": "rad/s", "command.effort": "N m"}
    made = {
        name: Channel(name, units[name], ("shoulder",), np.round(t * 1e9).astype(np.int64), values[:, None])
        for name, (t, values) in channels.items()
    }
    return EpisodeLog("episode", robot.spec.name, robot.spec.fingerprint(), made)


def resampled(log: EpisodeLog, robot: RobotConfig, task: Task) -> Trajectory:
    return trajectory(log, robot.spec, task.observation, task.action, task.control_period_s)


def test_a_recorded_episode_gives_back_observations_and_actions(robot: RobotConfig, task: Task) -> None:
    env = BatchedEnv(task, robot, NOMINAL, 1, seed=0, nthread=1)
    rng = np.random.default_rng(0)
    observations, actions, states = [], [], []
    inputs = env.reset()
    for _ in range(100):
        action = rng.uniform(-1, 1, (1, 1))
        observations.append(inputs["observation"][0])
        states.append((env.plant.position[0, 0], env.plant.velocity[0, 0]))
        actions.append(action[0, 0])
        inputs = env.step(action).inputs
    t = np.arange(100) * 0.01
    position, velocity = np.array(states).T
    command = np.array(actions) * task.action.scale[0]
    log = log_of(
        robot, {"joint.position": (t, position), "joint.velocity": (t, velocity), "command.effort": (t, command)}
    )
    path = resampled(log, robot, task)
    np.testing.assert_allclose(path.observation, np.array(observations)[: len(path.start)], atol=2e-6)
    np.testing.assert_allclose(path.action[:, 0], np.array(actions)[: len(path.start)], atol=1e-6)
    assert path.start.sum() == 1 and len(path.start) == 99


def test_a_recorded_episode_gives_back_what_the_policy_was_shown(robot: RobotConfig, task: Task) -> None:
    """With its history, which a gap in the recording empties as a new episode does."""
    seen = replace(task, observation=replace(task.observation, history=8))
    env = BatchedEnv(seen, robot, NOMINAL, 1, seed=0, nthread=1)
    rng = np.random.default_rng(0)
    shown, actions, states = [], [], []
    inputs = env.reset()
    for _ in range(60):
        action = rng.uniform(-1, 1, (1, 1))
        shown.append({name: value[0].copy() for name, value in inputs.items()})
        states.append((env.plant.position[0, 0], env.plant.velocity[0, 0]))
        actions.append(action[0, 0])
        inputs = env.step(action).inputs
    t = np.arange(60) * 0.01
    position, velocity = np.array(states).T
    command = np.array(actions) * task.action.scale[0]
    channels = {"joint.position": (t, position), "joint.velocity": (t, velocity), "command.effort": (t, command)}
    path = resampled(log_of(robot, channels), robot, task)
    rows = np.array([0, 3, 30, 58])
    given = inputs_at(path, 8, rows)
    assert set(given) == set(shown[0])
    for name, value in given.items():
        np.testing.assert_allclose(value, np.array([shown[t][name] for t in rows]), atol=3e-6, err_msg=name)
    keep = (t < 0.2) | (t > 0.3)
    broken = {name: (when[keep], value[keep]) for name, (when, value) in channels.items()}
    mask = inputs_at(resampled(log_of(robot, broken), robot, task), 8, np.array([10, 33]))["history_mask"]
    assert mask[0].all() and 0 < mask[1].sum() < 8


def test_faster_jittered_clocks_are_brought_to_the_control_period(robot: RobotConfig, task: Task) -> None:
    rng = np.random.default_rng(1)
    t = np.cumsum(rng.uniform(0.001, 0.003, 2000))
    switch = t[0] + 1.004  # in the middle of a control period
    command = np.where(t < switch, 0.0, 0.75)
    log = log_of(
        robot,
        {
            "joint.position": (t, np.sin(t) + 6.0 * np.pi),
            "joint.velocity": (t + 0.0004, np.cos(t + 0.0004)),
            "command.effort": (t, command),
        },
    )
    path = resampled(log, robot, task)
    at = t[0] + 0.0004 + 0.01 * np.arange(len(path.start))
    np.testing.assert_allclose(path.observation[:, 0], np.cos(np.sin(at)), atol=1e-4)
    np.testing.assert_allclose(path.observation[:, 2], np.cos(at), atol=1e-4)
    inside = np.flatnonzero((path.action[:, 0] > 0.01) & (path.action[:, 0] < 0.49))
    assert len(inside) == 1 and 0.5 * 0.4 < path.action[inside[0], 0] < 0.5 * 0.8  # the mean over the period
    assert path.action[inside[0] + 1, 0] == pytest.approx(0.5)
    np.testing.assert_allclose(path.observation[1:, 3], path.action[:-1, 0])  # previous_action


def test_windows_avoid_gaps_missing_numbers_and_commands_that_the_policy_cannot_give(
    robot: RobotConfig, task: Task
) -> None:
    t = np.arange(0.0, 4.0, 0.005)
    position = 0.1 * t
    position[100:103] = np.nan  # 15 ms: interpolated
    keep = (t < 1.5) | (t > 1.8)
    command = np.where((t > 2.5) & (t < 2.6), 3.0, 0.3)  # the policy can give 1.5 N m
    log = log_of(
        robot,
        {
            "joint.position": (t[keep], position[keep]),
            "joint.velocity": (t[keep], np.full(keep.sum(), 0.1)),
            "command.effort": (t, command),
        },
    )
    path = resampled(log, robot, task)
    assert np.isfinite(path.observation).all()
    starts = 0.01 * np.flatnonzero(path.start)
    assert starts[0] == 0.0
    assert ((starts[1:] > 1.45) & (starts[1:] < 1.85) | (starts[1:] > 2.45) & (starts[1:] < 2.65)).all()
    data = windows_of(
        [log], robot.spec, task.observation, task.action, 0.01, history=20, horizon=10, count=100,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert data is not None
    steps = np.diff(np.arctan2(data.future[..., 1], data.future[..., 0]), axis=1)
    np.testing.assert_allclose(steps, 0.001, atol=1e-5)
    np.testing.assert_allclose(data.action, 0.2, atol=1e-6)


def test_recordings_too_short_for_a_window_give_none(robot: RobotConfig, task: Task) -> None:
    t = np.arange(0.0, 0.05, 0.005)
    zero = np.zeros(len(t))
    log = log_of(robot, {"joint.position": (t, zero), "joint.velocity": (t, zero), "command.effort": (t, zero)})
    assert (
        windows_of(
            [log], robot.spec, task.observation, task.action, 0.01, history=20, horizon=10, count=5,
            rng=np.random.default_rng(0),
        )
        is None
    )  # fmt: skip


def test_recordings_driven_by_commands_beyond_the_policy_give_none(robot: RobotConfig, task: Task) -> None:
    t = np.arange(0.0, 2.0, 0.005)
    channels = {"joint.position": (t, 0 * t), "joint.velocity": (t, 0 * t), "command.effort": (t, 0 * t + 4.0)}
    log = log_of(robot, channels)
    assert resampled(log, robot, task).start.all()
    data = windows_of(
        [log], robot.spec, task.observation, task.action, 0.01, history=20, horizon=10, count=5,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert data is None


def test_real_recordings_become_windows() -> None:
    folder = os.environ.get("TERRAFIRMA_REAL_LOGS")
    if not folder:
        pytest.skip("TERRAFIRMA_REAL_LOGS is not set: no real recordings to read")
    from transfer.formats import csv

    robot, task = find_robot("simple_pendulum"), load_task("pendulum_swingup")
    path = Path(folder) / "simple_pendulum" / "energy_shaping.csv.gz"
    logs = [recording.log for recording in csv.read(path, robot.spec) if recording.log is not None]
    data = windows_of(
        logs, robot.spec, task.observation, task.action, 0.01, history=64, horizon=16, count=50,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert data is not None and len(data) == 50 and np.isfinite(data.future).all()
    np.testing.assert_allclose(np.hypot(data.future[..., 0], data.future[..., 1]), 1.0, atol=1e-5)
    assert 0.05 < np.abs(data.action).max() <= 1.0

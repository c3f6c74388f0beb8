"""Windows hold what the observation's own history would hold, and reach over no start."""

from __future__ import annotations

import numpy as np

from policies.encoders.windows import WindowData, cut, join
from sim.model import RobotConfig
from sim.randomization import NOMINAL
from sim.tasks import Task
from sim.vecenv import BatchedEnv


def test_windows_equal_the_history_that_the_policy_would_see(robot: RobotConfig, task: Task) -> None:
    history, steps = 8, 30
    env = BatchedEnv(task, robot, NOMINAL, 3, history=history, seed=1, nthread=1)
    rng = np.random.default_rng(0)
    inputs, rows = env.reset(), []
    for _ in range(steps):
        action = rng.uniform(-1, 1, (3, 1)).astype(np.float32)
        rows.append((inputs["observation"], action, inputs["history"], inputs["history_mask"]))
        inputs = env.step(action).inputs
    observation, action, histories, masks = (np.stack(column, axis=1) for column in zip(*rows, strict=True))
    start = np.zeros((3, steps), dtype=bool)
    start[:, 0] = True
    data = cut(observation, action, start, history=history, horizon=1, count=40, rng=rng)
    for i in range(len(data)):
        t = np.flatnonzero((observation[data.group[i]] == data.observation[i]).all(axis=1))[0]
        np.testing.assert_array_equal(data.history[i], histories[data.group[i], t])
        np.testing.assert_array_equal(data.mask[i], masks[data.group[i], t])
        np.testing.assert_array_equal(data.future[i, 0], observation[data.group[i], t + 1])


def counting(n: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Observations that are their own row number."""
    rows = np.tile(np.arange(length, dtype=np.float32), (n, 1))[..., None]
    return rows, -rows


def test_no_window_reaches_over_a_start() -> None:
    observation, action = counting(2, 60)
    start = np.zeros((2, 60), dtype=bool)
    start[:, [0, 25, 40]] = True
    data = cut(observation, action, start, history=10, horizon=5, count=200, rng=np.random.default_rng(0))
    now = data.observation[:, 0]
    began = np.select([now >= 40, now >= 25], [40, 25], 0)
    first_real = np.where(data.mask > 0, data.history[..., 0], np.inf).min(axis=1)
    assert (first_real >= began).all()
    ends = np.select([began == 0, began == 25], [24, 39], 59)
    assert (data.future[:, -1, 0] <= ends).all()
    assert (data.mask.sum(axis=1) == np.minimum(now - began, 10)).all()


def test_splitting_keeps_simulations_whole_and_joining_restores_them() -> None:
    observation, action = counting(20, 40)
    start = np.zeros((20, 40), dtype=bool)
    start[:, 0] = True
    rng = np.random.default_rng(0)
    data = cut(observation, action, start, history=4, horizon=2, count=5, rng=rng, parameters=np.arange(20.0)[:, None])
    rest, held = data.split(0.2, rng)
    assert not set(rest.group) & set(held.group) and len(set(held.group)) == 4
    np.testing.assert_array_equal(rest.parameters[:, 0], rest.group)
    again: WindowData = join([rest, held])
    assert len(again) == len(data) and sorted(again.group) == sorted(data.group)

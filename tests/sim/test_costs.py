"""Costs that configuration lays on a task."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robot.config import ConfigError
from sim.costs import COSTS
from sim.model import RobotConfig, find_robot
from sim.randomization import NOMINAL
from sim.tasks import load_task
from sim.vecenv import BatchedEnv


def env(costs: dict[str, float], episode_s: float = 6.0) -> BatchedEnv:
    task = replace(load_task("pendulum_swingup"), costs=costs, episode_s=episode_s)
    robot: RobotConfig = find_robot("simple_pendulum")
    return BatchedEnv(task, robot, NOMINAL, 3, start="evaluate", nthread=1)


def step(found: BatchedEnv, value: float) -> np.ndarray:
    return found.step(np.full((3, 1), value)).reward


def test_costs_are_added_to_the_reward_as_what_is_saved() -> None:
    plain, costly = env({}), env({"torque": 0.3, "action_rate": 0.2})
    plain.reset(), costly.reset()
    for value, torque, jump in ((1.0, 1.0, 0.25), (1.0, 1.0, 0.0), (-1.0, 1.0, 1.0), (0.0, 0.0, 0.25)):
        more = step(costly, value) - step(plain, value)
        np.testing.assert_allclose(more, 0.3 * (1.0 - torque) + 0.2 * (1.0 - jump), atol=1e-6)


def test_smoothness_is_the_second_difference_and_begins_anew_with_an_episode() -> None:
    found, plain = env({"smoothness": 1.0}, episode_s=0.04), env({}, episode_s=0.04)
    found.reset(), plain.reset()
    for _ in range(2):  # the second episode costs what the first did
        told = [step(found, v) - step(plain, v) for v in (1.0, -1.0, 1.0, 1.0)]
        bends = np.square(np.array([1.0, -3.0, 4.0, -2.0]) / 4.0)
        np.testing.assert_allclose(np.array(told)[:, 0], 1.0 - bends, atol=1e-9)


def test_energy_is_a_share_of_full_power() -> None:
    found, plain = env({"energy": 1.0}), env({})
    found.reset(), plain.reset()
    for _ in range(20):
        more = step(found, 1.0) - step(plain, 1.0)
    power = np.abs(found.state.effort * found.state.velocity)[:, 0]
    np.testing.assert_allclose(1.0 - more, power / (1.5 * 20.0), atol=1e-9)
    assert (power > 0.5).all()


def test_each_cost_is_a_named_term_of_the_episode() -> None:
    found = env({"energy": 0.5, "torque": 0.0}, episode_s=0.03)
    found.reset()
    for _ in range(3):
        out = found.step(np.zeros((3, 1)))
    assert out.done.all() and "cost/energy" in out.episode_terms and "cost/torque" not in out.episode_terms
    assert (out.episode_terms["cost/energy"] > 1.49).all()


@pytest.mark.parametrize("name", list(COSTS))
def test_a_cost_is_a_share(name: str) -> None:
    found = env({name: 1.0})
    found.reset()
    rng = np.random.default_rng(0)
    for _ in range(50):
        found.step(rng.choice([-1.0, 1.0], (3, 1)))
        told = found._costs.terms(found.state)[f"cost/{name}"]
        assert (told >= 0.0).all() and (told <= 1.0).all()


def test_what_is_no_cost_is_told() -> None:
    with pytest.raises(ConfigError, match=r"reward\.enrgy is no cost.*Did you mean 'energy'"):
        env({"enrgy": 1.0})
    with pytest.raises(ConfigError, match=r"reward\.energy is -1.0; a weight is at least 0"):
        env({"energy": -1.0})

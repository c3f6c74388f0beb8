"""A hold: its gains are those of the equations of motion, it holds what its region promises, and it is in the policy."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from policies.hold import Hold, HoldCard
from policies.network import NetworkConfig
from policies.policy import Policy
from robot.config import ConfigError
from robot.observation import ObservationConfig
from sim import randomization
from sim.model import Model, RobotConfig, find_robot
from sim.published_arena import PublishedArena
from sim.randomization import NOMINAL, Randomization
from sim.state import Start
from sim.tasks import Task, load_task
from sim.vecenv import BatchedEnv
from transfer.hold import cost_of, estimate, hold_of, linearized
from transfer.suites import load_suite
from transfer.training import card_of

CONFIGS = Path(__file__).parents[2] / "configs"
ANGLES = ObservationConfig(features=("joint_cos", "joint_sin", "joint_change", "previous_action"))
SIZE = 48


@pytest.fixture(scope="module")
def robot() -> RobotConfig:
    return find_robot("double_pendulum_c1")


@pytest.fixture(scope="module")
def law() -> Randomization:
    return randomization.load(CONFIGS / "dr" / "double_pendulum_c1_benchmark.yaml")


@pytest.fixture(scope="module", params=["pendubot_swingup", "acrobot_swingup"])
def task(request: pytest.FixtureRequest) -> Task:
    return load_task(request.param)


@pytest.fixture(scope="module")
def hold(task: Task, robot: RobotConfig, law: Randomization) -> HoldCard:
    return hold_of(task, robot, law, ANGLES)


def test_the_simulator_is_linearized_as_the_published_equations_are(
    task: Task, robot: RobotConfig, law: Randomization
) -> None:
    model = Model(robot)
    a, b = linearized(task, model, law.center(model))
    suite = load_suite("pendubot_leaderboard")
    equations = PublishedArena(suite.arena, load_task("pendubot_swingup")).equations([_nothing()] * 12)  # type: ignore[arg-type]
    driven = [i for i, name in enumerate(robot.spec.joint_names) if name in task.action.actuators]
    change = np.concatenate([np.eye(6), -np.eye(6)]) * 1e-6
    change[:, 4:] *= 6.0  # an action of 1 is 6 N m
    state = np.array([math.pi, 0.0, 0.0, 0.0]) + change[:, :4]
    slope = equations.acceleration(state.T, change[:, 4:].T.copy()).T
    slope = ((slope[:6] - slope[6:]) / 2e-6).T  # (2, 6)
    continuous = np.zeros((5, 5))
    continuous[:2, 2:4] = np.eye(2)
    continuous[2:4] = np.hstack([slope[:, :4], slope[:, [4 + driven[0]]]])
    exact = expm(continuous * task.control_period_s)
    np.testing.assert_allclose(a, exact[:4, :4], rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(b, exact[:4, 4:], rtol=2e-3, atol=2e-4)


def _nothing() -> object:
    from sim.perturbation import Perturbation

    return Perturbation()


def test_the_state_is_found_from_angles_and_their_changes_and_foretold() -> None:
    rng = np.random.default_rng(0)
    a, b = np.eye(4) + 0.1 * rng.standard_normal((4, 4)), rng.standard_normal((4, 1))
    a[:2, 2:] = 0.01 * (np.eye(2) + 0.1 * rng.standard_normal((2, 2)))
    before, u = rng.standard_normal(4), rng.standard_normal(1)
    x = a @ before + b @ u
    measured = np.concatenate([x[:2], x[:2] - before[:2], u])
    np.testing.assert_allclose(estimate(a, b, "change", 0) @ measured, x, rtol=1e-9)
    later = a @ (a @ x + b @ u) + b @ u
    np.testing.assert_allclose(estimate(a, b, "change", 2) @ measured, later, rtol=1e-9)
    np.testing.assert_allclose(estimate(a, b, "velocity", 2) @ np.concatenate([x, u]), later, rtol=1e-9)


def test_what_its_region_promises_is_held(task: Task, robot: RobotConfig, law: Randomization, hold: HoldCard) -> None:
    """From other starts than those that it was computed by; and far outside it, where it is needed, it fails."""
    rng = np.random.default_rng(5)
    starts = rng.uniform(-1.0, 1.0, (4000, 4)) * np.array(hold.within) * 0.8
    cost = np.einsum("ni,ij,nj->n", starts, np.array(hold.value), starts)
    within, beyond = starts[cost < hold.region][:SIZE], starts[cost > 20.0 * hold.region][:SIZE]
    assert len(within) == len(beyond) == SIZE
    chosen = np.concatenate([within, beyond])
    env = BatchedEnv(task.seen_as(ANGLES), robot, law, 2 * SIZE, start="evaluate", autoreset=False)
    inputs = env.reset(start=Start(np.array(task.pose) + chosen[:, :2], chosen[:, 2:]))
    act = Hold(replace(hold, region=math.inf, within=(math.inf,) * 4), env.observation.components)
    turned = np.zeros(2 * SIZE, dtype=bool)
    for _ in range(150):
        inputs = env.step(act(torch.from_numpy(inputs["observation"]), torch.zeros(2 * SIZE, 1)).numpy()).inputs
        turned |= (np.abs(env.state.position - np.array(task.pose)) > 0.5 * np.pi).any(axis=1)
    held = task.inside(env.state) & ~turned
    # the change of angles is not known at an episode's first step, which it was in the region's simulation
    assert held[:SIZE].mean() > 0.9 and held[SIZE:].mean() < 0.1


def test_a_policy_does_what_its_hold_says_within_the_region_alone(
    task: Task, robot: RobotConfig, hold: HoldCard
) -> None:
    network = NetworkConfig(hidden=(16,), features=ANGLES.features, hold=True, memory=2)
    card = replace(card_of(task, robot, network), hold=hold)
    torch.manual_seed(0)
    policy = Policy(card).eval()
    layout = card.layout(3)
    angle = np.array([[math.pi + 1e-3, 1e-3], [math.pi + 0.3, 0.3], [1e-3, 1e-3]])
    seen = layout.encode({"joint.position": angle})["observation"]
    inputs = {"observation": seen, **policy.memory.blank(3)}
    said, action = Policy(replace(card, hold=None)), policy.act(inputs)
    said.load_state_dict(policy.state_dict())
    expected = -(np.array(hold.gain) @ np.array(hold.estimate) @ np.array([1e-3, 1e-3, 0.0, 0.0, 0.0]))
    np.testing.assert_allclose(action[0], expected, atol=1e-5)
    np.testing.assert_array_equal(action[1:], said.act(inputs)[1:])


def test_what_cannot_be_held_is_said(robot: RobotConfig, hold: HoldCard) -> None:
    reach = find_robot("so101")
    with pytest.raises(ConfigError, match="task 'arm_reach' has no pose to hold"):
        hold_of(load_task("arm_reach"), reach, NOMINAL, load_task("arm_reach").observation)
    with pytest.raises(ConfigError, match="the hold reads 'change/shoulder', which the policy is not shown"):
        Hold(hold, ("cos/shoulder", "cos/elbow", "sin/shoulder", "sin/elbow"))


def test_a_shaped_reward_grows_towards_what_can_be_caught(task: Task, hold: HoldCard, robot: RobotConfig) -> None:
    shaped = replace(task, cost=cost_of(hold))
    model = Model(robot)
    env = BatchedEnv(shaped, robot, NOMINAL, 3, start="evaluate", autoreset=False)
    slow = np.linalg.eigh(np.array(hold.value))[1][:, 0] * 0.1  # easily caught, as far off as the one after it
    fast = np.linalg.eigh(np.array(hold.value))[1][:, -1] * 0.1
    env.reset(start=Start(np.array(task.pose) + np.stack([slow[:2], fast[:2], [2.0, 1.0]]), np.zeros((3, 2))))
    env.state.velocity[:] = np.stack([slow[2:], fast[2:], [0.0, 0.0]])
    terms = shaped.reward(env.state)["hold"]
    assert terms[0] > terms[1] > terms[2] == 0.0
    assert "hold" not in task.reward(env.state) and model.spec.name == robot.spec.name

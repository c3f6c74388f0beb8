"""A hold: it is computed of the right equations, it holds what its region promises, and it is in the policy."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from policies.context_env import ContextVecEnv
from policies.hold import Hold, HoldCard
from policies.learner import make_learner
from policies.network import NetworkConfig
from policies.off_policy import OffPolicyConfig
from policies.policy import Policy
from policies.ppo import TrainConfig, make_ppo
from policies.statistics import RunningStatistics
from robot.config import ConfigError
from robot.observation import ObservationConfig
from sim import randomization
from sim.model import Model, RobotConfig, find_robot
from sim.published_arena import PublishedArena
from sim.randomization import NOMINAL, Randomization
from sim.state import Start, State
from sim.tasks import Task, load_task
from sim.vecenv import BatchedEnv
from transfer.hold import estimate, hold_of, linearized, near
from transfer.suites import load_suite
from transfer.training import card_of, environments

CONFIGS = Path(__file__).parents[2] / "configs"
ANGLES = ObservationConfig(features=("joint_cos", "joint_sin", "joint_change", "previous_action"))
SIZE = 48


@pytest.fixture(scope="module")
def robot() -> RobotConfig:
    return find_robot("double_pendulum_c1")


@pytest.fixture(scope="module")
def law() -> Randomization:
    return randomization.load(CONFIGS / "model" / "published_c1_1.0_benchmark.yaml")


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
    env = BatchedEnv(replace(task, observation=ANGLES), robot, law, 2 * SIZE, start="evaluate", autoreset=False)
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


def test_what_is_multiplied_out_is_what_the_card_says(hold: HoldCard) -> None:
    rng, n = np.random.default_rng(3), len(hold.pose)
    size = np.array(hold.within) * rng.choice([0.01, 0.3, 1.2], (20 * SIZE, 1))
    x = rng.uniform(-1.0, 1.0, (len(size), 2 * n)) * size
    x[::7, 0] += math.pi  # on the other side, where the sine is the same
    angle, last = np.array(hold.pose) + x[:, :n], rng.uniform(-1.0, 1.0, (len(x), len(hold.actuators)))
    seen = np.hstack([np.cos(angle), np.sin(angle), x[:, n:], last])
    names = [name.replace("change", "velocity") for name in hold.inputs]
    action, inside = Hold(replace(hold, rates="velocity"), names).feedback(torch.from_numpy(seen).float())
    state = np.hstack([np.sin(x[:, :n]), x[:, n:], last]) @ np.array(hold.estimate).T
    cost = np.einsum("ni,ij,nj->n", state, np.array(hold.value), state)
    near = (np.abs(state) <= hold.within).all(axis=1) & (np.cos(x[:, :n]) > 0.0).all(axis=1)
    clear = np.abs(cost / hold.region - 1.0) > 1e-3  # elsewhere single precision decides
    assert np.array_equal(inside.numpy()[clear, 0], (near & (cost <= hold.region))[clear]) and 0 < inside.sum() < len(x)
    np.testing.assert_allclose(action, np.clip(-state @ np.array(hold.gain).T, -1.0, 1.0), atol=2e-4)


def test_what_cannot_be_held_is_said(robot: RobotConfig, hold: HoldCard) -> None:
    reach = find_robot("so101")
    with pytest.raises(ConfigError, match="task 'arm_reach' has no pose to hold"):
        hold_of(load_task("arm_reach"), reach, NOMINAL, load_task("arm_reach").observation)
    with pytest.raises(ConfigError, match="the hold reads 'change/shoulder', which the policy is not shown"):
        Hold(hold, ("cos/shoulder", "cos/elbow", "sin/shoulder", "sin/elbow"))


def test_where_the_hold_acts_nothing_is_learned_of_the_action(
    task: Task, robot: RobotConfig, law: Randomization, hold: HoldCard
) -> None:
    """It takes part from the step on that the recipe names, and the learner is told where."""
    network = NetworkConfig(hidden=(16,), features=ANGLES.features, hold=True, memory=2)
    card = replace(card_of(task, robot, network), hold=hold)
    held = replace(hold, region=math.inf, within=(math.inf,) * 4)  # wherever every joint is on the pose's side
    env = ContextVecEnv(
        environments(replace(task, observation=ANGLES), robot, law, 0, 0)(32),
        replace(card, hold=held),
        RunningStatistics(card.shown),
    )
    env.seed(1)
    rows = env.reset()
    up = rows[:, -1] == 1.0
    assert env.holds and rows.shape == (32, card.shown + 2 * (1 + card.shown) + 1) and 0 < up.sum() < 32
    env.step(np.full((32, 1), 0.3, np.float32))
    taken = env.venv.get_attr("core")[0].observation.previous_action[:, 0]
    assert (taken[~up] == np.float32(0.3)).all() and (taken[up] != np.float32(0.3)).all()
    learner = make_ppo(env, network, TrainConfig(num_envs=32, rollout_steps=8, batch=32), seed=0)
    learner.vf_coef = 0.0
    for chosen, learns in ((up, False), (~up, True)):
        learner.policy.zero_grad()
        n = int(chosen.sum())
        row = {"action": torch.full((n, 1), 0.5), "log_prob": torch.zeros(n), "return": torch.zeros(n)}
        learner._loss(torch.from_numpy(rows[chosen]), row | {"advantage": torch.arange(float(n))}, 1e9)[0].backward()
        assert bool(learner.policy.action_net.weight.grad.abs().sum() > 0) == learns
        assert bool(learner.policy.log_std.grad.abs().sum() > 0) == learns
    env.hold_acts = False
    assert not env.reset()[:, -1].any()
    with pytest.raises(ConfigError, match=r"network\.hold=true needs recipe\.algorithm=ppo"):
        make_learner(env, network, OffPolicyConfig(algorithm="sac"), seed=0)


def test_training_starts_near_the_hold_lie_in_and_about_its_region(hold: HoldCard) -> None:
    assert near(hold, 0.0) is None
    starts = near(hold, 0.4)
    assert starts is not None
    n, rng = 4000, np.random.default_rng(0)
    far = Start(np.full((n, 2), -9.0), np.zeros((n, 2)))
    mixed = starts.mix(far, rng)
    drawn = mixed.position[:, 0] > -9.0
    assert np.mean(drawn) == pytest.approx(0.4, abs=0.03)
    off = np.hstack([mixed.position - np.array(hold.pose), mixed.velocity])[drawn]
    cost = np.einsum("ni,ij,nj->n", off, np.array(hold.value), off)
    assert cost.max() <= 9.0 * hold.region * (1.0 + 1e-9)
    assert np.mean(cost <= hold.region) > 0.2
    assert (np.abs(off[:, :2]) <= 0.6 + 1e-9).all() and (np.abs(off[:, 2:]) <= 6.0 + 1e-9).all()
    assert off[:, 2:].std() > 0.5, "they arrive, and do not hang in the air"


def test_a_bonus_grows_towards_the_holds_region(hold: HoldCard) -> None:
    found = near(hold, 0.0, 0.1)
    assert found is not None and found.share == 0.0
    axis = np.array(found.axes)[np.argmin(np.linalg.norm(found.axes, axis=1))]
    off = np.array([0.0, 1.0, 3.0])[:, None] * axis
    turn = np.array([2.0 * np.pi, 0.0])
    state = State(np.array(hold.pose) + turn + off[:, :2], off[:, 2:])
    assert found.reward(state) == pytest.approx([0.1, 0.05, 0.025], rel=1e-6)
    assert found.reward(State(np.zeros((1, 2)), np.zeros((1, 2)))) == 0.0

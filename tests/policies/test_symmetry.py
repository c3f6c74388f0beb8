"""A policy does in the mirror image of a moment the mirror image of what it does in the moment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import VecEnv

from policies.context_env import ContextVecEnv
from policies.encoders.physics import PhysicsEncoder
from policies.layers import read_actor
from policies.network import NetworkConfig
from policies.policy import Policy, PolicyCard
from policies.ppo import TrainConfig, make_ppo
from policies.statistics import RunningStatistics
from policies.symmetry import Reflection
from policies.train import train
from robot.config import ConfigError
from sim.model import RobotConfig, find_robot
from sim.randomization import NOMINAL
from sim.sb3 import SB3VecEnv
from sim.tasks import Task, load_task
from sim.vecenv import BatchedEnv
from transfer.export import export
from transfer.shaping import symmetry_of
from transfer.training import card_of

TINY = TrainConfig(env_steps=4 * 16 * 2, num_envs=4, rollout_steps=16, segment_rollouts=1, batch=32, epochs=2)


def environments(task: Task, privileged: bool) -> VecEnv:
    robot = find_robot(task.robot)
    return SB3VecEnv(BatchedEnv(task, robot, NOMINAL, 4, seed=0, privileged=privileged, nthread=1))


def symmetric(name: str, memory: int = 0) -> tuple[Task, PolicyCard]:
    task, robot = load_task(name), find_robot(load_task(name).robot)
    card = card_of(task, robot, NetworkConfig(hidden=(16, 16), memory=memory))
    return task, replace(card, symmetry=symmetry_of(task, robot, card))


@pytest.mark.parametrize("name", ["pendulum_swingup", "acrobot_swingup", "quadruped_velocity"])
def test_a_trained_actor_is_exactly_equivariant(name: str, tmp_path: Path) -> None:
    task, card = symmetric(name, memory=2)
    policy = train(lambda n: environments(task, bool(task.privileged_names)), card, TINY, tmp_path, seed=0).policy
    mirror = policy.card.symmetry
    assert mirror is not None
    rng = np.random.default_rng(0)
    rows = [rng.normal(0.0, 1.0, (50, card.shown)).astype(np.float32) for _ in range(4)]
    one, other = policy.episode(), policy.episode()
    for row in rows:  # the memory is mirrored, too
        action, image = one({"observation": row}), other({"observation": mirror.shown.apply(row)})
        np.testing.assert_allclose(mirror.action.apply(action), image, atol=1e-6)
    assert np.abs(action - image).max() > 1e-4, "the two actions are not the same"


def test_a_symmetric_policy_is_its_learner_and_is_exported_as_it_is(tmp_path: Path) -> None:
    task, card = symmetric("pendulum_swingup")
    assert card.symmetry is not None
    statistics = RunningStatistics(4, card.symmetry.shown)
    env = ContextVecEnv(environments(task, False), card, statistics)
    env.reset()
    for _ in range(20):
        env.step(np.full((4, 1), 0.7))
    env.commit()
    np.testing.assert_array_equal(statistics.mean[[1, 2, 3]], 0.0)  # what changes its sign has no mean
    learner, policy = make_ppo(env, card.network, TINY, 0), Policy(card).eval()
    policy.normalizer.set(statistics.mean, statistics.deviation)
    read_actor(learner, policy.actor)
    rows = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    theirs = learner.predict(statistics.apply(rows), deterministic=True)[0]
    np.testing.assert_allclose(policy.act({"observation": rows}), theirs, atol=1e-6)
    made = export(policy, tmp_path / "b", golden={"observation": rows}, rng=np.random.default_rng(0))
    assert made.parity_max_error <= 1e-5
    again = Policy.load(policy.save(tmp_path / "p"))
    assert again.card.symmetry == card.symmetry


@pytest.mark.parametrize("augment", [True, False])
def test_mirrored_samples_teach_the_other_side(augment: bool) -> None:
    """On one side a positive action is good; what is learned of the other side comes of mirrored samples alone."""
    task, card = symmetric("pendulum_swingup")
    plain, mirror = replace(card, symmetry=None), card.symmetry
    assert mirror is not None
    env = ContextVecEnv(environments(task, False), plain, RunningStatistics(4))
    learner = make_ppo(env, plain.network, replace(TINY, learning_rate=3e-3), 0, augment=mirror if augment else None)
    torch.manual_seed(0)
    rows, side = torch.randn(256, 4), torch.where(torch.arange(256) % 2 == 0, 1.0, -1.0)
    rows[:, 1] = rows[:, 1].abs() + 0.5  # the sine: this side of the vertical
    scalars = {"action": 0.5 * side[:, None], "advantage": side, "return": torch.zeros(256)}
    scalars["log_prob"] = torch.full((256,), -1.04)
    for _ in range(60):
        loss, _ = learner._loss(rows, scalars, 10.0)
        learner.policy.optimizer.zero_grad()
        loss.backward()
        learner.policy.optimizer.step()
    image = torch.from_numpy(mirror.shown.apply(rows.numpy()))
    with torch.no_grad():
        here, there = float(learner.policy.mean(rows).mean()), float(learner.policy.mean(image).mean())
    assert here > 0.2
    assert (abs(here + there) < 0.1 * here) == augment


def test_what_has_no_mirror_is_refused(
    task: Task, robot: RobotConfig, card: PolicyCard, encoder: PhysicsEncoder, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="task 'arm_reach' says no mirror"):
        reach = load_task("arm_reach")
        symmetry_of(reach, find_robot("so101"), card_of(reach, find_robot("so101"), NetworkConfig()))
    mirror = symmetry_of(task, robot, card)
    with pytest.raises(ConfigError, match="a symmetric actor cannot read a physics encoder's context"):
        replace(card.with_encoder(encoder.card), symmetry=mirror)
    with pytest.raises(ConfigError, match=r"of 4 components and 1 actions; the policy is shown 5"):
        features = (*card.observation.features, "joint_effort")
        replace(card, observation=replace(card.observation, features=features), symmetry=mirror)
    with pytest.raises(ConfigError, match="symmetry=augment needs"):
        lstm = replace(card, network=NetworkConfig(hidden=(8,), recurrent=4))
        train(
            lambda n: environments(task, False), lstm, replace(TINY, algorithm="recurrent_ppo"), tmp_path, seed=0,
            augment=mirror,
        )  # fmt: skip
    with pytest.raises(ConfigError, match="done twice must change nothing"):
        Reflection(index=(1, 2, 0), sign=(1.0, 1.0, 1.0))


def test_mirrored_samples_are_scaled_like_those_they_come_from(tmp_path: Path) -> None:
    """Statistics of one side only would make of the mirror image of a scaled row another state."""
    task, card = symmetric("pendulum_swingup")
    plain, mirror = replace(card, symmetry=None), card.symmetry
    assert mirror is not None
    made = train(lambda n: environments(task, False), plain, TINY, tmp_path, seed=0, augment=mirror).policy
    rows = np.random.default_rng(0).normal(size=(50, card.shown)).astype(np.float32)
    scaled = made.normalizer(torch.from_numpy(mirror.shown.apply(rows))).numpy()
    np.testing.assert_allclose(scaled, mirror.shown.apply(made.normalizer(torch.from_numpy(rows)).numpy()), atol=1e-6)

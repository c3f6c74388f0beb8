"""Training of policies that see: on pictures, and on what an encoder would tell of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.context_env import ContextVecEnv
from policies.encoders.vision import VisionEncoder
from policies.layers import read_actor, write_actor
from policies.network import NetworkConfig
from policies.policy import Policy, PolicyCard
from policies.ppo import TrainConfig, make_ppo
from policies.statistics import RunningStatistics
from policies.train import train
from robot.config import ConfigError
from sim.model import RobotConfig
from sim.randomization import NOMINAL
from sim.sb3 import SB3VecEnv
from sim.sight import SightErrors
from sim.tasks import Task, load_task
from sim.vecenv import BatchedEnv
from transfer.training import card_of

STATES = ("joint_cos/shoulder", "joint_sin/shoulder")
OFF = SightErrors(("side",), STATES, np.random.default_rng(0).normal(0.0, 0.05, (6, 20, 1)).astype(np.float32))
TINY = TrainConfig(env_steps=8 * 16 * 2, num_envs=8, rollout_steps=16, segment_rollouts=1, batch=16, epochs=2)


@pytest.fixture(scope="module")
def pixels() -> Task:
    return load_task("pendulum_swingup_pixels")


@pytest.fixture(scope="module")
def seeing(pixels: Task, robot: RobotConfig) -> PolicyCard:
    return card_of(pixels, robot, NetworkConfig(hidden=(16, 16), memory=3))


@pytest.mark.parametrize("sight", [None, OFF])
def test_the_policy_reproduces_the_learners_actions_along_an_episode(
    pixels: Task, robot: RobotConfig, seeing: PolicyCard, vision: VisionEncoder, sight: SightErrors | None
) -> None:
    card, short = seeing.with_vision(vision.card), replace(pixels, episode_s=0.12)
    statistics = RunningStatistics(card.shown)
    statistics.freeze([0.1, 0.2, 0.3], [1.0, 2.0, 0.5])
    core = BatchedEnv(short, robot, NOMINAL, 3, seed=2, sight=sight, nthread=1)
    env = ContextVecEnv(SB3VecEnv(core), card, statistics, vision=vision)
    learner, policy = make_ppo(env, card.network, TINY, seed=0), Policy(card).with_vision(vision)
    policy.normalizer.set(statistics.mean, statistics.deviation)
    write_actor(learner, policy.actor)
    read_actor(learner, policy.actor)
    vector, act = env.reset(), policy.episode()
    for step in range(9):
        if step == 6:  # a new episode begins: nothing is remembered
            act = policy.episode()
        inputs = {"observation": core.observation.previous_action.astype(np.float32), **core.pictures}
        action = act(inputs)
        np.testing.assert_allclose(action, learner.predict(vector, deterministic=True)[0], atol=1e-6)
        vector, _, done, infos = env.step(action)
        assert done.all() == (step == 5)
        if step == 5:
            ended = np.stack([info["terminal_observation"] for info in infos])
            assert (ended[:, -3:] != 0.0).all() and (vector[:, -9:] == 0.0).all()


def test_training_leaves_the_encoder_as_it_was_and_resumes_only_with_it(
    pixels: Task, robot: RobotConfig, seeing: PolicyCard, vision: VisionEncoder, tmp_path: Path
) -> None:
    def make(n: int) -> SB3VecEnv:  # type: ignore[valid-type]
        return SB3VecEnv(BatchedEnv(pixels, robot, NOMINAL, n, seed=0, sight=OFF, nthread=1))

    policy = train(make, seeing, TINY, tmp_path, seed=0, vision=vision).policy
    assert policy.vision is not None
    for name, value in vision.state_dict().items():
        assert torch.equal(policy.vision.encoder.state_dict()[name], value), name
    torch.manual_seed(1)
    with pytest.raises(ConfigError, match="started with another vision"):
        train(make, seeing, TINY, tmp_path, seed=0, vision=VisionEncoder(vision.card).eval(), resume=True)


def test_what_is_missing_is_told(
    pixels: Task, robot: RobotConfig, seeing: PolicyCard, vision: VisionEncoder, tmp_path: Path
) -> None:
    make = lambda n: SB3VecEnv(BatchedEnv(pixels, robot, NOMINAL, n, sight=OFF, nthread=1))  # noqa: E731
    with pytest.raises(ConfigError, match="sees through cameras: pretrain an encoder"):
        train(make, seeing, TINY, tmp_path, seed=0)
    features = replace(seeing, network=replace(seeing.network, sight="features"))
    with pytest.raises(ConfigError, match="only rendered pictures have features"):
        train(make, features, TINY, tmp_path, seed=0, vision=vision)

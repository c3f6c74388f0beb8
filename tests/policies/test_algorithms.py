"""SAC, TQC and RecurrentPPO in the place of PPO: one Policy comes of each, and resuming is exact."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import VecEnv

from policies.context_env import ContextVecEnv
from policies.learner import Recipe, make_learner, recipe_of
from policies.network import NetworkConfig
from policies.off_policy import OffPolicyConfig
from policies.policy import Policy, PolicyCard
from policies.ppo import TrainConfig
from policies.statistics import RunningStatistics
from policies.train import CURVE, train
from robot.config import ConfigError
from sim.model import RobotConfig
from sim.randomization import NOMINAL
from sim.sb3 import SB3VecEnv
from sim.tasks import Task
from sim.vecenv import BatchedEnv
from transfer.export import export

SAC = OffPolicyConfig(
    algorithm="sac", env_steps=4 * 2 * 6 * 4, num_envs=4, rollout_steps=2, gradient_steps=2, segment_rollouts=6,
    batch=16, buffer=110, learning_starts=40, evaluate_segments=1,
)  # fmt: skip
LSTM = TrainConfig(
    env_steps=4 * 8 * 2 * 4, num_envs=4, rollout_steps=8, segment_rollouts=2, batch=16, epochs=1, evaluate_segments=1,
    algorithm="recurrent_ppo",
)  # fmt: skip
KINDS: dict[str, tuple[Recipe, int]] = {
    "sac": (SAC, 0),
    "tqc": (replace(SAC, algorithm="tqc"), 0),
    "recurrent_ppo": (LSTM, 8),
}


def envs(task: Task, robot: RobotConfig) -> VecEnv:
    return SB3VecEnv(BatchedEnv(replace(task, episode_s=0.3, explore_s=0.3), robot, NOMINAL, 4, seed=0, nthread=1))


def score(policy: Policy) -> tuple[float, float]:
    return 0.0, float(sum(p.abs().sum().item() for p in policy.parameters()))


def curve(out: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (out / CURVE).read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.mark.parametrize("name", list(KINDS))
def test_a_training_that_was_cut_resumes_to_the_uninterrupted_one(
    task: Task, robot: RobotConfig, card: PolicyCard, tmp_path: Path, name: str
) -> None:
    """The buffer of 110 transitions is smaller than what 4 segments of 48 steps give: it has gone round."""
    recipe, width = KINDS[name]
    card = replace(card, network=NetworkConfig(hidden=(16,), recurrent=width))
    make = lambda n: envs(task, robot)  # noqa: E731
    calls: list[int] = []

    def cut(policy: Policy) -> tuple[float, float]:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score(policy)

    whole = train(make, card, recipe, tmp_path / "whole", seed=2, evaluate=score)
    with pytest.raises(KeyboardInterrupt):
        train(make, card, recipe, tmp_path / "cut", seed=2, evaluate=cut)
    train(make, card, recipe, tmp_path / "cut", seed=2, evaluate=score, resume=True)
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole") and len(whole.curve) == 4
    for part in ("policy/policy.safetensors", "checkpoints/000004/state.safetensors"):
        assert (tmp_path / "cut" / part).read_bytes() == (tmp_path / "whole" / part).read_bytes(), part
    written = {p.suffix for p in tmp_path.rglob("*") if p.is_file() and "tensorboard" not in p.parts}
    assert written <= {".safetensors", ".yaml", ".jsonl", ".npz"}
    assert whole.curve[0]["return"] != whole.curve[-1]["return"], "it learned something"


def test_a_missing_part_of_the_buffer_is_told(task: Task, robot: RobotConfig, card: PolicyCard, tmp_path: Path) -> None:
    train(lambda n: envs(task, robot), card, SAC, tmp_path, seed=0)
    (tmp_path / "replay" / "000004.npz").unlink()
    with pytest.raises(ConfigError, match=r"replay/000004\.npz: cannot be read .* this training cannot be resumed"):
        train(lambda n: envs(task, robot), card, SAC, tmp_path, seed=0, resume=True)


@pytest.mark.parametrize("name", ["sac", "tqc"])
def test_the_policy_is_the_learners_deterministic_actor(
    task: Task, robot: RobotConfig, card: PolicyCard, name: str
) -> None:
    statistics = RunningStatistics(4)
    statistics.freeze([0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 0.5])
    env = ContextVecEnv(envs(task, robot), card, statistics)
    learner, policy = make_learner(env, card.network, KINDS[name][0], seed=0), Policy(card).eval()
    policy.normalizer.set(statistics.mean, statistics.deviation)
    learner.write_to(policy)
    rows = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    theirs = learner.algorithm.predict(statistics.apply(rows), deterministic=True)[0]
    np.testing.assert_allclose(policy.act({"observation": rows}), theirs, atol=1e-6)


def test_an_lstm_acts_as_its_learner_and_is_exported_with_its_state(
    task: Task, robot: RobotConfig, card: PolicyCard, tmp_path: Path
) -> None:
    card = replace(card, network=NetworkConfig(hidden=(16,), recurrent=8))
    env = ContextVecEnv(envs(task, robot), card, RunningStatistics(4))
    learner, policy = make_learner(env, card.network, LSTM, seed=0), Policy(card).eval()
    learner.segment(0)
    statistics = env.statistics
    policy.normalizer.set(statistics.mean, statistics.deviation)
    learner.write_to(policy)
    rng, act, state = np.random.default_rng(0), policy.episode(), None
    recorded = []
    for step in range(500):
        rows = rng.normal(size=(3, 4)).astype(np.float32)
        start = np.full(3, step == 0)
        theirs, state = learner.algorithm.predict(statistics.apply(rows), state, start, deterministic=True)
        np.testing.assert_allclose(act({"observation": rows}), theirs, atol=1e-4)
        recorded.append({k: v.copy() for k, v in act.inputs.items()})
    assert policy.input_names == ("observation", "state_lstm")
    golden = {k: np.concatenate([row[k] for row in recorded]) for k in recorded[0]}
    made = export(policy, tmp_path / "bundle", golden=golden, rng=rng)
    assert made.parity_max_error <= 1e-4


def test_a_recipe_is_read_by_its_algorithm() -> None:
    assert recipe_of({"algorithm": "tqc", "num_envs": 3}, "x") == OffPolicyConfig(algorithm="tqc", num_envs=3)
    assert recipe_of({"epochs": 3}, "x") == TrainConfig(epochs=3)
    with pytest.raises(ConfigError, match=r"recipe\.algorithm is 'sack'.*Did you mean 'sac'"):
        recipe_of({"algorithm": "sack"}, "x")
    with pytest.raises(ConfigError, match=r"recipe\.buffer is 10; it must hold"):
        replace(SAC, buffer=10)


def test_what_an_algorithm_does_not_know_is_refused(
    task: Task, robot: RobotConfig, card: PolicyCard, tmp_path: Path
) -> None:
    make = lambda n: envs(task, robot)  # noqa: E731
    with pytest.raises(ConfigError, match=r"needs the LSTM's width: give network\.recurrent"):
        train(make, card, LSTM, tmp_path, seed=0)
    lstm = replace(card, network=NetworkConfig(hidden=(8,), recurrent=4))
    with pytest.raises(ConfigError, match=r"need recipe\.algorithm=ppo"):
        train(make, lstm, SAC, tmp_path, seed=0)
    with pytest.raises(ConfigError, match=r"an LSTM needs recipe\.algorithm=recurrent_ppo"):
        train(make, lstm, TrainConfig(), tmp_path, seed=0)
    with pytest.raises(ConfigError, match="a policy remembers in one way"):
        NetworkConfig(recurrent=4, memory=4)
    assert torch.get_num_threads() == 1

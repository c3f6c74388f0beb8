"""Guards of a policy that is trained on from another: how far it may go, what may change, and that they resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policies.actor_guard import ActorGuardConfig
from policies.network import NetworkConfig
from policies.policy import Policy, PolicyCard
from policies.ppo import TrainConfig
from policies.train import TrainResult, train
from robot.config import ConfigError
from sim.model import find_robot
from sim.randomization import NOMINAL
from sim.sb3 import SB3VecEnv
from sim.tasks import load_task
from sim.vecenv import BatchedEnv

RECIPE = TrainConfig(
    env_steps=512, num_envs=8, rollout_steps=32, segment_rollouts=1, batch=64, epochs=2, learning_rate=1e-2,
    learning_rate_end=1e-2, critic_rollouts=1,
)  # fmt: skip


def run(out: Path, guard: ActorGuardConfig | None, recipe: TrainConfig = RECIPE, **options: Any) -> TrainResult:
    """Two segments from one and the same policy of random weights."""
    torch.set_num_threads(1)
    robot, task = find_robot("simple_pendulum"), load_task("pendulum_swingup")
    card = PolicyCard(
        task=task.name, control_period_s=0.01, spec=robot.spec, observation=task.observation, action=task.action,
        network=NetworkConfig(hidden=(16, 16)),
    )  # fmt: skip
    return train(
        lambda n: SB3VecEnv(BatchedEnv(task, robot, NOMINAL, n, seed=0, stagger=True, nthread=1)), card, recipe, out,
        seed=0, start_from=begun(card), guard=guard, **options,
    )  # fmt: skip


def begun(card: PolicyCard) -> Policy:
    torch.manual_seed(1)
    return Policy(card).eval()


def changes(policy: Policy) -> list[torch.Tensor]:
    """What became of each matrix of the actor."""
    before = dict(begun(replace(policy.card, lineage={})).actor.named_parameters())
    return [p.detach() - before[n].detach() for n, p in policy.actor.named_parameters() if p.ndim == 2]


def test_divergence_keeps_the_actor_near(tmp_path: Path) -> None:
    free = run(tmp_path / "free", None).policy
    near = run(tmp_path / "near", ActorGuardConfig(method="kl", weight=100.0)).policy
    probe = torch.randn(256, free.card.vector, generator=torch.Generator().manual_seed(0))
    before = begun(replace(free.card, lineage={}))
    with torch.no_grad():
        said = [torch.tanh(p.actor(probe)) for p in (before, free, near)]
    assert (said[2] - said[0]).norm() < 0.7 * (said[1] - said[0]).norm()


def test_rehearsal_keeps_what_was_said_at_home_and_resumes_exactly(tmp_path: Path) -> None:
    """Home is a pendulum that always begins hanging, where the training's own begins anywhere."""
    robot, task = find_robot("simple_pendulum"), load_task("pendulum_swingup")

    def home(n: int) -> SB3VecEnv:
        return SB3VecEnv(BatchedEnv(task, robot, NOMINAL, n, seed=7, start="evaluate", nthread=1))

    guard = ActorGuardConfig(method="rehearse", weight=10.0)
    free, kept = run(tmp_path / "free", None).policy, run(tmp_path / "kept", guard, home=home).policy
    before = begun(replace(free.card, lineage={}))
    env, rng = BatchedEnv(task, robot, NOMINAL, 64, seed=3, start="evaluate", nthread=1), np.random.default_rng(0)
    env.reset()
    seen = [env.step(rng.uniform(-1.0, 1.0, (64, 1))).inputs["observation"] for _ in range(32)]
    rows = torch.from_numpy(np.concatenate(seen))
    with torch.no_grad():
        said = [p(rows).action for p in (before, free, kept)]
    assert (said[2] - said[0]).norm() < 0.5 * (said[1] - said[0]).norm()
    again = run(tmp_path / "again", guard, home=home).policy
    for name, value in kept.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    with pytest.raises(ConfigError, match="environments that the policy comes from"):
        run(tmp_path / "nowhere", guard)


def test_lora_changes_matrices_by_its_rank_alone_and_resumes_exactly(tmp_path: Path) -> None:
    guard = ActorGuardConfig(method="lora", rank=2)
    whole = run(tmp_path / "whole", guard).policy
    for change in changes(whole):
        assert 0 < torch.linalg.matrix_rank(change, rtol=1e-4) <= 2
    run(tmp_path / "cut", guard, replace(RECIPE, env_steps=512))
    half = tmp_path / "cut" / "checkpoints"
    for folder in sorted(half.iterdir())[1:]:  # as if it was killed after the first segment
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    again = run(tmp_path / "cut", guard, resume=True).policy
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    with pytest.raises(ConfigError, match="another guard"):
        run(tmp_path / "cut", None, resume=True)


def test_what_a_guard_needs_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rank is 0"):
        ActorGuardConfig(method="lora", rank=0)
    with pytest.raises(ConfigError, match=r"guard_weight is 1\.5"):
        ActorGuardConfig(method="replay", weight=1.5)

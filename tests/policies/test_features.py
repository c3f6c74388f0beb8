"""Encoders that are trained along with the policy, and a critic that sees more than the actor."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import VecEnv

from policies import checkpoint
from policies.context_env import ContextVecEnv
from policies.encoders.physics import PhysicsEncoder
from policies.encoders.vision import VisionEncoder
from policies.given import Encoders
from policies.network import NetworkConfig
from policies.policy import Policy, PolicyCard
from policies.ppo import PPOLearner, TrainConfig, make_ppo
from policies.statistics import RunningStatistics
from policies.train import load_critic, train
from robot.config import ConfigError
from sim.model import RobotConfig, find_robot
from sim.randomization import NOMINAL
from sim.sb3 import SB3VecEnv
from sim.sight import SightErrors
from sim.tasks import Task, load_task
from sim.vecenv import BatchedEnv
from transfer.graph import to_onnx
from transfer.training import card_of

TINY = TrainConfig(env_steps=4 * 8 * 3, num_envs=4, rollout_steps=8, segment_rollouts=1, batch=32, epochs=1)
OFF = SightErrors(("side",), ("joint_cos/shoulder", "joint_sin/shoulder"), np.zeros((1, 1, 1), np.float32))


def environments(
    task: Task, robot: RobotConfig, history: int = 0, privileged: bool = False, sight: SightErrors | None = None
) -> VecEnv:
    core = BatchedEnv(task, robot, NOMINAL, 4, history=history, seed=0, privileged=privileged, sight=sight, nthread=1)
    return SB3VecEnv(core)


def changed(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return any(not torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


@pytest.mark.parametrize("encoders", ["frozen", "finetuned"])
def test_only_the_loss_of_a_policy_that_trains_its_encoder_reaches_it(
    task: Task, robot: RobotConfig, card: PolicyCard, encoder: PhysicsEncoder, tmp_path: Path, encoders: Encoders
) -> None:
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    make = lambda n: environments(task, robot, encoder.card.history)  # noqa: E731
    policy = train(make, card, TINY, tmp_path, seed=0, encoder=encoder, encoders=encoders).policy
    assert policy.encoder is not None
    assert changed(encoder, policy.encoder) == (encoders == "finetuned")
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items()), "the caller's stays as it was"


def test_a_policy_with_a_trained_encoder_acts_as_its_learner(
    task: Task, robot: RobotConfig, card: PolicyCard, encoder: PhysicsEncoder
) -> None:
    card = replace(card, network=NetworkConfig(hidden=(16,), memory=2)).with_encoder(encoder.card)
    raw, statistics = environments(task, robot, encoder.card.history), RunningStatistics(card.shown)
    statistics.freeze([0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 0.5])
    env = ContextVecEnv(raw, card, statistics, encoder, trained=True)
    learner = PPOLearner(env, TINY, make_ppo(env, card.network, TINY, 0, encoder))
    learner.segment(0)
    policy = Policy(card).eval()
    policy.normalizer.set(statistics.mean, statistics.deviation)
    learner.write_to(policy)
    observed, act = env.reset(), policy.episode()
    for _ in range(12):
        given = {k: v for k, v in observed.items() if k != "memory"}
        theirs = learner.algorithm.predict(observed, deterministic=True)[0]
        np.testing.assert_allclose(act(given), theirs, atol=1e-6)
        observed = env.step(theirs)[0]


def test_the_encoder_learns_at_a_rate_of_its_own(
    task: Task, robot: RobotConfig, card: PolicyCard, encoder: PhysicsEncoder
) -> None:
    card = card.with_encoder(encoder.card)
    raw = environments(task, robot, encoder.card.history)
    env = ContextVecEnv(raw, card, RunningStatistics(card.shown), encoder, trained=True)
    learner = make_ppo(env, card.network, replace(TINY, encoder_rate=0.2, learning_rate=1e-3), 0, encoder)
    learner._update_learning_rate(learner.policy.optimizer)
    own, encoders = learner.policy.optimizer.param_groups
    assert (own["lr"], encoders["lr"]) == pytest.approx((1e-3, 2e-4))
    assert {id(p) for p in encoders["params"]} == {id(p) for p in encoder.parameters()}


def test_training_of_encoders_resumes_exactly(
    task: Task, robot: RobotConfig, card: PolicyCard, encoder: PhysicsEncoder, tmp_path: Path
) -> None:
    make = lambda n: environments(task, robot, encoder.card.history)  # noqa: E731

    def cut(policy: Policy) -> tuple[float, float]:
        if checkpoint.latest(tmp_path / "cut") is not None:
            raise KeyboardInterrupt
        return 0.0, 0.0

    recipe = replace(TINY, evaluate_segments=1)
    done = {"encoder": encoder, "encoders": "finetuned"}
    same = lambda policy: (0.0, 0.0)  # noqa: E731
    whole = train(make, card, recipe, tmp_path / "whole", seed=1, evaluate=same, **done)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        train(make, card, recipe, tmp_path / "cut", seed=1, evaluate=cut, **done)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="started with another encoders"):
        train(make, card, recipe, tmp_path / "cut", seed=1, resume=True, encoder=encoder)
    again = train(make, card, recipe, tmp_path / "cut", seed=1, resume=True, evaluate=same, **done)  # type: ignore[arg-type]
    for name, value in whole.policy.encoder.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(value, again.policy.encoder.state_dict()[name]), name  # type: ignore[union-attr]
    assert not changed(whole.policy.actor, again.policy.actor)


def test_a_vision_encoder_is_trained_on_rendered_pictures_alone(
    robot: RobotConfig, vision: VisionEncoder, tmp_path: Path
) -> None:
    pixels = load_task("pendulum_swingup_pixels")
    card = card_of(pixels, robot, NetworkConfig(hidden=(8,), memory=2, sight="features"))
    few = replace(TINY, env_steps=1, rollout_steps=4, batch=8)
    policy = train(
        lambda n: environments(pixels, robot), card, few, tmp_path / "a", seed=0, vision=vision, encoders="finetuned"
    ).policy
    assert policy.vision is not None and changed(vision, policy.vision.encoder)
    for name, value in vision.named_buffers():
        assert torch.equal(value, dict(policy.vision.encoder.named_buffers())[name]), (
            "batch norms keep their statistics"
        )
    with pytest.raises(
        ConfigError, match=r"there is no encoder to train; give physics=DIR, or vision=DIR with rendered"
    ):
        card = replace(card, network=NetworkConfig(hidden=(8,)))
        train(
            lambda n: environments(pixels, robot, sight=OFF), card, few, tmp_path / "b", seed=0, vision=vision,
            encoders="finetuned",
        )  # fmt: skip


def test_privileged_signals_reach_the_critic_and_never_the_export(tmp_path: Path) -> None:
    """What leaks into the exported policy would be missing on the robot."""
    task, robot = load_task("quadruped_velocity"), find_robot("quadruped")
    card = card_of(task, robot, NetworkConfig(hidden=(8, 8)))
    policy = train(lambda n: environments(task, robot, privileged=True), card, TINY, tmp_path, seed=0).policy
    critic = load_critic(tmp_path / "policy")
    assert critic is not None
    size, extra = policy.card.layout().size, len(task.privileged_names)
    assert critic["mlp_extractor.value_net.0.weight"].shape[1] == size + extra
    assert critic["mlp_extractor.value_net.0.weight"][:, size:].abs().min() > 0.0
    assert critic["privileged.mean"].shape == (extra,)
    assert policy.input_names == ("observation",) and policy.actor[0].weight.shape[1] == size
    onnx = pytest.importorskip("onnx")
    example = {"observation": np.zeros((2, size), np.float32)}
    graph = onnx.load(io.BytesIO(to_onnx(policy, example))).graph
    assert [i.name for i in graph.input] == ["observation"]


def test_what_the_actor_does_does_not_depend_on_privileged_signals() -> None:
    task, robot = load_task("quadruped_velocity"), find_robot("quadruped")
    card = card_of(task, robot, NetworkConfig(hidden=(8,)))
    scale = RunningStatistics(len(task.privileged_names))
    env = ContextVecEnv(environments(task, robot, privileged=True), card, RunningStatistics(card.shown), critic=scale)
    learner = make_ppo(env, card.network, TINY, 0)
    vector = torch.from_numpy(env.reset()).requires_grad_(True)
    mean, _, value = learner.policy.assess(vector)
    (by_actor,) = torch.autograd.grad(mean.sum(), vector, retain_graph=True)
    (by_critic,) = torch.autograd.grad(value.sum(), vector)
    assert by_actor[:, card.vector :].abs().max() == 0.0 < by_actor.abs().max()
    assert by_critic[:, card.vector :].abs().max() > 0.0


def test_a_critic_that_saw_other_signals_begins_anew(tmp_path: Path) -> None:
    task, robot = load_task("quadruped_velocity"), find_robot("quadruped")
    card, few = card_of(task, robot, NetworkConfig(hidden=(8,))), replace(TINY, env_steps=1)
    source = train(lambda n: environments(task, robot), card, few, tmp_path / "a", seed=0).policy
    critic = load_critic(tmp_path / "a" / "policy")
    train(
        lambda n: environments(task, robot, privileged=True), card, few, tmp_path / "b", seed=0, start_from=source,
        start_critic=critic,
    )  # fmt: skip
    wide = load_critic(tmp_path / "b" / "policy")
    assert wide is not None and "privileged.mean" in wide


def test_the_last_moment_of_an_episode_is_judged_with_its_memory(task: Task, robot: RobotConfig) -> None:
    """Where encoders are trained along the critic reads the rows themselves, which the next episode begins without."""
    card = card_of(task, robot, NetworkConfig(hidden=(8,), memory=2))
    env = ContextVecEnv(environments(task, robot, 0), card, RunningStatistics(card.shown), trained=True)
    shown, done, infos = env.reset(), np.zeros(env.num_envs, bool), [{}] * env.num_envs
    while not done.any():
        before = np.array(shown["observation"])  # type: ignore[index, call-overload]
        shown, _, done, infos = env.step(np.zeros((env.num_envs, 1), np.float32))
    ended = int(np.flatnonzero(done)[0])
    memory = infos[ended]["terminal_observation"]["memory"]
    assert (memory[:, 0] == 1.0).all()
    np.testing.assert_array_equal(memory[-1, 1:], before[ended])
    assert not shown["memory"][ended].any()  # type: ignore[index, call-overload]

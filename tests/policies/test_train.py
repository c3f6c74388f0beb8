"""Training: resuming exactly after a kill, files without pickle, starting from another policy, sensible errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from policies import checkpoint
from policies.average import Average
from policies.context_env import ContextVecEnv
from policies.encoders.physics import PhysicsEncoder
from policies.layers import actor_layers, read_actor, read_critic, write_actor, write_critic
from policies.network import NetworkConfig
from policies.policy import Policy, PolicyCard
from policies.ppo import TrainConfig, make_ppo
from policies.progress import Progress
from policies.statistics import RunningStatistics
from policies.train import CURVE, MakeEnv, load_critic, train
from robot.config import ConfigError
from sim.curriculum import Adr
from sim.model import RobotConfig
from sim.randomization import NOMINAL, Randomization, Term, Uniform
from sim.sb3 import SB3VecEnv
from sim.tasks import Task
from sim.vecenv import BatchedEnv

TINY = TrainConfig(
    env_steps=8 * 16 * 2 * 6, num_envs=8, rollout_steps=16, segment_rollouts=2, batch=64, epochs=2, evaluate_segments=2
)
FRICTION = Randomization(
    name="friction", terms=(Term(targets=("joint/shoulder/damping",), law=Uniform(low=0.0, high=0.1)),)
)


def envs(task: Task, robot: RobotConfig, history: int = 0, law: Randomization = FRICTION) -> MakeEnv:
    return lambda n: SB3VecEnv(BatchedEnv(task, robot, law, n, history=history, seed=0, nthread=1))


def evaluate(policy: Policy) -> tuple[float, float]:
    """A cheap stand-in for episodes: deterministic in the weights."""
    return 0.5, float(sum(p.abs().sum().item() for p in policy.actor.parameters()))


def curve_of(out: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (out / CURVE).read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def main() -> None:
    """What the kill test runs in a process of its own: out, encoder folder, resume."""
    from sim.model import find_robot
    from sim.tasks import load_task

    torch.set_num_threads(1)
    task, robot = load_task("pendulum_swingup"), find_robot("simple_pendulum")
    encoder = PhysicsEncoder.load(Path(sys.argv[2]))
    card = PolicyCard(
        task=task.name, control_period_s=task.control_period_s, spec=robot.spec, observation=task.observation,
        action=task.action, network=NetworkConfig(hidden=(16, 16)),
    )  # fmt: skip
    make = envs(task, robot, encoder.card.history)
    train(
        make,
        card,
        replace(TINY, average=0.9),
        Path(sys.argv[1]),
        seed=3,
        resume=sys.argv[3] == "resume",
        encoder=encoder,
        evaluate=evaluate,
    )


def test_kill_9_then_resume_gives_the_uninterrupted_curve(encoder: PhysicsEncoder, tmp_path: Path) -> None:
    folder = encoder.save(tmp_path / "encoder")

    def command(out: str, mode: str) -> list[str]:
        return [sys.executable, __file__, str(tmp_path / out), str(folder), mode]

    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    whole = subprocess.Popen(command("whole", "fresh"), env=environment)
    victim = subprocess.Popen(command("killed", "fresh"), env=environment)
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "checkpoints" / "000002").exists() and victim.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert len(curve_of(tmp_path / "killed")) < 6, "it was killed too late to test anything"
    assert subprocess.run(command("killed", "resume"), env=environment).returncode == 0
    assert whole.wait(120) == 0
    assert curve_of(tmp_path / "killed") == curve_of(tmp_path / "whole")
    for name in ("policy/policy.safetensors", "policy/policy.yaml", "checkpoints/000006/state.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_training_leaves_no_pickle_and_a_policy_that_acts_as_the_learner(
    task: Task, robot: RobotConfig, card: PolicyCard, tmp_path: Path
) -> None:
    reports: list[Progress] = []
    result = train(envs(task, robot), card, TINY, tmp_path, seed=0, evaluate=evaluate, report=reports.append)
    assert result.env_steps == TINY.segments * TINY.segment_steps and result.env_steps_per_s > 0
    assert [row["segment"] for row in result.curve] == [1, 2, 3, 4, 5, 6]
    assert ["success" in row for row in result.curve] == [False, True] * 3
    assert reports[-1].done == reports[-1].total and reports[-1].eta_s == 0.0
    written = {p.suffix for p in tmp_path.rglob("*") if p.is_file() and "tensorboard" not in p.parts}
    assert written == {".safetensors", ".yaml", ".jsonl"}
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["000005", "000006"]
    assert list((tmp_path / "tensorboard").glob("events.*"))
    again = Policy.load(tmp_path / "policy")
    inputs = {"observation": np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)}
    np.testing.assert_array_equal(again.act(inputs), result.policy.act(inputs))
    assert again.card.lineage["env_steps"] == str(result.env_steps)


def test_the_policy_reproduces_the_learners_deterministic_action(
    task: Task, robot: RobotConfig, card: PolicyCard, encoder: PhysicsEncoder
) -> None:
    statistics = RunningStatistics(4)
    statistics.freeze([0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 0.5])
    raw = envs(task, robot, encoder.card.history)(8)
    env = ContextVecEnv(raw, card.with_encoder(encoder.card), statistics, encoder)
    learner = make_ppo(env, card.network, TINY, seed=0)
    policy = Policy(card.with_encoder(encoder.card)).eval()
    assert policy.encoder is not None
    policy.encoder.load_state_dict(encoder.state_dict())
    policy.normalizer.set(statistics.mean, statistics.deviation)
    write_actor(learner, policy.actor)
    read_actor(learner, policy.actor)
    env.reset()
    for _ in range(60):
        raw.step_async(np.random.default_rng(0).uniform(-1, 1, (8, 1)))
        inputs = raw.step_wait()[0]
    assert isinstance(inputs, dict)
    mine = policy.act(inputs)
    theirs = learner.predict(env._convert(inputs), deterministic=True)[0]
    np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_the_end_of_an_episode_is_bootstrapped_from_its_own_context(
    task: Task, robot: RobotConfig, card: PolicyCard, encoder: PhysicsEncoder
) -> None:
    """The terminal observation has the context of the episode that ended, not of the one that begins."""
    short = replace(task, episode_s=0.3)
    raw = envs(short, robot, encoder.card.history)(4)
    env = ContextVecEnv(raw, card.with_encoder(encoder.card), RunningStatistics(4), encoder)
    env.reset()
    for _ in range(30):
        observed, _, done, infos = env.step(np.ones((4, 1)))
    assert done.all() and all(info["TimeLimit.truncated"] for info in infos)
    ended = np.stack([info["terminal_observation"] for info in infos])
    assert ended.shape == observed.shape
    empty = observed[:, 4:]
    np.testing.assert_array_equal(empty, empty[:1].repeat(4, axis=0))  # a new episode: nothing known yet
    assert np.abs(ended[:, 4:] - empty).max() > 1e-3


def test_starting_from_a_policy_keeps_its_weights_and_scaling_while_the_critic_warms_up(
    task: Task, robot: RobotConfig, card: PolicyCard, tmp_path: Path
) -> None:
    source = train(envs(task, robot), card, TINY, tmp_path / "source", seed=0).policy
    warm = replace(TINY, critic_rollouts=10**6)
    kept = train(envs(task, robot, law=NOMINAL), card, warm, tmp_path / "warm", seed=1, start_from=source).policy
    for name, value in source.state_dict().items():
        assert torch.equal(kept.state_dict()[name], value), name
    moved = train(envs(task, robot, law=NOMINAL), card, TINY, tmp_path / "moved", seed=1, start_from=source).policy
    assert torch.equal(moved.normalizer.mean, source.normalizer.mean)
    assert not torch.equal(moved.actor[0].weight, source.actor[0].weight)


def test_the_critic_is_kept_beside_the_policy_for_further_training(
    task: Task, robot: RobotConfig, card: PolicyCard, tmp_path: Path
) -> None:
    train(envs(task, robot), card, TINY, tmp_path, seed=0)
    critic = load_critic(tmp_path / "policy")
    assert critic is not None and load_critic(tmp_path) is None
    env = ContextVecEnv(envs(task, robot)(8), card, RunningStatistics(4))
    learner = make_ppo(env, card.network, TINY, seed=9)
    write_critic(learner, critic)
    assert all(torch.equal(value, critic[name]) for name, value in read_critic(learner).items())
    assert not any("policy_net" in name or "action_net" in name for name in critic)
    with pytest.raises(ValueError, match="other widths"):
        write_critic(make_ppo(env, NetworkConfig(hidden=(8, 8)), TINY, seed=0), critic)


def test_mistakes_are_told_in_one_sentence(task: Task, robot: RobotConfig, card: PolicyCard, tmp_path: Path) -> None:
    once = replace(TINY, env_steps=1)
    first = train(envs(task, robot), card, once, tmp_path, seed=0).policy
    with pytest.raises(ConfigError, match="already holds a training; continue it with resume=true"):
        train(envs(task, robot), card, once, tmp_path, seed=0)
    with pytest.raises(ConfigError, match=r"started with learning_rate = 0\.0003.*resumed with 0\.01"):
        train(envs(task, robot), card, replace(once, learning_rate=0.01), tmp_path, seed=0, resume=True)
    with pytest.raises(ConfigError, match="started with another policy card"):
        other = replace(card, network=replace(card.network, activation="relu"))
        train(envs(task, robot), other, once, tmp_path, seed=0, resume=True)
    with pytest.raises(ConfigError, match="started with another law"):
        drawn = replace(card, lineage={**card.lineage, "law_sha256": "another"})
        train(envs(task, robot), drawn, once, tmp_path, seed=0, resume=True)
    with pytest.raises(ConfigError, match="has the network"):
        wider = replace(card, network=NetworkConfig(hidden=(8,)))
        train(envs(task, robot), wider, once, tmp_path / "other", seed=0, start_from=first)
    with pytest.raises(ConfigError, match=r"recipe\.batch is 512"):
        replace(TINY, batch=512)


def test_resuming_a_finished_run_changes_nothing(
    task: Task, robot: RobotConfig, card: PolicyCard, tmp_path: Path
) -> None:
    one = train(envs(task, robot), card, TINY, tmp_path, seed=0, evaluate=evaluate)
    before = checkpoint.latest(tmp_path)
    two = train(envs(task, robot), card, TINY, tmp_path, seed=0, evaluate=evaluate, resume=True)
    assert checkpoint.latest(tmp_path) == before and two.curve == one.curve
    assert all(torch.equal(v, two.policy.state_dict()[k]) for k, v in one.policy.state_dict().items())


def test_running_statistics_are_those_of_all_rows() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal([3.0, -1.0], [2.0, 0.0], (500, 2))
    statistics = RunningStatistics(2)
    for part in np.array_split(rows, 7):
        statistics.add(part)
    assert (statistics.mean == 0).all()  # not in force before commit
    statistics.commit()
    np.testing.assert_allclose(statistics.mean, rows.mean(axis=0))
    np.testing.assert_allclose(statistics.deviation, [rows[:, 0].std(), 1.0])


if __name__ == "__main__":
    main()


def test_a_curriculum_goes_on_where_the_checkpoint_left_it(
    task: Task, robot: RobotConfig, card: PolicyCard, tmp_path: Path
) -> None:
    law = Randomization(
        name="mass",
        terms=(Term(targets=("body/pendulum/mass",), how="scale", law=Uniform(low=0.5, high=2.0)),),
        curriculum=Adr(episodes=2, bad=-1.0, good=0.0),
    )
    short = replace(task, explore_s=0.1)

    def make(num_envs: int) -> VecEnv:
        return SB3VecEnv(BatchedEnv(short, robot, law, num_envs, stagger=True, nthread=1))

    def cut(policy: Policy) -> tuple[float, float]:
        raise KeyboardInterrupt

    whole = train(make, card, TINY, tmp_path / "whole", seed=1, evaluate=evaluate)
    widths = [row["curriculum/width"] for row in whole.curve]
    assert widths[-1] > widths[0], "a bound at which every episode is good grows"
    assert {"term/height", "train_steps"} <= set(whole.curve[-1])
    with pytest.raises(KeyboardInterrupt):  # in segment 2: one checkpoint is there
        train(make, card, TINY, tmp_path / "cut", seed=1, evaluate=cut)
    again = train(make, card, TINY, tmp_path / "cut", seed=1, evaluate=evaluate, resume=True)
    assert [row["curriculum/width"] for row in again.curve] == widths
    assert curve_of(tmp_path / "cut") == curve_of(tmp_path / "whole")


def test_a_running_mean_follows_the_weights_by_its_decay_and_goes_on_from_its_state() -> None:
    layer = nn.Linear(3, 2)
    before, mean = layer.weight.detach().clone(), Average([layer], 0.9)
    nn.init.constant_(layer.weight, 1.0)
    mean.update()
    torch.testing.assert_close(mean.layers[0].weight.detach(), 0.9 * before + 0.1, rtol=1e-5, atol=1e-6)
    again = Average([layer], 0.9)
    again.restore(mean.state())
    for one in (mean, again):
        one.update()
    assert torch.equal(mean.layers[0].weight, again.layers[0].weight)


def test_a_running_mean_of_the_actors_weights_is_what_is_kept(
    task: Task, robot: RobotConfig, card: PolicyCard, tmp_path: Path
) -> None:
    plain = train(envs(task, robot), card, TINY, tmp_path / "plain", seed=0).policy
    slow = train(envs(task, robot), card, replace(TINY, average=0.99), tmp_path / "slow", seed=0).policy
    assert not torch.equal(slow.actor[0].weight, plain.actor[0].weight)
    other = make_ppo(ContextVecEnv(envs(task, robot)(8), card, RunningStatistics(4)), card.network, TINY, seed=0)
    begun = [layer.weight for layer in actor_layers(other)]
    away = [float((p.actor[0].weight - begun[0]).detach().norm()) for p in (slow, plain)]
    assert away[0] < 0.5 * away[1], "a slow mean stays near where the weights began"
    with pytest.raises(ConfigError, match="average is 1"):
        replace(TINY, average=1.0)

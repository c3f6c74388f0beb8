"""Fine-tuning keeps what is proven better, rolls back what is not, and says why."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.encoders.adapt import AdaptConfig
from policies.encoders.heads import Heads
from policies.encoders.physics import EncoderCard, EncoderConfig, PhysicsEncoder
from policies.encoders.pretrain import pretrain
from policies.network import NetworkConfig
from policies.policy import Policy, PolicyCard
from policies.ppo import TrainConfig
from robot.config import ConfigError
from robot.observation import Observation
from sim.evaluate import EpisodeStats
from sim.model import find_robot
from sim.randomization import NOMINAL, Point, Randomization, Term, Uniform
from sim.sb3 import SB3VecEnv
from sim.tasks import load_task
from sim.vecenv import BatchedEnv
from transfer.finetune import Evidence, FinetuneConfig, finetune
from transfer.windows import simulated_windows

TINY = FinetuneConfig(
    recipe=TrainConfig(env_steps=1, num_envs=4, rollout_steps=8, segment_rollouts=1, batch=32, epochs=1),
    adapt=AdaptConfig(updates=100, batch=64, learning_rate=2e-3),
)
SMALL = EncoderConfig(
    history=24, context=2, horizon=8, hidden=(16,), predictor=(16,), simulations=12, seconds=1.5, windows=24,
    grounding=60, updates=300, batch=64,
)  # fmt: skip
PRIOR = Randomization(
    name="prior",
    terms=(
        Term(targets=("body/pendulum/com",), how="scale", law=Uniform(low=0.8, high=1.2)),
        Term(targets=("joint/shoulder/damping",), law=Uniform(low=0.0, high=0.1)),
    ),
)
HEAVY = Randomization(
    name="heavy", terms=(Term(targets=("body/pendulum/com", "joint/shoulder/damping"), law=Point(values=(0.8, 0.5))),)
)


def episodes(successes: int, value: float = 1.0, n: int = 60) -> EpisodeStats:
    return EpisodeStats(np.arange(n) < successes, value + np.linspace(0.0, 1.0, n))


@dataclass
class Judge:
    """Gives the source one outcome and every other policy another."""

    source: Policy
    of_source: EpisodeStats
    of_others: EpisodeStats

    def __call__(self, policy: Policy) -> EpisodeStats:
        same = all(torch.equal(v, policy.state_dict()[k]) for k, v in self.source.state_dict().items())
        return self.of_source if same else self.of_others


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Policy, Evidence]:
    """A policy with a briefly pretrained encoder, and evidence of which the judges are replaced by each test."""
    torch.set_num_threads(1)
    robot, task = find_robot("simple_pendulum"), load_task("pendulum_swingup")
    layout = Observation(robot.spec, replace(task.observation, history=SMALL.history), task.action)
    simulated = simulated_windows(task, robot, PRIOR, SMALL, seed=0, nthread=1)
    folder = tmp_path_factory.mktemp("encoder")
    pretrain(simulated, EncoderCard.of(layout, SMALL, task.control_period_s), SMALL, folder, seed=0)
    encoder = PhysicsEncoder.load(folder)
    card = PolicyCard(
        task=task.name, control_period_s=0.01, spec=robot.spec, observation=task.observation, action=task.action,
        network=NetworkConfig(hidden=(8,)),
    ).with_encoder(encoder.card)  # fmt: skip
    policy = Policy(card).eval()
    assert policy.encoder is not None
    policy.encoder.load_state_dict(encoder.state_dict())
    evidence = Evidence(
        make_env=lambda n: SB3VecEnv(BatchedEnv(task, robot, HEAVY, n, history=SMALL.history, nthread=1)),
        evaluate=lambda policy: (0.0, 0.0),
        real=Judge(policy, episodes(10), episodes(55)),
        source=Judge(policy, episodes(60, 4.0), episodes(60, 3.0)),
        home=lambda n: SB3VecEnv(BatchedEnv(task, robot, NOMINAL, n, history=SMALL.history, nthread=1)),
        windows=simulated_windows(task, robot, HEAVY, SMALL, seed=1, nthread=1),
        held_out=simulated_windows(task, robot, HEAVY, SMALL, seed=2, nthread=1),
        replay=simulated,
        heads=Heads.load(folder, encoder.card),
    )
    return policy, evidence


def test_what_is_proven_better_is_kept_with_its_forgetting(source: tuple[Policy, Evidence], tmp_path: Path) -> None:
    policy, evidence = source
    result = finetune(policy, evidence, TINY, tmp_path, seed=0, scratch=episodes(5), oracle=episodes(60))
    assert [c.method for c in result.candidates] == ["nothing", "policy", "encoder+policy"]
    assert result.selected == "policy"  # ties go to the smaller change
    assert result.forgetting["return"]["mean"] == pytest.approx(1.0 / 4.5)
    assert result.kpis["transfer_efficiency"]["mean"] == pytest.approx(50 / 55)
    assert result.kpis["adaptation_gap"]["mean"] == pytest.approx(5 / 60)
    rows = result.rows(np.random.default_rng(0))
    assert {"method", "real_score", "source_return", "accepted", "why"} <= rows[1].keys()
    assert rows[1]["real_score"]["n"] == 60 and rows[1]["real_score"]["ci95"][0] > 0.8
    assert "against doing nothing" in rows[1]["why"]
    kept = Policy.load(tmp_path / "policy")
    assert not torch.equal(kept.actor[0].weight, policy.actor[0].weight)
    assert result.encoder is not None and result.encoder["after"] < result.encoder["before"]
    assert result.encoder["forgetting"]["n"] == SMALL.simulations


def test_negative_transfer_is_rolled_back(source: tuple[Policy, Evidence], tmp_path: Path) -> None:
    policy, evidence = source
    worse = replace(evidence, real=Judge(policy, episodes(40), episodes(10)))
    result = finetune(policy, worse, TINY, tmp_path, seed=0)
    assert result.selected == "nothing" and not any(c.accepted for c in result.candidates[1:])
    assert all("negative transfer, rolled back" in c.why for c in result.candidates[1:])
    kept = Policy.load(tmp_path / "policy")
    assert all(torch.equal(v, kept.state_dict()[k]) for k, v in policy.state_dict().items())
    assert result.forgetting["return"]["mean"] == 0.0
    assert result.kpis["transfer_efficiency"]["mean"] is None


def test_an_encoder_that_predicts_no_better_is_given_up_before_a_policy_is_trained_on_it(
    source: tuple[Policy, Evidence], tmp_path: Path
) -> None:
    policy, evidence = source
    assert evidence.replay is not None
    hopeless = replace(TINY, methods=("encoder+policy",), adapt=AdaptConfig(updates=30, batch=64, learning_rate=1.0))
    result = finetune(policy, replace(evidence, held_out=evidence.replay), hopeless, tmp_path, seed=0)
    assert result.selected == "nothing" and not result.training
    row = result.rows(np.random.default_rng(0))[1]
    assert row["real_score"] is None and "held-out prediction error did not fall" in row["why"]


def test_without_windows_the_encoder_is_left_alone(source: tuple[Policy, Evidence], tmp_path: Path) -> None:
    policy, evidence = source
    result = finetune(policy, replace(evidence, windows=None), TINY, tmp_path, seed=0)
    assert result.selected == "policy"
    assert "no recording is long enough" in result.candidates[2].why


def test_equal_seeds_give_equal_results(source: tuple[Policy, Evidence], tmp_path: Path) -> None:
    policy, evidence = source
    one, two = (finetune(policy, evidence, TINY, tmp_path / name, seed=3) for name in "ab")
    assert one.rows(np.random.default_rng(1)) == two.rows(np.random.default_rng(1))
    assert one.kpis == two.kpis and one.encoder == two.encoder
    for name, value in one.policy.state_dict().items():
        assert torch.equal(value, two.policy.state_dict()[name])


def test_the_smaller_ways_are_candidates_too(source: tuple[Policy, Evidence], tmp_path: Path) -> None:
    policy, evidence = source
    few = replace(TINY, methods=("encoder", "lora", "scratch", "cloning"), rank=1)
    twice = {"merge:average": copy.deepcopy(policy)}
    result = finetune(policy, replace(evidence, merged=twice), few, tmp_path, seed=0)
    found = {c.method: c for c in result.candidates}
    assert list(found) == ["nothing", "encoder", "lora", "scratch", "cloning", "merge:average"]
    assert result.selected == "encoder" and torch.equal(result.policy.actor[0].weight, policy.actor[0].weight)
    assert result.training.keys() == {"lora", "scratch"}
    for name, value in result.training["lora"].policy.actor.named_parameters():
        change = value.detach() - policy.actor.get_parameter(name).detach()
        assert torch.linalg.matrix_rank(change, rtol=1e-3) <= 1 if value.ndim == 2 else not change.any()
    begun = result.training["scratch"].policy
    assert "start_from" not in begun.card.lineage and begun.encoder is not None and policy.encoder is not None
    weights = next(iter(begun.encoder.parameters())), next(iter(policy.encoder.parameters()))
    assert not torch.equal(*weights)
    assert "no recordings to learn actions from" in found["cloning"].why and not found["cloning"].accepted
    assert "not proven better" in found["merge:average"].why  # it is the source once more
    assert result.kpis["gain_over_scratch"]["mean"] == 0.0  # the judge gives both the same


def test_a_guard_is_part_of_what_a_resumed_training_must_share(source: tuple[Policy, Evidence], tmp_path: Path) -> None:
    policy, evidence = source
    only = replace(TINY, methods=("policy",), guard="none")
    finetune(policy, evidence, only, tmp_path, seed=0)
    with pytest.raises(ConfigError, match="another guard"):
        near = replace(only, guard="kl")
        finetune(policy, evidence, near, tmp_path, seed=0, resume=True)

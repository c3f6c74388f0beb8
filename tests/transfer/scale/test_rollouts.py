"""Rollouts in groups: equal wherever the groups are, whatever is killed, and every part counted once."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policies.gathering import Ledger
from policies.group_actors import Arrays
from policies.groups import Collector, GroupPlan, Groups, InProcess, stamp
from policies.network import NetworkConfig
from policies.off_policy import OffPolicyConfig
from policies.policy import PolicyCard
from policies.ppo import TrainConfig
from policies.train import TrainResult, train
from robot.config import ConfigError
from sim.curriculum import Adr, Ramp
from sim.model import find_robot
from sim.randomization import Randomization, Term, Uniform
from sim.tasks import load_task
from transfer.scale.cluster import Cluster
from transfer.scale.rollouts import ClusterLost, RayCollector, in_process
from transfer.scale.world import World
from transfer.training import card_of, environments

from .conftest import SMALL

GROUPS = 3
TINY = TrainConfig(env_steps=6 * 16 * 2 * 2, num_envs=6, rollout_steps=16, segment_rollouts=2, batch=48, epochs=2)
SAC = OffPolicyConfig(
    algorithm="sac",
    env_steps=6 * 4 * 4 * 2,
    num_envs=6,
    rollout_steps=4,
    gradient_steps=2,
    segment_rollouts=4,
    batch=32,
    buffer=1000,
    learning_starts=50,
)
LAW = Randomization(
    name="friction",
    terms=(Term(targets=("joint/shoulder/damping",), law=Uniform(low=0.0, high=0.1)),),
    curriculum=Ramp(over_env_steps=300),
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def world() -> World:
    robot = find_robot("simple_pendulum")
    return World(task=load_task("pendulum_swingup"), robot=robot, law=LAW, history=0, privileged=False)


def card(world: World) -> PolicyCard:
    return card_of(world.task, world.robot, NetworkConfig(hidden=(8, 8), memory=2))


def trained(world: World, out: Path, make: Any, recipe: Any = TINY, **more: Any) -> TrainResult:
    envs = environments(world.task, world.robot, world.law, 0, 0, nthread=1)
    groups = None if make is None else Groups(GROUPS, make, staleness=2)
    return train(envs, card(world), recipe, out, seed=3, groups=groups, **more)


def local(world: World) -> Any:
    return lambda plan: in_process(plan, world, nthread=1)


@pytest.fixture(scope="module")
def reference(world: World, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """In this process, never interrupted."""
    return trained(world, tmp_path_factory.mktemp("reference"), local(world))


def same(a: TrainResult, b: TrainResult) -> bool:
    """To the last bit: curve and weights."""
    curves = [[{k: v for k, v in row.items() if k != "seconds"} for row in r.curve] for r in (a, b)]
    left, right = a.policy.state_dict(), b.policy.state_dict()
    return curves[0] == curves[1] and all(torch.equal(left[k], right[k]) for k in left)


class Mortal(InProcess):
    """Killed in the second segment."""

    def begin(self, segment: int, stream: int) -> None:
        if segment == 1:
            raise KeyboardInterrupt
        super().begin(segment, stream)


def mortal(world: World) -> Any:
    return lambda plan: Mortal([world.group(plan, nthread=1) for _ in range(plan.groups)], plan.lag)


class Killing(RayCollector):
    """A worker is killed in the middle of the second segment, with answers under way."""

    def collect(self, order: Arrays) -> list[Arrays]:
        if self._segment == 1 and len(self._orders) == 1:
            pid = self._workers[0].__ray_call__.remote(lambda _: os.getpid())
            os.kill(self._ray.get(pid), signal.SIGKILL)
        return super().collect(order)


def test_over_a_cluster_comes_what_comes_in_one_process(
    world: World, reference: TrainResult, small_cluster: Cluster, tmp_path: Path
) -> None:
    made = trained(world, tmp_path, lambda plan: RayCollector(plan, world, SMALL, 1))
    assert same(made, reference)
    assert made.scale["workers"] == 1 and made.scale["workers_replaced"] == 0


@pytest.fixture(scope="module")
def remembering(world: World, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """SAC, in this process."""
    return trained(world, tmp_path_factory.mktemp("sac"), local(world), SAC)


def test_a_killed_worker_changes_nothing_and_nothing_is_counted_twice(
    world: World, remembering: TrainResult, small_cluster: Cluster, tmp_path: Path
) -> None:
    made = trained(world, tmp_path, lambda plan: Killing(plan, world, SMALL, small_cluster.workers), SAC)
    assert made.scale["workers"] == small_cluster.workers == 2
    assert made.scale["workers_replaced"] == 1 and made.scale["parts_repeated"] >= 1
    assert same(made, remembering)
    assert made.scale["parts"] == SAC.segments * SAC.segment_rollouts * GROUPS
    assert made.scale["env_steps"] == made.env_steps == SAC.env_steps


def test_sac_in_groups_resumes_exactly_and_its_staleness_counts(
    world: World, remembering: TrainResult, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(world, tmp_path, mortal(world), SAC)
    assert same(trained(world, tmp_path, local(world), SAC, resume=True), remembering)
    fresh = trained(world, tmp_path / "fresh", lambda plan: in_process(replace(plan, lag=0), world, nthread=1), SAC)
    assert not same(fresh, remembering)


def test_a_training_gives_up_where_workers_keep_dying(world: World, small_cluster: Cluster, tmp_path: Path) -> None:
    class Dead(RayCollector):
        def _start(self, processors: int) -> Any:
            worker = super()._start(processors)
            self._ray.kill(worker)
            return worker

    mortal = replace(SMALL, replacements=1)
    with pytest.raises(ClusterLost, match="2 workers were lost"):
        trained(world, tmp_path, lambda plan: Dead(plan, world, mortal, 1))


def test_a_resumed_training_in_groups_gives_the_same_curve(
    world: World, reference: TrainResult, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(world, tmp_path, mortal(world))
    with pytest.raises(ConfigError, match="another groups"):
        trained(world, tmp_path, None, resume=True)
    assert same(trained(world, tmp_path, local(world), resume=True), reference)


def test_rollouts_in_groups_learn_as_those_in_one(world: World, reference: TrainResult, tmp_path: Path) -> None:
    """Other random streams, the same algorithm: scaling and curriculum have seen as much."""
    alone = trained(world, tmp_path, None)
    assert alone.curve[-1]["env_steps"] == reference.curve[-1]["env_steps"]
    assert alone.curve[-1]["curriculum/share"] == reference.curve[-1]["curriculum/share"]
    a, b = (r.policy.normalizer.deviation.numpy() for r in (alone, reference))
    np.testing.assert_allclose(a, b, rtol=0.5)
    assert not same(alone, reference)


def test_a_part_is_taken_once_and_in_its_turn() -> None:
    ledger = Ledger(2)
    ledger.turn(0, 0)
    part: Arrays = {"rewards": np.zeros((16, 2))}
    ledger.take(part | stamp(0, 0, 0), 0)
    with pytest.raises(RuntimeError, match="twice"):
        ledger.take(part | stamp(0, 0, 0), 0)
    with pytest.raises(RuntimeError, match="is due"):
        ledger.take(part | stamp(0, 1, 1), 1)
    assert ledger.env_steps == 32


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"recipe": replace(TINY, num_envs=8)}, "cannot be cut"),
        ({"recipe": replace(TINY, algorithm="recurrent_ppo")}, "recurrent_ppo"),
        ({"encoders": "finetuned"}, "encoders=finetuned"),
        ({"advise": lambda inputs: np.zeros((1, 1), np.float32)}, "teacher"),
        ({"law": replace(LAW, curriculum=Adr())}, "judges episodes"),
    ],
)
def test_what_cannot_be_cut_is_refused(world: World, tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    def never(plan: GroupPlan) -> Collector:
        raise AssertionError("refused too late")

    given = dict(changed)
    world = replace(world, law=given.pop("law", LAW))
    with pytest.raises(ConfigError, match=message):
        trained(world, tmp_path, never, **given)

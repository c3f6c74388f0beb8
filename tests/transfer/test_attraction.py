"""A hold that counts on dry friction: its region is found again, and it holds where the other one lets go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.hold import Hold, HoldCard
from policies.network import NetworkConfig
from policies.policy import Policy
from robot.config import ConfigError
from robot.observation import ObservationConfig
from robot.result import Run
from sim import randomization
from sim.model import RobotConfig, find_robot
from sim.randomization import Randomization
from sim.state import Start
from sim.tasks import Task, load_task
from sim.vecenv import BatchedEnv
from transfer import attraction, cli
from transfer.hold import hold_of
from transfer.setting import prepare
from transfer.training import card_of

SHOULDER, ELBOW, RATIO, TORQUE = 0.24, 0.18, 1.4, 6.0
LAW = f"""
name: sticking
terms:
  - {{targets: [joint/shoulder/frictionloss], how: set, law: {{kind: point, values: [{SHOULDER}]}}}}
  - {{targets: [joint/elbow/frictionloss], how: set, law: {{kind: point, values: [{ELBOW}]}}}}
  - targets: [joint/shoulder/stribeck_ratio, joint/elbow/stribeck_ratio]
    how: set
    law: {{kind: point, values: [{RATIO}, {RATIO}]}}
  - targets: [joint/shoulder/stribeck_velocity, joint/elbow/stribeck_velocity]
    how: set
    law: {{kind: point, values: [0.1, 0.1]}}
"""


def test_an_ellipsoid_is_found_again_from_what_came_to_rest() -> None:
    within = np.array([0.3, 0.3, 2.0, 2.0])
    thin = np.array(
        [[120.0, 130.0, 26.0, 19.0], [130.0, 155.0, 31.0, 22.0], [26.0, 31.0, 7.0, 4.8], [19.0, 22.0, 4.8, 4.0]]
    )

    def comes_to_rest(starts: attraction.Array) -> attraction.Flags:
        return np.asarray(np.einsum("ni,ij,nj->n", starts, thin, starts) <= 1.0)

    form, level = attraction.ellipsoid(within, comes_to_rest, np.random.default_rng(0))
    fresh = attraction.starts_about(within, np.random.default_rng(1))
    inside = np.einsum("ni,ij,nj->n", fresh, form, fresh) <= level
    truth = comes_to_rest(fresh)
    assert truth[inside].mean() > attraction.HELD - 0.02
    assert inside[truth].mean() > 0.85  # and most of what comes to rest is in it
    assert (np.linalg.eigvalsh(form) > 0.0).all()


def test_nothing_that_comes_to_rest_is_an_empty_region() -> None:
    within = np.full(4, 0.3)
    assert attraction.ellipsoid(within, lambda x: np.zeros(len(x), dtype=bool), np.random.default_rng(0))[1] == 0.0


def test_friction_without_a_hold_is_refused() -> None:
    with pytest.raises(ConfigError, match="stiction=true is a way to hold"):
        NetworkConfig(stiction=True)


@pytest.fixture(scope="module")
def robot() -> RobotConfig:
    return find_robot("double_pendulum_c1")


@pytest.fixture(scope="module")
def task() -> Task:
    task = load_task("pendubot_swingup")
    seen = ("joint_cos", "joint_sin", "joint_change", "previous_action")
    return replace(task, observation=ObservationConfig(features=seen))


@pytest.fixture(scope="module")
def law(tmp_path_factory: pytest.TempPathFactory) -> Randomization:
    path: Path = tmp_path_factory.mktemp("law") / "sticking.yaml"
    path.write_text(LAW)
    return randomization.load(path)


@pytest.fixture(scope="module")
def sticking(task: Task, robot: RobotConfig, law: Randomization) -> HoldCard:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attraction, "STARTS", 192)
        return hold_of(task, robot, law, task.observation, stiction=True)


def test_the_driven_joints_friction_is_made_up_for(sticking: HoldCard, task: Task) -> None:
    assert sticking.friction == pytest.approx([SHOULDER * RATIO / TORQUE])
    components = sticking.inputs
    resting = torch.tensor([[-1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]])  # at the pose
    leaning = resting + torch.tensor([[0.0, 0.0, -0.02, 0.0, 0.0, 0.0, 0.0]])  # the shoulder is 0.02 rad beyond it
    plain, more = (Hold(replace(sticking, friction=f), components) for f in ((), sticking.friction))
    assert float(more.feedback(resting)[0]) == pytest.approx(0.0, abs=1e-6)
    said, added = float(plain.feedback(leaning)[0]), float(more.feedback(leaning)[0])
    assert abs(said) < sticking.friction[0] < abs(added) and np.sign(said) == np.sign(added)
    assert added - said == pytest.approx(np.sign(said) * sticking.friction[0], rel=0.1)


@torch.no_grad()
def test_it_holds_a_leaning_arm_that_sticks_and_creeps(
    sticking: HoldCard, task: Task, robot: RobotConfig, law: Randomization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From rest in its own region, where a hold without friction in its equations pushes it over."""
    monkeypatch.setattr("transfer.hold.STARTS", 8)  # of the other hold the region is not asked
    off = np.random.default_rng(3).uniform(-0.1, 0.1, (4000, 4)) * [1.0, 1.0, 0.0, 0.0]
    inside = np.einsum("ni,ij,nj->n", off, np.array(sticking.value), off) < 0.5 * sticking.region
    off, n = off[inside & (np.abs(off).max(axis=1) > 0.05)][:32], 32
    kept = {}
    for name, card in (("plain", hold_of(task, robot, law, task.observation)), ("sticking", sticking)):
        everywhere = replace(card, region=np.inf, within=(np.inf,) * 4)
        env = BatchedEnv(task, robot, law, n, start="evaluate", autoreset=False)
        hold, nothing = Hold(everywhere, env.observation.components), torch.zeros(n, 1)
        inputs = env.reset(start=Start(np.array(task.pose) + off[:, :2], off[:, 2:]))
        for _ in range(250):
            inputs = env.step(hold(torch.from_numpy(inputs["observation"]), nothing).numpy()).inputs
        kept[name] = env.task.inside(env.state).mean()
    assert kept["sticking"] > 0.9
    assert kept["plain"] < 0.5


def test_a_law_under_which_nothing_holds_is_refused(
    task: Task, robot: RobotConfig, law: Randomization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transfer.hold.ellipsoid", lambda within, *_: (np.eye(len(within)), 0.0))
    with pytest.raises(ConfigError, match=r"near the pose of 'pendubot_swingup'.*robots of 'sticking'"):
        hold_of(task, robot, law, task.observation, stiction=True)


def test_it_joins_a_policy_that_was_trained_without(
    task: Task, robot: RobotConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attraction, "STARTS", 256)
    (tmp_path / "sticking.yaml").write_text(LAW)
    network = NetworkConfig(hidden=(8,), features=task.observation.features, memory=2)
    Policy(card_of(task, robot, network)).save(tmp_path / "policy")
    given = {"out": "out", "start": "policy", "posterior": "sticking.yaml"}
    words = ["task=pendubot_swingup", *(f"{key}={tmp_path / name}" for key, name in given.items())]
    cfg = cli._convert("train", cli.load_stage("train"), [*words, "network.hold=true", "network.stiction=true"])
    setting = prepare(cfg, Run("train", cfg.out))
    assert setting.card.hold is not None and setting.card.hold.friction
    assert setting.card.network == replace(network, hold=True, stiction=True)

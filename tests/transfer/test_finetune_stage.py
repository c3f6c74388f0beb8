"""`finetune policy=` from the command line: one robot, then a second with the first kept, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policies.actor_guard import ActorGuardConfig
from policies.network import NetworkConfig
from policies.policy import Policy
from robot import cli as onboard
from robot import config
from sim.evaluate import EpisodeStats
from sim.mixture import Mixture
from sim.model import RobotConfig
from sim.randomization import NOMINAL, Point, Randomization, Term
from sim.tasks import load_task
from transfer import cli, evidence
from transfer.dataset import Episode, save_dataset
from transfer.stages import finetune as stage
from transfer.training import card_of

DAMPED = Randomization(name="damped", terms=(Term(targets=("joint/shoulder/damping",), law=Point(values=(0.2,))),))


@pytest.fixture(scope="module")
def bench(pendulum: RobotConfig, simulate: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that nobody trained, two recordings, a posterior, and a first fine-tuning in `monday`."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bench")
    Policy(card_of(load_task("pendulum_swingup"), pendulum, NetworkConfig(hidden=(8,)))).eval().save(folder / "policy")
    logs = [simulate(pendulum, {}, seed, seconds=1.0) for seed in (1, 2)]
    rows = [
        Episode(file="", source=f"{i}.mcap", sha256=f"{i}" * 64, seconds=1.0, accepted=True) for i in range(len(logs))
    ]
    files = [log.save(folder / f"{i}.mcap") for i, log in enumerate(logs)]
    save_dataset(folder / "logs", pendulum.spec, list(zip(rows, files, strict=True)))
    config.save(folder / "posterior.yaml", DAMPED)
    with pytest.MonkeyPatch.context() as patch:
        cheap(patch)
        finetune(folder, folder / "monday", "finetune.methods=[]")
    return folder


def cheap(patch: pytest.MonkeyPatch) -> None:
    """Nothing is identified, and the judge's episodes are not run: half of them succeed."""
    patch.setattr(stage, "_identified", lambda *given: DAMPED)
    patch.setattr(evidence, "rollout_success", lambda *given: EpisodeStats(np.arange(20) % 2 == 0, np.ones(20)))


def finetune(bench: Path, out: Path, *words: str) -> dict[str, Any]:
    given = [f"{key}={bench / value}" for key, value in GIVEN.items()]
    result = json.loads(cli.call("finetune", [*given, *words, f"out={out}", "quick=true"]).read_text())
    return dict(result)


GIVEN = {"policy": "policy", "logs": "logs", "posterior": "posterior.yaml"}


def test_a_second_robot_is_added(bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cheap(monkeypatch)
    monday = bench / "monday"
    words = (f"keep=[{monday}]", f"merge=[{monday / 'policy'},{bench / 'policy'}]", f"oracle={bench / 'policy'}")
    result = finetune(bench, tmp_path / "tuesday", *words, "finetune.methods=[cloning]", "finetune.stress=default")
    rows = {row["method"]: row for row in result["candidates"]}
    assert list(rows) == ["nothing", "cloning", "merge:average", "merge:sum"]
    assert "its recordings cannot be judged" in rows["cloning"]["why"] and "joint.velocity" in rows["cloning"]["why"]
    assert set(rows["merge:sum"]["change"]) == {"success", "return", "monday", "stress score"}
    assert rows["merge:sum"]["kept"]["monday"]["mean"] == 0.5 and 0.0 <= rows["merge:sum"]["stress"] <= 1.0
    assert result["selected"] == "nothing" and result["kpis"]["adaptation_gap"]["mean"] == 0.0
    assert [task["name"] for task in result["tasks"]] == ["monday", "tuesday"]
    assert result["continual"]["tasks"] == ["source", "monday", "tuesday"]
    assert result["continual"]["times"] == ["monday", "tuesday"] and len(result["continual"]["success"][0]) == 3
    assert result["inputs"].keys() >= {str((monday / name).resolve()) for name in ("policy", "evidence.yaml")}


def test_earlier_robots_and_the_source_are_trained_in_beside_the_new_one(pendulum: RobotConfig) -> None:
    domain = evidence.Domain(
        task=load_task("pendulum_swingup"), robot=pendulum, source=NOMINAL, posterior=DAMPED, evidence=DAMPED,
        episodes=1, earlier={"monday": (NOMINAL, NOMINAL)},
    )  # fmt: skip
    law = domain.trained_in(ActorGuardConfig(method="replay", weight=0.2))
    assert isinstance(law, Mixture) and law.weights == pytest.approx((0.4, 0.4, 0.2))
    assert replace(domain, earlier={}).trained_in(ActorGuardConfig(method="kl")) is DAMPED


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("keep=[{}/logs]", "holds no result.json of a fine-tuning"),
        ("keep=[{}/nowhere]", "there is no such file or folder"),
        ("merge=[{}/policy]", "at least two policies are needed"),
        ("finetune.methods=[lor]", "lora"),
        ("finetune.methods=[policy,policy]", "names a method twice"),
        ("finetune.guard=ewc", "replay"),
        ("finetune.guard_weight=-1", "guard_weight is -1"),
        ("finetune.rank=0", "rank is 0"),
        ("finetune.tolerance=5", "finetune.tolerance is 5"),
        ("finetune.stress=defualt", "default"),
        ("finetune.stress=pendubot_leaderboard", "is for task 'pendubot_swingup'"),
        ("finetune.cloning.batch=0", "batch must be at least 1"),
        ("oracle={}/nowhere", "there is no such file or folder"),
    ],
)
def test_a_mistake_is_one_sentence(
    word: str, told: str, bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"{key}={bench / value}" for key, value in GIVEN.items()]
    assert onboard.main(["finetune", *given, word.format(bench), f"out={tmp_path}", "quick=true"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert told in said[-1] and len(said) == 1
    assert np.all([not line.startswith("Traceback") for line in said])

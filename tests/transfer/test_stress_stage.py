"""The stage: from a policy and from a bundle alike, its gate, its worst case and the replay of it."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policies.network import NetworkConfig
from policies.policy import Policy
from robot import cli as onboard
from robot import config
from robot.config import ConfigError
from sim.model import find_robot
from sim.tasks import load_task
from tests.transfer.holding import holding_policy
from transfer import cli
from transfer.cli import GateRefused
from transfer.export import export
from transfer.stress import CRITERIA
from transfer.training import card_of
from transfer.worst_case import WorstCase

torch.set_num_threads(1)
TASK = "task=pendubot_swingup"
SHORT = ("quick=true", "stress.arena.duration_s=1.5", "stress.arena.start=[3.18, -0.06]")
"""Begins near upright, where the policy of these tests can hold."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of a policy that holds the pendubot, and of its bundle."""
    folder = tmp_path_factory.mktemp("holding")
    policy = holding_policy()
    policy.save(folder / "policy")
    rng = np.random.default_rng(0)
    golden = {"observation": rng.normal(size=(120, 7)).astype(np.float32)}
    export(policy, folder / "bundle", golden=golden, rng=rng)
    return folder / "policy", folder / "bundle"


def stress(out: Path, *words: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(cli.call("stress", [*words, f"out={out}"]).read_text())
    return result


@pytest.fixture(scope="module")
def results(
    made: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, dict[str, Any]]]:
    folder, (policy, loaded) = tmp_path_factory.mktemp("stress"), made
    words = {"policy": f"policy={policy}", "bundle": f"bundle={loaded}"}
    return folder, {name: stress(folder / name, word, TASK, *SHORT, "seed=4") for name, word in words.items()}


def test_a_policy_and_its_bundle_get_the_same_scores(results: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    policy, loaded = results[1]["policy"], results[1]["bundle"]
    for key in (*CRITERIA, "overall", "rows", "intervals", "runs"):
        assert policy[key] == loaded[key], key
    assert 0.5 < policy["overall"] < 1.0 and policy["runs"] == 14 * 3 + 4
    assert policy["suite"] == "pendubot_leaderboard"  # by the task
    assert policy["worst_case"]["size"] == pytest.approx(loaded["worst_case"]["size"], rel=1e-6)


def test_it_leaves_figures_a_page_and_papers(results: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    import cv2

    folder = results[0] / "bundle"
    picture = cv2.imread(str(folder / "heatmap.png"))
    assert picture.shape[0] > 15 * 20 and picture.std() > 10.0
    page = (folder / "stress.html").read_text()
    assert "Where it fails" in page and "The most harmful perturbation" in page and "plotly" in page
    assert (folder / "lineage.json").exists() and (folder / "config.yaml").exists()
    report = json.loads(cli.call("report", [f"run={folder}", f"out={folder / 'report'}"]).read_text())["report"]
    assert "What the controller bears" in Path(report).read_text()


def test_the_worst_case_fails_and_is_replayed_to_the_same_end(
    made: tuple[Path, Path], results: tuple[Path, dict[str, dict[str, Any]]], tmp_path: Path
) -> None:
    found = results[1]["bundle"]
    worst = config.load(WorstCase, Path(found["worst"]))
    assert not worst.success and 0.0 < worst.size < 1.0
    again = stress(tmp_path / "replay", f"bundle={made[1]}", TASK, f"replay={found['worst']}")
    assert again["same"] and again["success"] is False and again["size"] == worst.size
    assert again["final"] == list(worst.final) == again["recorded"]["final"]
    assert "most harmful" in (tmp_path / "replay" / "replay.html").read_text()


def test_without_a_search_there_is_no_worst_case(made: tuple[Path, Path], tmp_path: Path) -> None:
    result = stress(tmp_path, f"bundle={made[1]}", TASK, *SHORT, "search.runs=0")
    assert "worst" not in result and not (tmp_path / "worst.yaml").exists()


def test_a_score_below_its_threshold_is_refused_after_it_was_written(made: tuple[Path, Path], tmp_path: Path) -> None:
    words = [f"bundle={made[1]}", TASK, *SHORT, "search.runs=0", "stress.min={delay: 0.9}", "stress.min_overall=0.99"]
    code = onboard.main(["stress", *words, f"out={tmp_path}"])
    result = json.loads((tmp_path / "result.json").read_text())
    assert code == 3 and [line.split()[0] for line in result["refused"]] == ["delay", "overall"]
    assert result["thresholds"] == {"overall": 0.99, "delay": 0.9}
    passed = onboard.main(["stress", *words[:-2], "stress.min_overall=0.1", f"out={tmp_path}"])
    assert passed == 0 and json.loads((tmp_path / "result.json").read_text())["refused"] == []


def test_export_takes_a_stress_result_into_the_manifest_or_refuses(made: tuple[Path, Path], tmp_path: Path) -> None:
    policy = f"policy={made[0]}"
    for name, least in (("good", 0.1), ("bad", 0.99)):
        words = [policy, TASK, *SHORT, "search.runs=0", f"stress.min_overall={least}", f"out={tmp_path / name}"]
        if name == "good":
            cli.call("stress", words)
        else:
            with pytest.raises(GateRefused, match=r"overall is 0\.\d+, 0\.99 is asked for"):
                cli.call("stress", words)
    with pytest.raises(GateRefused, match="overall is"):
        cli.call("export", [policy, f"stress={tmp_path / 'bad' / 'result.json'}", f"out={tmp_path / 'no'}"])
    assert not (tmp_path / "no" / "bundle").exists()
    words = [policy, f"stress={tmp_path / 'good' / 'result.json'}", "quick=true", f"out={tmp_path / 'yes'}"]
    result = json.loads(cli.call("export", words).read_text())
    gate = config.load_yaml(Path(result["bundle"]) / "manifest.yaml")["gate"]["stress"]
    assert gate["suite"] == "pendubot_leaderboard" and gate["thresholds"] == {"overall": 0.1}
    assert set(gate["scores"]) == {*CRITERIA, "overall"} and gate["scores"]["delay"]["n"] == 3
    other = holding_policy()
    with torch.no_grad():
        other.actor[-1].bias += 0.1
    other.save(tmp_path / "other")
    with pytest.raises(ConfigError, match="it is of another policy"):
        cli.call("export", [f"policy={tmp_path / 'other'}", *words[1:]])
    with pytest.raises(ConfigError, match=r"it is not the result\.json of a stress suite"):
        cli.call("export", [policy, f"stress={tmp_path / 'yes' / 'result.json'}", f"out={tmp_path / 'no'}"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([TASK], "one of policy= and bundle= is needed"),
        (["bundle={bundle}", "policy={policy}", TASK], "one of policy= and bundle= is needed"),
        (["bundle={bundle}", "task=acrobot_swingup"], "it was made for task 'pendubot_swingup', not 'acrobot_swingup'"),
        (["bundle={bundle}", TASK, "stress=acrobot_leaderboard"], "is for task 'acrobot_swingup'"),
        (["bundle={bundle}", TASK, "stress=pendubot"], "there is no such stress. Known: .*pendubot_leaderboard"),
        (["bundle={bundle}", TASK, "stress.dealy=[]"], "unknown key 'stress.dealy'"),
        (["bundle={bundle}", TASK, "stress.min={push: 1}"], "criterion 'push', which is unknown"),
        (["bundle={bundle}", TASK, "dr=double_pendulum_c1_default"], "has its own parameters; with posterior= or dr="),
        (["bundle={bundle}", TASK, "replay=nowhere.yaml"], "replay=nowhere.yaml: there is no such file"),
    ],
)
def test_a_mistake_gets_one_sentence(made: tuple[Path, Path], tmp_path: Path, words: list[str], said: str) -> None:
    named = [w.format(policy=made[0], bundle=made[1]) if "{b" in w or "{p" in w[:10] else w for w in words]
    with pytest.raises(ConfigError, match=said) as caught:
        cli.call("stress", [*named, f"out={tmp_path}"])
    assert "\n" not in str(caught.value)


def test_a_worst_case_of_another_robot_is_refused(made: tuple[Path, Path], results: Any, tmp_path: Path) -> None:
    data = config.load_yaml(Path(results[1]["bundle"]["worst"])) | {"fingerprint": "0" * 16, "robot": "mine"}
    config.save(tmp_path / "worst.yaml", data)
    with pytest.raises(ConfigError, match="it is of robot 'mine' with fingerprint 0000"):
        stress(tmp_path, f"bundle={made[1]}", TASK, f"replay={tmp_path / 'worst.yaml'}")


def test_evaluate_counts_a_bundle_as_its_policy(made: tuple[Path, Path], tmp_path: Path) -> None:
    for name, word in (("policy", f"policy={made[0]}"), ("bundle", f"bundle={made[1]}")):
        cli.call("evaluate", [word, TASK, "n=2", f"out={tmp_path / name}"])
    policy, loaded = (json.loads((tmp_path / n / "result.json").read_text()) for n in ("policy", "bundle"))
    assert policy["success"] == loaded["success"] == {"mean": 0.0, "ci95": policy["success"]["ci95"], "n": 2}
    assert policy["return"]["mean"] == pytest.approx(loaded["return"]["mean"], rel=0.05)


def random_policy(folder: Path, task: str) -> Path:
    """An untrained policy of a task."""
    chosen = load_task(task)
    torch.manual_seed(0)
    return Policy(card_of(chosen, find_robot(chosen.robot), NetworkConfig(hidden=(8,)))).eval().save(folder)


@pytest.mark.parametrize("task", ["pendulum_swingup", "arm_reach", "quadruped_velocity"])
def test_other_robots_are_stressed_by_the_default_suite(task: str, tmp_path: Path) -> None:
    policy = random_policy(tmp_path / "policy", task)
    words = [f"policy={policy}", f"task={task}", "quick=true", "stress.arena.duration_s=0.5", "seed=2"]
    result = stress(tmp_path / "out", *words)
    assert result["suite"] == "default" and result["runs"] >= 20
    assert all(0.0 <= result[c] <= 1.0 for c in (*CRITERIA, "overall"))
    again = stress(tmp_path / "again", f"policy={policy}", f"task={task}", f"replay={result['worst']}")
    assert again["same"]


def test_a_prior_gives_the_rows_of_the_model(tmp_path: Path) -> None:
    policy = random_policy(tmp_path / "policy", "pendulum_swingup")
    words = [f"policy={policy}", "task=pendulum_swingup", "quick=true", "stress.arena.duration_s=0.3", "search.runs=0"]
    result = stress(tmp_path / "out", *words, "dr=simple_pendulum_default")
    prior = config.load_yaml(config.shipped() / "dr" / "simple_pendulum_default.yaml")
    named = {t for term in prior["terms"] for t in term["targets"]}
    assert {row["of"] for row in result["rows"] if row["criterion"] == "model"} <= named


def test_a_suite_of_ones_own_is_a_file(made: tuple[Path, Path], tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    data = config.load_yaml(config.shipped() / "stress" / "pendubot_leaderboard.yaml")
    config.save(mine, {k: data[k] for k in ("arena", "delay")} | {"name": "delay_alone"})
    result = stress(tmp_path / "out", f"bundle={made[1]}", TASK, f"stress={mine}", *SHORT, "search.runs=0")
    assert result["suite"] == "delay_alone" and result["runs"] == 3
    assert result["model"] is None and result["overall"] == result["delay"]

"""The whole chain with small budgets: every stage runs, every key of the contract is there, nothing is faked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from robot import cli as onboard
from transfer import cli

pytest.importorskip("stable_baselines3")

KEYS = {
    "pretrain": {"encoder", "probes"},
    "train": {"policy", "success", "return", "env_steps", "env_steps_per_s"},
    "record": {"log", "frames"},
    "ingest": {"dataset", "episodes"},
    "identify": {"posterior", "parameters", "delay_ms", "prediction"},
    "evaluate": {"prediction", "files", "joints", "windows"},
    "finetune": {"candidates", "selected", "forgetting", "kpis", "policy"},
    "export": {"bundle", "parity_max_error", "variants"},
    "verify": {"checks"},
    "run": {"ticks", "missed_deadlines", "tick_us", "faults", "state", "log"},
    "trials": {"success"},
    "report": {"report"},
    "demo": {"stages", "summary", "bundle", "report"},
}
ALWAYS = {"stage", "seconds", "seed", "budget", "inputs", "versions", "volatile"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "demo"
    assert onboard.main(["demo", "quick=true", "seed=1", f"out={out}"]) == 0
    return out


def results(demo: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(demo.rglob("result.json"))]


@pytest.mark.timeout(600)
def test_every_stage_leaves_the_keys_of_the_contract(demo: Path) -> None:
    found = results(demo)
    assert {r["stage"] for r in found} == set(KEYS)
    for result in found:
        assert ALWAYS | KEYS[result["stage"]] <= set(result), result["stage"]
        assert set(result["volatile"]) <= set(result) | {"versions"}, result["stage"]


def test_the_summary_counts_what_the_trials_counted(demo: Path) -> None:
    summary = json.loads((demo / "result.json").read_text())["summary"]
    for key, folder in (
        ("zero_shot_success", "trials_zero-shot"),
        ("finetuned_success", "trials_fine-tuned"),
        ("from_scratch_success", "trials_from-scratch"),
    ):
        assert summary[key] == json.loads((demo / folder / "result.json").read_text())["success"]
    assert summary["gap_after_rad"]["mean"] < 0.5 * summary["gap_before_rad"]["mean"]


def test_the_log_of_a_run_goes_back_into_the_chain(demo: Path) -> None:
    ingested = json.loads((demo / "ingest_run" / "result.json").read_text())
    (episode,) = ingested["episodes"]
    assert episode["accepted"] and episode["source"].endswith("run/episode.mcap")


def test_a_replayed_run_gives_the_same_actions(demo: Path, tmp_path: Path) -> None:
    words = [f"log={demo / 'run' / 'episode.mcap'}", f"bundle={demo / 'export_fine-tuned' / 'bundle'}"]
    replayed = json.loads(onboard.call("replay", [*words, f"out={tmp_path}"]).read_text())
    assert replayed["max_action_difference"] < 1e-6


def test_the_report_leads_back_to_the_recordings(demo: Path, tmp_path: Path) -> None:
    tree = json.loads(cli.call("lineage", [f"run={demo / 'finetune'}", f"out={tmp_path}"]).read_text())["tree"]
    assert tree["stage"] == "finetune"
    (posterior,) = [entry for entry in tree["inputs"] if entry["path"].endswith("posterior.yaml")]
    assert posterior["made_by"]["stage"] == "identify"
    (logs,) = posterior["made_by"]["inputs"]
    assert logs["made_by"]["stage"] == "ingest" and logs["made_by"]["inputs"][0]["made_by"]["stage"] == "record"


def test_a_policy_of_another_task_is_refused_in_a_sentence(demo: Path, tmp_path: Path) -> None:
    from robot.config import ConfigError

    bundle = demo / "export_fine-tuned" / "bundle"
    for words in (["evaluate", f"policy={demo / 'train' / 'policy'}"], ["trials", f"bundle={bundle}", "n=1"]):
        with pytest.raises(ConfigError, match="made for task 'pendulum_swingup'"):
            cli.call(words[0], [*words[1:], "task=pendubot_swingup", f"out={tmp_path / words[0]}"])


def test_the_same_seed_gives_the_same_result(demo: Path, tmp_path: Path) -> None:
    """Identification and evaluation, again, on the demo's recordings."""
    for stage in ("identify", "evaluate"):
        words = ["robot=simple_pendulum", f"logs={demo / 'ingest_train'}", "quick=true", "seed=1"]
        twice = [
            json.loads(cli.call(stage, [*words, f"out={tmp_path / stage / str(i)}"]).read_text()) for i in range(2)
        ]
        for result in twice:
            for key in result["volatile"]:
                result.pop(key, None)
        assert twice[0] == twice[1]

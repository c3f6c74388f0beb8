"""The whole chain with small budgets: every stage runs, every key of the contract is there, nothing is faked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from robot import cli as onboard
from robot import log as logs
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
VISION_KEYS = {"encoder", "accepted", "why", "forgetting", "latency"}
"""Of finetune, when it adapts a vision encoder."""
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
        keys = VISION_KEYS if result["stage"] == "finetune" and "candidates" not in result else KEYS[result["stage"]]
        assert ALWAYS | keys <= set(result), result["stage"]
        assert set(result["volatile"]) <= set(result) | {"versions"}, result["stage"]


def test_the_summary_counts_what_the_trials_counted(demo: Path) -> None:
    summary = json.loads((demo / "result.json").read_text())["summary"]
    for key, folder in (
        ("zero_shot_success", "trials_zero-shot"),
        ("finetuned_success", "trials_fine-tuned"),
        ("from_scratch_success", "trials_from-scratch"),
        ("pixels_zero_shot_success", "trials_pixels_zero-shot"),
        ("pixels_adapted_success", "trials_pixels_adapted"),
    ):
        assert summary[key] == json.loads((demo / folder / "result.json").read_text())["success"]
    assert summary["gap_after_rad"]["mean"] < 0.5 * summary["gap_before_rad"]["mean"]


def test_the_log_of_a_run_goes_back_into_the_chain(demo: Path) -> None:
    ingested = json.loads((demo / "ingest_run" / "result.json").read_text())
    (episode,) = ingested["episodes"]
    assert episode["accepted"] and episode["source"].endswith("run/episode.mcap")


def test_the_camera_alone_drives_the_robot_with_either_encoder(demo: Path) -> None:
    """One policy: what its two bundles do not share is the encoder, and neither is given the joints."""
    exported = [json.loads((demo / f"export_pixels_{n}" / "result.json").read_text()) for n in ("zero-shot", "adapted")]
    assert [len(e["inputs"]) for e in exported] == [1, 2] and set(exported[0]["inputs"]) < set(exported[1]["inputs"])
    manifest = yaml.safe_load((Path(exported[1]["bundle"]) / "manifest.yaml").read_text())
    assert set(manifest["inputs"]) == {"observation", "state_memory", "image_side"}
    assert manifest["observation"]["features"] == ["previous_action"]


def test_the_encoder_was_adapted_to_pictures_with_joints_beside_them(demo: Path) -> None:
    watched = logs.load(next((demo / "ingest_watched").glob("*.mcap")))
    pictures = watched["camera.side"]
    assert pictures.values.shape[1:] == (64, 64, 3) and np.ptp(pictures.values) > 20
    assert abs(len(pictures.t_ns) - len(watched["joint.position"].t_ns) / 2) <= 2  # 50 beside 100 a second
    assert (demo / "finetune_vision" / "encoder" / "encoder.safetensors").is_file()


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
    given = {
        "identify": ("identify", f"logs={demo / 'ingest_train'}"),
        "evaluate_before": ("evaluate", f"logs={demo / 'ingest_test'}", "model=nominal"),
    }
    for name, (stage, *words) in given.items():
        words += ["robot=simple_pendulum", "quick=true", "seed=1", f"out={tmp_path / name}"]
        again = json.loads(cli.call(stage, words).read_text())
        twice = [json.loads((demo / name / "result.json").read_text()), again]
        for result in twice:
            for key in result["volatile"]:
                result.pop(key, None)
        assert twice[0] == twice[1]

"""What every stage leaves behind: config.yaml, lineage.json, result.json."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from robot import config, files
from robot.result import Run, code_version, mean_ci, wilson


def test_result_has_the_common_keys_and_its_inputs_by_hash(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("x")
    run = Run("train", tmp_path / "out", seed=4, budget="quick", settings={"a": 1, "where": Path("x")})
    run.input(tmp_path / "in.csv")
    keys = {"success": wilson(3, 4), "array": np.array([1.5]), "rate": 2.0}
    path = run.finish(keys, volatile=("rate", "of another way to run the stage"))
    result = json.loads(path.read_text())
    assert {k: result[k] for k in ("stage", "seed", "budget", "array")} == {
        "stage": "train",
        "seed": 4,
        "budget": "quick",
        "array": [1.5],
    }
    assert result["inputs"] == {str(tmp_path / "in.csv"): files.sha256(tmp_path / "in.csv")}
    assert result["volatile"] == ["rate", "seconds", "versions"] and result["versions"]["numpy"] == np.__version__
    assert config.load_yaml(tmp_path / "out" / "config.yaml") == {"a": 1, "where": "x"}
    lineage = json.loads((tmp_path / "out" / "lineage.json").read_text())
    assert lineage["co2_kg_estimate"] == pytest.approx(lineage["energy_kwh_estimate"] * 0.4)
    assert lineage["code"] == code_version() != ""


def test_default_folder_is_by_stage_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Run("verify", None).out.parent == Path("runs/verify")


def test_unfinished_run_has_no_result(tmp_path: Path) -> None:
    run = Run("train", tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        run.finish({"score": float("nan")})
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (90, 100, 0.8256, 0.9448)],
)
def test_wilson_interval(successes: int, n: int, low: float, high: float) -> None:
    rate = wilson(successes, n)
    assert (rate["mean"], rate["n"]) == (successes / n, n)
    assert rate["ci95"] == pytest.approx([low, high], abs=5e-5)


def test_mean_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for n in (3, 40):  # three seeds as well as forty episodes
        covered = [lo <= 2.0 <= hi for lo, hi in (mean_ci(rng.normal(2.0, 3.0, n))["ci95"] for _ in range(1000))]
        assert 0.93 < np.mean(covered) < 0.97

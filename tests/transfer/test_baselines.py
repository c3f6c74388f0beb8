"""The smoke of `make baselines`: the queue's tasks train from the command line and leave curves with their terms."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from robot import config
from transfer import cli

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "benchmarks" / "baselines.py"


@pytest.mark.parametrize(("task", "term"), [("arm_reach", "there"), ("quadruped_velocity", "velocity")])
def test_a_short_training_leaves_a_curve_with_its_reward_terms(task: str, term: str, tmp_path: Path) -> None:
    path = cli.call("train", [f"task={task}", "dr=null", "quick=true", f"out={tmp_path / task}"])
    result = json.loads(path.read_text())
    curve = [json.loads(line) for line in (tmp_path / task / "curve.jsonl").read_text().splitlines()]
    assert result["success"]["n"] == 8 and curve[-1]["env_steps"] == result["env_steps"]
    ended = [row for row in curve if "train_steps" in row]
    assert all(f"term/{term}" in row for row in ended)
    for row in ended:
        total = sum(value for key, value in row.items() if key.startswith("term/"))
        assert total == pytest.approx(row["train_return"], rel=1e-5)


def test_every_task_of_the_queue_has_a_recipe_and_a_network_of_its_own_or_the_default() -> None:
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        import baselines
    finally:
        sys.path.pop(0)
    for task, _ in baselines.QUEUE:
        composed = cli.compose("train", [f"task={task}", "dr=null"])
        assert composed["recipe"] == config.load_yaml(ROOT / "configs" / "recipe" / f"{task}.yaml")
    assert baselines.minutes_to_solve([{"seconds": 60.0, "success": 0.9}, {"seconds": 120.0, "success": 0.96}]) == 2.0


def test_a_mistyped_task_is_answered_with_the_queue() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "arm_rech"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "there is no baseline for 'arm_rech'; there are: " in done.stderr
    assert "Traceback" not in done.stderr

"""A --multirun on each launcher, if it is installed: the jobs run in processes of their own and leave their results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from robot.result import Run

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("launcher", "package"), [("joblib", "joblib"), ("submitit_local", "submitit")])
def test_the_jobs_of_a_launcher_leave_their_results(launcher: str, package: str, tmp_path: Path) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{package}_launcher")
    Run("evaluate", tmp_path / "source", seed=3).finish({"success": {"mean": 1.0, "ci95": [0.9, 1.0], "n": 9}})
    code = "import sys; from robot.cli import main; sys.exit(main())"
    words = ["lineage", "-m", "run=source", "seed=1,2", f"hydra/launcher={launcher}", "out=jobs"]
    path = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, env={**os.environ, **path})
    assert done.returncode == 0
    results = [json.loads(p.read_text()) for p in sorted((tmp_path / "jobs").glob("[01]/result.json"))]
    assert [r["seed"] for r in results] == [1, 2]

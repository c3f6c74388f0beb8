"""onnxruntime's official builds report to their builder, from a thread of their own; here they do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from robot.observation import ActionConfig
from robot.spec import load_spec
from tests.robot.fakes import make_bundle

ROOT = Path(__file__).parents[2]
LOAD = "from pathlib import Path; from robot import bundle; bundle.load(Path({path!r}), None)"
WAIT = "; import time; time.sleep(0.5)"


@pytest.mark.parametrize("first", ["", "import transfer.subjects; "])
def test_a_loaded_network_starts_no_reporter_and_leaves_no_identifier(tmp_path: Path, first: str) -> None:
    if first:
        pytest.importorskip("mujoco")
    action = ActionConfig(actuators=("shoulder",), scale=(1.5,))
    made = make_bundle(tmp_path / "bundle", load_spec("simple_pendulum"), action=action)
    home = tmp_path / "home"
    home.mkdir()
    keep = {k: v for k, v in os.environ.items() if k != "CI" and not k.startswith(("ORT_", "XDG_"))}
    env = keep | {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    code = first + LOAD.format(path=str(made)) + WAIT
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not [p for p in home.rglob("*") if "onnxruntime" in str(p)]
    assert "telemetry" not in done.stderr

"""docs/deploy.md, run line by line as it is written, against emulated motors."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

pytest.importorskip("can")
pytest.importorskip("serial")

from robot import cli, config
from robot import log as logs
from robot.observation import ActionConfig
from robot.spec import RobotSpec, find_robot
from tests.robot.fakes import make_bundle
from tests.sim.emulated import Bench, bench, busy

PAGE = Path(__file__).parents[1] / "docs" / "deploy.md"


def lines() -> list[str]:
    """What the page says is run."""
    stripped = [line.strip() for line in PAGE.read_text().splitlines()]
    return [line.removeprefix("$ ") for line in stripped if line.startswith("$ ")]


def make_folder(folder: Path, motors: Bench) -> RobotSpec:
    """What somebody has who begins to read: a signed bundle, its key, and a switch that is held; the bundle's robot.

    On a machine that is busy it is a slow and patient one, in patient.yaml.
    """
    private = ec.generate_private_key(ec.SECP256R1())
    pem, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "private.pem").write_bytes(private.private_bytes(pem, *plain))
    (folder / "public.pem").write_bytes(private.public_key().public_bytes(pem, form))
    (folder / "held").write_text("1")
    spec = motors.spec
    if busy():
        spec = dataclasses.replace(spec, control_period_s=0.1, watchdog_s=20.0)
        model = config.load_yaml(find_robot(spec.name))["model"]
        config.save(folder / "patient.yaml", {"spec": spec, "model": model})
    action = ActionConfig(actuators=spec.joint_names, scale=(0.3, 0.2))
    make_bundle(folder / "bundle", spec, action=action, key=folder / "private.pem")
    return spec


def run(line: str, port: Path) -> int:
    """Run a line; where others hold the machine, again when the watchdog barked at that."""
    words = line.replace("/tmp/can", str(port)).split()
    assert words[0] == "terrafirma"
    if Path("patient.yaml").exists():
        words = [w.replace("robot=double_pendulum_c1", "robot=patient.yaml") for w in words]
    for _ in range(3):
        code = cli.main(words[1:])
        if code != 5 or not busy():
            return code
        shutil.rmtree(words[-1].removeprefix("out="), ignore_errors=True)
    pytest.skip("other processes hold this machine: no bus keeps its times")


def test_every_line_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(lines()) == 6
    with bench("can") as motors:
        spec = make_folder(tmp_path, motors)
        for line in lines():
            motors.tell("rest")
            assert run(line, motors.port) == 0, line
            if "shadow=true" in line:
                assert not any(row[-1] for row in motors.body.record.orders), "the policy only watches"
        last = {row[1]: row for row in motors.body.record.orders}
        assert all(row[5] == 0.0 for row in last.values())
    watched = json.loads((tmp_path / "watched" / "result.json").read_text())
    assert watched["shadow"]["n"] > 0
    moved = logs.load(tmp_path / "moved" / "episode.mcap")
    assert 0.0 < np.abs(moved["command.effort"].values).max() <= 0.05 * spec.effort_limits.max() + 0.01
    replayed = json.loads((tmp_path / "replayed" / "result.json").read_text())
    assert replayed["max_action_difference"] < 1e-4

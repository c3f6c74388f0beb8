"""`terrafirma run` on emulated motors: a killed policy is the safe action on the wire, a killed robot keeps its log."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("can")
pytest.importorskip("serial")

from robot import log as logs
from robot.observation import ActionConfig
from tests.robot.fakes import make_bundle
from tests.robot.test_supervisor import soon_enough
from tests.robot.wire import children
from tests.sim.emulated import Bench, bench, busy, until

COUNT_NM = 24.0 / 4095
"""One step of the torque in a frame: zero torque reads as half of it."""


class Running:
    """`terrafirma run` as a process of its own, with the policy in another, on MIT motors that obey real frames."""

    def __init__(self, motors: Bench, made: Path, out: Path) -> None:
        self.motors, self.out = motors, out
        code = "import sys; from robot.cli import main; sys.exit(main())"
        words = [f"bundle={made}", "driver=can", "interface=slcan", f"channel={motors.port}", "seconds=60", "damp=0"]
        command = [sys.executable, "-c", code, "run", *words, f"out={out}"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        moves = until(lambda: self._moves() or self.process.poll() is not None, 60.0)
        if busy() and self.process.poll() == 5:
            pytest.skip("other processes hold this machine: no bus keeps its times")
        assert moves and self.process.poll() is None, self.process.communicate()
        (self.policy,) = children(self.process.pid)

    def _moves(self) -> bool:
        return any(abs(row[4]) > 0.05 for row in self.motors.body.record.orders[-20:])

    def seconds_to_safe_action(self, since_ns: int) -> float:
        """From `since_ns` until every motor has got the damping frame."""

        def braked() -> list[int]:
            rows = [r for r in list(self.motors.body.record.orders) if r[0] >= since_ns]
            safe = [r for r in rows if r[5] == 0.0 and r[6] > 0.9 and abs(r[4]) < COUNT_NM]
            return [next((r[0] for r in safe if r[1] == k), 0) for k in range(len(self.motors.names))]

        assert until(lambda: all(braked())), "no safe action on the wire"
        return (max(braked()) - since_ns) * 1e-9


def patient_bundle(motors: Bench, folder: Path) -> Path:
    """With little torque, and with a watchdog that does not bark at a busy machine."""
    spec = dataclasses.replace(motors.spec, watchdog_s=20.0)
    action = ActionConfig(actuators=spec.joint_names, scale=(0.5, 0.3))
    period_s = 0.1 if busy() else spec.control_period_s
    return make_bundle(folder / "bundle", spec, action=action, control_period_s=period_s)


def test_kill_of_the_policy_is_the_safe_action_on_the_bus(tmp_path: Path) -> None:
    with bench("can") as motors:
        made = patient_bundle(motors, tmp_path)
        running = Running(motors, made, tmp_path / "out")
        begin = time.monotonic_ns()
        os.kill(running.policy, signal.SIGKILL)
        assert soon_enough(running.seconds_to_safe_action(begin))
        output, _ = running.process.communicate(timeout=60)
        assert running.process.returncode == 5 and "policy process" in output, output
        result = json.loads((tmp_path / "out" / "result.json").read_text())
        assert result["state"] == "fault" and result["faults"][0]["kind"] == "policy"
        last = {row[1]: row for row in motors.body.record.orders}
        assert all(not row[7] or (row[5] == 0.0 and abs(row[4]) < COUNT_NM) for row in last.values())
        log = logs.load(tmp_path / "out" / "episode.mcap")
        assert log["event"].values[-1] == "state: fault (fault)"
        sent = log["command.effort"].values
        assert np.abs(sent).max() <= motors.spec.effort_limits.max()


def test_kill_of_everything_keeps_the_log_to_within_half_a_second(tmp_path: Path) -> None:
    with bench("can") as motors:
        running = Running(motors, patient_bundle(motors, tmp_path), tmp_path / "out")
        time.sleep(0.3)
        killed = time.monotonic_ns()
        for pid in (running.process.pid, running.policy):
            os.kill(pid, signal.SIGKILL)
        running.process.communicate(timeout=60)
        log = logs.load(tmp_path / "out" / "episode.mcap")
        assert "torn" in log.meta
        assert soon_enough((killed - int(log["joint.position"].t_ns[-1])) * 1e-9, 0.5)

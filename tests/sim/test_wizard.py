"""The wizard of doctor: motors that are exchanged and mirrored come right by what a person saw."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("can")
pytest.importorskip("serial")

from robot import cli, wizard
from robot.driver import DriverError
from robot.spec import load_spec
from robot.state import JointCommand
from robot.wizard import answer
from tests.sim.emulated import Bench, bench, busy, read


class Person:
    """Who watches the emulated robot, and answers what the wizard asks."""

    def __init__(self, motors: Bench) -> None:
        self.motors, self.asked = motors, 0

    def __call__(self, question: str) -> str:
        self.asked += 1
        told = question.split("'")[1]
        rows = np.array(self.motors.body.record.states)
        self.motors.tell("forget")
        turned, farthest = "", 0.0
        for k, name in enumerate(self.motors.names):
            own = rows[rows[:, 1] == k][:, 2]
            away = own - own[0]
            if (most := away[np.argmax(np.abs(away))]) ** 2 > farthest**2:
                turned, farthest = name, most
        positive = (farthest > 0) == ("positive" in question)
        return ("" if positive else "-") + ("" if turned == told else turned)


def doctor(motors: Bench, out: Path, *more: str) -> int:
    words = [f"robot={motors.spec.name}", "driver=can", "interface=slcan", f"channel={motors.port}", "wiggle=true"]
    code = cli.main(["doctor", *words, *more, f"out={out}"])
    last = json.loads((out / "result.json").read_text())["checks"][-1]["detail"]
    if busy() and ("nobody asked" in last or "no answer" in last):
        pytest.skip("other processes hold this machine: no bus keeps its times")
    return code


def test_exchanged_and_mirrored_motors_come_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bench("can", ids=(2, 1), direction=(1, -1)) as motors:
        person = Person(motors)
        monkeypatch.setattr("builtins.input", person)
        for name, seconds in (("PERIOD_S", 0.1), ("MOVE_S", 0.8)) if busy() else (("MOVE_S", 0.3), ("STAY_S", 0.2)):
            monkeypatch.setattr(wizard, name, seconds)
        assert doctor(motors, tmp_path / "first") == 2
        assert person.asked == 2
        checks = {c["name"]: c for c in json.loads((tmp_path / "first" / "result.json").read_text())["checks"]}
        assert not checks["wiring"]["ok"] and "'shoulder' turned -elbow" in checks["wiring"]["detail"]
        assert "calibration.yaml" in checks["wiring"]["fix"]
        motors.tell("rest")
        calibration = tmp_path / "first" / "calibration.yaml"
        assert doctor(motors, tmp_path / "second", f"calibration={calibration}") == 0
        assert all(abs(row[4]) < 1.3 for row in motors.body.record.orders)  # a fifth of the torque, and a count


def test_motor_that_runs_against_its_encoder_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda question: pytest.fail("nobody is asked"))
    with bench("can") as motors:
        motors.fault("wrong_direction joint=shoulder")
        assert doctor(motors, tmp_path / "out") == 5
        checks = json.loads((tmp_path / "out" / "result.json").read_text())["checks"]
        assert "'shoulder'" in checks[-1]["detail"] and not checks[-1]["ok"]


def test_answers_name_joints() -> None:
    spec = load_spec("double_pendulum_c1")
    assert answer(spec, "elbow", "") == ("elbow", 1)
    assert answer(spec, "elbow", " - ") == ("elbow", -1)
    assert answer(spec, "elbow", "-shoulder") == ("shoulder", -1)
    with pytest.raises(DriverError, match="'sholder' is no joint"):
        answer(spec, "elbow", "sholder")


def test_bus_does_not_fall_silent_while_a_person_thinks() -> None:
    """Servos whose watchdog takes silence for the end of the host would else stop before the next joint's turn."""
    with bench("dynamixel") as motors:
        driver = motors.open(watchdog_s=0.3)
        driver.write(JointCommand.safe(motors.spec, 0, read(driver).joints.position))
        with wizard.talking(driver):
            time.sleep(0.8)
        assert busy() or read(driver).joints.names == motors.names
        driver.stop("done")
        driver.close()

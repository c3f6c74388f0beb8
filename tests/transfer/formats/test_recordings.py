"""Layouts of the public recordings: small files in each, and the real ones with the traps that they hold."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from robot.log import EpisodeLog
from sim.model import RobotConfig, find_robot
from transfer.dataset import Finding
from transfer.formats import Recording, format_of, whole_of
from transfer.formats.odrive import FIRST


@pytest.fixture(scope="module")
def arm() -> RobotConfig:
    return find_robot("so101")


@pytest.fixture(scope="module")
def servo() -> RobotConfig:
    return find_robot("servo_bench")


@pytest.fixture(scope="module")
def motor() -> RobotConfig:
    return find_robot("motor_bench")


def read(path: Path, robot: RobotConfig) -> Recording:
    reader = format_of(path)
    assert reader is not None
    (recording,) = reader.read(path, robot.spec)
    return recording


def whole(recording: Recording) -> EpisodeLog:
    assert recording.log is not None, recording.findings
    return recording.log


def told(recording: Recording) -> dict[str, Finding]:
    return {f.kind: f for f in recording.findings}


def arm_folder(folder: Path, joints: tuple[str, ...], rows: int = 60) -> Path:
    """A motion in the layout of the SO-101 recordings."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "joint_list.txt").write_text("\n".join(joints) + "\n")
    command, state = ["type,timestamp,positions"], ["type,timestamp,positions,velocities,torques"]
    for k in range(rows):
        goal = [round(float(0.3 * np.sin(0.1 * k + j)), 6) for j in range(len(joints))]
        stamp = 20_000 * k
        command.append(f'CONTROL,{stamp},"{goal}"')
        state.append(f'STATE_MOTOR,{stamp},"{goal}","{[0.0767] * len(joints)}","{[0.5] * len(joints)}"')
    for name, lines in (("control", command), ("state_motor", state)):
        (folder / f"{name}.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    return folder


def test_an_arms_motion_is_one_folder_whose_parts_stand_for_it(arm: RobotConfig, tmp_path: Path) -> None:
    folder = arm_folder(tmp_path / "wave", arm.spec.joint_names)
    assert whole_of(folder / "control.csv.gz") == folder == whole_of(folder / "state_motor.csv.gz")
    recording = read(folder, arm)
    log = whole(recording)
    assert log["joint.position"].t_ns[3] == 60_000_000
    elbow = arm.spec.joint_names.index("elbow_flex")
    assert log["joint.position"].values[7, elbow] == pytest.approx(0.3 * np.sin(0.7 + elbow), abs=1e-5)
    jaw = arm.spec.joint_names.index("gripper")
    assert log["joint.position"].values[0, jaw] == pytest.approx(2.25 * 0.3 * np.sin(jaw) - 0.1745, abs=1e-4)
    assert set(told(recording)) == {"converted", "unsigned", "shared_stamp", "unknown_zero"}
    assert "joint.effort" not in log


def servo_file(path: Path, rows: int = 300, **changes: list[float | None]) -> Path:
    """A log in the layout of the servo rig."""
    entries = []
    for k in range(rows):
        entry = {
            "timestamp": 0.02 * k, "position": 0.5 * np.sin(0.05 * k), "speed": 0.1, "load": 10, "input_volts": 12.1,
            "temp": 30, "goal_position": 0.5 * np.sin(0.05 * k + 0.1), "torque_enable": True,
        }  # fmt: skip
        entries.append(entry | {n: v[k] for n, v in changes.items()})
    path.write_text(json.dumps({"mass": 0.5, "length": 0.1, "kp": 400, "vin": 12.0, "entries": entries}))
    return path


def test_the_servo_rigs_registers_are_read_and_told(servo: RobotConfig, tmp_path: Path) -> None:
    assert set(told(read(servo_file(tmp_path / "calm.json"), servo))) == set()
    load: list[float | None] = [65536 - 885 if k < 10 else 442.5 for k in range(300)]
    volts: list[float | None] = [12.1 if k < 200 else 11.5 for k in range(300)]
    on: list[float | None] = [1.0 if k < 250 else 0.0 for k in range(300)]
    recording = read(servo_file(tmp_path / "a.json", load=load, input_volts=volts, torque_enable=on), servo)
    log, found = whole(recording), told(recording)
    assert log["servo.duty"].values[0, 0] == -1.0 and log["servo.duty"].values[20, 0] == 0.5
    assert set(found) == {"converted", "supply_sag", "torque_off"}
    assert found["torque_off"].where == "row 251" and "12.1 to 11.5" in found["supply_sag"].detail
    assert log.meta["kp"] == "400"


def test_a_servo_log_that_lacks_a_field_or_breaks_off_is_refused(servo: RobotConfig, tmp_path: Path) -> None:
    path = servo_file(tmp_path / "a.json")
    path.write_text(path.read_text().replace('"goal_position"', '"goal"'))
    assert set(told(read(path, servo))) == {"unreadable"}
    path.write_text(servo_file(tmp_path / "b.json").read_text()[:-40])
    assert set(told(read(path, servo))) == {"unreadable"}


def test_the_motor_rigs_rejected_reads_are_left_out_and_counted(motor: RobotConfig, tmp_path: Path) -> None:
    lines = [FIRST, "%timestep (at 8000Hz), voltage, position [turns], velocity [turns/s]"]
    for k in range(100):
        lines.append("nan,nan,nan,nan;" if k == 40 else f"{43 * (k + 1) if k != 50 else 0},0.25,{0.01 * k},0.5;")
    path = tmp_path / "step.csv"
    path.write_text("\n".join(lines))
    recording = read(path, motor)
    log = whole(recording)
    assert len(log["joint.position"].t_ns) == 98
    assert log["joint.velocity"].values[3, 0] == pytest.approx(np.pi)
    assert log["joint.position"].t_ns[1] - log["joint.position"].t_ns[0] == pytest.approx(43 / 8000 * 1e9)
    rejected = told(recording)["rejected_rows"]
    assert "1 rows of nan and 1 with index 0" in rejected.detail and "43" in rejected.where


def test_a_recording_of_another_robot_is_refused(
    motor: RobotConfig, servo: RobotConfig, arm: RobotConfig, tmp_path: Path
) -> None:
    for recording in (
        read(servo_file(tmp_path / "a.json"), arm),
        read(arm_folder(tmp_path / "wave", arm.spec.joint_names), servo),
    ):
        assert recording.log is None and {f.kind for f in recording.findings if f.blocking} & {"other_robot"}


@pytest.mark.parametrize(
    ("part", "name", "traps"),
    [
        ("so101", "so101", {"converted", "unsigned", "shared_stamp", "unknown_zero"}),
        ("xl330", "servo_bench", {"converted", "supply_sag"}),
        ("odrive_bldc", "motor_bench", {"converted", "rejected_rows"}),
        ("simple_pendulum", "simple_pendulum", {"nominal_clock"}),
    ],
)
def test_the_traps_of_the_real_recordings_are_told(real_logs: Path, part: str, name: str, traps: set[str]) -> None:
    robot = find_robot(name)
    seen: dict[str, set[str]] = {}
    for path in sorted((real_logs / part).iterdir()):
        reader = None if "_command" in path.name else format_of(path)
        if reader is not None:
            (recording,) = reader.read(path, robot.spec)
            seen[path.name] = set(told(recording))
            assert recording.log is not None and not any(f.blocking for f in recording.findings)
    assert seen and set.union(*seen.values()) >= traps
    assert all("converted" in kinds for n, kinds in seen.items() if part in ("so101", "odrive_bldc"))


def test_dropped_weights_are_told_where_the_torque_goes_off(real_logs: Path, servo: RobotConfig) -> None:
    dropped = [p for p in sorted((real_logs / "xl330").glob("*.json.gz"))]
    off = {p.name: told(read(p, servo)).get("torque_off") for p in dropped}
    found = [f for f in off.values() if f is not None]
    assert found and all("switched off at 2." in f.detail for f in found)

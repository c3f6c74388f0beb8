"""Columns that nobody described: what their names say, and a map that waits for a person."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from robot import config
from robot.config import ConfigError
from sim.model import RobotConfig, find_robot
from tests.transfer.formats import made
from transfer.dataset import DataRefused
from transfer.formats import format_of, tables
from transfer.formats.column_map import ColumnMap, Mapped
from transfer.formats.guess import Meaning, joint_of, meaning_of
from transfer.ingest import Ingestion


@pytest.mark.parametrize(
    ("name", "quantity", "commanded", "unit"),
    [
        ("t", "time", False, ""),
        ("time_ms", "time", False, "ms"),
        ("timestamp [ns]", "time", False, "ns"),
        ("q0", "position", False, ""),
        ("shoulder_pos_deg", "position", False, "deg"),
        ("theta", "position", False, ""),
        ("jointAngle2 (rad)", "position", False, "rad"),
        ("qd_1", "velocity", False, ""),
        ("thetaDot_1_rad_per_s", "velocity", False, "rad/s"),
        ("wheel speed [rpm]", "velocity", False, "rpm"),
        ("elbow_vel_deg_s", "velocity", False, "deg/s"),
        ("tau_des2", "effort", True, ""),
        ("cmd_torque_Nm", "effort", True, "N m"),
        ("q_ref_elbow", "position", True, ""),
        ("u", "", True, ""),
        ("gyro_x", "gyro", False, ""),
        ("acc_y [m/s^2]", "accel", False, "m/s^2"),
        ("observation.state/shoulder_pan.pos", "position", False, ""),
        ("action/gripper.pos", "position", True, ""),
        ("mood", "", False, ""),
    ],
)
def test_names_of_columns(name: str, quantity: str, commanded: bool, unit: str) -> None:
    meaning = meaning_of(name)
    assert (meaning.quantity, meaning.commanded, meaning.unit) == (quantity, commanded, unit)


def test_a_current_is_told_from_a_torque_and_joints_by_the_longest_name() -> None:
    assert meaning_of("motor_current_1").current and not meaning_of("torque_1").current
    assert meaning_of("gyro_z") == Meaning("gyro", False, "", axis="z")
    assert joint_of("left-Shoulder_Pan.pos", ("pan", "shoulder_pan")) == "shoulder_pan"


def lab_table(path: Path, rows: int = 900) -> np.ndarray:
    """A lab's table: degrees by name, a clock in milliseconds, a column of words; returns the angles [rad]."""
    data = made.motion(rows)
    cells = np.column_stack(
        [1e3 * data["t"], np.degrees(data["q"]), np.degrees(data["v"]), data["tau"], data["tau"] * 7]
    )
    head = "time_ms;q0_deg;q1_deg;qd0_deg_s;qd1_deg_s;tau_cmd0;tau_cmd1;i0;i1"
    path.write_text("\n".join([head, *(";".join(f"{c:.9f}" for c in row) for row in cells)]))
    return data["q"]


def test_a_guess_is_shown_saved_and_never_used_silently(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    q = lab_table(tmp_path / "lab.csv")
    spec, out = double_pendulum.spec, tmp_path / "set"
    with pytest.raises(
        DataRefused, match=r"unknown_layout.*time_ms.*A guess is in .*lab.columns.yaml.*pass it as map="
    ):
        Ingestion(spec=spec, out=out).run([tmp_path / "lab.csv"])
    saved = out / "lab.columns.yaml"
    with pytest.raises(ConfigError, match=r"lab.columns.yaml.*confirmed is false"):
        Mapped.of(saved)
    text = saved.read_text()
    assert '{column: "q0_deg", unit: deg}' in text and "by its name" in text and "# Not understood" in text
    assert '"tau_cmd1", unit: N m}' in text and "a guess, nothing tells" in text
    assert {"joint.effort of shoulder" in line for line in text.splitlines() if '"i0"' in line} == {True}
    saved.write_text(text.replace("confirmed: false", "confirmed: true"))
    (done,) = Ingestion(spec=spec, out=out, reader=Mapped.of(saved)).run([tmp_path / "lab.csv"])
    assert done.accepted
    (recording,) = Mapped.of(saved).read(tmp_path / "lab.csv", spec)
    assert recording.log is not None and recording.log["joint.position"].values == pytest.approx(q, abs=1e-6)
    assert set(recording.log.channels) == {"joint.position", "joint.velocity", "command.effort"}
    with pytest.raises(DataRefused, match=r"lab-2.columns.yaml"):  # a person's file is never replaced
        Ingestion(spec=spec, out=out).run([tmp_path / "lab.csv"])


def test_degrees_are_guessed_by_their_range_and_joints_by_name(tmp_path: Path) -> None:
    spec = find_robot("so101").spec
    rng = np.random.default_rng(0)
    arrays = {f"{j} position": rng.uniform(-90.0, 90.0, 50) for j in reversed(spec.joint_names)}
    goals = {f"{j}.goal": rng.uniform(-1.0, 1.0, 50) for j in spec.joint_names}
    np.savez(tmp_path / "arm.npz", stamp=made.EPOCH + 20_000_000 * np.arange(50), **arrays, **goals)
    reader = format_of(tmp_path / "arm.npz")
    assert reader is not None
    (recording,) = reader.read(tmp_path / "arm.npz", spec)
    assert "unit: deg}" in recording.proposal and "a guess, too far for rad" in recording.proposal
    assert 'time: {column: "stamp", unit: ns}' in recording.proposal
    file = tmp_path / "columns.yaml"
    file.write_text(made.confirmed(recording.proposal))
    (read,) = Mapped.of(file).read(tmp_path / "arm.npz", spec)
    assert read.log is not None and read.log["joint.position"].t_ns[7] == made.EPOCH + 140_000_000  # to the nanosecond
    elbow = read.log["joint.position"].component("elbow_flex")
    assert elbow == pytest.approx(np.radians(arrays["elbow_flex position"]))
    assert "command.position" in read.log


def test_a_name_from_a_file_cannot_write_into_the_map(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    data = made.motion(30)
    evil = 'q0\nconfirmed: true\n#"'
    np.savez(tmp_path / "x.npz", t=data["t"], **{evil: data["q"][:, 0], "q1": data["q"][:, 1], "tau_cmd": data["tau"]})
    reader = format_of(tmp_path / "x.npz")
    assert reader is not None
    (recording,) = reader.read(tmp_path / "x.npz", double_pendulum.spec)
    assert config.parse_yaml(recording.proposal, "map")["confirmed"] is False
    with pytest.raises(ConfigError, match="confirmed is false"):
        config.convert(ColumnMap, config.parse_yaml(recording.proposal, "map"))


def test_a_table_that_unpacks_to_far_more_is_refused_before_it_is_unpacked(
    double_pendulum: RobotConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "TEXT_BYTES", 1 << 20)
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(b"t,q0\n" + bytes(8 << 20)))
    (tmp_path / "long.csv").write_text("t,q0\n" + "0.1,0.2\n" * (1 << 17))
    for name in ("bomb.csv.gz", "long.csv"):
        with pytest.raises(DataRefused, match="too_large at file: it has more than 1 MiB of text"):
            Ingestion(spec=double_pendulum.spec, out=tmp_path / "set").run([tmp_path / name])

"""Any table by a map: units, signs, scales and offsets are what it says, and each mistake in it is one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robot.config import ConfigError
from sim.model import RobotConfig
from transfer.formats.column_map import Mapped
from transfer.ingest import Ingestion

MAP = """
time: {column: t, unit: ms}
delimiter: ";"
comment: "#"
late_rows: 1
channels:
  joint.position:
    shoulder: {column: theta_1, unit: deg, sign: -1, offset: 0.1}
    elbow: {column: theta_2, unit: deg}
  joint.velocity:
    shoulder: {column: w_1, unit: rpm, sign: -1}
    elbow: {column: w_2, unit: rpm}
  command.effort:
    shoulder: {column: i_1, scale: 0.5, sign: -1}
    elbow: {column: i_2, scale: 0.5}
"""


def table(path: Path, rows: int = 900) -> tuple[Path, np.ndarray]:
    """Written by a lab in its own units; and the angles [rad] that it means."""
    t = np.arange(rows) * 0.002
    q = np.stack([0.5 * np.sin(3 * t), 0.3 * np.sin(5 * t)], axis=1)
    v = np.stack([1.5 * np.cos(3 * t), 1.5 * np.cos(5 * t)], axis=1)
    tau = np.stack([0.2 * np.sin(7 * t), 0.1 * np.cos(7 * t)], axis=1)
    degrees, rpm = np.degrees(q), v * 30.0 / np.pi
    lines = ["# recorded on a Tuesday", "t;i_1;i_2;theta_1;theta_2;w_1;w_2;mood"]
    for k in range(rows):
        cells = (1e3 * t[k], -2 * tau[k, 0], 2 * tau[k, 1], -degrees[k, 0] + np.degrees(0.1), degrees[k, 1],
                 -rpm[k, 0], rpm[k, 1], 0.0)  # fmt: skip
        lines.append(";".join(f"{c:.9f}" for c in cells))
    path.write_text("\n".join(lines))
    return path, q


def mapped(tmp_path: Path, text: str) -> Mapped:
    file = tmp_path / "columns.yaml"
    file.write_text(text)
    return Mapped.of(file)


def test_a_mapped_table_is_in_our_units_and_says_what_was_converted(
    double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    path, q = table(tmp_path / "lab.csv")
    (recording,) = mapped(tmp_path, MAP).read(path, double_pendulum.spec)
    log = recording.log
    assert log is not None and np.abs(log["joint.position"].values - q).max() < 1e-6
    assert log["joint.velocity"].values[0] == pytest.approx([1.5, 1.5], abs=1e-6)
    assert log["command.effort"].values[300, 0] == pytest.approx(0.2 * np.sin(7 * 0.6), abs=1e-6)
    assert log["joint.position"].t_ns[5] == 10_000_000 and log.meta["late_rows"] == "1"
    words = {f.where: f.detail for f in recording.findings}
    assert words["column theta_1"] == "shoulder: from deg to rad, less 0.1, mirrored (map)."
    assert {f.kind for f in recording.findings} == {"converted"}


def test_a_map_reads_every_table_of_a_folder_into_a_data_set(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    table(tmp_path / "logs" / "a.csv")
    table(tmp_path / "logs" / "b.txt", 800)
    work = Ingestion(spec=double_pendulum.spec, out=tmp_path / "set", reader=mapped(tmp_path, MAP))
    assert [e.accepted for e in work.run([tmp_path / "logs"])] == [True, True]


def test_a_wrong_sign_in_the_map_is_found_by_the_rules(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    from transfer.dataset import DataRefused

    path, _ = table(tmp_path / "lab.csv")
    wrong = MAP.replace("column: w_2, unit: rpm", "column: w_2, unit: rpm, sign: -1")
    work = Ingestion(spec=double_pendulum.spec, out=tmp_path / "set", reader=mapped(tmp_path, wrong))
    with pytest.raises(DataRefused, match=r"sign.*'elbow' moves against its velocity"):
        work.run([path])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("unit: ms", "unit: hours", "time.unit"),
        ("unit: deg, sign", "unit: degre, sign", "unit is 'degre'.*Did you mean 'deg'"),
        ("joint.velocity:", "joint.velocty:", "joint.velocty.*Did you mean 'joint.velocity'"),
        ("elbow: {column: theta_2", "elbo: {column: theta_2", "names 'elbo'.*Did you mean 'elbow'"),
        ("    elbow: {column: i_2, scale: 0.5}\n", "", "command.effort has no 'elbow'"),
        ("scale: 0.5, sign: -1", "scale: -0.5", "sign: -1"),
        ("column: i_2", "column: i_1", "column 'i_1' is both"),
        ("sign: -1, offset", "sign: 2, offset", "must be 1 or -1"),
        ('delimiter: ";"', 'delimiter: ";;"', "one character"),
    ],
)
def test_a_mistake_in_a_map_is_one_sentence(
    old: str, new: str, message: str, double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    path, _ = table(tmp_path / "lab.csv", 20)
    assert old in MAP
    with pytest.raises(ConfigError, match=message) as error:
        list(mapped(tmp_path, MAP.replace(old, new)).read(path, double_pendulum.spec))
    assert "columns.yaml" in str(error.value)


def test_a_column_that_the_table_lacks_is_a_finding_with_the_nearest(
    double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    path, _ = table(tmp_path / "lab.csv", 20)
    (recording,) = mapped(tmp_path, MAP.replace("theta_2", "theta2")).read(path, double_pendulum.spec)
    (found,) = [f for f in recording.findings if f.kind == "missing_column"]
    assert recording.log is None and "'theta2'" in found.detail and "theta_2" in found.detail

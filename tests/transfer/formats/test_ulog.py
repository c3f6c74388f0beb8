"""ULogs: by a map what a person says of them, without one refused with what they hold; bounded, whatever they claim."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from sim.model import RobotConfig
from tests.transfer.formats.bags import refusal, swing, told
from transfer.formats.topic_map import mapped
from transfer.formats.ulog import MAGIC, Ulog

FORMATS = (
    "esc:float deg;float rpm;uint8_t[3] _padding0;",
    "esc_status:uint64_t timestamp;uint8_t count;esc[2] esc;",
    "sensor_combined:uint64_t timestamp;float[3] gyro_rad;",
)
MAP = """
stamps: header
channels:
  joint.position:
    shoulder: {column: "esc_status:esc[0].deg", unit: deg}
    elbow: {column: "esc_status#1:esc[0].deg", unit: deg, sign: -1}
"""


def record(kind: str, data: bytes) -> bytes:
    return struct.pack("<HB", len(data), ord(kind)) + data


def ulog(path: Path, formats: tuple[str, ...] = FORMATS, rows: int = 500, version: int = 1, flags: int = 0) -> Path:
    """A flight of a drone that has two ESCs, each with a topic of its own."""
    parts = [MAGIC, bytes([version]), struct.pack("<Q", 1000)]
    parts.append(record("B", bytes(8) + bytes([flags]) + bytes(31)))
    parts += [record("F", text.encode()) for text in formats]
    parts.append(record("I", b"\x09char[3] n" + b"PX4"))
    for number, (instance, name) in enumerate(((0, "esc_status"), (1, "esc_status"), (0, "sensor_combined"))):
        parts.append(record("A", struct.pack("<BH", instance, number) + name.encode()))
    for k in range(rows):
        stamp = 5_000_000 + 2000 * k
        angles = np.degrees(swing(k / 500)[0])
        for number, angle in enumerate(angles):
            body = struct.pack("<HQB", number, stamp + 3 * number, 2) + struct.pack("<ff3x", angle, 60.0) * 2
            parts.append(record("D", body))
        if k % 4 == 0:
            parts.append(record("D", struct.pack("<HQfff", 2, stamp, 0.1, 0.2, 0.3)))
    path.write_bytes(b"".join(parts))
    return path


def test_a_ulog_is_read_by_a_map(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    file = tmp_path / "map.yaml"
    file.write_text(MAP)
    (recording,) = mapped(file).read(ulog(tmp_path / "flight.ulg"), double_pendulum.spec)
    log = recording.log
    assert log is not None and recording.format == "PX4 ULog", recording.findings
    channel = log["joint.position"]
    times = channel.t_ns * 1e-9 - 5.0
    assert channel.t_ns[0] == 5_002_000_000  # the first stamp of the shoulder that the elbow reaches
    assert np.abs(channel.values - [swing(t)[0] * [1, -1] for t in times]).max() < 1e-4
    assert "different messages" in told(recording)["joined"].detail


def test_a_drones_ulog_is_refused_with_what_is_in_it(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    found = refusal(ulog(tmp_path / "flight.ulg", rows=20), double_pendulum.spec)
    assert found.kind == "other_robot" and "esc_status (uORB), esc_status#1 (uORB), sensor_combined" in found.detail
    assert "(shoulder, elbow)" in found.detail


def test_a_torn_ulog_gives_what_came_before(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    path = ulog(tmp_path / "flight.ulg")
    path.write_bytes(path.read_bytes()[:-4000])
    file = tmp_path / "map.yaml"
    file.write_text(MAP)
    (recording,) = mapped(file).read(path, double_pendulum.spec)
    assert recording.log is not None and "in the middle of the record" in told(recording)["torn"].detail
    assert 400 < len(recording.log["joint.position"].t_ns) < 490


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: ulog(p, version=3), "version 3; versions up to 1"),
        (lambda p: ulog(p, flags=4), "features that are not known"),
        (lambda p: ulog(p, ("esc_status:uint64_t timestamp;esc_status more;",)), "contains itself"),
        (
            lambda p: ulog(p, ("a:float[60000] x;", "esc_status:uint64_t timestamp;a[60000] x;")),
            "more than 4096 numbers",
        ),
        (lambda p: p.write_bytes(b"PK\x03\x04" + bytes(500)), "it is no ULog"),
        (lambda p: p.write_bytes(MAGIC), "it is no ULog"),
        (lambda p: p.write_bytes(MAGIC + bytes(9)), "it holds no messages"),
    ],
)
def test_what_is_no_ulog_or_means_harm_is_one_sentence(
    damage: object, message: str, double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    path = tmp_path / "flight.ulg"
    damage(path)  # type: ignore[operator]
    found = refusal(path, double_pendulum.spec)
    assert message in found.detail and "\n" not in found.detail


def test_the_counts_are_those_of_the_file(tmp_path: Path) -> None:
    log = Ulog(ulog(tmp_path / "flight.ulg", rows=100))
    assert [(t.name, t.count) for t in log.topics] == [
        ("esc_status", 100),
        ("esc_status#1", 100),
        ("sensor_combined", 25),
    ]
    (block,) = log.blocks(log.topics[2])
    assert block.column("gyro_rad[1]") == pytest.approx(np.full(25, 0.2)) and block.column("gyro_rad[3]") is None

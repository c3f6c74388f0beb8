"""EpisodeLog: round trip, crash recovery, and that other MCAP tools can read the file."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader

from robot import log as logs
from robot import message
from robot.log import Channel, EpisodeLog, LogError


def episode(n: int = 50) -> EpisodeLog:
    rng = np.random.default_rng(0)
    position = rng.normal(size=(n, 2))
    position[3, 1] = np.nan
    t = np.arange(n, dtype=np.int64) * 10_000_000 + rng.integers(0, 1000, n)
    images = rng.integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)
    channels = [
        Channel("joint.position", "rad", ("shoulder", "elbow"), t, position),
        Channel("joint.velocity", "rad/s", ("shoulder", "elbow"), t + 500, -position),
        Channel("command.effort", "N m", ("elbow",), t[::2] + 1_000_000, position[::2, :1]),
        Channel("camera.side", "uint8", (), t[:3], images),
        Channel("camera.depth", "uint8", (), t[:3], images[..., :1]),
        Channel("event", "text", (), t[:2], np.array(["state: run", "Übung"], dtype=object)),
        Channel("imu.gyro", "rad/s", ("x", "y", "z"), np.zeros(0), np.zeros((0, 3))),
    ]
    return EpisodeLog("one", "two_link", "f" * 16, {c.name: c for c in channels}, {"bundle": "b/ä"})


def assert_equal(a: EpisodeLog, b: EpisodeLog) -> None:
    assert (a.name, a.robot, a.fingerprint, dict(a.meta)) == (b.name, b.robot, b.fingerprint, dict(b.meta))
    assert list(a.channels) == list(b.channels)
    for name, channel in a.channels.items():
        other = b[name]
        assert (channel.unit, channel.components) == (other.unit, other.components)
        np.testing.assert_array_equal(channel.t_ns, other.t_ns)
        np.testing.assert_array_equal(channel.values, other.values)
        assert channel.values.dtype == other.values.dtype


def test_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    saved = episode()
    assert_equal(logs.load(saved.save(tmp_path / "a.mcap")), saved)


def test_same_log_gives_same_bytes(tmp_path: Path) -> None:
    a, b = (episode().save(tmp_path / name).read_bytes() for name in ("a.mcap", "b.mcap"))
    assert a == b


def test_other_tools_read_it_as_ros2_messages(tmp_path: Path) -> None:
    with episode().save(tmp_path / "a.mcap").open("rb") as stream:
        found = {c.topic: (s, c, m) for s, c, m in make_reader(stream).iter_messages()}
    schema, channel, message = found["/joint/velocity"]
    assert (schema.name, schema.encoding, channel.message_encoding) == (
        "terrafirma_msgs/msg/Values",
        "ros2msg",
        "cdr",
    )
    assert schema.data.decode().split() == ["float64[]", "values"]
    assert struct.unpack("<4BII2d", message.data)[:6] == (0, 1, 0, 0, 2, 0)  # CDR header, length, padding
    assert channel.metadata["unit"] == "rad/s" and channel.metadata["fingerprint"] == "f" * 16
    schema, _, message = found["/camera/side"]
    assert schema.name == "sensor_msgs/msg/Image" and b"MSG: std_msgs/Header" in schema.data
    height, width = struct.unpack_from("<II", message.data, 4 + 16)
    assert (height, width) == (4, 6) and message.data[4 + 28 : 4 + 33] == b"rgb8\0"
    assert struct.unpack_from("<II", message.data, 4 + 36) == (18, 72)  # step, length
    assert found["/event"][0].name == "std_msgs/msg/String"


@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.9, 0.999])
def test_torn_recording_keeps_every_whole_message(tmp_path: Path, fraction: float) -> None:
    from mcap.writer import Writer

    whole, log = tmp_path / "whole.mcap", episode(400)
    with whole.open("wb") as stream:
        writer = Writer(stream, use_chunking=False)
        writer.start(profile="ros2", library="terrafirma")
        logs.write_header(writer, log)
        channel = log["joint.position"]
        i, ends = logs.add_channel(writer, channel, log.fingerprint), []
        for t, value in zip(channel.t_ns, channel.values, strict=True):
            writer.add_message(i, int(t), message.encode(value), int(t))
            ends.append(stream.tell())
        writer.finish()
    data = whole.read_bytes()
    cut = int(ends[-1] * fraction)
    (tmp_path / "torn.mcap").write_bytes(data[:cut])
    torn = logs.load(tmp_path / "torn.mcap")
    rows = sum(end <= cut for end in ends)
    assert len(torn["joint.position"].t_ns) == rows > 50
    np.testing.assert_array_equal(torn["joint.position"].values, channel.values[:rows])
    assert "torn" in torn.meta and "torn" not in logs.load(whole).meta


def test_damaged_chunk_is_no_traceback(tmp_path: Path) -> None:
    path = episode(2000).save(tmp_path / "a.mcap")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    log = logs.load(path)
    assert "torn" in log.meta


def with_chunk(path: Path, compression: str, declared: int, data: bytes) -> Path:
    """An episode whose first chunk says it has `declared` bytes, and has `data`."""
    from mcap.writer import Writer

    with path.open("wb") as stream:
        writer = Writer(stream, use_chunking=False)
        writer.start(profile="ros2", library="terrafirma")
        logs.write_header(writer, episode())
        name = compression.encode()
        body = struct.pack("<QQQII", 0, 0, declared, 0, len(name)) + name + struct.pack("<Q", len(data)) + data
        stream.write(struct.pack("<BQ", 6, len(body)) + body)
        writer.finish()
    return path


ZSTD_OF_16_GIB = bytes.fromhex("28b52ffde0") + struct.pack("<Q", 1 << 34)
"""A frame's head (RFC 8878, 3.1.1): one segment, its size in eight bytes."""


@pytest.mark.parametrize(
    ("compression", "declared", "data"),
    [("zstd", 1 << 40, b""), ("zstd", 1000, ZSTD_OF_16_GIB), ("", 1 << 40, b"x")],
)
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, compression: str, declared: int, data: bytes) -> None:
    path = with_chunk(tmp_path / "bomb.mcap", compression, declared, data)
    with pytest.raises(LogError, match=r"bomb\.mcap: a chunk .*; it is not read") as refused:
        logs.load(path)
    assert refused.value.exit_code == 4


def test_a_chunk_is_unpacked_no_further_than_it_declares(tmp_path: Path) -> None:
    import lz4.frame

    path = with_chunk(tmp_path / "a.mcap", "lz4", 1000, lz4.frame.compress(bytes(1 << 24)))
    tracemalloc.start()
    log = logs.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "torn" in log.meta and peak < 1 << 22


def test_an_episode_that_fills_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = episode().save(tmp_path / "a.mcap")
    monkeypatch.setattr(logs, "LARGEST", 1000)
    with pytest.raises(LogError, match="more than 1000 bytes"):
        logs.load(path)


@pytest.mark.parametrize("content", [b"", b"time,position\n0,0\n", b"\x89MCAP0\r\n"])
def test_foreign_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.mcap").write_bytes(content)
    with pytest.raises(LogError, match=r"x\.mcap: not a terrafirma episode"):
        logs.load(tmp_path / "x.mcap")
    with pytest.raises(LogError, match="cannot be read"):
        logs.load(tmp_path / "missing.mcap")


def test_log_of_a_newer_schema_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "SCHEMA_VERSION", "99")
    path = episode().save(tmp_path / "a.mcap")
    monkeypatch.undo()
    with pytest.raises(LogError, match="schema 99 is unknown"):
        logs.load(path)


def test_channel_refuses_wrong_shape_unit_and_name() -> None:
    with pytest.raises(LogError, match="3 time stamps for 2 values"):
        Channel("joint.position", "rad", ("a",), np.arange(3), np.zeros((2, 1)))
    with pytest.raises(LogError, match="shape"):
        Channel("joint.position", "rad", ("a",), np.arange(3), np.zeros((3, 2)))
    with pytest.raises(LogError, match="'deg'; the standard unit is 'rad'"):
        Channel("joint.position", "deg", ("a",), np.arange(3), np.zeros((3, 1)))
    with pytest.raises(LogError, match="no component 'b'; it has a"):
        Channel("joint.position", "rad", ("a",), np.arange(3), np.zeros((3, 1))).component("b")
    with pytest.raises(LogError, match=r"no channel 'joint\.speed'; it has"):
        episode()["joint.speed"]


def test_negative_time_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    channel = Channel("joint.position", "rad", ("a",), np.array([-5, 0]), np.zeros((2, 1)))
    with pytest.raises(LogError, match="before 0"):
        EpisodeLog("x", "r", "f", {channel.name: channel}).save(tmp_path / "a.mcap")
    assert list(tmp_path.iterdir()) == []


def test_channels_are_read_by_component_name() -> None:
    channel = episode()["joint.position"]
    swapped = channel.ordered(("elbow", "shoulder"))
    np.testing.assert_array_equal(swapped, channel.values[:, ::-1])
    assert episode().seconds == pytest.approx(0.49, abs=0.001)

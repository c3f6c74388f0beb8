"""Bags and MCAP files that are damaged, of another version, or mean harm: one sentence, nothing lost, bounded."""

from __future__ import annotations

import bz2
import json
import resource
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import pytest
import zstandard
from mcap.writer import Writer
from rosbags.rosbag2 import StoragePlugin

from robot.log import Channel, EpisodeLog
from sim.model import RobotConfig
from tests.transfer.formats.bags import JOINTS, ROS1, ROS2, motion, read, refusal, told, write_ros1, write_ros2
from tests.transfer.formats.test_ulog import ulog
from transfer.dataset import DataRefused
from transfer.formats import format_of, mcap_file, ros_definitions
from transfer.formats.mcap_file import MAGIC
from transfer.formats.ros_columns import Walk
from transfer.formats.topics import SourceError
from transfer.ingest import Ingestion

BOMB = 1 << 27
"""Bytes of zeros, in a few kB."""


def chunk(kind: str, data: bytes, declared: int) -> bytes:
    """A record of MCAP: times, size, no checksum, compression, data."""
    name = kind.encode()
    body = struct.pack("<QQQII", 0, 0, declared, 0, len(name)) + name + struct.pack("<Q", len(data)) + data
    return struct.pack("<BQ", 6, len(body)) + body


def text(value: str) -> bytes:
    return struct.pack("<I", len(value)) + value.encode()


def header(library: str) -> bytes:
    body = text("ros2") + text(library)
    return MAGIC + struct.pack("<BQ", 1, len(body)) + body


def packed(size: bool) -> bytes:
    """A zstd frame of BOMB zeros that says its size, or does not."""
    if size:
        return zstandard.ZstdCompressor().compress(bytes(BOMB))
    work = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return b"".join([work.compress(bytes(BOMB)), work.flush()])


BOMBS: dict[str, Callable[[], bytes]] = {
    "more than it declares": lambda: chunk("zstd", packed(size=True), 100),
    "more than it declares, silently": lambda: chunk("zstd", packed(size=False), 100),
    "lz4": lambda: chunk("lz4", lz4.frame.compress(bytes(BOMB)), 100),
    "declared": lambda: chunk("zstd", zstandard.compress(b"x"), 1 << 40),
}


@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.parametrize("kind", list(BOMBS))
def test_a_chunk_never_unpacks_to_more_than_it_declares(
    kind: str, ours: bool, double_pendulum: RobotConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcap_file, "LARGEST", BOMB // 2)
    path = tmp_path / "bomb.mcap"
    path.write_bytes(header("terrafirma" if ours else "other") + BOMBS[kind]())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = refusal(path, double_pendulum.spec)
    assert "\n" not in found.detail and found.kind in ("unreadable", "empty")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 3 * BOMB >> 10 or kind == "declared"  # making the bomb takes that much, unpacking it would take more


def test_a_bomb_in_a_ros_1_bag_is_left_packed(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    path = write_ros1(tmp_path / "run.bag", motion(ROS1, rows=20), "BZ2")
    data = path.read_bytes()
    at = data.index(b"compression=bz2")
    size = data.index(b"size=", at - 40) + 5
    start = data.index(b"BZh", at) - 4
    (length,) = struct.unpack_from("<I", data, start)
    bomb = bz2.compress(bytes(1 << 24))
    path.write_bytes(data[:start] + struct.pack("<I", len(bomb)) + bomb + data[start + 4 + length :])
    assert "not what it declares" in refusal(path, double_pendulum.spec).detail
    huge = data[:size] + struct.pack("<I", 0xFFFFFFFF) + data[size + 4 :]
    path.write_bytes(huge)
    assert "4294967295 bytes" in refusal(path, double_pendulum.spec).detail


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("lab/A a\n" + "=" * 80 + "\nMSG: lab/A\nlab/A a\n", "contains itself"),
        ("lab/A[15000] a\n" + "=" * 80 + "\nMSG: lab/A\nlab/A[15000] b\nuint8[0] c\n", "contains itself|more than"),
        ("lab/A[15000] a\n" + "=" * 80 + "\nMSG: lab/A\nuint8[0] c\nuint8[0] d\n", "more than 20000 fields"),
        ("string[4000000000] a\n", "lists 4000000000 elements"),
        ("float64[4000000000] a\n", "shorter than its definition"),
        ("lab/Missing a\n", "lacks the type 'lab/msg/Missing'"),
        ("!!!\n", "cannot be parsed"),
        ("x" * 300_000, "at most 262144 are read"),
    ],
)
def test_a_definition_that_never_ends_ends(definition: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        Walk(ros_definitions.parse("lab/msg/Top", definition), b"\0\1\0\0" + bytes(64), cdr=True)


def test_lengths_that_lie_are_damage_of_that_message_alone(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    path = tmp_path / "lab.mcap"
    rows = [m for t, _, _, m in motion(ROS2, rows=300) if t == "/joint_states"]
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start()
        text_ = ROS2.generate_msgdef(JOINTS, ros_version=2)[0].encode()
        channel = writer.register_channel("/joint_states", "cdr", writer.register_schema(JOINTS, "ros2msg", text_))
        for k, message in enumerate(rows):
            raw = bytearray(ROS2.serialize_cdr(message, JOINTS))
            if k in (5, 6):
                at = raw.index(b"shoulder") - 8
                raw[at : at + 4] = b"\xff\xff\xff\x7f"
            writer.add_message(channel, k, bytes(raw), k)
        writer.finish()
    recording = read(path, double_pendulum.spec)
    found = told(recording)["damaged_messages"]
    assert recording.log is not None and found.blocking and "2 message(s) were left out" in found.detail
    assert len(recording.log["joint.position"].t_ns) == 298


def test_json_that_nests_without_end_is_rejected(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    path = tmp_path / "lab.mcap"
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start()
        channel = writer.register_channel("/../../etc/passwd", "json", 0)
        deep = b'{"a": ' * 200 + b"1" + b"}" * 200
        for body in (b"[" * 100_000, b'{"a": 1e999, "b": ' + b"9" * 5000 + b"}", b"\xff\xfe", deep, b"7"):
            writer.add_message(channel, 0, body, 0)
        writer.finish()
    assert "/../../etc/passwd" in refusal(path, double_pendulum.spec).detail


def test_names_in_a_file_cannot_write_on_the_terminal(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    path = tmp_path / "lab.mcap"
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start()
        channel = writer.register_channel("/a\x1b[2J\nno episode was refused", "json", 0)
        writer.add_message(channel, 0, json.dumps({"name": ["m" * 10**6, "n"], "position": [1, 2]}).encode(), 0)
        writer.finish()
    detail = read(path, double_pendulum.spec).findings[-1].detail
    assert detail.isprintable() and len(detail) < 1600


@pytest.mark.parametrize(("schema", "name"), [(b"\xff" * 40, "a.B"), (b"", "a.B"), (b"", "")])
def test_descriptors_that_are_none_are_told(
    schema: bytes, name: str, double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    path = tmp_path / "lab.mcap"
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start()
        channel = writer.register_channel("/x", "protobuf", writer.register_schema(name, "protobuf", schema))
        writer.add_message(channel, 0, b"\x08\x01", 0)
        writer.finish()
    assert "descriptors" in refusal(path, double_pendulum.spec).detail


def test_an_index_that_names_a_chunk_again_and_again_is_not_believed(
    double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    path = tmp_path / "lab.mcap"
    with path.open("wb") as stream:
        writer = Writer(stream, chunk_size=300)
        writer.start()
        schema = writer.register_schema(JOINTS, "jsonschema", b"{}")
        channel = writer.register_channel("/s", "json", schema)
        for k in range(30):
            body = json.dumps({"name": ["shoulder", "elbow"], "position": [k, k]}).encode()
            writer.add_message(channel, k, body, k)
        for kept in vars(writer).values():
            if isinstance(kept, list) and kept and hasattr(kept[0], "chunk_start_offset"):
                kept += kept[:2] * 50
        writer.finish()
    recording = read(path, double_pendulum.spec)
    assert recording.log is not None and recording.log["joint.position"].values[:, 0].tolist() == list(range(30))


METADATA = """rosbag2_bagfile_information:
  version: {version}
  storage_identifier: sqlite3
  relative_file_paths: [{file}]
  duration: {{nanoseconds: 1}}
  starting_time: {{nanoseconds_since_epoch: 1}}
  message_count: 1
  topics_with_message_count: []
  compression_format: "{packer}"
  compression_mode: "{mode}"
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "version 99; versions up to 9"),
        ({"file": "../secret.db3"}, "names 'secret.db3', which is not there"),
        ({"file": "link.db3"}, "names 'link.db3', which is not there"),
        ({"packer": "rar", "mode": "file"}, "compressed by 'rar'"),
        ({"file": "notes.txt"}, "neither .mcap nor .db3"),
        ({"file": "notes.txt", "packer": "zstd", "mode": "FILE"}, "cannot be unpacked"),
        ({"version": "*x"}, "damaged"),
    ],
)
def test_a_bags_folder_reads_nothing_outside_itself(
    change: dict[str, Any], message: str, double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    write_ros2(tmp_path / "bag", motion(ROS2, rows=5), StoragePlugin.SQLITE3)
    secret = (tmp_path / "bag" / "bag.db3").rename(tmp_path / "secret.db3")
    (tmp_path / "bag" / "link.db3").symlink_to(secret)
    (tmp_path / "bag" / "notes.txt").write_text("none")
    said = {"version": 9, "file": "bag.db3", "packer": "", "mode": ""} | change
    (tmp_path / "bag" / "metadata.yaml").write_text(METADATA.format(**said))
    found = refusal(tmp_path / "bag", double_pendulum.spec)
    assert found.kind == "unreadable" and message in found.detail and "\n" not in found.detail


def test_what_is_no_bag_in_sqlite_is_told(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    path = tmp_path / "x.db3"
    path.write_bytes(b"SQLite format 3\0" + bytes(np.random.default_rng(0).integers(0, 255, 4000, np.uint8)))
    assert "no ROS 2 bag in SQLite" in refusal(path, double_pendulum.spec).detail
    path.write_bytes(b"hello")
    assert "too short" in refusal(path, double_pendulum.spec).detail
    path.unlink()
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE addresses (street)")
        base.execute("INSERT INTO addresses VALUES ('x')")
    assert "its tables are addresses" in refusal(path, double_pendulum.spec).detail


def test_a_value_that_sqlite_would_make_up_is_bounded(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    path = tmp_path / "x.db3"
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE topics (id INTEGER, name TEXT, type TEXT, serialization_format TEXT)")
        base.execute(f"INSERT INTO topics VALUES (1, '/joint_states', '{JOINTS}', 'cdr')")
        base.execute("CREATE TABLE messages (topic_id INTEGER, timestamp INTEGER, data BLOB AS (zeroblob(900000000)))")
        base.execute("INSERT INTO messages (topic_id, timestamp) VALUES (1, 5)")
    assert "none of its messages can be read: the file is damaged" in refusal(path, double_pendulum.spec).detail


def test_other_versions_and_empty_files_are_told(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    spec = double_pendulum.spec
    for name, data, message in (
        ("a.bag", b"#ROSBAG V1.2\n" + bytes(99), "version 1.2; 2.0 is read"),
        ("b.bag", b"PK\x03\x04" + bytes(99), "no ROS 1 bag"),
        ("c.bag", b"#ROSBAG V2.0\n", "cut off"),
        ("a.mcap", MAGIC.replace(b"0", b"7") + bytes(99), "version '7'"),
        ("b.mcap", b"PK\x03\x04" + bytes(99), "no MCAP"),
        ("c.mcap", MAGIC, "no messages"),
        ("d.mcap", header("x") + struct.pack("<BQ", 5, 1 << 62), "no messages"),
    ):
        (tmp_path / name).write_bytes(data)
        assert message in refusal(tmp_path / name, spec).detail, name
    (tmp_path / "empty.bag").write_bytes(b"")
    with pytest.raises(DataRefused, match=r"empty\.bag: empty at file: the file has no bytes"):
        Ingestion(spec=spec, out=tmp_path / "set").run([tmp_path / "empty.bag"])


FILES: dict[str, Callable[[Path, RobotConfig], Path]] = {
    "ros1": lambda p, _: write_ros1(p / "a.bag", motion(ROS1, rows=30), "LZ4", chunk=3000),
    "sqlite": lambda p, _: write_ros2(p / "a", motion(ROS2, rows=30), StoragePlugin.SQLITE3) / "a.db3",
    "mcap": lambda p, _: write_ros2(p / "a", motion(ROS2, rows=30)) / "a.mcap",
    "ours": lambda p, r: EpisodeLog(
        "a", r.spec.name, r.spec.fingerprint(),
        {"joint.position": Channel("joint.position", "rad", r.spec.joint_names, np.arange(30), np.zeros((30, 2)))},
    ).save(p / "a.mcap"),
    "ulog": lambda p, _: ulog(p / "a.ulg", rows=30),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(FILES))
def test_no_damage_ends_in_anything_but_a_sentence(kind: str, double_pendulum: RobotConfig, tmp_path: Path) -> None:
    source = FILES[kind](tmp_path, double_pendulum)
    data = source.read_bytes()
    rng = np.random.default_rng(3)
    path = tmp_path / f"broken{source.suffix}"
    for k in range(25):
        broken = bytearray(data)
        for at in rng.integers(0, len(data), 1 + k % 5):
            broken[at] = int(rng.integers(0, 256))
        path.write_bytes(bytes(broken[: rng.integers(1, len(data))] if k % 2 else broken))
        reader = format_of(path)
        if reader is not None:
            for recording in reader.read(path, double_pendulum.spec):
                assert recording.log is not None or any(f.blocking for f in recording.findings)
                assert all("\n" not in f.detail and len(f.detail) < 2000 for f in recording.findings)

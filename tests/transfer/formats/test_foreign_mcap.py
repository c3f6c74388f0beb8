"""MCAP that others wrote: JSON, protobuf and ROS by the schemas in the file, whole and torn; and our own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer
from rosbags.highlevel import AnyReader

from robot.log import Channel, EpisodeLog
from sim.model import RobotConfig
from tests.transfer.formats.bags import JOINTS, ROS1, ROS2, START_S, confirmed, joint_state, read, refusal, swing, told
from transfer.formats import format_of
from transfer.formats.topic_map import mapped

ROWS = 400
Put = Callable[[Writer], Callable[[float], tuple[int, bytes]]]
"""Registers a channel; then a time [s] makes a message of it."""


def as_json(writer: Writer) -> Callable[[float], tuple[int, bytes]]:
    schema = writer.register_schema("lab.State", "jsonschema", b'{"type": "object"}')
    channel = writer.register_channel("/state", "json", schema)

    def message(t: float) -> tuple[int, bytes]:
        q, v, tau = swing(t)
        seconds, rest = divmod(round(t * 1e9), 10**9)
        body = {
            "timestamp": {"sec": START_S + seconds, "nsec": rest}, "names": ["shoulder", "elbow"],
            "measured": {"position": list(q), "velocity": list(v)}, "command": {"torque": list(tau)}, "mood": "calm",
        }  # fmt: skip
        return channel, json.dumps(body).encode()

    return message


def descriptors() -> descriptor_pb2.FileDescriptorSet:
    """A type with a time stamp, names and arrays, as a recorder in C++ would carry it."""
    file = descriptor_pb2.FileDescriptorProto(name="lab.proto", package="lab", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    joints, state = file.message_type.add(name="Joints"), file.message_type.add(name="State")
    kind = descriptor_pb2.FieldDescriptorProto
    for i, name in enumerate(("position", "velocity", "effort")):
        joints.field.add(name=name, number=i + 1, type=kind.TYPE_DOUBLE, label=kind.LABEL_REPEATED)
    state.field.add(name="timestamp", number=1, type=kind.TYPE_MESSAGE, label=kind.LABEL_OPTIONAL,
                    type_name=".google.protobuf.Timestamp")  # fmt: skip
    state.field.add(name="name", number=2, type=kind.TYPE_STRING, label=kind.LABEL_REPEATED)
    for i, name in enumerate(("measured", "desired")):
        state.field.add(
            name=name, number=3 + i, type=kind.TYPE_MESSAGE, label=kind.LABEL_OPTIONAL, type_name=".lab.Joints"
        )
    state.field.add(name="picture", number=5, type=kind.TYPE_BYTES, label=kind.LABEL_OPTIONAL)
    time = descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(time)
    return descriptor_pb2.FileDescriptorSet(file=[file, time])  # not in the order of their dependence


def as_protobuf(writer: Writer) -> Callable[[float], tuple[int, bytes]]:
    files = descriptors()
    pool = descriptor_pool.DescriptorPool()
    for file in reversed(files.file):
        pool.Add(file)
    kind: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("lab.State"))
    channel = writer.register_channel(
        "/state", "protobuf", writer.register_schema("lab.State", "protobuf", files.SerializeToString())
    )

    def message(t: float) -> tuple[int, bytes]:
        q, v, tau = swing(t)
        state = kind(name=["shoulder", "elbow"], picture=b"xyz")
        state.timestamp.seconds, state.timestamp.nanos = START_S + int(t), round(t % 1 * 1e9)
        state.measured.position.extend(q)
        state.measured.velocity.extend(v)
        state.desired.effort.extend(tau)
        return channel, state.SerializeToString()

    return message


def as_ros(writer: Writer) -> Callable[[float], tuple[int, bytes]]:
    definition, _ = ROS2.generate_msgdef(JOINTS, ros_version=2)
    channel = writer.register_channel("/state", "cdr", writer.register_schema(JOINTS, "ros2msg", definition.encode()))
    command = writer.register_channel("/goal", "cdr", writer.register_schema(JOINTS, "ros2msg", definition.encode()))
    e = np.zeros(0)

    def message(t: float) -> tuple[int, bytes]:
        q, v, tau = swing(t)
        names = ["shoulder", "elbow"]
        raw = bytes(ROS2.serialize_cdr(joint_state(ROS2, t, names, e, e, tau), JOINTS))
        when = START_S * 10**9 + round(t * 1e9)
        writer.add_message(command, when, raw, when)
        return channel, bytes(ROS2.serialize_cdr(joint_state(ROS2, t, names, q, v), JOINTS))

    return message


def as_ros1(writer: Writer) -> Callable[[float], tuple[int, bytes]]:
    definition, _ = ROS1.generate_msgdef(JOINTS)
    schema = writer.register_schema("sensor_msgs/JointState", "ros1msg", definition.encode())
    channel = writer.register_channel("/state", "ros1", schema)

    def message(t: float) -> tuple[int, bytes]:
        return channel, bytes(ROS1.serialize_ros1(joint_state(ROS1, t, ["shoulder", "elbow"], *swing(t)), JOINTS))

    return message


def write(path: Path, put: Put, rows: int = ROWS, **options: Any) -> Path:
    with path.open("wb") as stream:
        writer = Writer(stream, chunk_size=4096, **options)
        writer.start()
        message = put(writer)
        for k in range(rows):
            t = k / 500
            channel, data = message(t)
            when = START_S * 10**9 + round(t * 1e9) + 200_000
            writer.add_message(channel, when, data, when)
        writer.finish()
    return path


@pytest.mark.parametrize("put", [as_json, as_protobuf, as_ros, as_ros1])
def test_each_encoding_is_read_by_the_schemas_in_the_file(
    put: Put, double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    path = write(tmp_path / "lab.mcap", put)
    recording = read(path, double_pendulum.spec)
    if put in (as_json, as_protobuf):  # whose types do not say that a position is in rad
        assert "whether /state has joint.position in rad and" in told(recording)["unknown_layout"].detail
        (recording,) = confirmed(recording, tmp_path / "map.yaml").read(path, double_pendulum.spec)
    log = recording.log
    assert log is not None and not any(f.blocking for f in recording.findings), recording.findings
    expected = np.array([swing(k / 500)[0] for k in range(ROWS)])
    assert np.abs(log["joint.position"].values - expected).max() < 1e-12
    assert log["joint.position"].t_ns[100] == START_S * 10**9 + 200_000_000  # the message's own, not the file's
    if put is not as_ros1:  # whose state has efforts, and no command
        assert log["command.effort"].values[50] == pytest.approx(swing(0.1)[2])


@pytest.mark.parametrize(
    "options",
    [
        {"compression": CompressionType.LZ4},
        {"compression": CompressionType.NONE},
        {"use_chunking": False},
        {"use_chunking": False, "use_statistics": False, "repeat_channels": False, "repeat_schemas": False},
    ],
)
def test_every_way_to_write_a_file_reads_alike(
    options: dict[str, Any], double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    path = write(tmp_path / "lab.mcap", as_json, rows=100, **options)
    (recording,) = confirmed(read(path, double_pendulum.spec), tmp_path / "map.yaml").read(path, double_pendulum.spec)
    with path.open("rb") as stream:
        messages = [json.loads(m.data) for _, _, m in make_reader(stream).iter_messages()]
    assert recording.log is not None
    assert np.array_equal(recording.log["joint.position"].values, [m["measured"]["position"] for m in messages])


@pytest.mark.parametrize("chunked", [True, False])
def test_a_torn_file_gives_what_came_before(chunked: bool, double_pendulum: RobotConfig, tmp_path: Path) -> None:
    path = write(tmp_path / "lab.mcap", as_json, use_chunking=chunked)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    (recording,) = confirmed(read(path, double_pendulum.spec), tmp_path / "map.yaml").read(path, double_pendulum.spec)
    assert recording.log is not None and "the file ends" in told(recording)["torn"].detail
    rows = len(recording.log["joint.position"].t_ns)
    assert 0.3 * ROWS < rows < 0.8 * ROWS
    expected = np.array([swing(k / 500)[0] for k in range(rows)])
    assert np.array_equal(recording.log["joint.position"].values, expected)


def test_messages_out_of_order_are_read_in_that_of_the_reference_reader(
    double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    path = tmp_path / "lab.mcap"
    with path.open("wb") as stream:
        writer = Writer(stream, chunk_size=600)
        writer.start()
        schema = writer.register_schema("sensor_msgs/msg/JointState", "jsonschema", b"{}")
        channel = writer.register_channel("/state", "json", schema)
        for k in (3, 1, 2, 0, 5, 4):
            body = {"name": ["shoulder", "elbow"], "position": [k, -k]}
            writer.add_message(channel, START_S * 10**9 + k * 1000, json.dumps(body).encode(), 0)
        writer.finish()
    recording = read(path, double_pendulum.spec)
    assert recording.log is not None and recording.log["joint.position"].values[:, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_map_names_what_stands_in_no_list(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    path = tmp_path / "lab.mcap"
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start()
        channel = writer.register_channel("state", "json", 0)
        for k in range(20):
            body = {"joints": [{"id": "a", "deg": k}, {"id": "b", "deg": -k}], "ok": True}
            writer.add_message(channel, START_S * 10**9 + k * 10**6, json.dumps(body).encode(), 0)
        writer.add_message(channel, START_S * 10**9 + 10**9, b'{"joints": [{"id": "a", "deg": 3}]}', 0)
        writer.finish()
    assert "it holds state" in refusal(path, double_pendulum.spec).detail
    file = tmp_path / "map.yaml"
    file.write_text(
        "stamps: header\nchannels: {joint.position: {shoulder: {column: 'state:joints[0].deg', unit: deg},"
        " elbow: {column: 'state:joints[1].deg', unit: deg, sign: -1}}}\n"
    )
    (recording,) = mapped(file).read(path, double_pendulum.spec)
    assert recording.log is not None
    assert recording.log["joint.position"].values[19] == pytest.approx(np.radians([19, 19]))


def test_our_own_file_is_ours_under_any_name_and_read_alike_by_the_reference(
    double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    spec = double_pendulum.spec
    t = np.arange(50) * 1_000_000
    values = np.array([swing(k / 1000)[0] for k in range(50)])
    values[3, 0] = np.nan
    channel = Channel("joint.position", "rad", spec.joint_names, t, values)
    log = EpisodeLog("run", spec.name, spec.fingerprint(), {"joint.position": channel})
    path = log.save(tmp_path / "run.bin")
    recording = read(path, spec)
    assert recording.log is not None and np.array_equal(recording.log["joint.position"].values, values, equal_nan=True)
    with path.open("rb") as stream:
        reader = make_reader(stream)
        rows = [(m.log_time, np.frombuffer(m.data[12:], "<f8")) for _, _, m in reader.iter_messages()]
        (metadata,) = [m.name for m in reader.iter_metadata()]
        schema = next(iter(reader.get_summary().schemas.values()))  # type: ignore[union-attr]
    assert metadata == "terrafirma" and [r[0] for r in rows] == t.tolist()
    assert np.array_equal([r[1] for r in rows], values, equal_nan=True)
    assert (schema.encoding, schema.data) == ("ros2msg", b"float64[] values\n")
    path = log.save(tmp_path / "run.mcap")  # rosbags tells formats by the name
    with AnyReader([path]) as bag:
        messages: list[Any] = [bag.deserialize(raw, c.msgtype) for c, _, raw in bag.messages()]
    assert np.array_equal([m.values for m in messages], values, equal_nan=True)


def test_a_copy_of_our_file_by_another_tool_is_still_ours(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    spec = double_pendulum.spec
    channel = Channel("joint.position", "rad", spec.joint_names, np.arange(5), np.zeros((5, 2)))
    path = EpisodeLog("run", spec.name, spec.fingerprint(), {"joint.position": channel}).save(tmp_path / "run.mcap")
    copy = tmp_path / "copy.mcap"
    with path.open("rb") as source, copy.open("wb") as stream:
        reader, writer = make_reader(source), Writer(stream)
        writer.start(library="another tool")
        ids: dict[int, int] = {}
        for schema, c, m in reader.iter_messages():
            if c.id not in ids and schema is not None:
                number = writer.register_schema(schema.name, schema.encoding, schema.data)
                ids[c.id] = writer.register_channel(c.topic, c.message_encoding, number, dict(c.metadata))
            writer.add_message(ids[c.id], m.log_time, m.data, m.publish_time)
        for metadata in reader.iter_metadata():
            writer.add_metadata(metadata.name, metadata.metadata)
        writer.finish()
    recording = read(copy, spec)
    assert recording.log is not None and recording.log.name == "run"
    assert format_of(copy) is not None

"""Bags of ROS 1 and 2: as rosbags reads them, with joints by name, units by definition, and clocks that are told."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from rosbags.typesys import Stores

from sim.model import RobotConfig, find_robot
from tests.transfer.formats.bags import (
    JOINTS,
    ROS1,
    ROS2,
    START_S,
    header,
    joint_state,
    motion,
    read,
    refusal,
    swing,
    told,
    with_types,
    write_ros1,
    write_ros2,
)
from transfer.dataset import DataRefused
from transfer.formats import format_of, whole_of
from transfer.formats.bag1 import Bag1
from transfer.formats.topic_map import mapped
from transfer.ingest import Ingestion

KINDS = {
    "mcap": lambda path: write_ros2(path / "bag", motion(ROS2, rows=200)),
    "sqlite": lambda path: write_ros2(path / "bag", motion(ROS2, rows=200), StoragePlugin.SQLITE3),
    "zstd in messages": lambda path: write_ros2(
        path / "bag", motion(ROS2, rows=200), StoragePlugin.SQLITE3, CompressionMode.MESSAGE
    ),
    "zstd in files": lambda path: write_ros2(
        path / "bag", motion(ROS2, rows=200), StoragePlugin.SQLITE3, CompressionMode.FILE
    ),
    "zstd in chunks": lambda path: write_ros2(
        path / "bag", motion(ROS2, rows=200), StoragePlugin.MCAP, CompressionMode.STORAGE
    ),
    "ros 1": lambda path: write_ros1(path / "run.bag", motion(ROS1, rows=200)),
    "ros 1, lz4": lambda path: write_ros1(path / "run.bag", motion(ROS1, rows=200), "LZ4"),
    "ros 1, bz2": lambda path: write_ros1(path / "run.bag", motion(ROS1, rows=200), "BZ2"),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_bag_is_read_as_the_reference_reader_reads_it(
    kind: str, double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    path = KINDS[kind](tmp_path)
    recording = read(path, double_pendulum.spec)
    assert recording.log is not None and not any(f.blocking for f in recording.findings), recording.findings
    log = recording.log
    with AnyReader([path]) as reader:
        wanted = [c for c in reader.connections if c.topic == "/joint_states"]
        messages: list[Any] = [reader.deserialize(raw, c.msgtype) for c, _, raw in reader.messages(wanted)]
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in messages]
    assert np.array_equal(log["joint.position"].t_ns, stamps)
    assert np.array_equal(log["joint.position"].values, [m.position for m in messages])
    assert np.array_equal(log["joint.velocity"].values, [m.velocity for m in messages])
    assert log["command.effort"].values[150] == pytest.approx(swing(0.3)[2])
    assert "joint.effort" not in log  # the states leave it empty, and that is told
    assert any(f.kind == "left_out" and "leave 'effort' empty" in f.detail for f in recording.findings)
    assert "0.3 ms after their stamps" in told(recording)["stamps"].detail


def test_a_bag_becomes_an_episode_of_a_data_set_once(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    folder = write_ros2(tmp_path / "logs" / "bag", motion(ROS2))
    assert whole_of(folder / "bag.mcap") == folder == whole_of(folder / "metadata.yaml")
    work = Ingestion(spec=double_pendulum.spec, out=tmp_path / "set")
    assert [e.accepted for e in work.run([tmp_path / "logs", folder / "bag.mcap"])] == [True]


def test_names_in_another_order_or_behind_a_prefix_are_the_robots(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    def mixed() -> Any:
        for k in range(600):
            t = k / 500
            q, v, tau = swing(t)
            names = ["left_arm/shoulder_joint", "left_arm/elbow_joint", "wheel"]
            order = [0, 1, 2] if k % 3 else [2, 1, 0]
            wide = [np.append(x, 9.0)[order] for x in (q, v, tau)]
            yield "/joint_states", JOINTS, t, joint_state(ROS2, t, [names[i] for i in order], *wide)

    recording = read(write_ros2(tmp_path / "bag", mixed()), double_pendulum.spec)
    assert recording.log is not None
    expected = [swing(k / 500)[0] for k in range(600)]
    assert recording.log["joint.position"].values == pytest.approx(np.array(expected))
    (position,) = [f for f in recording.findings if f.kind == "mapped" and f.channel == "joint.position"]
    assert "shoulder is 'left_arm/shoulder_joint'" in position.detail


def test_joints_in_messages_of_their_own_come_together(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    def apart() -> Any:
        for k in range(800):
            t = k / 500
            q = swing(t)[0]
            yield "/joint_states", JOINTS, t, joint_state(ROS2, t, ["shoulder"], q[:1])
            if k % 5 == 2:
                yield "/joint_states", JOINTS, t, joint_state(ROS2, t, ["elbow"], q[1:])

    recording = read(write_ros2(tmp_path / "bag", apart()), double_pendulum.spec)
    assert recording.log is not None and "different messages" in told(recording)["joined"].detail
    channel = recording.log["joint.position"]
    times = (channel.t_ns - START_S * 10**9) * 1e-9
    assert np.abs(channel.values - np.array([swing(t)[0] for t in times])).max() < 2e-4


def test_without_filled_stamps_those_of_reception_are_taken(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    recording = read(write_ros2(tmp_path / "bag", motion(ROS2, stamped=False)), double_pendulum.spec)
    assert recording.log is not None and "no message has a filled stamp" in told(recording)["stamps"].detail
    assert recording.log["joint.position"].t_ns[1] == START_S * 10**9 + 2_300_000


def test_a_clock_that_jumps_and_a_value_that_is_no_number_are_found(
    double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    def faulty() -> Any:
        for topic, kind, t, message in motion(ROS2):
            if topic == "/joint_states" and t > 1.0:
                message = joint_state(ROS2, t - 0.5, message.name, message.position, message.velocity)
            if topic == "/joint_states" and 0.5 < t < 0.502:
                message.position[0] = np.nan
            yield topic, kind, t, message

    work = Ingestion(spec=double_pendulum.spec, out=tmp_path / "set")
    with pytest.raises(DataRefused) as refused:
        work.run([write_ros2(tmp_path / "bag", faulty())])
    assert {f.kind for f in refused.value.episodes[0].findings} >= {"nan", "decreasing_time"}


def rover(store: Any) -> Any:
    odometry, twist = (store.types[f"{n}"] for n in ("nav_msgs/msg/Odometry", "geometry_msgs/msg/TwistWithCovariance"))
    pose = store.types["geometry_msgs/msg/PoseWithCovariance"](
        store.types["geometry_msgs/msg/Pose"](
            store.types["geometry_msgs/msg/Point"](0.0, 0.0, 0.0),
            store.types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0),
        ),
        np.zeros(36),
    )
    still = store.types["geometry_msgs/msg/Vector3"](0.0, 0.0, 0.0)
    speed = twist(store.types["geometry_msgs/msg/Twist"](still, still), np.zeros(36))
    for k in range(30):
        yield "/odom", "nav_msgs/msg/Odometry", k / 30, odometry(header(store, k / 30), "base", pose, speed)
        yield "/front/image_raw", "sensor_msgs/msg/Image", k / 30, image(store, k / 30, np.zeros((4, 6, 3), np.uint8))


def image(store: Any, t: float, picture: np.ndarray, encoding: str = "rgb8", spare: int = 0) -> Any:
    height, width, channels = picture.shape
    rows = np.pad(picture.reshape(height, width * channels), ((0, 0), (0, spare)))
    kind = store.types["sensor_msgs/msg/Image"]
    return kind(header(store, t), height, width, encoding, 0, width * channels + spare, rows.reshape(-1))


def test_a_rovers_bag_is_refused_with_what_is_in_it(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    work = Ingestion(spec=double_pendulum.spec, out=tmp_path / "set")
    with pytest.raises(DataRefused) as refused:
        work.run([write_ros1(tmp_path / "rover.bag", rover(ROS1))])
    assert refused.value.exit_code == 4
    message = str(refused.value)
    assert "/odom (nav_msgs/msg/Odometry), /front/image_raw (sensor_msgs/msg/Image)" in message
    assert "looked for were the joints of robot 'double_pendulum_c1' (shoulder, elbow)" in message


def test_other_joints_are_proposed_in_order_and_never_taken(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    path = write_ros2(tmp_path / "bag", motion(ROS2, names=("m1", "m2")))
    work = Ingestion(spec=double_pendulum.spec, out=tmp_path / "set")
    with pytest.raises(DataRefused, match="not certain whether the joints of /joint_states are shoulder = 'm1'"):
        work.run([path])
    (guess,) = (tmp_path / "set").glob("*.yaml")
    with pytest.raises(Exception, match="confirmed is false"):
        mapped(guess)
    guess.write_text(guess.read_text().replace("confirmed: false", "confirmed: true"))
    work = Ingestion(spec=double_pendulum.spec, out=tmp_path / "set", reader=mapped(guess))
    assert [e.accepted for e in work.run([path])] == [True]


def test_commands_without_names_are_proposed_in_the_joints_order(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    array, layout = (ROS2.types[f"std_msgs/msg/{n}"] for n in ("Float64MultiArray", "MultiArrayLayout"))

    def commanded() -> Any:
        for topic, kind, t, message in motion(ROS2):
            if topic == "/joint_states":
                yield topic, kind, t, message
            else:
                yield (
                    "/effort_controller/commands",
                    "std_msgs/msg/Float64MultiArray",
                    t,
                    array(layout([], 0), message.effort),
                )

    path = write_ros2(tmp_path / "bag", commanded())
    recording = read(path, double_pendulum.spec)
    assert recording.log is None and "in the order shoulder, elbow" in told(recording)["unknown_layout"].detail
    file = tmp_path / "map.yaml"
    before, command = recording.proposal.replace("confirmed: false", "confirmed: true").split("command.effort")
    file.write_text(f"{before}command.effort{command.replace('sign: 1', 'sign: -1', 1)}")
    (read_again,) = mapped(file).read(path, double_pendulum.spec)
    assert read_again.log is not None
    assert read_again.log["command.effort"].values[500] == pytest.approx(swing(1.0)[2] * [-1, 1])
    assert "shoulder: mirrored (map)" in told(read_again)["converted"].detail
    assert "/effort_controller/commands has none" in told(read_again)["stamps"].detail


CUSTOM = (
    "std_msgs/Header header\nMotor[2] motors\nstring mood\n" + "=" * 80 + "\nMSG: lab/Motor\nint8 id\nfloat32 deg\n"
)


@pytest.mark.parametrize("ros", [1, 2])
def test_own_types_are_read_from_the_definitions_in_the_bag(
    ros: int, double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    store = with_types(Stores.ROS1_NOETIC if ros == 1 else Stores.ROS2_HUMBLE, lab__msg__Status=CUSTOM)
    kind, motor = store.types["lab/msg/Status"], store.types["lab/msg/Motor"]
    outer = ROS1 if ros == 1 else ROS2

    def messages() -> Any:
        for k in range(700):
            angles = np.degrees(swing(k / 500)[0])
            motors = [motor(i, float(a)) for i, a in enumerate(angles)]
            yield "/lab", "lab/msg/Status", k / 500, kind(header(outer, k / 500), motors, "calm" * (k % 7))

    path = (
        write_ros1(tmp_path / "lab.bag", messages(), store=store)
        if ros == 1
        else write_ros2(tmp_path / "lab", messages(), store=store)
    )
    file = tmp_path / "map.yaml"
    file.write_text(
        "stamps: header\nchannels:\n  joint.position:\n"
        "    shoulder: {column: '/lab:motors[0].deg', unit: deg}\n"
        "    elbow: {column: '/lab:motors[1].deg', unit: deg}\n"
    )
    (recording,) = mapped(file).read(path, double_pendulum.spec)
    assert recording.log is not None, recording.findings
    expected = np.array([swing(k / 500)[0] for k in range(700)])
    assert np.abs(recording.log["joint.position"].values - expected).max() < 1e-6
    assert recording.log["joint.position"].t_ns[10] == START_S * 10**9 + 20_000_000


def test_a_map_that_names_no_topic_gets_the_nearest(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    path = write_ros2(tmp_path / "bag", motion(ROS2, rows=5))
    file = tmp_path / "map.yaml"
    text = 'stamps: header\nchannels: {joint.position: {shoulder: {column: "/joint_state:position[0]"}, '
    text += 'elbow: {column: "/joint_states:position[1]"}}}\n'
    file.write_text(text)
    (recording,) = mapped(file).read(path, double_pendulum.spec)
    assert recording.log is None and "Did you mean '/joint_states'" in told(recording)["missing_column"].detail
    file.write_text(text.replace("/joint_state:position[0]", "/joint_states"))
    with pytest.raises(Exception, match="must be TOPIC:PATH"):
        mapped(file)


def test_pictures_and_imu_of_a_robot_that_has_them(tmp_path: Path) -> None:
    spec = find_robot("quadruped").spec
    rng = np.random.default_rng(0)
    shown = rng.integers(0, 255, (6, 9, 3)).astype(np.uint8)
    imu, vector, quaternion = (
        ROS2.types[n] for n in ("sensor_msgs/msg/Imu", "geometry_msgs/msg/Vector3", "geometry_msgs/msg/Quaternion")
    )
    compressed = ROS2.types["sensor_msgs/msg/CompressedImage"]
    unmeasured = np.array([-1.0, *[0.0] * 8])

    def messages(encoding: str) -> Any:
        for k in range(40):
            t = k / 100
            yield "/joint_states", JOINTS, t, joint_state(ROS2, t, spec.joint_names, np.full(12, t), np.ones(12))
            turn = imu(header(ROS2, t), quaternion(0.0, 0.0, 0.0, 1.0), unmeasured, vector(t, 2.0, 3.0), np.zeros(9),
                       vector(0.0, 0.0, 9.81), np.zeros(9))  # fmt: skip
            yield "/imu/data", "sensor_msgs/msg/Imu", t, turn
            if encoding == "png":
                coded = cv2.imencode(".png", shown[..., ::-1])[1].reshape(-1)
                coded = coded[:20] if k == 20 else coded
                message = compressed(header(ROS2, t), "rgb8; png compressed bgr8", coded)
                yield "/side/image_raw/compressed", "sensor_msgs/msg/CompressedImage", t, message
            else:
                yield "/side/image_raw", "sensor_msgs/msg/Image", t, image(ROS2, t, shown[..., ::-1], encoding, spare=3)

    for encoding in ("bgr8", "png"):
        recording = read(write_ros2(tmp_path / encoding, messages(encoding)), spec)
        log = recording.log
        assert log is not None, recording.findings
        assert np.array_equal(log["camera.side"].values[5], shown) and log["camera.side"].t_ns[1] % 10**9 == 10_000_000
        assert log["imu.gyro"].values[3] == pytest.approx([0.03, 2.0, 3.0]) and "imu.orientation" not in log
        assert any("does not measure it" in f.detail for f in recording.findings if f.channel == "imu.orientation")
    assert len(log["camera.side"].t_ns) == 39 and "1 picture(s)" in told(recording)["damaged_image"].detail


def test_a_bag_that_was_never_closed_gives_what_it_holds(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    path = write_ros1(tmp_path / "run.bag", motion(ROS1), chunk=1 << 14)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    recording = read(path, double_pendulum.spec)
    assert recording.log is not None and "torn at byte" in told(recording)["torn"].detail
    assert 0.3 < len(recording.log["joint.position"].t_ns) / 800 < 0.72
    active = bytearray(data)
    at = data.index(b"index_pos=") + len(b"index_pos=")
    active[at : at + 8] = bytes(8)
    path.write_bytes(bytes(active))
    bag = Bag1(path)
    assert "was not closed" in bag.damage and sum(t.count or 0 for t in bag.topics) == 1600
    bag.close()


def test_a_missing_package_is_named_with_its_extra(
    double_pendulum: RobotConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_ros2(tmp_path / "bag", motion(ROS2, rows=3))
    monkeypatch.setitem(sys.modules, "rosbags.typesys", None)
    found = refusal(path, double_pendulum.spec)
    assert found.detail == "it takes the package 'rosbags' to read it: pip install 'terrafirma[ros]'."


def test_a_slow_topic_is_only_looked_at(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    path = write_ros1(tmp_path / "run.bag", motion(ROS1), chunk=4096)
    with contextlib.closing(Bag1(path)) as bag:
        blocks = list(bag.blocks(bag.topics[0], most=32))
        assert sum(len(b.rows) for b in blocks) == 32


def test_only_bags_are_detected(tmp_path: Path) -> None:
    (tmp_path / "metadata.yaml").write_text("name: something else\n")
    assert format_of(tmp_path) is None

"""What is taken by names, and what is left to a person: prefixes, two arms, controllers, fields without names."""

from __future__ import annotations

import numpy as np
import pytest

from sim.model import RobotConfig, find_robot
from transfer.formats.topic_guess import Guess, cameras, guess, joints_of
from transfer.formats.topics import Block, Topic

STATE = "sensor_msgs/msg/JointState"


def block(texts: dict[str, tuple[str, ...]], **fields: int) -> Block:
    """One message with arrays of so many numbers; in the names of fields, `__` is a dot."""
    numbers = {name.replace("__", "."): np.zeros((1, width)) for name, width in fields.items()}
    return Block(np.zeros(1, np.int64), np.zeros(1, np.int64), numbers, texts)


def seen(*topics: tuple[str, str, Block]) -> list[tuple[Topic, list[Block]]]:
    return [(Topic(i, name, kind, 10), [b]) for i, (name, kind, b) in enumerate(topics)]


def columns(found: Guess, channel: str) -> list[str]:
    return [c.column for c in found.channels[channel].values()]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("elbow", "x", "shoulder"), [("shoulder", "elbow")]),
        (("arm/shoulder_joint", "arm/elbow_joint"), [("arm/shoulder_joint", "arm/elbow_joint")]),
        (("l_shoulder", "l_elbow", "r_shoulder", "r_elbow"), [("l_shoulder", "l_elbow"), ("r_shoulder", "r_elbow")]),
        (("shoulder_1", "elbow_2"), []),
        (("Shoulder", "Elbow"), []),
        (("shoulder",), []),
    ],
)
def test_joints_are_found_alone_or_behind_one_prefix(names: tuple[str, ...], expected: list[tuple[str, ...]]) -> None:
    assert [tuple(m.values()) for m in joints_of(names, ("shoulder", "elbow"))] == expected


def test_two_arms_are_a_doubt(double_pendulum: RobotConfig) -> None:
    names = ("l_shoulder", "l_elbow", "r_shoulder", "r_elbow")
    found = guess(seen(("/joint_states", STATE, block({"name": names}, position=4))), double_pendulum.spec)
    assert found.doubts == ["which of l_shoulder, r_shoulder in /joint_states is joint 'shoulder'"]
    one = block({"name": ("shoulder", "elbow")}, position=2)
    found = guess(seen(("/a/joint_states", STATE, one), ("/b/joint_states", STATE, one)), double_pendulum.spec)
    assert found.doubts == ["which of /a/joint_states, /b/joint_states is joint.position"]
    found = guess(seen(("/joint_states", STATE, one), ("/b/filtered", STATE, one)), double_pendulum.spec)
    assert not found.doubts and columns(found, "joint.position")[0] == "/joint_states:position[shoulder]"


def test_a_controllers_state_has_measured_and_commanded_values(double_pendulum: RobotConfig) -> None:
    state = block(
        {"joint_names": ("shoulder", "elbow")},
        reference__positions=2, feedback__positions=2, feedback__velocities=2, error__positions=2, output__effort=2,
    )  # fmt: skip
    topics = seen(("/arm_controller/controller_state", "control_msgs/msg/JointTrajectoryControllerState", state))
    found = guess(topics, double_pendulum.spec)
    assert not found.doubts
    assert columns(found, "joint.position")[1] == "/arm_controller/controller_state:feedback.positions[elbow]"
    assert columns(found, "command.position")[0] == "/arm_controller/controller_state:reference.positions[shoulder]"
    assert columns(found, "command.effort")[0] == "/arm_controller/controller_state:output.effort[shoulder]"


def test_units_are_a_doubt_where_the_type_does_not_define_them(double_pendulum: RobotConfig) -> None:
    state = block({"names": ("shoulder", "elbow")}, q=2, dq=2)
    found = guess(seen(("/state", "lab/msg/State", state)), double_pendulum.spec)
    assert found.doubts == ["whether /state has joint.position in rad and joint.velocity in rad/s"]


def test_cameras_are_found_by_a_word_of_their_topic() -> None:
    spec = find_robot("so101").spec
    kinds = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
    names = ("/wrist/image_raw", "/wrist/image_raw/compressed", "/front_depth/image", "/cam3/front/color", "/other")
    topics = [Topic(i, n, kinds["compressed" in n], 5) for i, n in enumerate(names)]
    assert cameras(topics, spec) == {"wrist": "/wrist/image_raw", "front": "/cam3/front/color"}


def test_several_imus_are_a_doubt() -> None:
    spec = find_robot("quadruped").spec
    joints = block({"name": spec.joint_names}, position=12)
    zero = np.zeros(1)
    numbers = {f"{v}.{a}": zero for v in ("angular_velocity", "linear_acceleration") for a in "xyz"}
    imu = Block(np.zeros(1, np.int64), np.zeros(1, np.int64), numbers, {})
    kind = "sensor_msgs/msg/Imu"
    found = guess(seen(("/joint_states", STATE, joints), ("/a", kind, imu), ("/b", kind, imu)), spec)
    assert found.doubts == ["which of /a, /b is the robot's IMU"] and "imu.orientation" not in found.channels

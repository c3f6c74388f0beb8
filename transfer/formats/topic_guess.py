"""Which field of which topic is what, judged by types and names: taken where that leaves no doubt, else proposed.

No doubt is where a list of names is the robot's joints, alone or behind one common prefix or suffix: messages of ROS
define their units (REP 103: rad, m, N m). Where the order of joints or the meaning of a number would have to be
believed, the guess is a map for a person to look at (`confirmed: false`), and nothing is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from robot.log import UNITS
from robot.recorder import AXES, QUATERNION
from robot.spec import RobotSpec
from transfer.formats.layout import Column
from transfer.formats.topic_pictures import is_picture
from transfer.formats.topics import Block, Topic
from transfer.screening.signals import command_of

WORDS = {
    "position": ("position", "positions", "pos", "q", "angle", "angles"),
    "velocity": ("velocity", "velocities", "vel", "dq", "qd"),
    "effort": ("effort", "efforts", "torque", "torques", "tau"),
}
"""Quantity -> what fields that hold it are called."""
COMMANDS = ("command", "commands", "cmd", "desired", "target", "goal", "reference", "setpoint", "trajectory", "points",
            "output")  # fmt: skip
"""Words of topics and fields that make a quantity a command."""
OTHERS = ("error", "errors", "limit", "limits", "offset", "lower", "upper", "min", "max")
"""Words of fields that are no quantity of a joint."""
DEFINED = ("sensor_msgs", "trajectory_msgs", "control_msgs")
"""Packages whose types define the units of what they hold."""
IMU = {
    "imu.gyro": tuple(f"angular_velocity.{a}" for a in AXES),
    "imu.accel": tuple(f"linear_acceleration.{a}" for a in AXES),
    "imu.orientation": tuple(f"orientation.{a}" for a in QUATERNION),
}
"""Channel -> fields of sensor_msgs/Imu."""


@dataclass(slots=True)
class Guess:
    """What the fields of a recording seem to be."""

    channels: dict[str, dict[str, Column]] = field(default_factory=dict)
    cameras: dict[str, str] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    """What a person must say, one clause each; empty where there is no doubt."""
    told: dict[str, str] = field(default_factory=dict)
    """Channel -> where it comes from."""
    lacking: dict[str, str] = field(default_factory=dict)
    """Channel -> why a field that its messages have does not give it."""
    others: list[str] = field(default_factory=list)
    """Names of joints that are not this robot's, as the topics have them."""


@dataclass(frozen=True, slots=True)
class Named:
    """A list of numbers beside a list of names."""

    topic: Topic
    path: str
    names: tuple[str, ...]
    channel: str
    """`joint.` or `command.` and the quantity."""


def guess(seen: Sequence[tuple[Topic, Sequence[Block]]], spec: RobotSpec) -> Guess:
    """The channels of a recording, of which the first messages of each topic were looked at."""
    found = Guess()
    named = [n for topic, blocks in seen for block in blocks for n in _named(topic, block)]
    for channel in dict.fromkeys(n.channel for n in named):
        _by_names(found, channel, [n for n in named if n.channel == channel], spec)
    _empty(found, seen)
    _units(found, named)
    if "joint.position" not in found.channels:
        _by_order(found, named, spec)
    if command_of(spec) not in found.channels and "command.effort" not in found.channels:
        _nameless_commands(found, seen, spec)
    _imu(found, seen, spec)
    return found


def joints_of(names: Sequence[str], joints: Sequence[str]) -> list[dict[str, str]]:
    """Each way to find all joints in a list of names: joint -> its name, as it is or with one prefix and suffix."""
    if set(joints) <= set(names):
        return [{j: j for j in joints}]
    found = []
    for name in names:
        at = name.find(joints[0])
        while at >= 0:
            before, after = name[:at], name[at + len(joints[0]) :]
            if all(f"{before}{j}{after}" in names for j in joints):
                found.append({j: f"{before}{j}{after}" for j in joints})
            at = name.find(joints[0], at + 1)
    return found


def words(text: str) -> list[str]:
    """The words of a topic's or field's name."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text).lower().replace("/", "_").replace(".", "_").split("_")


def _named(topic: Topic, block: Block) -> Iterator[Named]:
    for path, values in block.numbers.items():
        names = block.names_of(path) if values.ndim == 2 else ()
        quantity = _quantity(path.rpartition(".")[2])
        parts = re.split(r"[.\[\]]+", path)
        if not names or not quantity or set(parts) & set(OTHERS):
            continue
        said = {w for part in [*parts[:-1], topic.name] for w in words(part)}
        commanded = any(w in COMMANDS for w in said) and not {"state", "states"} & set(words(parts[-1]))
        own = {"actual", "feedback", "measured", "state"} & set(parts[:-1])
        yield Named(topic, path, names, f"{'command' if commanded and not own else 'joint'}.{quantity}")


def _quantity(word: str) -> str:
    return next((q for q, names in WORDS.items() if word.lower() in names), "")


def _by_names(found: Guess, channel: str, named: Sequence[Named], spec: RobotSpec) -> None:
    """A channel whose joints are found by name: in one message, or in several together."""
    whole = [(n, m[0]) for n in named if (m := joints_of(n.names, spec.joint_names))]
    if whole:
        best, match = min(whole, key=lambda x: (_rank(x[0].topic), -(x[0].topic.count or 0)))
        _alternatives(found, channel, best, [n for n, _ in whole], spec)
        found.channels[channel] = {j: Column(column=f"{best.topic.name}:{best.path}[{match[j]}]") for j in match}
        renamed = [f"{j} is '{n}'" for j, n in match.items() if j != n]
        found.told[channel] = f"{best.topic}: {best.path}, by name" + (f" ({', '.join(renamed)})" if renamed else "")
        return
    parts = {name: n for n in named for name in n.names}
    for match in joints_of(list(parts), spec.joint_names)[:1]:
        found.channels[channel] = {
            j: Column(column=f"{parts[n].topic.name}:{parts[n].path}[{n}]") for j, n in match.items()
        }
        found.told[channel] = f"{', '.join(sorted({str(n.topic) for n in named}))}, by name, from several messages"
        return
    found.others += [f"{n.topic.name} has {', '.join(n.names[:12])}" for n in named if channel == "joint.position"]


def _alternatives(found: Guess, channel: str, best: Named, whole: Sequence[Named], spec: RobotSpec) -> None:
    """A doubt where another topic, or another prefix of the names, would do as well."""
    topics = sorted({n.topic.name for n in whole if _rank(n.topic) == _rank(best.topic)})
    if len(topics) > 1:
        found.doubts.append(f"which of {', '.join(topics)} is {channel}")
    ways = [m[spec.joint_names[0]] for m in joints_of(best.names, spec.joint_names)]
    doubt = f"which of {', '.join(ways)} in {best.topic.name} is joint '{spec.joint_names[0]}'"
    if len(ways) > 1 and doubt not in found.doubts:
        found.doubts.append(doubt)


def _units(found: Guess, named: Sequence[Named]) -> None:
    """A doubt about each topic whose type does not define the units of what is taken from it."""
    types = {n.topic.name: n.topic.type for n in named}
    units: dict[str, list[str]] = {}
    for channel, columns in found.channels.items():
        for topic in {c.column.rpartition(":")[0] for c in columns.values()}:
            if types[topic].split("/")[0] not in DEFINED:
                units.setdefault(topic, []).append(f"{channel} in {UNITS[channel]}")
    found.doubts += [f"whether {topic} has {' and '.join(said)}" for topic, said in units.items()]


def _empty(found: Guess, seen: Sequence[tuple[Topic, Sequence[Block]]]) -> None:
    """Fields beside the positions that messages leave empty, as JointState may."""
    chosen = {c.column.rpartition(":")[0] for c in found.channels.get("joint.position", {}).values()}
    for topic, blocks in seen:
        for block in blocks if topic.name in chosen else ():
            for path, values in block.numbers.items():
                channel = f"joint.{_quantity(path.rpartition('.')[2])}"
                if values.ndim == 2 and not values.shape[1] and channel != "joint." and channel not in found.channels:
                    found.lacking[channel] = f"the messages of {topic.name} leave '{path}' empty"


def _rank(topic: Topic) -> int:
    return 0 if topic.name.rpartition("/")[2] in ("joint_states", "joint_state") else 1


def _by_order(found: Guess, named: Sequence[Named], spec: RobotSpec) -> None:
    """As many joints under other names: a map in their order, for a person."""
    best = next((n for n in named if n.channel == "joint.position" and len(n.names) == len(spec.joints)), None)
    if best is None:
        return
    pairs = list(zip(spec.joint_names, best.names, strict=True))
    for each in named:
        if each.names == best.names and each.channel not in found.channels:
            found.channels[each.channel] = {j: Column(column=f"{each.topic.name}:{each.path}[{n}]") for j, n in pairs}
    told = [f"{j} = '{n}'" for j, n in pairs]
    found.doubts.append(f"whether the joints of {best.topic.name} are {', '.join(told)}")


def _nameless_commands(found: Guess, seen: Sequence[tuple[Topic, Sequence[Block]]], spec: RobotSpec) -> None:
    """Arrays of as many numbers as the robot has joints in a topic of commands, such as std_msgs/Float64MultiArray."""
    if "joint.position" not in found.channels:
        return
    for topic, blocks in seen:
        said = words(topic.name)
        if not blocks or not set(said) & set(COMMANDS):
            continue
        for path, values in blocks[0].numbers.items():
            if values.ndim != 2 or values.shape[1] != len(spec.joints) or blocks[0].names_of(path):
                continue
            quantity = next((q for w in said if (q := _quantity(w))), "")
            channel = f"command.{quantity}" if quantity else command_of(spec)
            found.channels[channel] = {
                j: Column(column=f"{topic.name}:{path}[{i}]") for i, j in enumerate(spec.joint_names)
            }
            if len(spec.joints) == 1 and quantity:
                found.told[channel] = f"{topic}: {path}, by the name of the topic"
            else:
                found.doubts.append(
                    f"whether {topic.name} is {channel}"
                    + (f" in the order {', '.join(spec.joint_names)}" if len(spec.joints) > 1 else "")
                )
            return


def _imu(found: Guess, seen: Sequence[tuple[Topic, Sequence[Block]]], spec: RobotSpec) -> None:
    wanted = [c for c in IMU if c in {s.signal for s in spec.sensors}]
    there = [(t, b[0]) for t, b in seen if b and t.type.rpartition("/")[2] == "Imu"]
    if not wanted or not there:
        return
    topic, block = there[0]
    if len(there) > 1:
        found.doubts.append(f"which of {', '.join(t.name for t, _ in there)} is the robot's IMU")
    for channel in wanted:
        covariance = block.numbers.get(f"{IMU[channel][0].rpartition('.')[0]}_covariance")
        if covariance is not None and covariance.ndim == 2 and covariance.shape[1] and covariance[0, 0] == -1.0:
            found.lacking[channel] = f"{topic.name} says that it does not measure it (covariance -1)"
        elif all(path in block.numbers for path in IMU[channel]):
            axes = QUATERNION if channel == "imu.orientation" else AXES
            found.channels[channel] = {
                a: Column(column=f"{topic.name}:{path}") for a, path in zip(axes, IMU[channel], strict=True)
            }
            found.told[channel] = f"{topic}: {IMU[channel][0].partition('.')[0]}"


def cameras(topics: Sequence[Topic], spec: RobotSpec) -> dict[str, str]:
    """Camera of the robot -> topic of pictures whose name has the camera's; one of each goes without saying."""
    pictures = [t.name for t in topics if is_picture(t)]
    if len(spec.cameras) == 1 and len(pictures) == 1:
        return {spec.cameras[0].name: pictures[0]}
    found = {}
    for camera in spec.cameras:
        mine = [p for p in pictures if set(words(camera.name)) <= set(words(p)) and "depth" not in words(p)]
        if mine:
            found[camera.name] = min(mine, key=lambda p: ("compressed" in words(p), len(p)))
    return found


def listed(topics: Sequence[Topic], most: int = 8) -> str:
    """Topics and their types, for a sentence."""
    named = [f"{t.name[:80]} ({t.type[:80]})" if t.type else t.name[:80] for t in topics if t.count != 0]
    more = f" and {len(named) - most} more" if len(named) > most else ""
    return (", ".join(named[:most]) or "no messages") + more

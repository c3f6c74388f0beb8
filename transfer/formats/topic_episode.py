"""A recording of topics as one episode: by a map, or by a guess that leaves no doubt.

Each message keeps its own time stamp where all of them carry one, else that of its reception; nothing is shifted. What
was taken from where, on whose clock, and what was left out become findings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from robot.config import nearest
from robot.spec import RobotSpec
from transfer.dataset import Finding
from transfer.formats import Recording
from transfer.formats.topic_channels import Assembly, damage
from transfer.formats.topic_guess import Guess, cameras, guess, listed
from transfer.formats.topic_map import TopicMap, proposal, told
from transfer.formats.topic_pictures import is_picture
from transfer.formats.topic_series import first_blocks
from transfer.formats.topics import Bag, Block, SourceError, Topic, split
from transfer.screen import finding

DULL = ("tf2_msgs", "rosgraph_msgs", "rcl_interfaces", "visualization_msgs", "nav_msgs", "geometry_msgs",
        "statistics_msgs", "diagnostic_msgs", "action_msgs", "lifecycle_msgs", "foxglove_msgs", "uORB")  # fmt: skip
"""Packages of types that hold nothing of joints, or no names of them."""
EXTRAS = {"rosbags": "ros", "google": "ros", "pyulog": "ulog", "cv2": "camera"}
"""Package -> extra that installs it."""
LONGEST = 1500
"""Most characters of a finding."""
MOST = 300
"""Topics that are looked at, at most, where no map names them."""


def recordings(
    opened: Callable[[], Bag], path: Path, spec: RobotSpec, kind: str, map: TopicMap | None = None, source: str = ""
) -> list[Recording]:
    """The one episode of a recording, by a map (of the file `source`) or by a guess; a damaged one gives the reason."""
    try:
        with contextlib.closing(opened()) as bag:
            read = _guessed(bag, path, spec, kind) if map is None else _mapped(bag, path, spec, kind, map, source)
            return [replace(read, findings=tuple(_plain(f) for f in read.findings))]
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        extra = EXTRAS.get(package, "all")
        reason = f"it takes the package '{package}' to read it: pip install 'terrafirma[{extra}]'"
    except (SourceError, OSError) as error:
        reason = str(error.strerror if isinstance(error, OSError) else error)
    return [Recording(log=None, findings=(_plain(finding("unreadable", "", "file", f"{reason}.")),), format=kind)]


def _plain(found: Finding) -> Finding:
    """A finding whose words, some of which the file chose, are of one line, printable and not without end."""
    detail, where = ("".join(c if c.isprintable() else "?" for c in text) for text in (found.detail, found.where))
    return replace(found, detail=detail if len(detail) <= LONGEST else f"{detail[:LONGEST]} ...", where=where[:100])


def _guessed(bag: Bag, path: Path, spec: RobotSpec, kind: str) -> Recording:
    """The episode of an open recording by a guess, or what is in it and what was looked for; or a map to confirm."""
    if not any(t.count != 0 for t in bag.topics):
        kind, why = ("unreadable", f": {bag.damage}") if bag.damage else ("empty", "")
        return Recording(log=None, findings=(finding(kind, "", "file", f"it holds no messages{why}."),))
    seen, unread = _look(bag)
    if bag.damage and seen and not any(blocks for _, blocks in seen):
        broken = finding("unreadable", "", "file", f"none of its messages can be read: {bag.damage}.")
        return Recording(log=None, findings=(broken,), format=kind)
    found = guess(seen, spec)
    if "joint.position" not in found.channels:
        return Recording(log=None, findings=(*damage(bag), _refusal(bag, found, unread, spec)), format=kind)
    found.cameras = cameras(bag.topics, spec)
    if found.doubts:
        detail = f"it is not certain {'; nor '.join(found.doubts)}."
        doubt = finding("unknown_layout", "", "topics", detail)
        map = proposal(found.channels, found.cameras)
        return Recording(log=None, findings=(*damage(bag), doubt), format=kind, proposal=map)
    work = Assembly(bag, path, spec, kind)
    for channel, words in found.told.items():
        work.findings.append(finding("mapped", channel, "topics", f"from {words}."))
    for channel, words in found.lacking.items():
        work.findings.append(finding("left_out", channel, "topics", f"{words}."))
    for topic, words in unread.items():
        work.findings.append(finding("left_out", "", f"topic {topic}", f"{words}."))
    return work.episode(found.channels, found.cameras, own_stamps=True, late_rows=None)


def _mapped(bag: Bag, path: Path, spec: RobotSpec, kind: str, map: TopicMap, source: str) -> Recording:
    """The episode of an open recording by a map; ConfigError where the map does not fit the robot."""
    map.layout(spec, source)
    work = Assembly(bag, path, spec, kind)
    for channel, given in map.channels.items():
        for name, column in given.items():
            if words := told(channel, name, column):
                work.findings.append(finding("converted", channel, f"column {column.column}", words))
    names = {t.name for t in bag.topics}
    missing = {c.column: n for n, cs in map.channels.items() for c in cs.values() if split(c.column)[0] not in names}
    missing |= {t: f"camera.{c}" for c, t in map.cameras.items() if t not in names}
    if missing:
        first, channel = next(iter(missing.items()))
        detail = f"the map names '{first}'. {nearest(split(first)[0], sorted(names))}"
        return Recording(log=None, findings=(*damage(bag), finding("missing_column", channel, "topics", detail)))
    return work.episode(map.channels, map.cameras, map.stamps == "header", map.late_rows)


def _look(bag: Bag) -> tuple[list[tuple[Topic, list[Block]]], dict[str, str]]:
    """The first messages of the topics that may hold something of a robot, and why others could not be read."""
    seen, unread = [], {}
    candidates = [t for t in bag.topics if t.count != 0 and not is_picture(t) and t.type.split("/")[0] not in DULL]
    for topic in candidates[:MOST]:
        try:
            seen.append((topic, first_blocks(bag, topic)))
        except SourceError as error:
            unread[topic.name] = str(error)
    return seen, unread


def _refusal(bag: Bag, found: Guess, unread: Mapping[str, str], spec: RobotSpec) -> Finding:
    joints = ", ".join(spec.joint_names)
    if unread and not found.others:
        topic, why = next(iter(unread.items()))
        return finding("unreadable", "", f"topic {topic}", f"{why}; it holds {listed(bag.topics)}.")
    others = f"; of joints it has those of another robot: {'; '.join(found.others[:3])}" if found.others else ""
    detail = f"it holds {listed(bag.topics)}{others}; looked for were the joints of robot '{spec.name}' ({joints})."
    return finding("other_robot", "", "topics", detail)

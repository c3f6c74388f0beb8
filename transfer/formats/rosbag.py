"""ROS bags: of ROS 1 (.bag), and of ROS 2 as a folder, or as one file in SQLite (.db3).

A lone .mcap file of ROS 2 is read by mcap.py, in the same way.
"""

from __future__ import annotations

from pathlib import Path

from robot.spec import RobotSpec
from transfer.formats import Recording, bag1, bag2
from transfer.formats.topic_episode import recordings
from transfer.formats.topic_map import TopicMap
from transfer.formats.topics import Bag

_SQLITE = b"SQLite format 3\0"


def detect(path: Path) -> bool:
    """By metadata.yaml in a folder, the first bytes of a file, or its name where even those are missing."""
    if path.is_dir():
        return bag2.is_folder(path)
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        first = stream.read(16)
    return path.suffix in (".bag", ".db3") or first.startswith(b"#ROSBAG V") or first == _SQLITE


def is_part(path: Path) -> bool:
    """Whether a file is a storage file, or the metadata, of a bag's folder."""
    return path.is_file() and bag2.is_folder(path.parent)


def read(path: Path, spec: RobotSpec, map: TopicMap | None = None, source: str = "") -> list[Recording]:
    """The one episode of a bag, by a map (of the file `source`) or by what its types and names say."""
    return recordings(lambda: _open(path), path, spec, "ROS 1 bag" if _is_ros1(path) else "ROS 2 bag", map, source)


def _is_ros1(path: Path) -> bool:
    return path.is_file() and (path.suffix == ".bag" or _first(path).startswith(b"#ROSBAG V"))


def _first(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(16)


def _open(path: Path) -> Bag:
    if path.is_dir():
        return bag2.Folder(path)
    return bag1.Bag1(path) if _is_ros1(path) else bag2.Sqlite(path)

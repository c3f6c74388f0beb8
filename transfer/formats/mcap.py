"""MCAP: our own episodes, as `record` and `run` leave them, complete or torn off by a crash, and foreign recordings."""

from __future__ import annotations

from pathlib import Path

from robot import log
from robot.log import LogError
from robot.spec import RobotSpec
from transfer.dataset import DataRefused, refuse_other_robot
from transfer.formats import Recording
from transfer.formats.mcap_file import MAGIC
from transfer.formats.mcap_topics import McapTopics
from transfer.formats.topic_episode import recordings
from transfer.formats.topic_map import TopicMap
from transfer.formats.topics import SourceError
from transfer.screen import finding

OURS = "terrafirma"
"""What our header record is named."""


def detect(path: Path) -> bool:
    """By MCAP's magic bytes, whatever the version, or by the name where even those are missing."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(5) == MAGIC[:5] or path.suffix == ".mcap"


def read(path: Path, spec: RobotSpec, map: TopicMap | None = None, source: str = "") -> list[Recording]:
    """The one episode of an MCAP file; of a foreign one by a map (of the file `source`) or by what its names say."""
    if map is None and is_ours(path):
        return [_ours(path, spec)]
    return recordings(lambda: McapTopics(path), path, spec, "MCAP", map, source)


def is_ours(path: Path) -> bool:
    """Whether terrafirma wrote the file: its header record is the first but one, or its name is in the header."""
    with path.open("rb") as stream:
        first = stream.read(4096)
    if not first.startswith(MAGIC):
        return False
    if OURS.encode() in first[:200]:
        return True
    try:
        file = McapTopics(path)
    except SourceError:
        return False
    file.close()
    return OURS in file.file.metadata


def _ours(path: Path, spec: RobotSpec) -> Recording:
    try:
        episode = log.load(path)
    except LogError as error:
        return Recording(log=None, findings=(finding("unreadable", "", "file", str(error)),))
    findings = []
    if "torn" in episode.meta:
        findings.append(finding("torn", "", "end of file", f"{episode.meta['torn']}: {episode.seconds:.2f} s."))
    try:
        refuse_other_robot(path.name, episode.robot, episode.fingerprint, spec)
    except DataRefused as error:
        kind = "other_robot" if episode.robot != spec.name else "other_version"
        findings.append(finding(kind, "", "header", str(error)))
        if kind == "other_robot":
            return Recording(log=None, findings=tuple(findings))
    return Recording(log=episode, findings=tuple(findings), format="terrafirma MCAP")

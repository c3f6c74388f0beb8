"""Our own episodes: what `record` and `run` leave, complete or torn off by a crash."""

from __future__ import annotations

from pathlib import Path

from robot import log
from robot.log import LogError
from robot.spec import RobotSpec
from transfer.dataset import DataRefused, refuse_other_robot
from transfer.formats import Recording
from transfer.screen import finding

_MAGIC = b"\x89MCAP0\r\n"


def detect(path: Path) -> bool:
    """By MCAP's magic bytes, or by the name where even those are missing."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC or path.suffix == ".mcap"


def read(path: Path, spec: RobotSpec) -> list[Recording]:
    """The one episode of an MCAP file."""
    try:
        episode = log.load(path)
    except LogError as error:
        return [Recording(log=None, findings=(finding("unreadable", "", "file", str(error)),))]
    findings = []
    if "torn" in episode.meta:
        findings.append(finding("torn", "", "end of file", f"{episode.meta['torn']}: {episode.seconds:.2f} s."))
    try:
        refuse_other_robot(path.name, episode.robot, episode.fingerprint, spec)
    except DataRefused as error:
        kind = "other_robot" if episode.robot != spec.name else "other_version"
        findings.append(finding(kind, "", "header", str(error)))
        if kind == "other_robot":
            return [Recording(log=None, findings=tuple(findings))]
    return [Recording(log=episode, findings=tuple(findings), format="terrafirma MCAP")]

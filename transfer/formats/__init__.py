"""Recorded files of any origin, read as EpisodeLogs.

A format is a module here with `detect(path) -> bool` and `read(path, spec) -> Iterable[Recording]`, and a row in
FORMATS, or an entry point of a package of your own (robot/plugins.py); a table of numbers with a header is less, a
Layout in a module of its own and a row in csv.LAYOUTS. One whose columns mean what a person says is a row in
sources.TABLES, too. Reading keeps the time stamps as logged and shifts nothing; what is odd, or had to be converted,
becomes a finding.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from robot.log import EpisodeLog
from robot.spec import RobotSpec
from transfer.dataset import Finding

FORMATS = {
    "rosbag": "transfer.formats.rosbag",
    "mcap": "transfer.formats.mcap",
    "ulog": "transfer.formats.ulog",
    "so101": "transfer.formats.so101",
    "xl330": "transfer.formats.xl330",
    "odrive": "transfer.formats.odrive",
    "csv": "transfer.formats.csv",
    "lerobot": "transfer.formats.lerobot",
    "robomimic": "transfer.formats.robomimic",
    "aloha": "transfer.formats.aloha",
    "npz": "transfer.formats.npz",
    "parquet": "transfer.formats.parquet",
}
"""name -> module; the first that detects a file or folder reads it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """What a format read from one file."""

    log: EpisodeLog | None
    """None when the file gives no episode at all; the findings then say why."""
    findings: tuple[Finding, ...] = ()
    format: str = ""
    """What the file is, for people; where empty, meta["layout"] of the log says it."""
    proposal: str = ""
    """A map (YAML) for a person to confirm, where the file does not say what its columns mean."""


class Format(Protocol):
    """What each module of this package offers."""

    def detect(self, path: Path) -> bool:
        """Whether this format reads the file or folder, judged by its name and first bytes."""
        ...

    def read(self, path: Path, spec: RobotSpec) -> Iterable[Recording]:
        """The file's episodes for this robot, each with what was odd in it; where there are many, one at a time."""
        ...


def format_of(path: Path) -> Format | None:
    """The format that reads a file or folder, or None; those of plug-ins are asked first."""
    from transfer.formats import plugged  # it needs the table above

    for added in plugged.formats():
        if added.detect(path):
            return added
    for module in FORMATS.values():
        candidate = cast(Format, importlib.import_module(module))
        if candidate.detect(path):
            return candidate
    return None


def whole_of(path: Path) -> Path:
    """What a file is part of: a motion's, bag's or data set's folder, the measurement of a command; else itself."""
    from transfer.formats import csv, lerobot, rosbag, so101

    if so101.detect(path.parent) or rosbag.is_part(path):
        return path.parent
    if root := lerobot.root_of(path):
        return root
    measured = csv.companion_of(path)
    return measured if measured is not None and measured.is_file() else path

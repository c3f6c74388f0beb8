"""Recorded files of any origin, read as EpisodeLogs.

A format is a module here with `detect(path) -> bool` and `read(path, spec) -> list[Recording]`, and a row in
FORMATS, or an entry point of a package of your own (robot/plugins.py); a table of numbers with a header is less, a
Layout in a module of its own and a row in csv.LAYOUTS. Reading
keeps the time stamps as logged and shifts nothing; what is odd, or had to be converted, becomes a finding.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from robot.log import EpisodeLog
from robot.spec import RobotSpec
from transfer.dataset import Finding

FORMATS = {
    "mcap": "transfer.formats.mcap",
    "so101": "transfer.formats.so101",
    "xl330": "transfer.formats.xl330",
    "odrive": "transfer.formats.odrive",
    "csv": "transfer.formats.csv",
}
"""name -> module; the first that detects a file or folder reads it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """What a format read from one file."""

    log: EpisodeLog | None
    """None when the file gives no episode at all; the findings then say why."""
    findings: tuple[Finding, ...] = ()


class Format(Protocol):
    """What each module of this package offers."""

    def detect(self, path: Path) -> bool:
        """Whether this format reads the file or folder, judged by its name and first bytes."""
        ...

    def read(self, path: Path, spec: RobotSpec) -> list[Recording]:
        """The file's episodes for this robot, each with what was odd in it."""
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
    """The recording that a file is part of: an arm's motion's folder, the measurement of a command; else itself."""
    from transfer.formats import csv, so101

    if so101.detect(path.parent):
        return path.parent
    measured = csv.companion_of(path)
    return measured if measured is not None and measured.is_file() else path

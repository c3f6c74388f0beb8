"""Log formats of plug-ins: asked before our own, for whoever installs one has such files.

What a plug-in's code raises becomes a finding that names its distribution. One that cannot be imported is told of on
stderr once, and the files are left to the other formats.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot.config import ConfigError
from robot.plugins import Plugin, pick, plugins
from robot.spec import RobotSpec
from transfer.formats import FORMATS, Recording
from transfer.screen import finding


@dataclass(frozen=True, slots=True)
class PluggedFormat:
    """A plug-in's module as a Format."""

    plugin: Plugin
    module: Any

    def detect(self, path: Path) -> bool:
        """What the plug-in says; one that fails in it does not read the file."""
        try:
            return bool(self.module.detect(path))
        except Exception as error:
            _tell(f"{self.plugin} failed to look at {path} ({type(error).__name__}: {error}); it is left out.")
            return False

    def read(self, path: Path, spec: RobotSpec) -> list[Recording]:
        """The plug-in's recordings; a failure of its code is a file without an episode."""
        try:
            recordings = list(self.module.read(path, spec))
        except Exception as error:
            return [self._failed(f"{type(error).__name__}: {error}")]
        if not all(isinstance(r, Recording) for r in recordings):
            return [self._failed("it gives something else than transfer.formats.Recording")]
        return recordings

    def _failed(self, reason: str) -> Recording:
        detail = f"{self.plugin} failed to read it ({' '.join(reason.split())})."
        return Recording(log=None, findings=(finding("unreadable", "", "file", detail),))


def formats() -> list[PluggedFormat]:
    """Every format of a plug-in that can be used."""
    found = []
    for plugin in plugins("format"):
        try:
            pick("format", plugin.name, own=FORMATS)
            found.append(_opened(plugin))
        except ConfigError as error:
            _tell(f"{error} It is left out.")
    return found


def _opened(plugin: Plugin) -> PluggedFormat:
    module = plugin.load()
    lacking = [name for name in ("detect", "read") if not callable(getattr(module, name, None))]
    if lacking:
        raise plugin.wrong(f"it lacks {' and '.join(f'{name}()' for name in lacking)}")
    return PluggedFormat(plugin, module)


@functools.cache
def _tell(sentence: str) -> None:
    """Once a process: formats are asked for every file."""
    print(f"terrafirma: {sentence}", file=sys.stderr)

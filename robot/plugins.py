"""Plug-ins: robots, tasks, log formats and drivers that other distributions add by entry point.

    [project.entry-points."terrafirma.robots"]     NAME = "package"           with robot/NAME.yaml, and dr/, recipe/, …
    [project.entry-points."terrafirma.tasks"]      NAME = "package.module"    whose TASKS has NAME
    [project.entry-points."terrafirma.formats"]    NAME = "package.module"    with detect() and read()
    [project.entry-points."terrafirma.drivers"]    NAME = "package.module:Class"

Names are read from the metadata of what is installed; a plug-in's code is imported when it is asked for by name, so one
that is broken troubles nobody else. Every error names the distribution. docs/extending.md shows one file of each.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

from robot.config import ConfigError

Kind = Literal["robot", "task", "format", "driver"]
OURS = "terrafirma"
"""Our own distribution, which registers the simulated drivers as a plug-in would."""
_VALUE = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)(:(?P<attribute>[A-Za-z_]\w*))?")


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry of an installed distribution; nothing of it is imported yet."""

    kind: Kind
    name: str
    value: str
    """`package.module`, or `package.module:Class`."""
    distribution: str
    """Its name and version, as pip lists them."""

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}' of the plug-in {self.distribution}"

    @property
    def ours(self) -> bool:
        return self.distribution.split()[0] == OURS

    def load(self) -> Any:
        """The module, or what the value names in it. ConfigError when that cannot be had, whatever the plug-in does."""
        module, attribute = self._parts()
        try:
            loaded = importlib.import_module(module)
        except (Exception, SystemExit) as error:
            raise ConfigError(
                f"{self} cannot be imported: {_told(error)}. Mend or uninstall {self.distribution.split()[0]}."
            ) from error
        if attribute and not hasattr(loaded, attribute):
            raise self.wrong(f"{module} has no '{attribute}'")
        return getattr(loaded, attribute) if attribute else loaded

    def folders(self) -> list[Path]:
        """The folders of the package that the value names, without importing it: of a namespace package several."""
        top, *inner = self._parts()[0].split(".")
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            spec = None
        places = list(spec.submodule_search_locations or ()) if spec is not None else []
        found = [p for place in places if (p := Path(place).joinpath(*inner)).is_dir()]
        if not found:
            raise self.wrong(f"there is no package '{self.value}'")
        return found

    def wrong(self, reason: str) -> ConfigError:
        """The error of a plug-in that is not what its group asks for."""
        return ConfigError(f"{self} ({self.value}) has the wrong shape: {reason}. docs/extending.md shows a right one.")

    def _parts(self) -> tuple[str, str]:
        match = _VALUE.fullmatch(self.value.strip())
        if match is None:
            raise self.wrong("an entry point is `package.module` or `package.module:name`")
        return match["module"], match["attribute"] or ""


def plugins(kind: Kind) -> tuple[Plugin, ...]:
    """Every entry of a kind, our own first, then by distribution and name."""
    return _installed(kind, tuple(sys.path))


def pick(kind: Kind, name: str, own: Collection[str] = ()) -> Plugin | None:
    """The plug-in that adds `name`; None when none does.

    ConfigError when two add it, or when it is one of `own`, the project's: which was meant is not for us to guess.
    """
    adding = [p for p in plugins(kind) if p.name == name]
    others = [p for p in adding if not p.ours]
    if others and (name in own or len(adding) > 1):
        sides = ["terrafirma itself"] if name in own or len(others) < len(adding) else []
        sides += [p.distribution for p in others]
        raise ConfigError(
            f"{kind} '{name}' comes from {' and from '.join(sides)}: which is meant cannot be told. "
            f"Rename it in {others[-1].distribution.split()[0]}, or uninstall that."
        )
    return adding[0] if adding else None


@functools.lru_cache(maxsize=16)
def _installed(kind: Kind, path: tuple[str, ...]) -> tuple[Plugin, ...]:
    """Looks through sys.path once, which takes 10 to 30 ms; `path` tells when it has changed."""
    found = {
        Plugin(kind, e.name, e.value, f"{e.dist.name} {e.dist.version}" if e.dist is not None else "an unknown package")
        for e in entry_points(group=f"terrafirma.{kind}s")
    }
    return tuple(sorted(found, key=lambda p: (not p.ours, p.distribution, p.name)))


def _told(error: BaseException) -> str:
    """What an import failed with, and where, in one line."""
    frames = traceback.extract_tb(error.__traceback__)
    at = frames[-1] if frames else None
    where = f" (line {at.lineno} of {at.filename})" if at is not None and "importlib" not in at.filename else ""
    if isinstance(error, SyntaxError):
        where = f" (line {error.lineno} of {error.filename})"
        return f"SyntaxError: {error.msg}{where}"
    text = " ".join(str(error).split()) or "no reason given"
    return f"{type(error).__name__}: {text}{where}"

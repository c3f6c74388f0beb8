"""Where YAML files are found by name: the project's configs, a person's own folders, and those of plug-ins.

Each is a folder with the groups as subfolders: `robot/`, `dr/`, `recipe/`, `network/`, `encoder/`, `stress/`, `scale/`.
A person's are `--config-dir DIR`, what the variable TERRAFIRMA_CONFIG_DIR lists, and ./configs. A name is one file: two
of the same name and different contents are refused, so that nobody has to remember which folder comes first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from robot.config import ConfigError, nearest, shipped
from robot.plugins import Plugin, pick, plugins

VARIABLE = "TERRAFIRMA_CONFIG_DIR"
"""Folders, separated as in PATH; jobs and processes that a stage starts inherit it."""


@dataclass(frozen=True, slots=True)
class Folder:
    """One folder of configs."""

    path: Path
    whose: str
    """`terrafirma`, `yours`, or the plug-in's distribution."""


def folders() -> list[Folder]:
    """Every folder that is there: the project's first. A plug-in whose package is missing is left out."""
    found = [Folder(shipped(), "terrafirma")]
    given = [Path(p).expanduser() for p in os.environ.get(VARIABLE, "").split(os.pathsep) if p]
    found += [Folder(p.resolve(), "yours") for p in (*given, Path("configs")) if p.is_dir()]
    for plugin in plugins("robot"):
        try:
            found += [Folder(p.resolve(), plugin.distribution) for p in plugin.folders()]
        except ConfigError:
            continue
    seen: dict[Path, Folder] = {}
    for folder in found:
        seen.setdefault(folder.path, folder)
    return list(seen.values())


def names(group: str) -> list[str]:
    """The names that a group has, in any folder."""
    return sorted({p.stem for folder in folders() for p in (folder.path / group).glob("*.yaml")})


def look_up(group: str, name: str) -> Path | None:
    """The file of a name in a group, None where there is none; ConfigError when two folders have different ones."""
    found = [(f, f.path / group / f"{name}.yaml") for f in folders()]
    found = [(f, path) for f, path in found if path.is_file()]
    for other, path in found[1:]:
        if path.read_bytes() != found[0][1].read_bytes():
            sides = f"{found[0][1]} ({found[0][0].whose}) and in {path} ({other.whose})"
            raise ConfigError(f"{group} '{name}' stands in {sides}, and they differ: rename one of them.")
    return found[0][1] if found else None


def find(group: str, name: str) -> Path:
    """The file of a name in a group; ConfigError lists those that exist."""
    path = look_up(group, name)
    if group == "robot" and (plugin := pick("robot", name)) is not None:
        _check(plugin)
    if path is None:
        raise ConfigError(f"{group} '{name}' is unknown. {nearest(name, names(group))}")
    return path


def _check(plugin: Plugin) -> None:
    """ConfigError when a plug-in that adds a robot lacks its file."""
    if not any((folder / "robot" / f"{plugin.name}.yaml").is_file() for folder in plugin.folders()):
        raise plugin.wrong(f"it has no robot/{plugin.name}.yaml")


@contextmanager
def added(given: Sequence[str]) -> Iterator[None]:
    """Look in these folders, too, for as long as the block runs. ConfigError when one is no folder."""
    for folder in given:
        if not Path(folder).expanduser().is_dir():
            raise ConfigError(f"--config-dir {folder}: there is no such folder.")
    before = os.environ.get(VARIABLE)
    if given:
        absolute = [str(Path(folder).expanduser().resolve()) for folder in given]
        os.environ[VARIABLE] = os.pathsep.join([*absolute, *([before] if before else [])])
    try:
        yield
    finally:
        if before is not None:
            os.environ[VARIABLE] = before
        elif given:
            os.environ.pop(VARIABLE, None)

"""Completion in the shell: stages, keys, names of robots, drivers, tasks and other choices; else the shell's files.

    eval "$(terrafirma -sc install=bash)"       in ~/.bashrc; for zsh the same with install=zsh in ~/.zshrc
    terrafirma -sc install=fish | source        in ~/.config/fish/config.fish

The shell asks `terrafirma -sc query=SHELL` with the line so far in COMP_LINE. Onboard stages need the edge packages
alone; what another stage can be told is read from its YAML, so that nothing heavy is imported but for names of tasks.
"""

from __future__ import annotations

import os
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from robot import config, folders
from robot.config import ConfigError
from robot.driver import DriverError, driver_names, driver_options

OPTIONS = ("-sc", "--shell-completion")
BASH = """_terrafirma() {
  local IFS=$'\\n'
  COMPREPLY=($(COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" terrafirma -sc query=bash 2>/dev/null))
}
complete -o nospace -o default -F _terrafirma terrafirma"""
ZSH = """_terrafirma() {
  local -a found
  found=(${(f)"$(COMP_LINE="${words[1,CURRENT]}" terrafirma -sc query=zsh 2>/dev/null)"})
  if (( ${#found} )); then compadd -S '' -- $found; else compset -P '*='; _files; fi
}
compdef _terrafirma terrafirma"""
FISH = "complete -c terrafirma -a '(env COMP_LINE=(commandline -cp) terrafirma -sc query=fish 2>/dev/null)'"
INSTALL = {"bash": BASH, "zsh": ZSH, "fish": FISH}
UNINSTALL = {
    "bash": "complete -r terrafirma; unset -f _terrafirma",
    "zsh": "compdef -d terrafirma; unfunction _terrafirma",
    "fish": "complete -c terrafirma -e",
}
FLAGS = ("--help", "--config-dir", "--traceback")
FLAGS_OF_HYDRA = ("--multirun", "--cfg", "--info", "--package")


@dataclass(frozen=True, slots=True)
class Stages:
    """What can be completed; robot/cli.py gives it."""

    onboard: Mapping[str, Any]
    """Stage -> the dataclass of its options."""
    others: Mapping[str, str]
    """Further stages; the values do not matter."""
    keys_of: Callable[[str], Mapping[str, Any]]
    """Of a further stage: key -> default, choices of groups by their name."""
    choices_of: Callable[[str, str], list[str] | None]
    """(stage, key) -> the names to choose from; None where the key is no choice."""


def respond(word: str, stages: Stages) -> str:
    """What `-sc WORD` prints. ConfigError when the word is not install=, uninstall= or query= and a shell."""
    what, _, shell = word.partition("=")
    if what not in ("install", "uninstall", "query") or shell not in INSTALL:
        raise ConfigError(
            f"-sc needs install=, uninstall= or query= and one of {', '.join(INSTALL)}: -sc install=bash."
        )
    if what != "query":
        return (INSTALL if what == "install" else UNINSTALL)[shell]
    line = os.environ.get("COMP_LINE", "")
    point = os.environ.get("COMP_POINT", "")
    found = query(line[: int(point)] if point.isdigit() else line, stages)
    if shell == "bash":  # it takes `=` for the end of a word
        found = [f.partition("=")[2] if "=" in f and not f.endswith("=") else f for f in found]
    return "\n".join(found)


def query(line: str, stages: Stages) -> list[str]:
    """The words that may end a line; none where the shell's files are the answer."""
    before = line.split()
    last = "" if line.endswith((" ", "\t")) or not before else before.pop()
    if len(before) <= 1:
        return _begin(last, [*stages.others, *stages.onboard])
    stage, given = before[1], dict(w.partition("=")[::2] for w in before[2:] if "=" in w)
    if last.startswith("-"):
        return _begin(last, FLAGS if stage in stages.onboard else (*FLAGS, *FLAGS_OF_HYDRA))
    key, equals, value = last.partition("=")
    if equals:
        return [f"{key}={v}" for v in _begin(value, _values(stage, key, given, stages))]
    return _begin(last, (k for k in _keys(stage, last, given, stages) if k.rstrip("=") not in given))


def _begin(start: str, words: Iterable[str]) -> list[str]:
    return sorted(w for w in words if w.startswith(start))


def _keys(stage: str, last: str, given: Mapping[str, str], stages: Stages) -> list[str]:
    if stage in stages.onboard:
        hints = typing.get_type_hints(stages.onboard[stage])
        return [f"{k}=" for k in (*hints, *_of_driver(given.get("driver", "")))]
    if stage not in stages.others:
        return []
    keys = stages.keys_of(stage)
    return [word for key, default in keys.items() for word in _dotted(stage, key, default, last, given, stages)]


def _dotted(
    stage: str, key: str, default: Any, last: str, given: Mapping[str, str], stages: Stages
) -> list[str]:  # fmt: skip
    """`key=`, and where it is a part with keys of its own `key.`, or these once that is written."""
    choice = stages.choices_of(stage, key) is not None
    if not choice and not (isinstance(default, Mapping) and default):
        return [f"{key}="]
    if not last.startswith(f"{key}."):
        return [f"{key}=", f"{key}."] if choice else [f"{key}."]
    inner = default
    if choice:
        path = folders.look_up(key, given.get(key, str(default)))
        inner = {} if path is None else config.load_yaml(path)
    return [f"{key}.{k}" for k in _leaves(inner)]


def _leaves(part: Any) -> list[str]:
    if not isinstance(part, Mapping):
        return []
    return [
        f"{k}.{leaf}" if isinstance(v, Mapping) and v else f"{k}="
        for k, v in part.items() if k != "defaults"
        for leaf in (_leaves(v) if isinstance(v, Mapping) and v else [""])
    ]  # fmt: skip


def _values(stage: str, key: str, given: Mapping[str, str], stages: Stages) -> list[str]:
    if stage in stages.onboard:
        kinds = {**_of_driver(given.get("driver", "")), **typing.get_type_hints(stages.onboard[stage])}
        if key == "driver":
            return driver_names()
        return folders.names("robot") if key == "robot" else _of_type(kinds.get(key))
    choices = stages.choices_of(stage, key) if stage in stages.others else None
    if choices is not None:
        return choices
    return ["true", "false"] if isinstance(stages.keys_of(stage).get(key), bool) else []


def _of_type(kind: Any) -> list[str]:
    """The values of a type, where they can be listed."""
    if kind is bool:
        return ["true", "false"]
    if typing.get_origin(kind) is Literal:
        return [str(value) for value in typing.get_args(kind)]
    return [value for part in typing.get_args(kind) for value in _of_type(part)]


def _of_driver(name: str) -> dict[str, Any]:
    """The driver's options; none while its name is unfinished, or it cannot be imported."""
    try:
        return driver_options(name) if name else {}
    except (ConfigError, DriverError):
        return {}

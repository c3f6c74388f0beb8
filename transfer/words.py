"""The words of a command line in Hydra's grammar: which are paths, which choose from a group, how each is quoted."""

from __future__ import annotations

import re
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any

from robot.config import ConfigError

GROUPS = ("robot", "task", "network", "dr", "encoder", "recipe", "stress", "scale")
ALIAS = {"model": "model_", "encoder": "encoder_", "stress": "stress_"}
"""configs/model/ holds files that a path points to, and configs/encoder/ and configs/stress/ are choices of one stage
each; Hydra would take `model=`, `encoder=` and `stress=` for a choice among them."""
CHOSEN_BY = {"encoder": ("pretrain",), "stress": ("stress",)}
"""Groups that are a choice in these stages only, and a path elsewhere."""
MAYBE_PATHS = {"ingest": ("path", "against"), "evaluate": ("model",), "lineage": ("remove",)}
"""Stage -> keys that are text by their type, globs and names that may be paths as well."""


def path_keys(stage: str, cls: Any) -> set[str]:
    """Keys of a stage's Config that hold paths, which its types say."""
    return {key for key, kind in typing.get_type_hints(cls).items() if _holds_path(kind)} | {
        *MAYBE_PATHS.get(stage, ())
    }


def _holds_path(kind: Any) -> bool:
    return kind is Path or any(_holds_path(part) for part in typing.get_args(kind))


def chooses(key: str, stage: str) -> bool:
    """Whether `key=` chooses from a group of configs in this stage."""
    return key in GROUPS and stage in CHOSEN_BY.get(key, (stage,))


def to_override(word: str, stage: str, paths: Collection[str], sweep: bool = False) -> str:
    """One word of the command line in Hydra's grammar: groups as they are, keys forced, `paths` quoted.

    With `sweep` a path with commas is several, one a job.

    Keys are forced (`++`) because the dataclasses, not Hydra's struct mode, decide which exist: their error
    names the nearest one.
    """
    key, equals, value = word.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][\w.@/]*", key):
        raise ConfigError(f"'{word}' is not key=value; try `terrafirma {stage} --help`.")
    if key.startswith(("hydra.", "hydra/")) or chooses(key, stage):
        return word
    if key in paths:
        value = ",".join(map(_quote_paths, _split(value))) if sweep else _quote_paths(value)
    return f"++{ALIAS.get(key, key)}={value}"


def _split(value: str) -> list[str]:
    """At the commas that are in no quotes and no brackets."""
    return re.findall(r"(?:'(?:\\.|[^'])*'|\"(?:\\.|[^\"])*\"|\[[^\]]*\]|[^,])+", value) or [value]


def _quote_paths(value: str) -> str:
    if value in ("null", ""):
        return "null"
    if value.startswith("[") and value.endswith("]"):
        items = re.findall(r"'(?:\\.|[^'])*'|\"(?:\\.|[^\"])*\"|[^,]+", value[1:-1])
        return "[" + ",".join(_quote(item.strip()) for item in items) + "]"
    return _quote(value)


def _quote(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    if text.startswith("~"):
        text = str(Path(text).expanduser())
    # in Hydra's quotes a backslash is itself, but before a quote; `${` would be an interpolation
    text = re.sub(r"(\\*)'", r"\1\1\'", text).replace("${", "\\${")
    return "'" + re.sub(r"(\\+)$", r"\1\1", text) + "'"

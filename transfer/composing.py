"""From a stage's words to plain data: Hydra composes configs/<stage>.yaml with what was chosen and what follows.

Names are looked for in every folder of configs (robot/folders.py): the project's, a person's own, those of plug-ins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from robot import config, folders
from robot.config import ConfigError, nearest
from transfer.words import ALIAS, CHOSEN_BY, GROUPS, chooses

PRIORS = {"vision": ("handheld", "appearance")}
"""Encoder -> what the name of its prior ends in, of which the first that a robot has is taken; others: `default`."""


def compose(stage: str, overrides: list[str]) -> dict[str, Any]:
    """Hydra's composition of configs/<stage>.yaml and the overrides, as plain data."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    prepare(overrides)
    GlobalHydra.instance().clear()
    with one_sentence(stage), initialize_config_dir(str(config.shipped()), version_base="1.3"):
        composed = hydra_compose(stage, overrides=with_matching(stage, overrides), return_hydra_config=True)
        chosen = OmegaConf.to_container(composed.hydra.runtime.choices)
        # Hydra's own part has interpolations that only a running job can resolve
        mine = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        return plain(OmegaConf.to_container(mine, resolve=True), chosen)


def prepare(overrides: list[str]) -> None:
    """Tell Hydra of our tasks and folders; ConfigError with the nearest name when a group has no such choice."""
    from transfer import search_path

    search_path.register()
    register_tasks()
    check_groups(overrides)


def plain(composed: Any, chosen: Any) -> dict[str, Any]:
    """Composed data under the names that people wrote; `chosen` are the choices of groups."""
    names = {alias: key for key, alias in ALIAS.items()}
    given = {names[k]: v for k, v in composed.items() if k in names}
    data = {str(k): v for k, v in composed.items() if k not in names} | given
    if chosen.get("robot") and isinstance(data.get("robot"), dict):
        data["robot"] = _with_model(data["robot"], folders.look_up("robot", chosen["robot"]))
    return data


def _with_model(robot: dict[str, Any], path: Any) -> dict[str, Any]:
    """A robot's data with the MJCF that stands beside its file, which composing has forgotten."""
    from sim.model import beside

    model = robot.get("model") or {}
    if path is None or not isinstance(model.get("mjcf"), str):
        return robot
    return {**robot, "model": {**model, "mjcf": beside(model["mjcf"], path)}}


def defaults_of(stage: str) -> dict[str, Any]:
    """The stage's keys with their defaults; group choices by name, for --help."""
    data = config.load_yaml(config.shipped() / f"{stage}.yaml")
    choices: dict[str, Any] = {}
    for item in data.pop("defaults", []):
        if isinstance(item, dict):
            choices |= {k.removeprefix("optional ").removeprefix("override "): v for k, v in item.items()}
    return choices | config.load_yaml(config.shipped() / "common.yaml") | data


def register_tasks() -> None:
    """Make every task a choice of the Hydra group `task`, so that a task is one Python file."""
    from hydra.core.config_store import ConfigStore

    from sim import tasks

    for name in tasks.names():
        ConfigStore.instance().store(group="task", name=name, node={"name": name})


def choices(group: str) -> list[str]:
    """The names that exist in a group."""
    if group == "task":
        from sim import tasks

        return tasks.names()
    return folders.names(group)


def choices_of(stage: str, key: str) -> list[str] | None:
    """What `key=` may name in a stage, for completion; None where it is no choice."""
    return choices(key) if chooses(key, stage) and key in defaults_of(stage) else None


def check_groups(overrides: list[str]) -> None:
    """ConfigError with the nearest name when a group has no such choice, or one that two folders differ about."""
    for override in overrides:
        key, _, values = override.partition("=")
        if key not in GROUPS or values == "null":
            continue
        for value in values.split(",") if re.fullmatch(r"[\w,.-]+", values) else ():  # else a sweep in Hydra's words
            if value not in choices(key):
                raise ConfigError(f"{key}={value}: there is no such {key}. {nearest(value, choices(key))}")
            if key != "task":
                folders.find(key, value)


def with_matching(stage: str, overrides: list[str]) -> list[str]:
    """Fill in the groups that follow from a choice: robot, recipe, network and suite from task, prior from robot.

    A recipe that is asked for by name brings the task and the prior of its name, where there are such.
    """
    chosen = dict(o.split("=", 1) for o in overrides if o.split("=", 1)[0] in GROUPS)
    defaults = defaults_of(stage)
    extra = [f"{group}={name}" for group, name in _of_recipe(chosen, defaults).items()]
    chosen |= dict(o.split("=", 1) for o in extra)
    task = chosen.get("task", defaults.get("task"))
    robot = chosen.get("robot", defaults.get("robot"))
    if task and "robot" in defaults and "robot" not in chosen:
        from sim import tasks

        robot = tasks.load_task(task).robot
        extra.append(f"robot={robot}")
    if defaults.get("dr") and "dr" not in chosen:
        names = [f"{robot}_{kind}" for kind in PRIORS.get(chosen.get("encoder", ""), ("default",))]
        extra.append(f"dr={next((name for name in names if name in choices('dr')), 'null')}")
    for group in ("recipe", "network"):
        if group in defaults and group not in chosen and task in choices(group):
            extra.append(f"{group}={task}")
    if stage in CHOSEN_BY["stress"] and "stress" not in chosen:
        from transfer.suites import suite_for

        extra.append(f"stress={suite_for(str(task))}")
    check_groups(extra)
    # Hydra has no word for "none of this group" but its deletion
    return [
        f"~{o.split('=')[0]}" if o.split("=")[0] in GROUPS and o.endswith("=null") else o for o in [*extra, *overrides]
    ]


def _of_recipe(chosen: Mapping[str, str], defaults: Mapping[str, Any]) -> dict[str, str]:
    """Group -> choice that a recipe on the command line brings with it; keys that are given have their way."""
    name = chosen.get("recipe", "")
    if name not in choices("task") or chosen.get("task", name) != name:
        return {}
    return {g: name for g in ("task", "dr") if g in defaults and g not in chosen and name in choices(g)}


@contextmanager
def one_sentence(stage: str) -> Iterator[None]:
    """Hydra's and OmegaConf's errors as one sentence."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("hydra", "omegaconf") and not isinstance(error, ValueError):
            raise
        raise ConfigError(f"terrafirma {stage}: {str(error).strip().splitlines()[0]}") from error

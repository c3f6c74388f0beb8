"""Which stress suite the command line means: by name, by the task, or a YAML file of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robot import config, folders
from sim.model import RobotConfig, find_robot
from sim.mujoco_arena import MujocoArena, MujocoArenaConfig
from sim.published_arena import PublishedArena, PublishedArenaConfig
from sim.randomization import NOMINAL, Randomization
from sim.tasks import Task
from transfer.stress import Suite

DEFAULT = "default"


def suite_for(task: str) -> str:
    """Name of the suite in configs/stress that is for this task; the default one where there is none."""
    found = ((name, config.load_yaml(folders.find("stress", name))) for name in folders.names("stress"))
    return next((name for name, suite in found if isinstance(suite, dict) and suite.get("task") == task), DEFAULT)


def load_suite(name: str) -> Suite:
    """A suite by its name; ConfigError lists those that exist."""
    return config.load(Suite, folders.find("stress", name))


def arena_of(
    chosen: PublishedArenaConfig | MujocoArenaConfig,
    task: Task,
    law: Randomization | None = None,
    robot: RobotConfig | None = None,
) -> PublishedArena | MujocoArena:
    """Where a suite's runs take place; `robot` is the task's, found by its name where it is not given."""
    if isinstance(chosen, PublishedArenaConfig):
        return PublishedArena(chosen, task)
    return MujocoArena(chosen, task, robot or find_robot(task.robot), law or NOMINAL)


def take_suite_file(words: Sequence[str]) -> tuple[list[str], dict[str, Any] | None]:
    """`stress=FILE.yaml` taken out of a command's words together with all `stress.key=value`, and the suite they give.

    The suite is None where no file is named. ConfigError when the file cannot be read, or is no mapping.
    """
    chosen = next((w for w in words if w.startswith("stress=") and w.endswith((".yaml", ".yml"))), None)
    if chosen is None:
        return list(words), None
    path = Path(chosen.partition("=")[2]).expanduser()
    suite = config.load_yaml(path)
    if not isinstance(suite, dict):
        raise config.ConfigError(f"{path}: it is no stress suite; copy one of configs/stress.")
    for word in (w for w in words if w.startswith("stress.")):
        key, _, value = word.partition("=")
        *parents, last = key.split(".")[1:]
        inner = suite
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = config.parse_yaml(value, word)
    return [w for w in words if w != chosen and not w.startswith("stress.")], suite

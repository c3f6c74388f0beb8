"""What several stages let a person choose in the same words: a task, and the parameters that a simulation draws."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robot.config import ConfigError
from robot.result import Run
from sim import randomization, tasks
from sim.model import Model, RobotConfig
from sim.randomization import NOMINAL, Randomization


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskChoice:
    """`task=NAME`."""

    name: str

    def load(self) -> tasks.Task:
        return tasks.load_task(self.name)


def parameters(
    robot: RobotConfig, posterior: Path | None, prior: Randomization | None, run: Run | None = None
) -> Randomization:
    """The posterior where one is given, else the prior, else the nominal; checked against the robot."""
    chosen = prior or NOMINAL
    if posterior is not None:
        if not posterior.is_file():
            raise ConfigError(f"posterior={posterior}: there is no such file; `terrafirma identify` writes one.")
        chosen = randomization.load(run.input(posterior) if run is not None else posterior)
    chosen.check(Model(robot))
    return chosen


def same_task(what: str, made_for: str, task: str) -> None:
    """ConfigError when a policy or bundle was made for another task than the one asked for."""
    if made_for != task:
        raise ConfigError(f"{what}: it was made for task '{made_for}', not '{task}'. Pass task={made_for}.")


def existing(path: Path | None, key: str, made_by: str) -> Path:
    """`path` if it exists; ConfigError says which stage makes it."""
    if path is None:
        raise ConfigError(f"{key}= is missing; `terrafirma {made_by}` prints where it wrote one.")
    if not path.exists():
        raise ConfigError(f"{key}={path}: there is no such file or folder; `terrafirma {made_by}` makes one.")
    return path

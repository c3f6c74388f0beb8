"""What several stages let a person choose in the same words: a task, and the parameters that a simulation draws."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robot.config import ConfigError
from robot.result import Run
from robot.spec import RobotSpec
from sim import randomization, tasks
from sim.model import Model, RobotConfig, find_robot
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


def robot_called(name: str) -> RobotConfig:
    """The robot of that name; ConfigError says that one without a name is given by its file."""
    try:
        return find_robot(name)
    except ConfigError as error:
        raise ConfigError(f"{error} If it is a robot of your own, give its file: robot=FILE.yaml.") from error


def robot_of(spec: RobotSpec, given: RobotConfig | None = None) -> RobotConfig:
    """The simulated robot of a policy: the one that is given, or the one of its name.

    ConfigError when it is not, or no longer, the robot that the policy was trained for.
    """
    robot = given or robot_called(spec.name)
    if robot.spec.fingerprint() != spec.fingerprint():
        which = f"robot= is '{robot.spec.name}'" if given else "its configuration now is one"
        raise ConfigError(
            f"the policy was trained for robot '{spec.name}' with fingerprint {spec.fingerprint()}; {which} with "
            f"{robot.spec.fingerprint()}: restore it, or train again."
        )
    return robot


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

"""Task: what a robot is asked to do, as batched numpy, and the table of the tasks that exist.

To add a task: one file here, or in a package of your own (robot/plugins.py), with a subclass of Task and
`TASKS = {task.name: task}`. The sum of the reward terms is at least 0 where the robot
does nothing forbidden, so that ending an episode early is never a gain.
"""

from __future__ import annotations

import functools
import importlib
import math
import pkgutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError, nearest
from robot.observation import ActionConfig, ObservationConfig
from robot.plugins import Plugin, pick, plugins
from sim.near_pose import NearPose
from sim.state import Start, State
from sim.symmetry import Mirror

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """One task on one robot.

    All methods are batched; they are given the simulator's truth (sim.state.State), while what the policy sees is
    `observation`.
    """

    name: str
    robot: str
    """Name of the robot it was written for."""
    episode_s: float
    explore_s: float
    """Length of a training episode [s]; short ones begin more often where explore() wants them to."""
    control_period_s: float
    hold_s: float
    """Success asks to be inside the region for this last stretch of the episode [s]; 0: at its end alone."""
    error_limit: float = math.inf
    """Success also asks that the mean of error() over the episode stays at or below this."""
    pose: tuple[float, ...] = ()
    """Where all joints are at rest when the task is done [rad], an unstable pose that can be held; empty: none."""
    pose_within: tuple[float, ...] = ()
    """How far from it each joint may be [rad], by which a hold weighs them."""
    pose_speed: tuple[float, ...] = ()
    """How fast each joint may be there [rad/s]."""
    pose_reach: tuple[float, ...] = ()
    """How far from it each joint may be while a hold acts [rad]; empty: pose_within."""
    near: NearPose | None = None
    """Training starts that take the place of a share of explore()'s."""
    fields: tuple[str, ...] = ()
    """MjData fields that the methods read in State.fields: `site_xpos`, `xpos`, `sensordata`, ..."""
    privileged_names: tuple[str, ...] = ()
    """Components of privileged(), which only critics and teachers may see."""
    keeps_before: bool = False
    """Whether State.fields_before is needed."""
    observation: ObservationConfig
    action: ActionConfig
    costs: Mapping[str, float] = field(default_factory=dict)
    """Weights of sim/costs.py, beside the task's own reward."""
    mirror: Mirror | None = None
    """The symmetry of robot and task, where they have one."""

    @property
    def steps(self) -> int:
        """Control steps of a whole episode."""
        return round(self.episode_s / self.control_period_s)

    @property
    def explore_steps(self) -> int:
        """Control steps of a training episode."""
        return min(self.steps, round(self.explore_s / self.control_period_s))

    def exploring(self, seconds: float) -> Task:
        """The same with training episodes of this length [s]; as it is where that is 0."""
        return replace(self, explore_s=seconds or self.explore_s)

    @property
    def hold_samples(self) -> int:
        """States within the closed interval [episode_s - hold_s, episode_s]."""
        return round(self.hold_s / self.control_period_s) + 1

    @abstractmethod
    def start(self, rng: np.random.Generator, n: int) -> Start:
        """n starts of the evaluation."""

    @abstractmethod
    def explore(self, rng: np.random.Generator, n: int) -> Start:
        """n starts of the training, which should cover what the policy will pass through."""

    @abstractmethod
    def reward(self, state: State) -> dict[str, Array]:
        """Term -> (n,) its share of the reward of the step that led to this state; the reward is their sum."""

    @abstractmethod
    def inside(self, state: State) -> Flags:
        """(n,) whether the state is in the success region now."""

    def torque(self, state: State) -> Array:
        """(n, n_joints) [N m] what is asked of the motors; where they are not asked for torques, what they gave."""
        return state.command if self.action.kind == "effort" else state.effort

    def change(self, state: State, full: float) -> Array:
        """(n, k) change of what is asked of the motors as shares of `full` [N m]; else that of the policy's outputs."""
        if self.action.kind == "effort":
            return (state.command - state.previous_command) / full
        return state.action - state.previous_action

    def terminated(self, state: State) -> Flags:
        """(n,) whether the episode must end in failure; never, unless a task says otherwise."""
        return np.zeros(len(state.position), dtype=bool)

    def error(self, state: State) -> Array:
        """(n,) what `error_limit` bounds the mean of; 0, unless a task says otherwise."""
        return np.zeros(len(state.position))

    def privileged(self, state: State) -> Array:
        """(n, len(privileged_names)) what the simulator knows and the robot cannot measure."""
        return np.zeros((len(state.position), 0))


@functools.cache
def _own() -> dict[str, Task]:
    found: dict[str, Task] = {}
    for module in pkgutil.iter_modules(__path__):
        found |= importlib.import_module(f"{__name__}.{module.name}").TASKS
    return found


def names() -> list[str]:
    """Names of all tasks; no plug-in is imported for them."""
    return sorted({*_own(), *(p.name for p in plugins("task"))})


def load_task(name: str) -> Task:
    """The task of that name; ConfigError lists those that exist, and names the distribution of a broken plug-in."""
    plugin = pick("task", name, own=_own())
    if plugin is not None:
        return _plugged(plugin)
    if name not in _own():
        raise ConfigError(f"task '{name}' is unknown. {nearest(name, names())}")
    return _own()[name]


def tasks_of(robot: str) -> list[Task]:
    """Tasks of a robot, the project's own first. A broken plug-in is told of on stderr and left out."""
    found = [task for _, task in sorted(_own().items()) if task.robot == robot]
    for plugin in plugins("task"):
        try:
            task = load_task(plugin.name)
        except ConfigError as error:
            print(f"terrafirma: {error}", file=sys.stderr)
            continue
        if task.robot == robot and task not in found:
            found.append(task)
    return found


def _plugged(plugin: Plugin) -> Task:
    table = getattr(plugin.load(), "TASKS", None)
    task = table.get(plugin.name) if isinstance(table, Mapping) else None
    if not isinstance(task, Task):
        raise plugin.wrong(f"its TASKS has no Task '{plugin.name}'")
    if task.name != plugin.name:
        raise plugin.wrong(f"its task calls itself '{task.name}'")
    return task


def wrapped(angle: Array) -> Array:
    """Angle [rad] modulo 2π, in [-π, π)."""
    return (angle + np.pi) % (2.0 * np.pi) - np.pi

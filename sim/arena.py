"""Arena: where a controller is put through perturbed episodes, all of a suite in one batch.

An arena knows its knobs (what a Perturbation may name, with nominal values and limits), its channels (where a push may
fall), and runs n perturbations together. There are two: the robot in MuJoCo (sim/mujoco_arena.py) and the published
equations of the double pendulum (sim/published_arena.py). To add one: a class with the methods below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError, nearest
from robot.observation import ActionConfig, ObservationConfig
from robot.spec import RobotSpec
from sim.evaluate import Act
from sim.perturbation import Perturbation
from sim.state import Start
from sim.tasks import Task

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Unit = Literal["", "nominal", "sensor", "torque_limit", "control_period"]
"""What a range is relative to: nothing, the knob's nominal value, what the robot's sensor cannot tell apart (the larger
of its noise and its resolution), the torque limit of the joint [N m], or the control period [s]."""
USUAL = {"joint.position": 0.001, "joint.velocity": 0.05, "imu.gyro": 0.02}
"""What stands for a sensor of which the RobotSpec tells nothing, in the signal's unit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """The controller that is put to the test, from a policy or from a bundle."""

    task: str
    spec: RobotSpec
    observation: ObservationConfig
    action: ActionConfig
    control_period_s: float
    episode: Callable[[], Act]
    """Gives a controller of n robots that all begin an episode now."""
    privileged: bool = False
    """Whether it is a teacher, who is shown the task's privileged signals."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """What n runs did at each control tick, of which there are T."""

    time_s: npt.NDArray[np.floating]
    """(T,) end of each control period."""
    position: Array
    """(T, n, n_joints) [rad]"""
    command: Array
    """(T, n, n_joints) what the controller asked for, in the unit of each joint's actuator."""
    push: Array
    """(T, n, n_channels) what pushed from outside, at the end of each control period."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of n runs; arrays of shape (n, ...)."""

    success: Flags
    returns: Array
    """Sum of the task's rewards until the episode ended."""
    final: Array
    """(n, 2 n_joints) positions and velocities of the joints at the end [rad], [rad/s]."""
    trace: Trace | None = None


class Arena(Protocol):
    """See the module's head."""

    @property
    def duration_s(self) -> float: ...

    @property
    def channels(self) -> Mapping[str, float]:
        """Where a push may fall -> its limit there: [N m] of a joint's motor, [N] the robot's weight for a base."""
        ...

    def expand(self, name: str) -> dict[str, tuple[str, ...]]:
        """What a suite's `of` names: label -> the knobs that move together. ConfigError for nothing known."""
        ...

    def nominal(self, knob: str) -> float: ...

    def unit(self, knob: str, relative_to: Unit) -> float:
        """What 1 of a range is; ConfigError where it means nothing for this knob."""
        ...

    def physical(self, perturbations: Sequence[Perturbation]) -> Flags:
        """(n,) whether such robots can exist."""
        ...

    def run(self, subject: Subject, perturbations: Sequence[Perturbation], *, trace: bool = False) -> Outcome:
        """One episode under each perturbation, all in one batch; the same again from the same arguments."""
        ...


def starts(task: Task, perturbations: Sequence[Perturbation], position: Sequence[float] = ()) -> Start:
    """Where each run begins: as the task has it by the run's own seed, or at rest at one `position` [rad].

    ConfigError when that has another number of joints.
    """
    drawn = [task.start(np.random.default_rng(p.seed), 1) for p in perturbations]

    def stacked(of: Callable[[Start], Mapping[str, Array]]) -> dict[str, Array]:
        return {name: np.concatenate([of(s)[name] for s in drawn]) for name in of(drawn[0])}

    at, moving = np.concatenate([s.position for s in drawn]), np.concatenate([s.velocity for s in drawn])
    if position:
        if len(position) != at.shape[1]:
            raise ConfigError(f"start names {len(position)} joints; the robot of task '{task.name}' has {at.shape[1]}.")
        at, moving = np.tile(np.array(position), (len(drawn), 1)), np.zeros_like(moving)
    goals = [s.goal for s in drawn if s.goal is not None]
    goal = np.concatenate(goals) if goals else None
    return Start(at, moving, goal, stacked(lambda s: s.poses), stacked(lambda s: s.twists))


def fits(task: Task, subject: Subject) -> None:
    """ConfigError when the controller is for another task or robot."""
    if subject.task != task.name:
        raise ConfigError(
            f"the controller was made for task '{subject.task}', not '{task.name}'. Pass task={subject.task}."
        )
    if subject.spec.name != task.robot:
        raise ConfigError(
            f"the controller is for robot '{subject.spec.name}'; task '{task.name}' is for '{task.robot}'."
        )


def sensor_figure(spec: RobotSpec, signal: str) -> float:
    """What the sensor cannot tell apart: the larger of noise and resolution, else USUAL, in the signal's unit."""
    sensor = spec.sensor(signal)
    return max(sensor.noise, sensor.resolution) or USUAL.get(signal, 0.0)


def unknown(name: str, known: Sequence[str]) -> ConfigError:
    """The error for a name that the arena does not know."""
    return ConfigError(f"the stress suite varies '{name}', which this arena does not know. {nearest(name, known)}")

"""Trials: episodes of a deployed controller on a robot, scored from what the robot itself recorded."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robot import bundle
from robot.config import ConfigError
from robot.controller import Controller
from robot.driver import driver_options, open_driver
from robot.log import EpisodeLog
from robot.loop import ControlLoop
from robot.recorder import MemoryRecorder
from robot.safety import Safety
from robot.spec import RobotSpec
from sim.state import State
from sim.tasks import Task, load_task
from transfer.choices import same_task


def success_of(log: EpisodeLog, task: Task, spec: RobotSpec) -> bool:
    """Whether a recorded episode reached the task's goal: inside its region for the last `hold_s` seconds.

    Uses the measured joint positions and velocities; an episode that stopped before its time has failed.
    """
    if task.fields or task.observation.goal:
        raise ConfigError(f"task '{task.name}' needs more than the joints to be judged; a log of them cannot tell.")
    position, velocity = log["joint.position"], log["joint.velocity"]
    if not len(position.t_ns):
        return False
    start, end = position.t_ns[0], position.t_ns[-1]
    if (end - start) * 1e-9 < task.episode_s - 2.5 * task.control_period_s:
        return False
    last = position.t_ns >= end - round(task.hold_s * 1e9)
    names = spec.joint_names
    rows = np.searchsorted(velocity.t_ns, position.t_ns[last], side="right") - 1
    inside = task.inside(State(position.ordered(names)[last], velocity.ordered(names)[rows.clip(0)]))
    return bool(inside.all())


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One episode to be run."""

    bundle: Path
    driver: str
    task: str
    seed: int
    """Of a simulated driver; a real one has none."""
    posterior: Path | None = None
    truth: int | str | None = None
    """Which surrogate robot."""
    log: Path | None = None
    """Where the episode is kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of an episode."""

    success: bool
    fault: str
    """Reason of the first fault; empty when there was none."""


def run_trials(trials: Sequence[Trial]) -> list[Outcome]:
    """Run episodes one after the other, each with a driver opened for it; BundleRefused before any of them."""
    outcomes = []
    for trial in trials:
        controller = bundle.load(trial.bundle)
        same_task(f"bundle={trial.bundle}", controller.task, trial.task)
        task = load_task(trial.task)
        outcomes.append(_run(trial, controller, task))
    return outcomes


def _run(trial: Trial, controller: Controller, task: Task) -> Outcome:
    spec = controller.spec
    known = driver_options(trial.driver)
    options = {
        "seed": trial.seed,
        "posterior": trial.posterior,
        "truth": trial.truth,
        "cameras": controller.cameras or None,
    }
    given = {k: v for k, v in options.items() if k in known and v is not None}
    with closing(open_driver(trial.driver, spec, **given)) as driver:
        safety = Safety(spec, controller.period_ns * 1e-9)
        # one period more: the reading after the last command closes the episode
        report = ControlLoop(controller, driver, safety, MemoryRecorder("trial", spec)).run(
            task.episode_s + task.control_period_s
        )
    assert report.log is not None
    if trial.log is not None:
        report.log.save(trial.log)
    fault = report.faults[0].reason if report.faults else ""
    return Outcome(success=not fault and success_of(report.log, task, spec), fault=fault)

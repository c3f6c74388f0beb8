"""Trials: episodes of a deployed controller on a robot, judged from what the robot itself recorded."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from robot import bundle
from robot import log as logs
from robot.config import ConfigError
from robot.controller import Controller
from robot.driver import driver_options, open_driver
from robot.log import EpisodeLog, LogError
from robot.loop import ControlLoop
from robot.recorder import MemoryRecorder
from robot.safety import Safety
from robot.spec import RobotSpec
from sim.state import State
from sim.tasks import Task, load_task
from transfer.choices import same_task

Label = Literal["success", "failure", "skipped"]


def judged_by_joints(task: Task) -> None:
    """ConfigError for a task whose success cannot be told from a log of the joints."""
    if task.fields or task.observation.goal:
        raise ConfigError(
            f"task '{task.name}' needs more than the joints to be judged, and a log of them cannot tell; with "
            "label=key a person does."
        )


def success_of(log: EpisodeLog, task: Task, spec: RobotSpec) -> bool:
    """Whether a recorded episode reached the task's goal: inside its region for the last `hold_s` seconds.

    Uses the measured joint positions and velocities; an episode in which the policy stopped before its time has failed.
    """
    judged_by_joints(task)
    position, velocity = log["joint.position"], log["joint.velocity"]
    if not len(position.t_ns):
        return False
    end = position.t_ns[-1]
    # what comes before the policy's first action is the loop's own: it damps, and brings arms to their default pose;
    # a recording of another controller has no such channel, and is taken whole
    acted = log["action"].t_ns if "action" in log else position.t_ns
    if not len(acted):
        return False  # it ended before the policy had its turn
    start = acted[0]
    if (end - start) * 1e-9 < task.episode_s - 2.5 * task.control_period_s:
        return False
    last = position.t_ns >= end - round(task.hold_s * 1e9)
    names = spec.joint_names
    rows = np.searchsorted(velocity.t_ns, position.t_ns[last], side="right") - 1
    inside = task.inside(State(position.ordered(names)[last], velocity.ordered(names)[rows.clip(0)]))
    return bool(inside.all())


def fault_of(log: EpisodeLog) -> str:
    """Reason of the first fault in a recorded episode; empty when there was none."""
    told = log["event"].values if "event" in log else ()
    found = (text.removeprefix("fault: ").partition(": ")[2] for text in told if text.startswith("fault: "))
    return next(found, "")


def judge(log: EpisodeLog, task: Task, spec: RobotSpec) -> Outcome:
    """By the task's rule; an episode with a fault has failed."""
    fault = fault_of(log)
    return Outcome(label="success" if not fault and success_of(log, task, spec) else "failure", fault=fault)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One episode to be run on a simulated driver."""

    bundle: Path
    driver: str
    task: str
    seed: int
    options: Mapping[str, str] = field(default_factory=dict)
    """Of the driver, beside the seed."""
    log: Path | None = None
    """Where the episode is kept."""
    meta: Mapping[str, str] = field(default_factory=dict)
    """What its log says of itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of an episode."""

    label: Label
    fault: str = ""
    """Reason of the first fault; empty when there was none."""
    by: Literal["rule", "key"] = "rule"

    @property
    def success(self) -> bool:
        return self.label == "success"

    def meta(self) -> dict[str, str]:
        """As the episode's log carries it: `transfer.dataset.Episode.label` is read from there."""
        return {"label": self.label, "labelled_by": self.by}


def run_trial(trial: Trial) -> Outcome:
    """Run, judge and keep one episode; BundleRefused before it."""
    controller = bundle.load(trial.bundle)
    log = episode_of(trial, controller)
    outcome = judge(log, load_task(trial.task), controller.spec)
    if trial.log is not None:
        replace(log, meta={**log.meta, **outcome.meta()}).save(trial.log)
    return outcome


def recorded(path: Path) -> EpisodeLog | None:
    """The episode in a file, without its pictures; None where there is no file, or not a whole one."""
    try:
        log = logs.load(path, cameras=False) if path.is_file() else None
    except LogError:
        return None
    return None if log is None or "torn" in log.meta else log


def told(log: EpisodeLog) -> Outcome | None:
    """What a log says came of it; None where nobody has labelled it yet."""
    label, by = log.meta.get("label"), log.meta.get("labelled_by")
    for known in ("success", "failure", "skipped"):
        if label == known:
            return Outcome(label=known, fault=fault_of(log), by="key" if by == "key" else "rule")
    return None


def episode_of(trial: Trial, controller: Controller) -> EpisodeLog:
    """Run one episode, in memory; ConfigError when the controller was made for another task."""
    same_task(f"bundle={trial.bundle}", controller.task, trial.task)
    task, spec = load_task(trial.task), controller.spec
    known = driver_options(trial.driver)
    given = {"seed": trial.seed, "cameras": controller.cameras or None}
    own = {k: v for k, v in given.items() if k in known and v is not None}
    with closing(open_driver(trial.driver, spec, **{**own, **trial.options})) as driver:
        safety = Safety(spec, controller.period_ns * 1e-9)
        recorder = MemoryRecorder(trial.log.stem if trial.log else "trial", spec, trial.meta)
        # one period more: the reading after the last command closes the episode
        report = ControlLoop(controller, driver, safety, recorder).run(task.episode_s + task.control_period_s)
    assert report.log is not None
    return report.log

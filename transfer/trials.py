"""Trials: episodes of a deployed controller on a robot, scored from what the robot itself recorded."""

from __future__ import annotations

import numpy as np

from robot.log import EpisodeLog
from robot.spec import RobotSpec
from sim.tasks import Task


def success_of(log: EpisodeLog, task: Task, spec: RobotSpec) -> bool:
    """Whether a recorded episode reached the task's goal: inside its region for the last `hold_s` seconds.

    Uses the measured joint positions and velocities; an episode that stopped before its time has failed.
    """
    position, velocity = log["joint.position"], log["joint.velocity"]
    if not len(position.t_ns):
        return False
    start, end = position.t_ns[0], position.t_ns[-1]
    if (end - start) * 1e-9 < task.episode_s - 2.5 * task.control_period_s:
        return False
    last = position.t_ns >= end - round(task.hold_s * 1e9)
    names = spec.joint_names
    rows = np.searchsorted(velocity.t_ns, position.t_ns[last], side="right") - 1
    inside = task.inside(position.ordered(names)[last], velocity.ordered(names)[rows.clip(0)])
    return bool(inside.all())

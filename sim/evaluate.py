"""How often a controller succeeds at a task in simulation: one episode in each of n simulations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.model import RobotConfig
from sim.randomization import Randomization
from sim.sight import SightErrors
from sim.tasks import Task
from sim.vecenv import BatchedEnv, Inputs

Act = Callable[[Inputs], npt.NDArray[np.floating[Any]]]
"""A controller: the policy's inputs of n robots to actions (n, n_actions) in [-1, 1]."""


@dataclass(frozen=True, slots=True)
class EpisodeStats:
    """Outcome of n episodes; arrays of shape (n,)."""

    success: npt.NDArray[np.bool_]
    returns: npt.NDArray[np.float64]
    """Sum of rewards until the episode ended."""


def rollout_success(
    act: Act,
    task: Task,
    robot: RobotConfig,
    randomization: Randomization,
    n: int,
    seed: int,
    *,
    history: int | None = None,
    sight: SightErrors | None = None,
    privileged: bool = False,
    whole: bool = False,
    nthread: int = 0,
) -> EpisodeStats:
    """Run n whole episodes from the task's evaluation starts, each with its own draw of the randomization.

    With `sight` no picture is drawn: inputs hold what an encoder with these errors would tell. With `privileged` they
    hold what only a teacher is shown. With `whole` it goes on to the time limit when all have ended before.

    `act` is called with the inputs of all n at every control step, after their histories were emptied. Start
    states and parameters depend on `seed` alone, so two controllers can be compared pair by pair.
    """
    env = BatchedEnv(
        task, robot, randomization, n, history=history, seed=seed, start="evaluate", autoreset=False, sight=sight,
        privileged=privileged, nthread=nthread,
    )  # fmt: skip
    inputs = env.reset()
    ended = np.zeros(n, dtype=bool)
    success, returns = np.zeros(n, dtype=bool), np.zeros(n)
    for _ in range(task.steps):
        step = env.step(act(inputs))
        first = step.done & ~ended  # without autoreset an ended simulation runs on; only its first end counts
        success[first], returns[first] = step.success[first], step.episode_return[first]
        ended |= first
        inputs = step.inputs
        if ended.all() and not whole:
            break
    return EpisodeStats(success, returns)

"""No Python runs for each environment: a step and a reset make as many calls for 256 simulations as for 8."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest

from robot.config import shipped
from sim import randomization
from sim.model import find_robot
from sim.randomization import NOMINAL
from sim.tasks import load_task, names
from sim.tasks.ant import ANT, ant_robot
from sim.vecenv import BatchedEnv

FEW, MANY = 8, 256


def calls(work: Callable[[], Any]) -> Counter[str]:
    """Function -> how often it was called, Python's and C's alike."""
    seen: Counter[str] = Counter()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            seen[f"{frame.f_code.co_filename}:{frame.f_code.co_name}"] += 1
        elif event == "c_call":
            seen[str(getattr(argument, "__qualname__", argument))] += 1

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return seen


def make(name: str, n: int) -> BatchedEnv:
    if name == ANT.name:
        return BatchedEnv(ANT, ant_robot(), NOMINAL, n, privileged=True, nthread=1)
    task = load_task(name)
    prior = shipped() / "dr" / f"{task.robot}_default.yaml"
    law = randomization.load(prior) if prior.exists() else NOMINAL
    return BatchedEnv(task, find_robot(task.robot), law, n, privileged=bool(task.privileged_names), nthread=1)


def counted(name: str, n: int) -> tuple[Counter[str], Counter[str]]:
    """Calls of one step in which nothing ends, and of one in which every second simulation does."""
    env = make(name, n)
    action = np.zeros((n, env.action_space.shape[0]), np.float32)
    env.reset()
    for _ in range(3):  # whatever is looked up once has been
        env.step(action)
        env.reset(np.arange(0, n, 2))
    env.reset()
    plain = calls(lambda: env.step(action))
    env._length[: n // 2] = 0
    ending = calls(lambda: env.step(action))
    return plain, ending


# a camera is drawn for each simulation: images are the work, not the bookkeeping
@pytest.mark.parametrize("name", [n for n in (ANT.name, *names()) if not n.endswith("_pixels")])
def test_a_step_makes_as_many_calls_for_many_simulations_as_for_few(name: str) -> None:
    few, many = counted(name, FEW), counted(name, MANY)
    for label, one, other in zip(("going on", "ending"), few, many, strict=True):
        more = {f: (one[f], k) for f, k in other.items() if k > one[f]}
        assert sum(other.values()) <= sum(one.values()) + 20, f"{label}: {more}"
        assert sum(one.values()) > 20

"""What the tests of fanning out let workers do: functions of a module, so that a worker can import them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robot.config import ConfigError
from transfer.dataset import DataRefused


def scaled(shared: Mapping[str, Any], task: int) -> dict[str, Any]:
    """Notes that it was done; of the task `fatal` the first worker dies in the middle, later tasks come first."""
    path = Path(shared["folder"]) / str(task)
    first = not path.exists()
    with path.open("a") as file:
        file.write("x")
    if task == shared["fatal"] and first:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02 * (task % 3 == 0))
    return {"values": shared["values"] * 0.1 * task, "task": task}


def alone(shared: Any, task: int) -> int:
    return task


def refusing(shared: Any, task: int) -> int:
    if task == 2:
        raise DataRefused("log 2 has no rows; record it again.")
    if task == 9:
        raise ConfigError("never seen")
    return task


def waiting(shared: str, task: int) -> int:
    if task:
        (Path(shared) / str(os.getpid())).touch()
        time.sleep(600.0)
    return task


def a_set(shared: Any, task: int) -> Any:
    return {1, 2}


def workers_of(pid: int) -> list[int]:
    """Processes of the Ray workers at work that a cluster of process `pid` has started on this machine."""
    return [p for raylet in children_of(pid) for p in children_of(raylet) if _command(p).startswith("ray::perform")]


def children_of(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(word) for word in task.read_text().split()]
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def total(results: list[dict[str, Any]]) -> Any:
    return np.sum([r["values"] for r in results], axis=0)

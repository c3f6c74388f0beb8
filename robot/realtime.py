"""Real-time hygiene, on request: what keeps the system's other work out of a tick. Each step reports how it went.

SCHED_FIFO and locked memory need the right to them (root, CAP_SYS_NICE and CAP_IPC_LOCK, or limits.conf); a step that
is refused is reported with what would allow it, and the run goes on.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import gc
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot.config import ConfigError

_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
"""Those that this process was given."""
_CURRENT_AND_FUTURE = 3
"""MCL_CURRENT | MCL_FUTURE of mlockall(2)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RealtimeConfig:
    """Which steps are taken."""

    priority: int = 50
    """SCHED_FIFO priority, 1 to 99; 0 leaves the scheduling as it is."""
    cpu: int | None = None
    """The core on which the process stays."""
    lock_memory: bool = True
    """No page of the process is ever swapped out or fetched in a tick."""

    def __post_init__(self) -> None:
        if not 0 <= self.priority <= 99:
            raise ConfigError(f"priority is {self.priority}; it must be between 0 and 99.")


def enter(config: RealtimeConfig) -> list[dict[str, Any]]:
    """Take the steps in this process; returns {name, ok, detail} of each."""
    steps: list[tuple[str, Callable[[], str]]] = [("garbage", _freeze)]
    if config.cpu is not None:
        cpu = config.cpu
        steps.append(("affinity", lambda: _pin(cpu)))
    if config.lock_memory:
        steps.append(("memory", _lock))
    if config.priority:
        steps.append(("scheduler", lambda: _fifo(config.priority)))
    return [_taken(name, step) for name, step in steps]


def leave() -> None:
    """Let the garbage collector go on, after the run."""
    gc.enable()
    gc.unfreeze()


def step_back() -> None:
    """Take this thread out of what it inherits of the loop's: the scheduler's priority, and the one core.

    A thread that writes a log or decodes pictures would else hold up the tick that it was kept apart from.
    """
    with contextlib.suppress(OSError, AttributeError):
        if os.sched_getscheduler(0) == os.SCHED_FIFO:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(0, _CORES)


def _taken(name: str, step: Callable[[], str]) -> dict[str, Any]:
    try:
        return {"name": name, "ok": True, "detail": step()}
    except (OSError, AttributeError) as error:
        return {"name": name, "ok": False, "detail": str(error)}


def _freeze() -> str:
    gc.collect()
    gc.freeze()
    gc.disable()
    return "collected, frozen, and off until the run has ended"


def _pin(cpu: int) -> str:
    os.sched_setaffinity(0, {cpu})
    return f"core {cpu}"


def _lock() -> str:
    library = ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6", use_errno=True)
    if library.mlockall(_CURRENT_AND_FUTURE) != 0:
        code = ctypes.get_errno()
        raise OSError(f"{os.strerror(code)}: grant CAP_IPC_LOCK or raise memlock in limits.conf")
    return "locked"


def _fifo(priority: int) -> str:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError as error:
        raise OSError(f"{error.strerror}: grant CAP_SYS_NICE or raise rtprio in limits.conf") from error
    throttle = Path("/proc/sys/kernel/sched_rt_runtime_us")
    share = throttle.read_text().strip() if throttle.exists() else "unknown"
    return f"SCHED_FIFO {priority}; the kernel lets real-time tasks run {share} µs of each second"

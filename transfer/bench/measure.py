"""Rates of several contestants at the same work, measured in turns.

Turns matter more than length: a neighbour on the machine or a falling clock then meets all contestants alike, and
the ratio of two of them within one round stays right when both rates are wrong.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Contestant(Protocol):
    """Something that advances simulations."""

    setting: str
    """How it was set up: sizes, threads."""
    simulations: int
    """Control steps that one of its steps takes."""

    def play(self, steps: int) -> None:
        """Take this many steps under random actions."""

    def close(self) -> None:
        """End threads and processes."""


Make = Callable[[], Contestant]


class Unavailable(Exception):
    """A contestant cannot take part; says why, and what to do about it."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.reason, self.fix = reason, fix


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """How long to measure."""

    rounds: int
    """At least 5, for a median with a spread."""
    seconds: float
    """Of each contestant in each round."""
    warm_up_steps: int = 0
    """Of every simulation, first of all: episodes must have come to their usual mixture of ages and contacts."""
    warm_up_s: float = 20.0
    """At most."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rate(contestant: Contestant, steps: int) -> float:
    """Control steps a second over this many steps."""
    start = time.perf_counter()
    contestant.play(steps)
    return steps * contestant.simulations / (time.perf_counter() - start)


def warm_up(contestant: Contestant, effort: Effort) -> None:
    """Let it come to the state in which it is measured."""
    start = time.perf_counter()
    turnover = getattr(contestant, "turnover", 1)  # its own steps until every simulation has taken one
    for _ in range(effort.warm_up_steps * turnover):
        contestant.play(1)
        if time.perf_counter() - start > effort.warm_up_s:
            return


def steps_for(contestant: Contestant, seconds: float) -> int:
    """Steps that take about `seconds`; plays that long to find out."""
    steps, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        contestant.play(1)
        steps += 1
    return max(1, round(steps * seconds / spent))


def fastest(makes: Sequence[Make], effort: Effort) -> Contestant:
    """Of several set-ups of one contestant the fastest in a short trial, warm and open; the others are closed."""
    best = makes[0]()
    warm_up(best, effort)
    best_rate = _trial(best, effort) if len(makes) > 1 else 0.0
    for make in makes[1:]:
        candidate = make()
        warm_up(candidate, effort)
        found = _trial(candidate, effort)
        loser = best if found > best_rate else candidate
        if found > best_rate:
            best, best_rate = candidate, found
        loser.close()
    return best


def _trial(contestant: Contestant, effort: Effort) -> float:
    steps = steps_for(contestant, 0.5 * effort.seconds)
    return float(np.median([rate(contestant, steps) for _ in range(3)]))


def in_turns(
    contestants: Mapping[str, Contestant], effort: Effort, before_round: Callable[[], None] = lambda: None
) -> dict[str, Array]:
    """Name -> (rounds,) control steps a second of warm contestants; every round begins with another one.

    `before_round` is not timed.
    """
    names = list(contestants)
    before_round()
    steps = {name: steps_for(contestant, effort.seconds) for name, contestant in contestants.items()}
    rates: dict[str, list[float]] = {name: [] for name in names}
    for k in range(effort.rounds):
        before_round()
        for name in names[k % len(names) :] + names[: k % len(names)]:
            rates[name].append(rate(contestants[name], steps[name]))
    return {name: np.array(values) for name, values in rates.items()}


def spread(values: Array) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": float(np.median(values)), "min": float(values.min()), "max": float(values.max())}


def row(name: str, unit: str, values: Array, **more: Any) -> dict[str, Any]:
    """A row of result.json."""
    return {"name": name, "unit": unit, **spread(values), **more}

"""Rates of several contestants at the same work, measured in turns.

Turns matter more than length: a neighbour on the machine or a falling clock then meets all contestants alike, and
the ratio of two of them within one round stays right when both rates are wrong.
"""

from __future__ import annotations

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
    warm_up_s: float
    """Before the first round: episodes must have come to their usual mixture of ages."""


def rate(contestant: Contestant, steps: int) -> float:
    """Control steps a second over this many steps."""
    start = time.perf_counter()
    contestant.play(steps)
    return steps * contestant.simulations / (time.perf_counter() - start)


def steps_for(contestant: Contestant, seconds: float) -> int:
    """Steps that take about `seconds`; plays that long to find out."""
    steps, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        contestant.play(1)
        steps += 1
    return max(1, round(steps * seconds / spent))


def fastest(makes: Sequence[Make], seconds: float) -> Contestant:
    """Of several set-ups of one contestant the fastest in a short trial, still open; the others are closed."""
    best, best_rate = makes[0](), -1.0
    if len(makes) > 1:
        best_rate = _trial(best, seconds)
    for make in makes[1:]:
        candidate = make()
        found = _trial(candidate, seconds)
        loser = best if found > best_rate else candidate
        if found > best_rate:
            best, best_rate = candidate, found
        loser.close()
    return best


def _trial(contestant: Contestant, seconds: float) -> float:
    steps = steps_for(contestant, seconds)
    return float(np.median([rate(contestant, steps) for _ in range(3)]))


def in_turns(
    contestants: Mapping[str, Contestant], effort: Effort, before_round: Callable[[], None] = lambda: None
) -> dict[str, Array]:
    """Name -> (rounds,) control steps a second; every round begins with another contestant.

    `before_round` is not timed.
    """
    names = list(contestants)
    steps = {n: max(1, round(steps_for(c, effort.warm_up_s) * effort.seconds / effort.warm_up_s))
             for n, c in contestants.items()}  # fmt: skip
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

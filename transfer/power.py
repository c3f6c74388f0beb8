"""What a number of runs can tell, stated before the first of them.

Two controllers are told apart when Newcombe's 95 % interval of their difference excludes 0 (transfer/ab_test.py). For
given true rates the chance of that is a sum over binomials, so power and false alarms are those of the rule itself,
not of an approximation. Runs in pairs that began alike are counted as if they had nothing in common: if the two succeed
on the same starts, as is usual, they tell more than is stated.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import stats

from robot.result import wilson

Counts = npt.NDArray[np.int64]

POWER = 0.8
MOST = 20_000
"""Runs of each beyond which nobody asks."""


def half_width(n: int) -> float:
    """Half of the Wilson interval of n runs, where it is widest."""
    low, high = wilson(n // 2, n)["ci95"]
    return float(high - low) / 2.0


def chance(n: int, new: float, old: float) -> float:
    """That n runs of each, which succeed with these probabilities, are told apart, whichever seems better."""
    return _ahead(n, new, old) + _ahead(n, old, new)


def false_alarms(n: int) -> float:
    """The largest chance that equal controllers are told apart, over all success rates."""
    return max(chance(n, p, p) for p in np.linspace(0.01, 0.99, 99))


def smallest_difference(n: int, rate: float | None = None, power: float = POWER) -> float | None:
    """The least improvement that n runs of each tell with this chance; None when not even the largest one is told.

    `rate` is the expected success of the controller held against; None: wherever it is hardest, both sides of one half.
    """
    largest = 1.0 if rate is None else 1.0 - rate
    if chance(n, *rates(largest, rate)) < power:
        return None
    return _first(lambda d: chance(n, *rates(d, rate)) >= power, 0.0, largest, 1e-4)


def runs_needed(difference: float, rate: float | None = None, power: float = POWER) -> int | None:
    """Runs of each that tell this difference with this chance; None when more than MOST would be needed."""
    enough, n = rates(difference, rate), 2
    while chance(n, *enough) < power:
        n *= 2
        if n > MOST:
            return None
    return math.ceil(_first(lambda k: chance(math.ceil(k), *enough) >= power, n / 2, n, 0.5))


def rates(difference: float, rate: float | None) -> tuple[float, float]:
    """Success of both controllers, the better one first."""
    old = (1.0 - difference) / 2.0 if rate is None else rate
    return min(old + difference, 1.0), old


def _first(is_true: Callable[[float], bool], low: float, high: float, within: float) -> float:
    """By bisection, where something becomes true that is true at `high`."""
    while high - low > within:
        middle = (low + high) / 2.0
        low, high = (low, middle) if is_true(middle) else (middle, high)
    return high


def _ahead(n: int, new: float, old: float) -> float:
    """Chance that the first is told to be better."""
    counts = np.arange(n + 1)
    return float(stats.binom.pmf(counts, n, old) @ stats.binom.sf(_least(n) - 1, n, new))


@functools.lru_cache(maxsize=64)
def _least(n: int) -> Counts:
    """(n + 1,) the least successes of one controller that are told from 0, 1, ..., n of the other; n + 1: none are."""
    intervals = np.array([wilson(k, n)["ci95"] for k in range(n + 1)])
    shares = np.arange(n + 1) / n
    below, above = shares - intervals[:, 0], intervals[:, 1] - shares
    low, high = np.arange(n + 1), np.full(n + 1, n + 1)
    while (open_ := high - low > 1).any():
        middle = np.where(open_, (low + high) // 2, low).clip(0, n)
        told = shares[middle] - shares > np.hypot(below[middle], above)
        high, low = np.where(open_ & told, middle, high), np.where(open_ & ~told, middle, low)
    return high

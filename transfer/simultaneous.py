"""Intervals that hold for all candidates at once: who tries many ways must not be fooled by the luckiest.

Of paired differences between each candidate and doing nothing. All candidates ran the same episodes, so the episodes
are resampled for all of them together, and the largest |t| among all comparisons sets how many standard errors wide
every interval is (max-|t|; Westfall and Young, Resampling-Based Multiple Testing, 1993).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from robot.result import student_t

Array = npt.NDArray[np.float64]
Interval = dict[str, Any]
"""{"mean", "ci95": [low, high], "n"}."""

DRAWS = 2000


def center(change: Array) -> tuple[float, float]:
    """(middle, standard error) of paired differences (n,).

    Differences of successes, all -1, 0 or 1, get two more pairs, half a one in each cell of the table of both outcomes:
    the plain error is 0 where all agree, and far too small where few differ (Agresti and Min, Statistics in Medicine
    24, 2005).
    """
    n = len(change)
    if not np.isin(change, (-1.0, 0.0, 1.0)).all():
        return float(change.mean()), float(change.std(ddof=1) / np.sqrt(n))
    middle = float(change.sum()) / (n + 2.0)
    spread = (float(np.abs(change).sum()) + 1.0) / (n + 2.0) - middle**2
    return middle, float(np.sqrt(spread / (n + 2.0)))


def reach(changes: Sequence[Array], rng: np.random.Generator) -> float:
    """How many standard errors wide all intervals must be, so that all of them hold in 95 % of cases.

    Never fewer than Student's t asks for of one alone.
    """
    rows = np.array(changes)
    n = rows.shape[1]
    error = rows.std(axis=1, ddof=1) / np.sqrt(n)
    rows, error = rows[error > 0.0], error[error > 0.0]
    if not len(rows):
        return student_t(n - 1)
    counts = rng.multinomial(n, np.full(n, 1.0 / n), DRAWS)
    t = np.abs(counts @ rows.T / n - rows.mean(axis=1)) / error
    return max(float(np.quantile(t.max(axis=1), 0.95)), student_t(n - 1))


def intervals(changes: Sequence[Array], rng: np.random.Generator) -> list[Interval]:
    """The simultaneous 95 % interval of each row of paired differences, all of them over the same n episodes."""
    wide = reach(changes, rng)
    return [interval(change, wide) for change in changes]


def interval(change: Array, wide: float) -> Interval:
    """The mean of differences (n,), and what lies within `wide` standard errors of center()."""
    middle, error = center(change)
    low, high = middle - wide * error, middle + wide * error
    if np.isin(change, (-1.0, 0.0, 1.0)).all():
        low, high = max(low, -1.0), min(high, 1.0)
    return {"mean": float(change.mean()), "ci95": [float(low), float(high)], "n": len(change)}

"""Lags between channels: by how much one must be shifted to agree with another, over an episode and piece by piece."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from transfer.screening.signals import Array, Signal

REACH_S = 0.4
"""Farthest lag that is looked for [s]."""
PIECES = 6
"""Parts of an episode whose lags are compared."""
CLEAR = 0.9
"""Correlation at its best lag from which on a lag can be trusted."""
NEARLY = 0.04
"""Difference of correlations that decides nothing."""
BETTER = 0.6
"""A lag must leave at most this share of what is unexplained without it."""


@dataclass(frozen=True, slots=True)
class Lag:
    """A lag of the joint that shows it best."""

    lag: float
    """[s]; positive where the second channel is late."""
    joint: int
    correlation: float
    clear: bool
    """Whether the channels agree much better so than without it."""


@dataclass(frozen=True, slots=True)
class Drift:
    """Lags of the pieces of an episode."""

    change: float
    """From its beginning to its end [s], by a straight line."""
    t: Array
    """Middle of each piece [s]."""
    lags: Array
    """[s]"""


@dataclass(frozen=True, slots=True)
class Match:
    """How two series agree, shifted against one another."""

    lag: float
    """Best shift of the second [s], to a fraction of a row."""
    correlation: float
    """There."""
    usual: float
    """Correlation at the shift that was expected."""
    inside: bool
    """Whether the best shift is not at the end of those tried."""

    @property
    def clear(self) -> bool:
        """Whether the best shift is one, and much better than the expected one."""
        rest, usual = 1.0 - self.correlation**2, 1.0 - max(self.usual, 0.0) ** 2
        return self.inside and rest < BETTER * usual


def correlate(a: Array, b: Array, period: float, expected: float = 0.0, reach: float = REACH_S) -> Match:
    """How `b` is late behind `a`, two series (n,) on one clock."""
    count = min(round(reach / period), len(a) // 3)
    n = len(a)
    size = 1 << int(np.ceil(np.log2(2 * n)))
    a, b = a - a.mean(), b - b.mean()
    both = np.fft.irfft(np.conj(np.fft.rfft(a, size)) * np.fft.rfft(b, size), size)
    shifts = np.arange(-count, count + 1)
    squares_a, squares_b = np.cumsum(np.concatenate([[0.0], a * a])), np.cumsum(np.concatenate([[0.0], b * b]))
    # energy of the parts that overlap at each shift
    energy_a = np.where(
        shifts >= 0, squares_a[n - np.maximum(shifts, 0)], squares_a[n] - squares_a[np.maximum(-shifts, 0)]
    )
    energy_b = np.where(
        shifts >= 0, squares_b[n] - squares_b[np.maximum(shifts, 0)], squares_b[n - np.maximum(-shifts, 0)]
    )
    energy = np.sqrt(energy_a * energy_b)
    values = np.divide(both[shifts], energy, out=np.zeros(len(shifts)), where=energy > 0.0)
    best = _nearest_peak(values, shifts, expected / period)
    usual = float(np.interp(expected / period, shifts, values))
    if best in (0, len(values) - 1):
        return Match(float(shifts[best] * period), float(values[best]), usual, False)
    left, top, right = values[best - 1 : best + 2]
    bend = left - 2.0 * top + right
    shift = 0.5 * (left - right) / bend if bend < 0.0 else 0.0
    return Match(float((shifts[best] + shift) * period), float(top), usual, True)


def _nearest_peak(values: Array, shifts: npt.NDArray[np.intp], expected: float) -> int:
    """The peak nearest to the expected shift among those nearly as high as the highest: what repeats has many."""
    top = int(np.argmax(values))
    inner = np.flatnonzero((values[1:-1] >= values[:-2]) & (values[1:-1] >= values[2:])) + 1
    high = inner[values[inner] >= values[top] - NEARLY]
    return int(high[np.argmin(np.abs(shifts[high] - expected))]) if len(high) else top


def lag_of(position: Signal, velocity: Signal) -> Lag | None:
    """By how much a velocity is late against the slope of the position; None where no joint shows it clearly."""
    return _best(position, velocity, max(position.t[0], velocity.t[0]), min(position.t[-1], velocity.t[-1]))


def _best(position: Signal, velocity: Signal, first: float, last: float) -> Lag | None:
    period = max(position.period, velocity.period)
    t = np.arange(first, last, period)
    if len(t) < 60:
        return None
    width = max(3, round(0.03 / period))
    best: Lag | None = None
    for j in range(position.values.shape[1]):
        moved = np.diff(position.at(t, j))
        travel = np.diff(np.interp(t, velocity.t, velocity.travel[:, j]))
        moved, travel = smoothed(moved, width), smoothed(travel, width)
        if np.abs(moved).sum() < 0.02 or not travel.std() > 0.0:
            continue
        sign = np.sign(float(np.dot(moved, travel))) or 1.0
        found = correlate(moved, sign * travel, period)
        if not found.inside:
            continue
        if found.correlation > CLEAR and (best is None or found.correlation > best.correlation):
            best = Lag(found.lag, j, found.correlation, found.clear)
    return best


def smoothed(values: Array, width: int) -> Array:
    """(n,) moving mean over `width` rows."""
    width = min(width, len(values))
    return np.convolve(values, np.ones(width) / width, mode="same")


def pieces(position: Signal, velocity: Signal) -> Drift | None:
    """Lags of the pieces of an episode, where enough of them show one."""
    first, last = max(position.t[0], velocity.t[0]), min(position.t[-1], velocity.t[-1])
    edges = np.linspace(first, last, PIECES + 1)
    found = [
        ((a + b) / 2.0, lag.lag) for a, b in pairwise(edges) if (lag := _best(position, velocity, a, b)) is not None
    ]
    return line(found, last - first)


def line(found: list[tuple[float, float]], seconds: float) -> Drift | None:
    """A straight line through (time, lag) of nearly all pieces; its change is 0 where they scatter too much."""
    if len(found) < PIECES - 1:
        return None
    t, lags = np.array([f[0] for f in found]), np.array([f[1] for f in found])
    slopes = (lags[None] - lags[:, None])[np.triu_indices(len(t), 1)] / (t[None] - t[:, None])[
        np.triu_indices(len(t), 1)
    ]
    slope = float(np.median(slopes))  # Theil and Sen: one piece may be wrong
    rest = lags - slope * t
    scatter = float(np.median(np.abs(rest - np.median(rest))))
    change = slope * seconds
    return Drift(change if abs(change) > 4.0 * scatter else 0.0, t, lags)

"""The same stretch of recording in two places: copies, overlapping cuts, also on a shifted clock or with a moved zero.

Each recording is reduced to fingerprints: hashes of ROWS consecutive changes of its joint positions, thinned by
winnowing (Schleimer, Wilkerson, Aiken, SIGMOD 2003), which keeps at least one in every WINDOW, so that a common stretch
of ROWS + WINDOW rows is always found. Time stamps and zeros do not enter; values that were resampled or rounded to
fewer than six digits are another recording to this rule.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from transfer.screening.signals import Array, Signals

ROWS, WINDOW = 24, 8
DIGITS = 1e6
"""Changes are compared in steps of 1 / DIGITS [rad]."""
DIFFERENT = 8
"""Fewest different rows in a hashed stretch: all recordings of a robot at rest are alike."""
_BASE, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """What is kept of one recording."""

    hashes: npt.NDArray[np.uint64]
    """(m,) sorted."""
    rows: npt.NDArray[np.int32]
    """(m,) where each stretch begins."""
    period: float
    """[s]"""
    seconds: float


def fingerprints_of(signals: Signals) -> Fingerprints:
    """The fingerprints of one episode; none where it has no positions."""
    position = signals.position
    if position is None or len(position.t) < ROWS + WINDOW + 2:
        return Fingerprints(np.zeros(0, np.uint64), np.zeros(0, np.int32), 0.0, 0.0)
    changes = np.round(np.diff(position.values, axis=0) * DIGITS).astype(np.int64)
    moving = _moving(changes)
    with np.errstate(over="ignore"):
        row = np.zeros(len(changes), dtype=np.uint64)
        for column in changes.T:
            row = (row ^ _mixed(column.astype(np.uint64))) * _BASE
        hashes = np.zeros(len(row) - ROWS + 1, dtype=np.uint64)
        for k in range(ROWS):
            hashes = (hashes + row[k : k + len(hashes)]) * _MIX
        hashes = _mixed(hashes)
    hashes[~moving] = np.iinfo(np.uint64).max
    chosen = _winnowed(hashes)
    chosen = chosen[moving[chosen]]
    order = np.argsort(hashes[chosen], kind="stable")
    return Fingerprints(
        hashes[chosen][order], chosen[order].astype(np.int32), position.period, float(position.t[-1] - position.t[0])
    )


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    values = values ^ (values >> np.uint64(29))
    values = values * _MIX
    return np.asarray(values ^ (values >> np.uint64(32)))


def _moving(changes: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """(n - ROWS + 1,) whether enough of a stretch's rows differ from the row before."""
    differ = np.concatenate([[0], np.cumsum((changes != 0).any(axis=1))])
    return np.asarray(differ[ROWS:] - differ[:-ROWS] >= DIFFERENT)


def _winnowed(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
    """Rows of the smallest hash in each window of WINDOW."""
    if len(hashes) <= WINDOW:
        return np.array([int(np.argmin(hashes))], dtype=np.intp) if len(hashes) else np.zeros(0, np.intp)
    windows = np.lib.stride_tricks.sliding_window_view(hashes, WINDOW)
    return np.unique(windows.argmin(axis=1) + np.arange(len(windows)))


@dataclass(frozen=True, slots=True)
class Shared:
    """A stretch that two recordings have in common."""

    seconds: float
    """How long it is, of the second recording."""
    start: float
    """Where it begins in the second one [s]."""
    there: float
    """Where it begins in the first one [s]."""
    rows: Array
    """(m,) rows of the second recording whose fingerprints the first one has."""


def shared(first: Fingerprints, second: Fingerprints) -> Shared | None:
    """What of `second` stands in `first`, at one shift between them; None where nothing does."""
    _, a, b = np.intersect1d(first.hashes, second.hashes, return_indices=True)
    if not len(a):
        return None
    there, here = first.rows[a], second.rows[b]
    shift, counts = np.unique(here - there, return_counts=True)
    best = shift[int(np.argmax(counts))]
    rows = np.sort(here[here - there == best])
    steps = np.diff(rows)
    covered = float(np.minimum(steps, ROWS + WINDOW).sum() + ROWS)
    start = int(rows[0])
    return Shared(
        covered * second.period, start * second.period, (start - int(best)) * first.period, rows.astype(np.float64)
    )

"""Stopwatch: how long ticks took and how many deadlines were missed, in memory that does not grow with the run."""

from __future__ import annotations

import time

import numpy as np

_SHIFT, _BINS = 8, 1 << 16
"""Bins of 256 ns, up to 16.8 ms."""


class Stopwatch:
    """Counts of a run's ticks."""

    def __init__(self) -> None:
        self.missed = self.longest_miss = 0
        self._streak, self._begin, self._most = 0, 0, 0
        self._counts = [0] * _BINS

    def start(self) -> None:
        """A tick's computing begins."""
        self._begin = time.perf_counter_ns()

    def stop(self) -> None:
        """It ended."""
        spent = time.perf_counter_ns() - self._begin
        self._counts[min(spent >> _SHIFT, _BINS - 1)] += 1
        if spent > self._most:
            self._most = spent

    def next_deadline(self, tick: int, elapsed_ns: int, period_ns: int) -> int:
        """Which tick comes after `tick`, `elapsed_ns` after the first; those that passed whole are skipped."""
        late = elapsed_ns - (tick + 1) * period_ns
        if late <= 0:
            self._streak = 0
            return tick + 1
        skipped = late // period_ns
        self.missed += 1 + skipped
        self._streak += 1 + skipped
        self.longest_miss = max(self.longest_miss, self._streak)
        return tick + 1 + skipped

    def percentiles(self) -> dict[str, float]:
        """p50, p99 and max [µs]; zeros before the first tick."""
        counts = np.array(self._counts)
        total = counts.sum()
        if not total:
            return {"p50": 0.0, "p99": 0.0, "max": 0.0}
        below = np.cumsum(counts)
        middle = {f"p{p}": int(np.searchsorted(below, p / 100 * total)) for p in (50, 99)}
        width = (1 << _SHIFT) * 1e-3
        return {**{k: (i + 0.5) * width for k, i in middle.items()}, "max": self._most * 1e-3}

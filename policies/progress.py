"""Progress of long work: how far, how fast, how long still."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """One report on long work."""

    what: str
    done: int
    total: int
    unit: str
    per_second: float
    """Rate of the work done since this process began it."""
    eta_s: float
    """Time still needed at that rate [s]."""
    scores: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        scores = "".join(f"  {name} {value:.3g}" for name, value in self.scores.items())
        return (
            f"{self.what}  {self.done:,} of {self.total:,} {self.unit}  {self.per_second:,.0f}/s  "
            f"{self.eta_s:.0f} s left{scores}"
        )


Report = Callable[[Progress], None]
"""What long work calls with its progress."""


def silent(progress: Progress) -> None:
    """Report to nobody."""


class Meter:
    """Turns counts into reports with rate and time left."""

    def __init__(self, what: str, total: int, unit: str, report: Report = silent, done: int = 0) -> None:
        """`done`: what an earlier run had already done; it does not count for the rate."""
        self.what, self.total, self.unit, self.report = what, total, unit, report
        self._before, self._start = done, time.monotonic()

    def rate(self, done: int) -> float:
        """Units a second since the meter was made."""
        return (done - self._before) / max(time.monotonic() - self._start, 1e-9)

    def __call__(self, done: int, **scores: float) -> None:
        rate = self.rate(done)
        left = (self.total - done) / rate if rate > 0 else 0.0
        self.report(
            Progress(
                what=self.what, done=done, total=self.total, unit=self.unit, per_second=rate, eta_s=left, scores=scores
            )
        )

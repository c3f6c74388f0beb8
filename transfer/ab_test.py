"""Two controllers, so many successes each: the difference with its interval, and how likely it is by chance.

Independent runs: Newcombe's hybrid score interval (method 10 of Newcombe, Statistics in Medicine 17, 873-890, 1998) and
Barnard's exact test. Runs in pairs that began alike: Newcombe's interval for paired data (method 10 of Statistics in
Medicine 17, 2635-2650, 1998) and McNemar's exact test. A difference is told when its interval excludes 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from robot.result import wilson

Flags = npt.NDArray[np.bool_]


def two_samples(new: Flags, old: Flags) -> dict[str, Any]:
    """Success of `new` less that of `old`, runs of which have nothing to do with each other; neither is empty."""
    (a, n), (b, m) = (int(new.sum()), len(new)), (int(old.sum()), len(old))
    p = float(stats.barnard_exact([[a, b], [n - a, m - b]]).pvalue) if 0 < a + b < n + m else 1.0
    return _told(_interval(wilson(a, n), wilson(b, m), 0.0), p, "Barnard's exact test") | {"n": min(n, m)}


def pairs(new: Flags, old: Flags) -> dict[str, Any]:
    """Success of `new` less that of `old`, where run i of both began alike; they are equally long and not empty."""
    n, both = len(new), int((new & old).sum())
    gained, lost = int((new & ~old).sum()), int((~new & old).sum())
    interval = _interval(
        wilson(both + gained, n), wilson(both + lost, n), _correlation(both, gained, lost, n - both - gained - lost)
    )
    p = float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return _told(interval, p, "McNemar's exact test") | {"n": n, "gained": gained, "lost": lost}


def _interval(new: dict[str, Any], old: dict[str, Any], correlation: float) -> tuple[float, float, float]:
    """Difference, low, high, of two success rates with their Wilson intervals."""
    (p, (l1, u1)), (q, (l2, u2)) = (new["mean"], new["ci95"]), (old["mean"], old["ci95"])

    def reach(a: float, b: float) -> float:
        return float(np.sqrt(max(a * a - 2.0 * correlation * a * b + b * b, 0.0)))

    return p - q, p - q - reach(p - l1, u2 - q), p - q + reach(u1 - p, q - l2)


def _correlation(both: int, gained: int, lost: int, neither: int) -> float:
    """Between the outcomes of a pair, corrected towards 0 as Newcombe does."""
    margins = float(both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    if margins == 0.0:
        return 0.0
    excess, half = both * neither - gained * lost, 0.5 * (both + gained + lost + neither)
    return float((max(excess - half, 0.0) if excess > 0 else excess) / np.sqrt(margins))


def _told(found: tuple[float, float, float], p: float, test: str) -> dict[str, Any]:
    mean, low, high = found
    told = "better" if low > 0 else "worse" if high < 0 else "not told apart"
    return {"mean": mean, "ci95": [low, high], "verdict": told, "p_value": min(p, 1.0), "test": test}

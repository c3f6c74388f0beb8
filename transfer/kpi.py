"""The numbers that say whether a transfer was worth it, with their intervals.

J is a score where more is better: success of an episode (0 or 1), its return, or minus a prediction error. Intervals
are percentile bootstraps over episodes; a ratio whose denominator cannot be told from 0 is reported as undefined.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Kpi = dict[str, Any]
"""{"mean", "ci95": [low, high], "n"}; undefined ones have None in the first two and say why in "note"."""

DRAWS = 2000


def _bootstrap(scores: Sequence[Array], value: Callable[..., Array], rng: np.random.Generator, paired: bool) -> Kpi:
    """`value` of the means of each array of scores, with the interval over resampled episodes."""
    arrays = [np.asarray(s, dtype=np.float64) for s in scores]
    common = rng.integers(len(arrays[0]), size=(DRAWS, len(arrays[0]))) if paired else None
    means = [
        a[common if common is not None else rng.integers(len(a), size=(DRAWS, len(a)))].mean(axis=1) for a in arrays
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        draws, center = value(*means), float(value(*(a.mean() for a in arrays)))
    n = min(len(a) for a in arrays)
    if not np.isfinite(center) or np.mean(np.isfinite(draws)) < 0.95:
        return {"mean": None, "ci95": None, "n": n, "note": "undefined: the denominator cannot be told from 0"}
    low, high = np.percentile(draws[np.isfinite(draws)], [2.5, 97.5])
    return {"mean": center, "ci95": [float(low), float(high)], "n": n}


def mean(scores: Array, rng: np.random.Generator) -> Kpi:
    """A mean over episodes."""
    return _bootstrap([scores], lambda a: np.asarray(a), rng, paired=False)


def difference(after: Array, before: Array, rng: np.random.Generator, paired: bool = True) -> Kpi:
    """after - before; paired when episode i of both began alike."""
    return _bootstrap([after, before], lambda a, b: np.asarray(a - b), rng, paired)


def transfer_efficiency(finetuned: Array, scratch: Array, oracle: Array, rng: np.random.Generator) -> Kpi:
    """(J_ft - J_scratch) / (J_oracle - J_scratch): 1 is as good as having trained on the truth."""
    return _bootstrap([finetuned, scratch, oracle], lambda f, s, o: np.asarray((f - s) / (o - s)), rng, paired=False)


def adaptation_gap(finetuned: Array, oracle: Array, rng: np.random.Generator) -> Kpi:
    """J_oracle - J_ft: what adaptation has left undone."""
    return difference(oracle, finetuned, rng, paired=False)


def forgetting(before: Array, after: Array, rng: np.random.Generator) -> Kpi:
    """(J_source_before - J_source_after) / |J_source_before| on the source domain; paired episodes."""
    return _bootstrap([before, after], lambda b, a: np.asarray((b - a) / np.abs(b)), rng, paired=True)


def data_efficiency_ratio(scratch: Sequence[tuple[float, float]], n_finetuned: float, error: float) -> dict[str, Any]:
    """n_scratch / n_ft at equal held-out error, read off the curve of training from scratch.

    scratch: (amount of data, held-out error) in rising order of data; between two amounts the error is interpolated as
    a power of the amount. When training from scratch never gets to `error` the ratio is a lower bound, when it is there
    with the least amount an upper bound; `censored` says which.
    """
    best = list(itertools.accumulate((e for _, e in scratch), min))  # more data need not help in one run: take the best
    amounts = [n for n, _ in scratch]
    if best[-1] > error:
        note = (
            f"from scratch never reached an error of {error:.4g} with up to {amounts[-1]:g}; the ratio is at least this"
        )
        return {"mean": amounts[-1] / n_finetuned, "censored": "below", "note": note}
    if best[0] <= error:
        note = f"from scratch has an error of {best[0]:.4g} with {amounts[0]:g} already: the ratio is at most this"
        return {"mean": amounts[0] / n_finetuned, "censored": "above", "note": note}
    logs = np.log(np.maximum(best, 1e-12)), np.log(amounts)
    needed = float(np.exp(np.interp(np.log(max(error, 1e-12)), logs[0][::-1], logs[1][::-1])))
    return {"mean": needed / n_finetuned, "censored": False}


def kpis(
    finetuned: Array,
    source_before: Array,
    source_after: Array,
    rng: np.random.Generator,
    *,
    scratch: Array | None = None,
    oracle: Array | None = None,
) -> dict[str, Kpi]:
    """All KPIs that the given scores allow; those that need a missing score say which."""

    def missing(*names: str) -> Kpi:
        return {"mean": None, "ci95": None, "n": 0, "note": f"needs a policy trained {' and one '.join(names)}"}

    on_truth, from_scratch = "on the robot's truth (oracle)", "from scratch"
    result = {"forgetting": forgetting(source_before, source_after, rng)}
    if scratch is not None:
        result["gain_over_scratch"] = difference(finetuned, scratch, rng, paired=False)
    if oracle is None:
        result["adaptation_gap"] = missing(on_truth)
    else:
        result["adaptation_gap"] = adaptation_gap(finetuned, oracle, rng)
    if oracle is None or scratch is None:
        names = [from_scratch] * (scratch is None) + [on_truth] * (oracle is None)
        result["transfer_efficiency"] = missing(*names)
    else:
        result["transfer_efficiency"] = transfer_efficiency(finetuned, scratch, oracle, rng)
    return result

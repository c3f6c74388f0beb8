"""Whether an encoder knows how sure it is: coverage, likelihood and sharpness of Gaussian estimates.

Windows of one simulation overlap and share their truth, so every interval here goes by group, never by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from robot.result import mean_ci

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]

LEVELS = (0.5, 0.8, 0.95)
CURVE = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""Levels of the reliability figure."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """Gaussian estimates of C quantities beside the truth; N rows."""

    names: tuple[str, ...]
    mean: Array
    """(N, C)"""
    deviation: Array
    """(N, C) what the encoder says its standard error is, above 0."""
    truth: Array
    """(N, C)"""
    group: Ids
    """(N,) the simulation of each row."""
    spread: Array
    """(C,) standard deviation of the truth over the prior: what one knows without looking."""


def calibration(estimates: Estimates) -> dict[str, dict[str, Any]]:
    """Name -> what its stated uncertainty is worth.

    `coverage`: level -> share of truths inside the central interval of that level (right: the level itself);
    `curve`: the same over CURVE; `nll`: mean negative log likelihood in units of the prior's deviation, and
    `nll_prior` that of the prior's Gaussian, which a useful estimate must beat; `sharpness`: mean stated deviation
    over the prior's (1 says nothing, small says a lot); `error`: root mean square error over the prior's deviation.
    """
    return {name: _one(estimates, i) for i, name in enumerate(estimates.names)}


def _one(estimates: Estimates, i: int) -> dict[str, Any]:
    spread = float(estimates.spread[i])
    error = (estimates.mean[:, i] - estimates.truth[:, i]) / spread
    stated = estimates.deviation[:, i] / spread
    z = np.abs(error) / stated
    likelihood = 0.5 * np.square(z) + np.log(stated) + 0.5 * np.log(2.0 * np.pi)
    away = (estimates.truth[:, i] - estimates.truth[:, i].mean()) / spread
    prior = 0.5 * np.square(away) + 0.5 * np.log(2.0 * np.pi)
    return {
        "coverage": {f"{level:g}": by_group(z <= half_width(level), estimates.group) for level in LEVELS},
        "curve": [float((z <= half_width(level)).mean()) for level in CURVE],
        "nll": by_group(likelihood, estimates.group),
        "nll_prior": by_group(prior, estimates.group),
        "sharpness": float(stated.mean()),
        "error": float(np.sqrt(np.square(error).mean())),
    }


def half_width(level: float) -> float:
    """Half width, in standard deviations, of a Gaussian's central interval that holds `level` of it."""
    return NormalDist().inv_cdf(0.5 + 0.5 * level)


def by_group(values: npt.NDArray[Any], group: Ids) -> dict[str, Any]:
    """Mean of the rows (N,) and its 95 % interval over groups, as {"mean", "ci95", "n"}; n counts the groups."""
    means = group_means(values, group)
    return mean_ci(means)


def group_means(values: npt.NDArray[Any], group: Ids) -> Array:
    """(G,) mean of the rows of each group."""
    _, index = np.unique(group, return_inverse=True)
    return np.bincount(index, weights=np.asarray(values, dtype=np.float64)) / np.bincount(index)


def miscalibration(curve: Sequence[float]) -> float:
    """Mean absolute difference between the curve over CURVE and its levels; 0 is perfect, 0.5 the worst."""
    return float(np.abs(np.asarray(curve) - np.asarray(CURVE)).mean())

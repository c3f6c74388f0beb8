"""The intervals of a fit: no seldomer true than they say, also where few windows carry rare, large disturbances."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import numpy.typing as npt

from transfer.gauss_newton import Normal, Objective, covariance

Array = npt.NDArray[np.float64]

WINDOWS, ROWS, UNKNOWNS = 114, 5, 33
"""As many windows and unknowns as six recordings of a double pendulum have."""
TRUTH = np.linspace(-1.0, 1.0, UNKNOWNS)


def fitted(rng: np.random.Generator) -> tuple[Array, Array]:
    """Estimate and its standard errors, of windows whose own disturbance is now and then ten times as large."""
    size = np.where(rng.random(WINDOWS) < 0.1, 10.0, 1.0)
    slopes = rng.normal(size=(WINDOWS, ROWS, UNKNOWNS)) * rng.exponential(size=(WINDOWS, 1, UNKNOWNS))
    read = slopes @ TRUTH + rng.normal(size=(WINDOWS, 1)) * size[:, None] + 0.1 * rng.normal(size=(WINDOWS, ROWS))
    precision = np.full(UNKNOWNS, 1e-6)
    pieces = np.einsum("wri,wrj->wij", slopes, slopes)
    hessian = pieces.sum(axis=0) + np.diag(precision)
    estimate = np.linalg.solve(hessian, np.einsum("wri,wr->i", slopes, read))
    scores = np.einsum("wri,wr->wi", slopes, slopes @ estimate - read)
    none = np.zeros(0)
    normal = Normal(hessian, scores.sum(axis=0) + precision * estimate, scores, none, pieces, none)
    shots = SimpleNamespace(episode=np.arange(WINDOWS) % 6, start=np.zeros(WINDOWS))
    objective = cast(Objective, SimpleNamespace(precision=precision, mean=np.zeros(UNKNOWNS), shots=shots))
    return estimate, np.sqrt(np.diag(covariance(objective, normal)))


def test_intervals_hold_the_truth_no_seldomer_than_they_say_under_rare_disturbances() -> None:
    """By the windows' pulls after the fit has followed them, 93.9 % of these intervals do."""
    rng, inside = np.random.default_rng(0), []
    for _ in range(60):
        estimate, error = fitted(rng)
        inside.append(np.abs(estimate - TRUTH) < 1.96 * error)
    assert 0.95 <= np.mean(inside) < 0.98

"""The intervals of a fit: no seldomer true than they say, also where few windows carry rare, large disturbances."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import numpy.typing as npt

from transfer.gauss_newton import Normal, Objective, _unfollowed, assembled, covariance

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
    none, columns = np.zeros(0), np.tile(np.arange(UNKNOWNS), (WINDOWS, 1))
    normal = Normal(hessian, scores.sum(axis=0) + precision * estimate, columns, scores, pieces, none, none)
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


def test_what_is_kept_of_a_window_s_own_columns_says_what_the_whole_matrices_did() -> None:
    """Three unknowns, four episodes of two zeros each: eleven columns, of which a window touches five."""
    rng, windows, size = np.random.default_rng(0), 40, 11
    columns = np.tile(np.arange(5), (windows, 1))
    columns[:, 3:] += 2 * (np.arange(windows)[:, None] % 4)
    slopes = rng.normal(size=(windows, 7, 5))
    pieces, scores = np.einsum("wri,wrj->wij", slopes, slopes), rng.normal(size=(windows, 5))
    slope, rest = rng.normal(size=(windows, 2, 5)), rng.normal(size=(windows, 2))
    hessian, gradient = assembled(pieces, scores, columns, size)
    normal = Normal(hessian + np.eye(size), gradient, columns, scores, pieces, rest, slope)
    whole, pulls, wide = np.zeros((windows, size, size)), np.zeros((windows, size)), np.zeros((windows, 2, size))
    for w, where in enumerate(columns):
        whole[w][np.ix_(where, where)], pulls[w, where], wide[w][:, where] = pieces[w], scores[w], slope[w]
    np.testing.assert_allclose(hessian, whole.sum(axis=0), atol=1e-12)
    np.testing.assert_allclose(gradient, pulls.sum(axis=0), atol=1e-12)
    moves = np.linalg.solve(normal.hessian - whole, pulls[..., None])[..., 0]
    np.testing.assert_allclose(_unfollowed(normal), moves @ normal.hessian, atol=1e-9)
    step = rng.normal(size=size)
    np.testing.assert_allclose(normal.starts(step), -rest - wide @ step, atol=1e-12)

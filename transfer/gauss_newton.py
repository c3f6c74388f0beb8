"""Damped, robust Gauss-Newton over the unknowns, each episode's zeros and each window's start, and its worth.

The objective is the sum over rows of Huber's loss of the standardized errors, each window weighing as
WINDOW_OBSERVATIONS independent observations whatever its rows (they are strongly correlated), plus the
Gaussian priors. What the result is worth is judged by how the windows' pulls scatter, and the episodes'
among one another, so it stays right when that weight is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from transfer.protocol import TORQUE
from transfer.shooting import Estimate, Linearization, Shooting
from transfer.shots import Shots
from transfer.unknowns import Unknown

Array = npt.NDArray[np.float64]

WINDOW_OBSERVATIONS = 3.0
"""Independent observations of each joint that a window is taken for; sets the logs' weight against the priors."""
HUBER = 1.5
"""Standardized error from which a row's pull no longer grows."""
FLOOR_RAD = 2e-4
"""Errors below half a count of an encoder mean nothing."""
ENOUGH = 0.3
"""Gain of an iteration, in log-likelihood, below which the search ends."""
LARGEST_STEP = 1.0
"""Longest step of a coordinate in one iteration."""


@dataclass(frozen=True, slots=True)
class Normal:
    """The normal equations over unknowns and zeros (N in all), the windows' starts eliminated.

    A window touches the unknowns and its own episode's zeros alone, K of the N: its share is kept for those, for many
    episodes have many zeros.
    """

    hessian: Array
    """(N, N), priors included."""
    gradient: Array
    """(N,), priors included."""
    columns: npt.NDArray[np.intp]
    """(W, K) which of the N each window touches."""
    scores: Array
    """(W, K) each window's share of the gradient, without the priors."""
    pieces: Array
    """(W, K, K) each window's share of the hessian, without the priors."""
    start_rest: Array
    """(W, J) and ..."""
    start_slope: Array
    """... (W, J, K): after a step of the K, the best step of the starts is -rest - slope @ step."""

    def starts(self, step: Array) -> Array:
        """(W, J) the starts' step that belongs to a step (N,) of everything else."""
        return self.following(step) - self.start_rest

    def following(self, step: Array) -> Array:
        """(W, J) the same from where the starts have taken their own."""
        return -np.einsum("wjk,wk->wj", self.start_slope, step[self.columns])


class Objective:
    """The robust sum of squares of one set of windows with its priors."""

    def __init__(
        self,
        shots: Shots,
        unknowns: Sequence[Unknown],
        zero_sd_rad: float = TORQUE.zero_sd_rad,
        start_sd: float = TORQUE.start_sd,
    ) -> None:
        """`zero_sd_rad`: prior of an episode's joint zeros; `start_sd`: of the fitted start velocities [rad/s]."""
        self.shots, self.start_sd = shots, start_sd
        self.mean = np.array([u.mean for u in unknowns])
        zeros = len(shots.series) * shots.position.shape[1]
        self.precision = np.concatenate([1.0 / np.square([u.sd for u in unknowns]), np.full(zeros, zero_sd_rad**-2)])
        self.rows = np.searchsorted(shots.window, np.arange(len(shots) + 1))
        self.weight = WINDOW_OBSERVATIONS / np.diff(self.rows)[shots.window][:, None]

    def scale(self, error: Array) -> Array:
        """(J,) robust size of the errors [rad], to standardize them: rms of what is below the 95 % quantile."""
        size = np.abs(error)
        inner = np.minimum(size, np.quantile(size, 0.95, axis=0))
        scale: Array = np.sqrt(np.mean(np.square(inner), axis=0)) + FLOOR_RAD
        return scale

    def cost(self, error: Array, scale: Array, at: Estimate) -> float:
        """Minus the logarithm of the posterior density, but for a constant."""
        off = np.sum(self.precision * self._off(at) ** 2) + np.sum(np.square(at.starts / self.start_sd))
        return float(np.sum(self.by_window(error, scale)) + 0.5 * off)

    def by_window(self, error: Array, scale: Array) -> Array:
        """(W,) each window's share of minus the log-likelihood."""
        size = np.abs(error / scale)
        loss = np.where(size < HUBER, 0.5 * size**2, HUBER * size - 0.5 * HUBER**2)
        each = (self.weight * loss).sum(axis=1)
        return np.bincount(self.shots.window, each, minlength=len(self.shots)).astype(np.float64)

    def _off(self, at: Estimate) -> Array:
        """(N,) how far an estimate is from the middle of its prior."""
        return np.concatenate([at.x - self.mean, at.zeros.ravel()])

    def normal(self, at: Estimate, found: Linearization, scale: Array) -> Normal:
        """The equations whose solution is the Gauss-Newton step."""
        count, joints = len(at.x), at.zeros.shape[1]
        windows, touched = len(self.shots), count + joints
        pieces, scores = np.zeros((windows, touched, touched)), np.zeros((windows, touched))
        rest, slope = np.zeros((windows, joints)), np.zeros((windows, joints, touched))
        columns = np.tile(np.arange(touched), (windows, 1))
        columns[:, count:] += joints * self.shots.episode[:, None]
        u = found.error / scale
        robust = self.weight * np.minimum(1.0, HUBER / np.maximum(np.abs(u), 1e-12))
        slopes = np.concatenate([found.by_unknown, found.by_zero]) / scale
        by_start = found.by_start / scale
        for window in range(windows):
            rows = slice(self.rows[window], self.rows[window + 1])
            a, k = slopes[:, rows].reshape(count + joints, -1), by_start[:, rows].reshape(joints, -1)
            w = robust[rows].ravel()
            pull = w * u[rows].ravel()
            own = (k * w) @ k.T + np.eye(joints) * self.start_sd**-2
            cross = (k * w) @ a.T
            slope[window] = np.linalg.solve(own, cross)
            rest[window] = np.linalg.solve(own, k @ pull + at.starts[window] * self.start_sd**-2)
            pieces[window] = (a * w) @ a.T - cross.T @ slope[window]
            scores[window] = a @ pull - cross.T @ rest[window]
        hessian, gradient = assembled(pieces, scores, columns, len(self.precision))
        hessian += np.diag(self.precision)
        return Normal(hessian, gradient + self.precision * self._off(at), columns, scores, pieces, rest, slope)


def assembled(pieces: Array, scores: Array, columns: npt.NDArray[np.intp], size: int) -> tuple[Array, Array]:
    """(N, N) and (N,) the sums of pieces (W, K, K) and scores (W, K), each put where its columns (W, K) are."""
    hessian, gradient = np.zeros((size, size)), np.zeros(size)
    for piece, score, where in zip(pieces, scores, columns, strict=True):
        hessian[np.ix_(where, where)] += piece
        gradient[where] += score
    return hessian, gradient


@dataclass(frozen=True, slots=True)
class Fitted:
    """Where the search ended."""

    at: Estimate
    scale: Array
    cost: float
    slopes: Linearization
    """At the last point but one: where the last step began."""
    converged: bool


def minimize(
    shooting: Shooting,
    objective: Objective,
    at: Estimate,
    iterations: int,
    scale: Array | None = None,
    report: Callable[[float], None] | None = None,
) -> Fitted:
    """Gauss-Newton with Levenberg's damping from `at`; `scale` fixes the standardization, else it follows the errors.

    Ends when an iteration gains less than ENOUGH, or no step gains anything. `report` gets the present RMS error
    [rad] after each iteration.
    """
    damping, converged, cost = 1e-3, False, np.inf
    fixed, present = scale is not None, scale
    for done in range(1, iterations + 1):
        found = shooting.linearize(at)
        if present is None or (not fixed and done <= 4):
            present = objective.scale(found.error)
        before = objective.cost(found.error, present, at)
        normal = objective.normal(at, found, present)
        after, damping = np.inf, damping / 4.0
        for _ in range(5):
            damped = normal.hessian + damping * np.diag(np.diag(normal.hessian))
            step = np.clip(-np.linalg.solve(damped, normal.gradient), -LARGEST_STEP, LARGEST_STEP)
            candidate = at.moved(step, normal.starts(step))
            after = objective.cost(shooting.errors(candidate), present, candidate)
            if after < before:
                break
            damping = max(8.0 * damping, 1e-3)
        if not after < before:
            converged, cost = True, before
            break
        at, cost = candidate, after
        if report is not None:
            report(float(np.sqrt(np.mean(found.error**2))))
        if before - after < ENOUGH and (fixed or done > 4):
            converged = True
            break
    assert present is not None  # at least one iteration ran
    return Fitted(at, present, cost, found, converged)


def covariance(objective: Objective, normal: Normal) -> Array:
    """(P, P) posterior covariance of the unknowns' coordinates, zeros and starts integrated out.

    The logs' information is Godambe's, H B^-1 H with H the Hessian without priors and B the scatter of the
    scores; the priors' is added to it, so that a direction of which the logs know nothing keeps its prior.
    Source: Godambe, Ann. Math. Stat. 31, 1960; adding the prior is ours.
    """
    known = normal.hessian - np.diag(objective.precision)
    windows, size = len(normal.scores), len(normal.gradient)
    pulls = _unfollowed(normal)
    scatter = pulls.T @ pulls
    # with few windows the scatter is badly known: it is drawn towards what independent observations would give
    share = size / (size + windows)
    scatter = _design_effect(objective, normal, pulls) * ((1.0 - share) * scatter + share * known)
    ridge = 1e-3 * np.diag(objective.precision)  # where both matrices vanish, rounding must not pass for knowledge
    information = known @ np.linalg.solve(scatter + ridge, known)
    out = np.linalg.inv(0.5 * (information + information.T) + np.diag(objective.precision))
    p = len(objective.mean)
    return 0.5 * (out + out.T)[:p, :p]


def _unfollowed(normal: Normal) -> Array:
    """(W, N) each window's pull on the estimate that all others lead to.

    At the optimum a window pulls less than it did, because the estimate has followed it, most of all a window in
    which a rare disturbance happened: intervals by those pulls are too narrow. Source: the jackknife of MacKinnon &
    White, J. Econometrics 29, 1985 (HC3), for groups of rows by Bell & McCaffrey, Survey Methodology 28, 2002.
    """
    inverse = np.linalg.inv(normal.hessian)
    # (H - piece)^-1 score, times H, by the matrix inversion lemma: it lies in the window's own columns
    near = inverse[normal.columns[:, :, None], normal.columns[:, None, :]]
    pulls = np.linalg.solve(np.eye(near.shape[1]) - normal.pieces @ near, normal.scores[..., None])[..., 0]
    out = np.zeros((len(pulls), len(inverse)))
    np.put_along_axis(out, normal.columns, pulls, axis=1)
    return out


def _design_effect(objective: Objective, normal: Normal, pulls: Array) -> float:
    """How much more the estimate scatters than if windows were independent: clusters against windows, at least 1.

    Few clusters cannot give a covariance of many parameters (it would be singular), but they give its size.
    """
    count = len(objective.mean)
    moves = np.linalg.solve(normal.hessian, pulls.T)[:count]
    clusters = clusters_of(objective.shots)
    number = int(clusters.max()) + 1
    if number < 2:
        return 1.0
    sums = np.zeros((number, count))
    np.add.at(sums, clusters, moves.T)
    between = np.sum(np.square(sums - sums.mean(axis=0)), axis=0) * number / (number - 1)
    within = np.sum(np.square(moves), axis=1)
    return max(1.0, float(np.mean(between / np.maximum(within, 1e-300))))


def clusters_of(shots: Shots) -> npt.NDArray[np.intp]:
    """Episodes where there are five or more; else pieces of about 2 s of each, beyond which windows forget."""
    if len(np.unique(shots.episode)) >= 5:
        return np.unique(shots.episode, return_inverse=True)[1].astype(np.intp)
    piece = (shots.start // 2.0).astype(np.intp)
    return np.unique(shots.episode * 100_000 + piece, return_inverse=True)[1].astype(np.intp)

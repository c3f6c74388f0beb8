"""What else is known of a fit's worth: a bootstrap over episodes, and the profile likelihood of its delay.

Both move from the optimum along the normal equations that the fit ended with. The bootstrap solves them anew for each
draw of episodes (one Gauss-Newton step from a converged estimate has the full bootstrap's distribution to first order:
Davidson & MacKinnon, Int. Economic Review 40, 1999); the profile lets everything else follow a delay that is held, and
then takes the likelihood of real rollouts, not of the quadratic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from transfer.gauss_newton import Normal, Objective, assembled, clusters_of
from transfer.shooting import Estimate, Shooting
from transfer.unknowns import Unknown, physical

Array = npt.NDArray[np.float64]

TIMING = ("timing/command/delay", "timing/command/lag")
HALF_WIDTH = 3.0
"""A profile goes so many standard deviations to either side."""
POINTS = 9


@dataclass(frozen=True, slots=True)
class Profile:
    """Minus log-likelihood over values of one parameter, everything else at its best for each."""

    name: str
    values: Array
    """(n,) in the target's unit."""
    costs: Array
    """(n,) less the least of them; 1.92 is where a 95 % interval ends."""


@dataclass(frozen=True, slots=True)
class Equations:
    """The normal equations at the optimum, by cluster, of which draws are made."""

    columns: npt.NDArray[np.intp]
    """(C, K) which of the N each cluster touches: it lies in one episode."""
    hessians: Array
    """(C, K, K) without priors."""
    gradients: Array
    """(C, K) without priors."""
    pull: Array
    """(N,) the priors' share of the gradient."""
    precision: Array
    """(N,) of the priors."""
    x: Array
    """(P,) the estimate; the unknowns are the first P of N."""


@dataclass(frozen=True, slots=True)
class Draws:
    """What chance decides of n bootstrap draws."""

    times: npt.NDArray[np.int64]
    """(n, C) how often each cluster is drawn."""
    beliefs: Array
    """(n, N) how far the priors' middles are moved, in their standard deviations."""


Solver = Callable[[Equations, Draws], Array]
"""(n, P) estimates of the unknowns' coordinates."""


def bootstrap(
    objective: Objective, normal: Normal, at: Estimate, n: int, rng: np.random.Generator, solver: Solver | None = None
) -> Array:
    """(n, P) estimates of the unknowns' coordinates from draws of episodes with replacement.

    Of fewer than five episodes, pieces of about two seconds are drawn instead. The priors' middles are drawn from the
    priors with them, so that what the episodes do not tell spreads as widely as it is unknown.
    """
    clusters = clusters_of(objective.shots)
    count, size, touched = int(clusters.max()) + 1, len(objective.precision), normal.columns.shape[1]
    hessians, gradients = np.zeros((count, touched, touched)), np.zeros((count, touched))
    np.add.at(hessians, clusters, normal.pieces)
    np.add.at(gradients, clusters, normal.scores)
    columns = np.zeros((count, touched), np.intp)
    columns[clusters] = normal.columns
    pull = normal.gradient - assembled(hessians, gradients, columns, size)[1]
    times, beliefs = np.empty((n, count), np.int64), np.empty((n, size))
    for i in range(n):
        times[i] = np.bincount(rng.integers(count, size=count), minlength=count)
        beliefs[i] = rng.normal(size=size)
    equations = Equations(columns, hessians, gradients, pull, objective.precision, at.x)
    return (solver or solve)(equations, Draws(times, beliefs))


def solve(equations: Equations, draws: Draws) -> Array:
    """(n, P) one Gauss-Newton step of each draw; each depends on itself alone.

    The equations are those from which the fit took its last step to x: what a draw's step differs from that one by is
    what chance has done.
    """
    e, count = equations, len(equations.x)

    def step(times: Array, pull: Array) -> Array:
        weighed = times[:, None, None] * e.hessians, times[:, None] * e.gradients
        hessian, gradient = assembled(*weighed, e.columns, len(e.precision))
        return np.asarray(np.linalg.solve(hessian + np.diag(e.precision), gradient + pull), np.float64)[:count]

    whole, spread = step(np.ones(len(e.hessians)), e.pull), np.sqrt(e.precision)
    each = zip(draws.times.astype(np.float64), draws.beliefs, strict=True)
    steps = [step(times, e.pull - spread * belief) - whole for times, belief in each]
    return e.x - np.array(steps).reshape(-1, count)


def intervals(unknowns: Sequence[Unknown], draws: Array) -> dict[str, list[float]]:
    """Target -> 95 % interval of bootstrap draws (n, P)."""
    low, high = np.quantile(physical(unknowns, draws), [0.025, 0.975], axis=0)
    return {t: [float(low[i]), float(high[i])] for i, u in enumerate(unknowns) for t in u.targets}


def profile_delay(
    shooting: Shooting, objective: Objective, normal: Normal, at: Estimate, scale: Array, covariance: Array
) -> Profile | None:
    """The delay's profile about its estimate, or the lag's where only that is estimated; None without either."""
    unknowns = shooting.unknowns
    named = [u.name for u in unknowns]
    name = next((t for t in TIMING if t in named), None)
    if name is None:
        return None
    held = named.index(name)
    others = np.delete(np.arange(len(normal.gradient)), held)
    inner = np.linalg.inv(normal.hessian[np.ix_(others, others)])
    sd = float(np.sqrt(covariance[held, held]))
    moves = sd * np.linspace(-HALF_WIDTH, HALF_WIDTH, POINTS)
    points = []
    for move in moves:
        step = np.zeros(len(normal.gradient))
        step[held] = move
        step[others] = -inner @ (normal.hessian[others, held] * move)  # at the optimum the rest has no gradient
        points.append(at.moved(step, normal.following(step)))
    costs = np.array([objective.cost(shooting.errors(p), scale, p) for p in points])
    values = physical(unknowns, np.array([p.x for p in points]))[:, held]
    return Profile(name, values, costs - costs.min())

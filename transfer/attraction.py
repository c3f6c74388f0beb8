"""A hold's region of attraction under dry friction: an ellipsoid fitted to which starts came to rest.

Dry friction keeps a joint that stands far off the pose, and does nothing for one that moves: the level sets of a
linear-quadratic cost have the wrong shape. So starts about the pose are simulated, each in a robot drawn from the law.
Logistic regression on a positive definite form of their coordinates tells those that come to rest from the others, and
the region is the largest level set of the form within which a share HELD did.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

STARTS = 3000
"""Simulated starts, each in a robot of its own."""
HELD = 0.95
"""Share of the starts in the region that come to rest."""
FEWEST = 50
"""Starts that it takes to tell a share."""
ROUND = 0.1
"""Of the unit form, added to the fitted one: no direction in which the region is without end."""


def starts_about(within: Array, rng: np.random.Generator) -> Array:
    """(STARTS, 2 n) states off the pose, at all scales up to `within`, and many of them slow."""
    n = len(within) // 2
    off = rng.uniform(-1.0, 1.0, (STARTS, 2 * n)) * rng.random((STARTS, 1)) * within
    off[:, n:] *= np.square(rng.random((STARTS, 1)))
    return off


def ellipsoid(within: Array, comes_to_rest: Callable[[Array], Flags], rng: np.random.Generator) -> tuple[Array, float]:
    """The form (2 n, 2 n) and its level; a level of 0 where hardly any start came to rest."""
    starts = starts_about(within, rng)
    held = comes_to_rest(starts)
    form = _form(starts / within, held) / np.outer(within, within)
    size = np.einsum("ni,ij,nj->n", starts, form, starts)
    order = np.argsort(size)
    share = np.cumsum(held[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(share[FEWEST:] >= HELD) + FEWEST
    return form, float(size[order][good[-1]]) if len(good) else 0.0


def _form(starts: Array, held: Flags) -> Array:
    """M = L L' + ROUND 1 for which 1 / (1 + exp(k (x' M x - 1))) is most likely the chance that x comes to rest."""
    size = starts.shape[1]
    lower, sign = np.tril_indices(size), np.where(held, 1.0, -1.0)
    round_part = ROUND * np.square(starts).sum(axis=1)

    def loss(p: Array) -> tuple[float, Array]:
        root, steep = np.zeros((size, size)), np.exp(p[-1])
        root[lower] = p[:-1]
        turned = starts @ root
        beyond = np.square(turned).sum(axis=1) + round_part - 1.0
        wrong = 1.0 / (1.0 + np.exp(-np.clip(steep * beyond * sign, -500.0, 500.0))) * sign * steep
        slope = starts.T @ (2.0 * wrong[:, None] * turned) / len(starts)
        value = np.logaddexp(0.0, steep * beyond * sign).mean()
        return float(value), np.append(slope[lower], (wrong * beyond).mean())

    root = np.zeros((size, size))
    root[lower] = minimize(loss, np.append(2.0 * np.eye(size)[lower], 1.0), jac=True, method="BFGS").x[:-1]
    return np.asarray(root @ root.T + ROUND * np.eye(size))

"""What a finished fit says: parameters with intervals, the whole delay, and the law that training draws from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.model import unit_of
from sim.randomization import JointGaussian, Point, Randomization, Term
from transfer.series import Series
from transfer.settings import Told
from transfer.uncertainty import Profile
from transfer.unknowns import Unknown, physical

Array = npt.NDArray[np.float64]

IDENTIFIED = 0.5
"""A parameter whose posterior is narrower than this share of its prior was identified from the logs."""
DECISIVE = 2.0
"""Difference of log-likelihood from which one shift is told from another: odds of seven."""
SHIFT = "timing/command/shift"
LATE = ("timing/command/delay", "timing/command/lag")
ONE = 0.9
"""Correlation from which a delay and a lag are one number to the logs: then neither is identified, and `delay_ms`,
their sum, says what is known. Jitter, for one, looks like a lag, and takes as much off the delay."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """The end of a search."""

    unknowns: tuple[Unknown, ...]
    x: Array
    """(P,) coordinates of the estimate."""
    covariance: Array
    """(P, P) of the coordinates."""
    zeros: Array
    """(E, J) joint zeros [rad]."""
    series: Sequence[Series]
    shift: int
    shift_costs: dict[int, float]
    """Objective for each shift tried; empty where commands carry stamps of their own."""
    told: Told
    """What each episode's servos were set to."""
    bootstrap: Array
    """(n, P) coordinates from draws of episodes."""
    profile: Profile | None
    """Of the delay."""
    windows: int
    rms_rad: float
    converged: bool


def parameters(fit: Fit) -> dict[str, dict[str, Any]]:
    """target -> estimate, ci95, unit, identified, and the share of the prior's variance that the logs took away."""
    sd = np.sqrt(np.diag(fit.covariance))
    low, middle, high = physical(fit.unknowns, np.stack([fit.x - 1.96 * sd, fit.x, fit.x + 1.96 * sd]))
    out: dict[str, dict[str, Any]] = {}
    for i, unknown in enumerate(fit.unknowns):
        for target in unknown.targets:
            out[target] = {
                "estimate": float(middle[i]),
                "ci95": [float(low[i]), float(high[i])],
                "unit": unit_of(target),
                "identified": bool(sd[i] < IDENTIFIED * unknown.sd),
                "information": float(np.clip(1.0 - (sd[i] / unknown.sd) ** 2, 0.0, 1.0)),
            }
    named = [u.name for u in fit.unknowns]
    if all(name in named for name in LATE):
        i, j = (named.index(name) for name in LATE)
        if abs(fit.covariance[i, j]) > ONE * sd[i] * sd[j]:
            for name in LATE:
                out[name]["identified"] = False
    if fit.shift_costs:
        next_best = min(cost for shift, cost in fit.shift_costs.items() if shift != fit.shift)
        out[SHIFT] = {
            "estimate": float(fit.shift),
            "ci95": [float(fit.shift), float(fit.shift)],
            "unit": unit_of(SHIFT),
            "identified": bool(next_best - fit.shift_costs[fit.shift] > DECISIVE),
        }
    return out


def correlation(fit: Fit) -> dict[str, Any]:
    """names (P) and matrix (P, P) of the correlations between the coordinates."""
    sd = np.sqrt(np.diag(fit.covariance))
    matrix = fit.covariance / np.outer(sd, sd)
    return {"names": [u.name for u in fit.unknowns], "matrix": np.round(matrix, 3).tolist()}


def delay_ms(fit: Fit) -> dict[str, Any]:
    """From a command's stamp to its torque, shift, delay and lag together [ms]: mean, ci95, n.

    Their sum is known far better than its parts, so its interval is drawn from the joint law.
    """
    timing = [i for i, u in enumerate(fit.unknowns) if u.name in ("timing/command/delay", "timing/command/lag")]
    shifted_s = fit.shift * float(np.median([s.command.period for s in fit.series]))
    draws = np.random.default_rng(0).multivariate_normal(fit.x, fit.covariance, 2000, method="eigh")
    total = 1e3 * (shifted_s + physical(fit.unknowns, np.vstack([fit.x, draws]))[:, timing].sum(axis=1))
    low, high = np.quantile(total[1:], [0.025, 0.975])
    return {"mean": float(total[0]), "ci95": [float(low), float(high)], "n": fit.windows}


def randomization(fit: Fit, name: str, robot: str, joints: tuple[str, ...]) -> Randomization:
    """Joint law of the parameters; each joint's zero is drawn as widely as the recorded episodes' zeros spread."""
    owner = np.array([i for i, u in enumerate(fit.unknowns) for _ in u.targets], dtype=np.intp)
    law = JointGaussian(
        transform=tuple(fit.unknowns[i].transform for i in owner),
        bounds=tuple(fit.unknowns[i].bounds for i in owner),
        mean=tuple(map(float, fit.x[owner])),
        covariance=_rows(fit.covariance[np.ix_(owner, owner)]),
    )
    terms = [Term(targets=tuple(t for u in fit.unknowns for t in u.targets), law=law), *_zeros(fit, joints)]
    if (setting := fit.told.term()) is not None:
        terms.append(setting)
    if fit.shift_costs:
        terms.append(Term(targets=(SHIFT,), law=Point(values=(float(fit.shift),))))
    source = f"identified from {len(fit.series)} episodes: {', '.join(s.name for s in fit.series)}"
    return Randomization(name=name, terms=tuple(terms), source=source, robot=robot)


def _zeros(fit: Fit, joints: tuple[str, ...]) -> Iterator[Term]:
    """The law of the zeros of joints that have no unknown for it, as servos have."""
    named = {t for u in fit.unknowns for t in u.targets}
    own = [j for j, joint in enumerate(joints) if f"sensor/{joint}/offset" not in named]
    if own:
        law = JointGaussian(
            transform=tuple("none" for _ in own),
            bounds=tuple((-1.0, 1.0) for _ in own),
            mean=tuple(0.0 for _ in own),
            covariance=_rows(np.diag(np.mean(np.square(fit.zeros), axis=0)[own])),
        )
        yield Term(targets=tuple(f"sensor/{joints[j]}/offset" for j in own), law=law)


def _rows(matrix: Array) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in matrix)

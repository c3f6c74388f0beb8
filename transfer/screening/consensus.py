"""Rules that compare episodes by their dynamics: which contradict the others, and which are another robot's.

Poisoned episodes hide one another from tests that leave out one at a time. So the parameters to compare with are those
of the episode that most others agree with, refined on all that agree; what is asked of each episode is how much of its
motion these parameters fail to explain though its own do, and how far it would move them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from transfer.screening.config import ScreenConfig
from transfer.screening.dynamics import CORRELATED_S, LAGS_S, Regression, solve
from transfer.screening.signals import Array, Evidence, Noticed

ROUNDS = 10
NOISE = 0.005
"""Share of an episode's motion that no comparison is finer than."""
SIGMA = 1.4826
"""Median of absolute deviations to standard deviation."""


@dataclass(frozen=True, slots=True)
class Consensus:
    """What most episodes agree on."""

    lag: int
    """Number of the command's delay in LAGS_S."""
    parameters: Array
    """(J, P)"""
    apart: Array
    """(E,) share of each episode's motion that its own parameters explain and these do not."""
    agreeing: npt.NDArray[np.bool_]
    """(E,) which episodes they were estimated from."""
    moved: Array
    """(E,) change of the accelerations of the agreeing episodes, as a share of their root mean square, that an estimate
    with the episode (for an agreeing one: without it) would predict."""
    zeros: Array
    """(E, J) joint zeros under these parameters [rad]; nan where a joint tells nothing of its own."""
    shares: Array
    """(E,) each episode's share of all rows."""


def consensus_of(episodes: Sequence[Regression]) -> Consensus:
    """The parameters that most of at least three episodes agree on."""
    lag = _lag(episodes)
    total = np.array([e.total for e in episodes])
    own = np.array([[e.rest(lag, j, e.fit(lag, j)) for j in range(total.shape[1])] for e in episodes])

    def apart_from(parameters: Array) -> Array:
        rest = np.array([[e.rest(lag, j, parameters[j]) for j in range(total.shape[1])] for e in episodes])
        return np.asarray(np.maximum(rest - own, 0.0).sum(axis=1) / np.maximum(total.sum(axis=1), 1e-30))

    candidates = [np.array([e.fit(lag, j) for j in range(total.shape[1])]) for e in episodes]
    best = min(candidates, key=lambda p: float(np.median(apart_from(p))))
    apart = apart_from(best)
    agreeing = np.ones(len(episodes), dtype=bool)
    for _ in range(ROUNDS):
        agreeing = apart <= np.maximum(np.median(apart) + 3.0 * SIGMA * _mad(apart), NOISE)
        best = _fit(episodes, agreeing, lag)
        apart = apart_from(best)
    moved = np.array([_moved(episodes, agreeing, k, lag, best) for k in range(len(episodes))])
    rows = np.array([e.rows for e in episodes], dtype=np.float64)
    zeros = np.array(
        [[e.zero_of(lag, j, p) if e.total[j] > 0.0 else np.nan for j, p in enumerate(best)] for e in episodes]
    )
    return Consensus(lag, best, apart, agreeing, moved, zeros, rows / rows.sum())


def _mad(values: Array) -> float:
    return float(np.median(np.abs(values - np.median(values))))


def _lag(episodes: Sequence[Regression]) -> int:
    """The delay that most episodes' own fits prefer, judged by the median of what they leave."""
    rests = np.array(
        [
            [np.nansum(e.own_rest(lag) * e.total) / max(float(e.total.sum()), 1e-30) for lag in range(len(LAGS_S))]
            for e in episodes
        ]
    )
    return int(np.argmin(np.median(rests, axis=0)))


def _fit(episodes: Sequence[Regression], chosen: npt.NDArray[np.bool_], lag: int) -> Array:
    """(J, P) of several episodes together, each weighing as its motion does."""
    picked = [e for e, c in zip(episodes, chosen, strict=True) if c]
    weights = [1.0 / max(float(e.total.sum()), 1e-30) for e in picked]
    normal = sum(w * e.normal[lag] for w, e in zip(weights, picked, strict=True))
    right = sum(w * e.right[lag] for w, e in zip(weights, picked, strict=True))
    return np.array([solve(n, r) for n, r in zip(normal, right, strict=True)])


def _moved(
    episodes: Sequence[Regression], agreeing: npt.NDArray[np.bool_], k: int, lag: int, parameters: Array
) -> float:
    other = agreeing.copy()
    other[k] = not other[k]
    if not other.any():
        return 0.0
    change = _fit(episodes, other, lag) - parameters
    squares = totals = 0.0
    for e, c in zip(episodes, agreeing, strict=True):
        if c:
            squares += float(np.einsum("jp,jpq,jq->", change, e.normal[lag], change))
            totals += float(e.total.sum())
    return float(np.sqrt(max(squares, 0.0) / max(totals, 1e-30)))


def poisoned(names: Sequence[str], joints: Sequence[str], found: Consensus, config: ScreenConfig) -> dict[int, Noticed]:
    """Number of an episode -> `poisoned`: it contradicts the others, and would move the estimate beyond its share."""
    out: dict[int, Noticed] = {}
    usual_apart = float(np.median(found.apart[found.agreeing]))
    usual_moved = float(np.median(found.moved[found.agreeing])) if found.agreeing.any() else 0.0
    evidence = Evidence(
        "share of the motion that only its own parameters explain",
        {"episodes": (np.arange(len(names), dtype=np.float64), found.apart)},
        across="episode",
    )
    middle = np.nanmedian(found.zeros, axis=0)
    spread = SIGMA * np.nanmedian(np.abs(found.zeros - middle), axis=0)
    of_zeros = Evidence(
        "joint zero [rad]",
        {j: (np.arange(len(names), dtype=np.float64), found.zeros[:, i]) for i, j in enumerate(joints)},
        across="episode",
    )
    for k, name in enumerate(names):
        contradicts = found.apart[k] > max(config.poison_share, config.poison_factor * usual_apart)
        influential = found.moved[k] > config.poison_moves * max(usual_moved, 1e-12)
        off = np.nan_to_num(np.abs(found.zeros[k] - middle))
        if off.max() > max(config.poison_zero, 4.0 * spread[int(np.argmax(off))]):
            j = int(np.argmax(off))
            detail = (
                f"the zero of joint '{joints[j]}' is {found.zeros[k, j] - middle[j]:+.2f} rad from the others', "
                "or a constant torque acts as large."
            )
            out[k] = Noticed("poisoned", "joint.position", f"episode {name}", detail, of_zeros)
        elif contradicts and influential and not found.agreeing[k]:
            times = found.moved[k] / max(usual_moved, 1e-12)
            detail = (
                f"the parameters that {int(found.agreeing.sum())} other episodes agree on miss {found.apart[k]:.1%} of "
                f"the motion that its own explain (usually {usual_apart:.2%}); with it, {found.shares[k]:.0%} of the "
                f"rows, the estimate would move {times:.0f} times as far as with another."
            )
            out[k] = Noticed("poisoned", "", f"episode {name}", detail, evidence)
    return out


def implausible(
    found: Consensus, episodes: Sequence[Regression], joints: Sequence[str], config: ScreenConfig
) -> list[tuple[str, str]]:
    """(kind, sentence) about dynamics that this robot cannot have: `sign` and `unit` of torques, and `implausible`.

    Only what the agreeing episodes determine is judged, and only against the nominal robot's order of magnitude.
    """
    out = []
    picked = [e for e, c in zip(episodes, found.agreeing, strict=True) if c]
    error = standard_errors(picked, found.lag, found.parameters)
    for j, joint in enumerate(joints):
        drive, gravity = found.parameters[j, 0], found.parameters[j, 1]
        known = error[j, 0] > 0.0 and abs(drive) > config.energy_sigma * error[j, 0]
        if known and drive < 0.0:
            out.append(("sign", f"joint '{joint}': its torque works against the motion that it should cause "
                        f"({drive:.2f} of the nominal effect): torque or position is mirrored."))  # fmt: skip
        elif known and not 1.0 / config.energy_factor < drive < config.energy_factor:
            out.append(("unit", f"joint '{joint}': its torque does {drive:.3g} times the work that changes the model's "
                        "energy so; torque or model may be in another unit."))  # fmt: skip
        told = error[j, 1] > 0.0 and abs(gravity) > config.energy_sigma * error[j, 1]
        if told and known and drive > 0.0 and not 1.0 / config.plausible < gravity / drive < config.plausible:
            out.append(
                ("implausible", f"joint '{joint}': gravity pulls with {gravity / drive:.2g} times the nominal torque.")
            )
    return out


def standard_errors(episodes: Sequence[Regression], lag: int, parameters: Array) -> Array:
    """(J, P) of a joint fit; rows within CORRELATED_S count as one. 0 for terms that did not vary."""
    joints, terms = parameters.shape
    out = np.zeros((joints, terms))
    seconds = sum(e.seconds for e in episodes)
    for j in range(joints):
        normal = sum(e.normal[lag, j] for e in episodes)
        rest = sum(max(e.rest(lag, j, parameters[j]), 0.0) for e in episodes)
        count = max(seconds / CORRELATED_S, terms + 1.0)
        varied = np.diag(normal) > 1e-12
        inverse = np.linalg.pinv(normal[np.ix_(varied, varied)], hermitian=True)
        out[j, varied] = np.sqrt(np.maximum(np.diag(inverse), 0.0) * rest / count)
    return out


def unexplained(episode: Regression, config: ScreenConfig) -> str | None:
    """The sentence of `unexplained`: no parameters make the command explain the motion, so something else moved it."""
    rests = [np.nansum(episode.own_rest(lag) * episode.total) / max(float(episode.total.sum()), 1e-30)
             for lag in range(len(LAGS_S))]  # fmt: skip
    least = float(min(rests))
    if episode.total.sum() > 0.0 and least > config.unexplained:
        return (
            f"no parameters of the robot explain more than {1.0 - least:.0%} of its acceleration by what was "
            "commanded: something that was not recorded moved it, or the commands are another episode's."
        )
    return None


def outliers(names: Sequence[str], episodes: Sequence[Regression], config: ScreenConfig) -> dict[int, Noticed]:
    """Number of an episode -> `outlier`: the nominal model errs far more in it than in the others."""
    shares = np.array([e.nominal_rest() for e in episodes])
    if np.isfinite(shares).sum() < config.episodes:
        return {}
    out = {}
    evidence = Evidence(
        "error of the nominal model's accelerations, as a share",
        {"episodes": (np.arange(len(shares), dtype=np.float64), shares)},
        across="episode",
    )
    for k, name in enumerate(names):
        usual = float(np.nanmedian(np.delete(shares, k)))
        if shares[k] > max(config.outlier_factor * usual, config.outlier_share):
            detail = (
                f"the nominal model misses its accelerations by {shares[k]:.0%} of their size squared, those of the "
                f"other episodes by {usual:.0%} (median)."
            )
            out[k] = Noticed("outlier", "joint.position", f"episode {name}", detail, evidence)
    return out

"""A residual network of the actuators, fitted through multi-step errors, and kept only where it proves itself.

The network is the simulator's (sim/residual_network.py); its weights are targets, so they are fitted by the same
shooting as any parameter, and the posterior that holds them is drawn from by training like any other. What it is judged
by are recordings held out in turn: on every kind of recording their error must fall with an interval that excludes
zero. A gain on one kind paid for by another is how a residual makes things worse on the robot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.progress import Meter, Report, silent
from robot.log import EpisodeLog
from sim.model import Model
from sim.randomization import Point, Randomization, Term
from sim.targets.residual import QUANTITIES
from transfer.dataset import DataRefused
from transfer.gauss_newton import Objective, minimize
from transfer.prediction import difference, evaluate, metric_for, pooled
from transfer.protocol import every, protocol_for, windows
from transfer.series import series_of
from transfer.shooting import Estimate, Shooting
from transfer.unknowns import Unknown, physical, plain_unknown

Array = npt.NDArray[np.float64]

WEIGHT_SD = 0.5
"""Of the prior of a weight: a network that nothing asks for stays away."""
FOLDS = 4
ITERATIONS = 4
KINDS = ("trajectory", "excitation", "kind")
"""Entries of a recording's meta that tell what kind of recording it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """What held-out recordings say."""

    held_out: dict[str, dict[str, Any]]
    """Kind of recording -> position RMSE with the network less that without [rad]: mean, ci95, n."""
    kept: bool
    why: str


def kind_of(log: EpisodeLog) -> str:
    """What kind of recording an episode is, as its meta tells; else all are of one kind."""
    return next((log.meta[key] for key in KINDS if key in log.meta), "recordings")


def fit_residual(
    logs: Sequence[EpisodeLog],
    model: Callable[[], Model],
    law: Randomization,
    *,
    quick: bool = False,
    report: Report = silent,
) -> tuple[Randomization, dict[str, Any]]:
    """`law` with the network's weights where it is kept, else as it was; and what was judged.

    DataRefused with a single recording, of which nothing can be held out.
    """
    if len(logs) < 2:
        raise DataRefused(
            "residual=true is judged on recordings held out, and needs two at least; the data set has one."
        )
    folds, most = min(2 if quick else FOLDS, len(logs)), 30 if quick else 100
    meter = Meter("residual", folds + 1, "fits", report)
    parts: dict[str, list[tuple[Any, Any]]] = {}
    for fold in range(folds):
        held = [log for i, log in enumerate(logs) if i % folds == fold]
        with_it = with_weights(
            law, weights([log for i, log in enumerate(logs) if i % folds != fold], model(), law, most)
        )
        meter(fold + 1)
        for log in held:
            pair = evaluate([log], model(), with_it), evaluate([log], model(), law)
            parts.setdefault(kind_of(log), []).append(pair)
    judged = _judge(parts, metric_for(model().spec).horizons_s[1])
    found = with_weights(law, weights(logs, model(), law, most)) if judged.kept else law
    meter(folds + 1)
    return found, {"held_out": judged.held_out, "kept": judged.kept, "why": judged.why}


def _judge(parts: dict[str, list[tuple[Any, Any]]], horizon_s: float) -> Judged:
    rng = np.random.default_rng(0)
    gaps = {
        kind: difference(pooled([a for a, _ in pairs]), pooled([b for _, b in pairs]), horizon_s, rng)
        for kind, pairs in parts.items()
    }
    worse = [kind for kind, gap in gaps.items() if not gap["ci95"][1] < 0.0]
    if worse:
        gap = gaps[worse[0]]
        ends = f"[{gap['ci95'][0]:+.2g}, {gap['ci95'][1]:+.2g}]"
        why = f"not kept: on held-out '{worse[0]}' the error changes by {gap['mean']:+.2g} rad {ends}, no proven gain."
        return Judged(held_out=gaps, kept=False, why=why)
    return Judged(held_out=gaps, kept=True, why="kept: the error falls on every kind of held-out recording.")


def weights(logs: Sequence[EpisodeLog], model: Model, law: Randomization, most: int) -> dict[str, float]:
    """Target -> value of every weight, with the parameters held at the middle of `law`."""
    spec, protocol = model.spec, protocol_for(model.spec)
    series = [series_of(log, spec, metric_for(spec).fit) for log in logs]
    shots = windows(series, protocol, most)
    unknowns = unknowns_of(model)
    fixed = {name: float(v[0]) for name, v in law.center(model).items()}
    shift = round(fixed.get("timing/command/shift", 0.0))
    at, scale = Estimate.prior(unknowns, shots), None
    for some, step_s, iterations in ((every(shots, 3), protocol.coarse_s, ITERATIONS), (shots, protocol.fine_s, 2)):
        shooting = Shooting(model, some, unknowns, step_s, shift, fixed=fixed)
        objective = Objective(some, unknowns, protocol.zero_sd_rad, protocol.start_sd)
        begin = replace(Estimate.prior(unknowns, some), x=at.x, zeros=at.zeros)
        fit = minimize(shooting, objective, begin, iterations, scale=scale)
        at, scale = fit.at, fit.scale
    values = physical(unknowns, at.x[None])[0]
    return {u.name: float(v) for u, v in zip(unknowns, values, strict=True)}


def unknowns_of(model: Model) -> tuple[Unknown, ...]:
    """The weights of every actuator's network."""
    joint = {a.name: a.joint for a in model.spec.actuators}
    names = [(o, q) for q in QUANTITIES for o in model.objects(("residual", q))]
    return tuple(plain_unknown(f"residual/{o}/{q}", 0.0, WEIGHT_SD, joint[o]) for o, q in names)


def with_weights(law: Randomization, found: dict[str, float]) -> Randomization:
    """`law` with a term for the weights, in the place of one that it may have had."""
    terms = tuple(t for t in law.terms if not t.targets[0].startswith("residual/"))
    return replace(law, terms=(*terms, Term(targets=tuple(found), law=Point(values=tuple(found.values())))))

"""Identification: the simulator's parameters from recorded episodes, as a posterior that training can draw from.

Windows of half a second are rolled out open loop under the logged commands and compared with the logged
positions (multi-step shooting). Each episode's joint zeros are estimated beside the parameters, because they
were set by hand and would otherwise be taken for bias or stiffness. How a command comes late is found in three
parts: by how many rows (profiled), by a pure delay (only where commands carry stamps of their own), and
through a first-order lag.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.progress import Meter, Report, silent
from robot.log import EpisodeLog
from sim.model import Model, unit_of
from sim.randomization import JointGaussian, Point, Randomization, Term
from transfer.dataset import DataRefused
from transfer.gauss_newton import Fitted, Objective, covariance, minimize
from transfer.prediction import metric_for
from transfer.series import Series, series_of
from transfer.shooting import Estimate, Shooting
from transfer.shots import Shots, cut
from transfer.unknowns import Unknown, default_unknowns, physical

Array = npt.NDArray[np.float64]

WINDOW_S = 0.5
ROW_PERIOD_S = 0.01
"""About one row in this time is compared: denser ones tell nothing new."""
FIRST_S = 0.25
COARSE_S, FINE_S = 0.004, 0.002
"""Physics steps of the search and of its end; scoring uses 1 ms."""
COARSE_SHARE = 3
"""The search looks at every third window."""
SHIFTS = (0, 1, 2)
"""Rows by which a command may come late."""
DECISIVE = 2.0
"""Difference of log-likelihood from which one shift is told from another: odds of seven."""
IDENTIFIED = 0.5
"""A parameter whose posterior is narrower than this share of its prior was identified from the logs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """How much is computed; less for tests."""

    windows: int = 150
    """At most about this many windows; longer recordings are cut more sparsely."""
    search: int = 8
    """Iterations at the coarse step ..."""
    finish: int = 3
    """... and at the fine one."""


QUICK = Effort(windows=45, search=6, finish=2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Identification:
    """What the logs tell about the robot."""

    posterior: Randomization
    """Jointly Gaussian in coordinates in which no draw is unphysical; its middle is the estimate."""
    parameters: dict[str, dict[str, Any]]
    """target -> estimate, ci95, unit, identified."""
    delay_ms: dict[str, Any]
    """From a command's stamp to its torque: shift, delay and lag together; mean, ci95, n."""
    zeros: dict[str, dict[str, float]]
    """episode -> joint -> zero [rad], reading minus truth."""
    shift_costs: dict[int, float]
    """Objective by the shift that was tried; empty where commands carry stamps of their own."""
    windows: int
    rms_rad: float
    """Of the fitted windows, with their episodes' zeros."""
    converged: bool


def identify(
    logs: Sequence[EpisodeLog],
    model: Model,
    unknowns: Sequence[Unknown] | None = None,
    *,
    effort: Effort | None = None,
    name: str = "posterior",
    nthread: int = 0,
    report: Report = silent,
) -> Identification:
    """Fit `unknowns` (default: all of unknowns.default_unknowns) to the episodes; deterministic.

    DataRefused when the episodes give no window.
    """
    effort = effort or Effort()
    spec = model.spec
    series = [series_of(log, spec, metric_for(spec).fit) for log in logs]
    by_row = all(s.by_row for s in series)
    unknowns = tuple(unknowns) if unknowns is not None else default_unknowns(model, by_row)
    shots = _windows(series, effort.windows)
    sparse = _every(shots, COARSE_SHARE) if len(shots) >= 20 * COARSE_SHARE else shots
    tries = 3 * (len(SHIFTS) if by_row else 0)
    meter = Meter("identify", effort.search + tries + effort.finish + 1, "iterations", report)
    counter = _Counter(meter)

    coarse = Shooting(model, sparse, unknowns, COARSE_S, nthread=nthread)
    prior = Estimate.prior(unknowns, sparse)
    found = minimize(coarse, Objective(sparse, unknowns), prior, effort.search, report=counter)
    shift, costs = 0, dict[int, float]()
    if by_row:
        counter.at(effort.search)
        shift, costs, found = _profile_shift(coarse, unknowns, series, found, counter)
    counter.at(effort.search + tries)
    fine = Shooting(model, shots, unknowns, FINE_S, shift, nthread)
    objective = Objective(shots, unknowns)
    start = replace(Estimate.prior(unknowns, shots), x=found.at.x, zeros=found.at.zeros)
    found = minimize(fine, objective, start, effort.finish, scale=found.scale, report=counter)
    spread = covariance(objective, found.at, found.slopes, found.scale)
    error = fine.errors(found.at)
    meter(meter.total, rms_rad=float(np.sqrt(np.mean(error**2))))
    return _identification(name, model, series, unknowns, found, spread, shift, costs, shots, error)


class _Counter:
    """Counts iterations for the progress report."""

    def __init__(self, meter: Meter) -> None:
        self.meter, self.done = meter, 0

    def __call__(self, rms_rad: float) -> None:
        self.done += 1
        self.meter(min(self.done, self.meter.total - 1), rms_rad=rms_rad)

    def at(self, done: int) -> None:
        self.done = done


def _windows(series: Sequence[Series], most: int) -> Shots:
    seconds = sum(float(s.t[-1]) for s in series)
    shots = cut(series, FIRST_S, max(WINDOW_S, seconds / most), WINDOW_S, ROW_PERIOD_S)
    if not len(shots):
        needed = FIRST_S + WINDOW_S
        raise DataRefused(f"no episode gives a window: one needs {needed:g} s of log; record longer episodes.")
    return shots


def _every(shots: Shots, share: int) -> Shots:
    """Every `share`-th window, of all episodes."""
    chosen = np.arange(0, len(shots), share)
    number = np.full(len(shots), -1, dtype=np.intp)
    number[chosen] = np.arange(len(chosen))
    rows = number[shots.window] >= 0
    return Shots(
        shots.series,
        shots.episode[chosen],
        shots.start[chosen],
        shots.position[chosen],
        shots.velocity[chosen],
        number[shots.window[rows]],
        shots.since[rows],
        shots.row_position[rows],
        shots.row_velocity[rows],
        shots.seconds,
    )


def _profile_shift(
    coarse: Shooting, unknowns: Sequence[Unknown], series: Sequence[Series], found: Fitted, counter: _Counter
) -> tuple[int, dict[int, float], Fitted]:
    """The number of rows by which commands come late, with everything else refitted for each."""
    objective = Objective(coarse.shots, unknowns)
    period = float(np.median([s.command.period for s in series]))
    tried: dict[int, Fitted] = {}
    for shift in SHIFTS:
        start = replace(found.at, x=_less_lag(unknowns, found.at.x, shift * period))
        coarse.shift = shift
        tried[shift] = minimize(coarse, objective, start, 3, scale=found.scale, report=counter)
    costs = {shift: fit.cost for shift, fit in tried.items()}
    told = {s.late_rows for s in series} - {None}
    known = told.pop() if len(told) == 1 else None
    # logs of one rate cannot tell a late row from a lag: then what is documented of the recording loop decides
    best = min(costs, key=lambda s: costs[s] + (DECISIVE * (s != known) if known is not None else 0.0))
    coarse.shift = best
    return best, costs, tried[best]


def _less_lag(unknowns: Sequence[Unknown], x: Array, seconds: float) -> Array:
    """The coordinates with the lag shortened by `seconds`, so that the delay in all stays what it was."""
    out = x.copy()
    for i, u in enumerate(unknowns):
        if u.name == "timing/command/lag" and seconds > 0.0:
            low, high = u.bounds
            lag = np.clip(physical(unknowns, x[None])[0, i] - seconds, low + 0.03 * (high - low), None)
            out[i] = np.log((lag - low) / (high - lag))
    return out


def _identification(
    name: str,
    model: Model,
    series: Sequence[Series],
    unknowns: Sequence[Unknown],
    found: Fitted,
    spread: Array,
    shift: int,
    costs: dict[int, float],
    shots: Shots,
    error: Array,
) -> Identification:
    sd = np.sqrt(np.diag(spread))
    x = found.at.x
    low, middle, high = physical(unknowns, np.stack([x - 1.96 * sd, x, x + 1.96 * sd]))
    parameters: dict[str, dict[str, Any]] = {}
    for i, u in enumerate(unknowns):
        for target in u.targets:
            parameters[target] = {
                "estimate": float(middle[i]),
                "ci95": [float(low[i]), float(high[i])],
                "unit": unit_of(target),
                "identified": bool(sd[i] < IDENTIFIED * u.sd),
            }
    joints = model.spec.joint_names
    zeros = {s.name: dict(zip(joints, map(float, z), strict=True)) for s, z in zip(series, found.at.zeros, strict=True)}
    period = float(np.median([s.command.period for s in series]))
    if costs:
        others = min(c for s, c in costs.items() if s != shift) - costs[shift]
        parameters["timing/command/shift"] = {
            "estimate": float(shift),
            "ci95": [float(shift), float(shift)],
            "unit": unit_of("timing/command/shift"),
            "identified": bool(others > DECISIVE),
        }
    return Identification(
        posterior=_posterior(name, model, series, unknowns, found, spread, shift, bool(costs)),
        parameters=parameters,
        delay_ms=_delay(unknowns, x, spread, shift * period, len(shots)),
        zeros=zeros,
        shift_costs=costs,
        windows=len(shots),
        rms_rad=float(np.sqrt(np.mean(error**2))),
        converged=found.converged,
    )


def _posterior(
    name: str,
    model: Model,
    series: Sequence[Series],
    unknowns: Sequence[Unknown],
    found: Fitted,
    spread: Array,
    shift: int,
    by_row: bool,
) -> Randomization:
    """Joint law of the parameters; each joint's zero is drawn as widely as the recorded episodes' zeros spread."""
    targets = tuple(t for u in unknowns for t in u.targets)
    owner = np.array([i for i, u in enumerate(unknowns) for _ in u.targets])
    law = JointGaussian(
        transform=tuple(unknowns[i].transform for i in owner),
        bounds=tuple(unknowns[i].bounds for i in owner),
        mean=tuple(map(float, found.at.x[owner])),
        covariance=tuple(tuple(map(float, row)) for row in spread[np.ix_(owner, owner)]),
    )
    joints = model.spec.joint_names
    width = np.sqrt(np.mean(np.square(found.at.zeros), axis=0))
    zeros = JointGaussian(
        transform=tuple("none" for _ in joints),
        bounds=((-1.0, 1.0),) * len(joints),
        mean=(0.0,) * len(joints),
        covariance=tuple(tuple(map(float, row)) for row in np.diag(width**2)),
    )
    terms = [Term(targets=targets, law=law), Term(targets=tuple(f"sensor/{j}/offset" for j in joints), law=zeros)]
    if by_row:
        terms.append(Term(targets=("timing/command/shift",), law=Point(values=(float(shift),))))
    source = f"identified from {len(series)} episodes: {', '.join(s.name for s in series)}"
    return Randomization(name=name, terms=tuple(terms), source=source, robot=model.spec.name)


def _delay(unknowns: Sequence[Unknown], x: Array, spread: Array, shifted_s: float, windows: int) -> dict[str, Any]:
    """Mean and interval of the whole delay [ms], by the posterior's draws with a generator of its own."""
    timing = [i for i, u in enumerate(unknowns) if u.name in ("timing/command/delay", "timing/command/lag")]
    draws = np.random.default_rng(0).multivariate_normal(x, spread, 2000, method="eigh")
    total = 1e3 * (shifted_s + physical(unknowns, np.vstack([x, draws]))[:, timing].sum(axis=1))
    low, high = np.quantile(total[1:], [0.025, 0.975])
    return {"mean": float(total[0]), "ci95": [float(low), float(high)], "n": windows}

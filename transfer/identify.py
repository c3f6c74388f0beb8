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
from sim.model import Model
from sim.randomization import Randomization
from transfer import posterior
from transfer.dataset import DataRefused
from transfer.gauss_newton import Fitted, Objective, covariance, minimize
from transfer.posterior import DECISIVE
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
    sparse = _every(shots, COARSE_SHARE) if len(shots) >= 10 * COARSE_SHARE else shots
    tries = 3 * (len(SHIFTS) if by_row else 0)
    meter = Meter("identify", effort.search + tries + effort.finish + 1, "iterations", report)
    counter = _Counter(meter)

    coarse = Shooting(model, sparse, unknowns, COARSE_S, nthread=nthread)
    prior = Estimate.prior(unknowns, sparse)
    found = minimize(coarse, Objective(sparse, unknowns), prior, effort.search, report=counter)
    shift, costs = 0, dict[int, float]()
    if by_row:
        counter.done = effort.search
        shift, costs, found = _profile_shift(coarse, series, found, counter)
    counter.done = effort.search + tries
    fine = Shooting(model, shots, unknowns, FINE_S, shift, nthread)
    objective = Objective(shots, unknowns)
    start = replace(Estimate.prior(unknowns, shots), x=found.at.x, zeros=found.at.zeros)
    found = minimize(fine, objective, start, effort.finish, scale=found.scale, report=counter)
    rms = float(np.sqrt(np.mean(fine.errors(found.at) ** 2)))
    meter(meter.total, rms_rad=rms)
    fit = posterior.Fit(
        unknowns=unknowns,
        x=found.at.x,
        covariance=covariance(objective, found.at, found.slopes, found.scale),
        zeros=found.at.zeros,
        series=series,
        shift=shift,
        shift_costs=costs,
        windows=len(shots),
    )
    joints = spec.joint_names
    return Identification(
        posterior=posterior.randomization(fit, name, spec.name, joints),
        parameters=posterior.parameters(fit),
        delay_ms=posterior.delay_ms(fit),
        zeros={s.name: dict(zip(joints, map(float, z), strict=True)) for s, z in zip(series, fit.zeros, strict=True)},
        shift_costs=costs,
        windows=len(shots),
        rms_rad=rms,
        converged=found.converged,
    )


class _Counter:
    """Counts iterations for the progress report."""

    def __init__(self, meter: Meter) -> None:
        self.meter, self.done = meter, 0

    def __call__(self, rms_rad: float) -> None:
        self.done += 1
        self.meter(min(self.done, self.meter.total - 1), rms_rad=rms_rad)


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
    coarse: Shooting, series: Sequence[Series], found: Fitted, counter: _Counter
) -> tuple[int, dict[int, float], Fitted]:
    """The number of rows by which commands come late, with everything else refitted for each."""
    unknowns = coarse.unknowns
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

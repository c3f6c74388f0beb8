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
from typing import Any, Protocol

import mujoco
import numpy as np
import numpy.typing as npt

from policies.progress import Meter, Report, silent
from robot.config import ConfigError
from robot.log import EpisodeLog
from robot.spec import RobotSpec
from sim.model import Model
from sim.randomization import Randomization
from transfer import posterior
from transfer.derived import derived
from transfer.gauss_newton import Fitted, Objective, covariance, minimize
from transfer.posterior import DECISIVE
from transfer.prediction import metric_for
from transfer.protocol import every, protocol_for, windows
from transfer.series import Series, series_of
from transfer.settings import Told, ask, candidates
from transfer.shooting import Estimate, Shooting
from transfer.shots import Shots
from transfer.uncertainty import Draws, Equations, Profile, bootstrap, intervals, profile_delay
from transfer.unknowns import Unknown, default_unknowns, physical

Array = npt.NDArray[np.float64]

SHIFTS = (0, 1, 2)
"""Rows by which a command may come late."""
TRIED, SPREAD = 4, 0.7
"""Iterations from each start, and how far from the prior's middle the others are, in its standard deviations."""
ASKED = 3
"""Times that the episodes are asked for their settings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """How much is computed; less for tests."""

    windows: int = 150
    """At most about this many windows; longer recordings are cut more sparsely."""
    search: int = 8
    """Iterations at the coarse step ..."""
    finish: int = 3
    """... and at the fine one."""
    starts: int = 1
    """Points from which the search begins; later ones are drawn from the prior, and followed a little way."""
    bootstrap: int = 0
    """Draws of episodes, for intervals beside Laplace's."""
    profile: bool = False
    """Whether the likelihood is profiled over the delay."""


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
    correlation: dict[str, Any]
    """names, and matrix between their coordinates."""
    bootstrap: dict[str, list[float]]
    """target -> 95 % interval from draws of episodes; empty where none were made."""
    profile: Profile | None
    """Of the delay, where it was asked for."""
    settings: dict[str, dict[str, float]]
    """episode -> target -> value of what was set up anew before it; empty where nothing was, or it did not tell."""
    windows: int
    rms_rad: float
    """Of the fitted windows, with their episodes' zeros."""
    converged: bool


class Elsewhere(Protocol):
    """What other processes do of an identification, with the results of this one."""

    def follow(self, search: Search, starts: Array, scale: Array) -> list[tuple[float, Estimate]]:
        """Cost and end of Search.follow() from each of the starts (n, P)."""
        ...

    def solve(self, equations: Equations, draws: Draws) -> Array:
        """As uncertainty.solve()."""
        ...


def identify(
    logs: Sequence[EpisodeLog],
    model: Model,
    unknowns: Sequence[Unknown] | None = None,
    *,
    effort: Effort | None = None,
    name: str = "posterior",
    nthread: int = 0,
    report: Report = silent,
    elsewhere: Elsewhere | None = None,
) -> Identification:
    """Fit `unknowns` (default: all of unknowns.default_unknowns) to the episodes; deterministic.

    `elsewhere` follows the starts and solves the bootstrap's draws. DataRefused when the episodes give no window.
    """
    search = Search(logs, model, unknowns, effort or Effort(), nthread, report)
    fit, series, spec = search.run(elsewhere), search.series, model.spec
    joints = spec.joint_names
    return Identification(
        posterior=posterior.randomization(fit, name, spec.name, joints),
        parameters=posterior.parameters(fit) | derived(fit, model),
        delay_ms=posterior.delay_ms(fit),
        zeros={s.name: dict(zip(joints, map(float, z), strict=True)) for s, z in zip(series, fit.zeros, strict=True)},
        shift_costs=fit.shift_costs,
        correlation=posterior.correlation(fit),
        bootstrap=intervals(fit.unknowns, fit.bootstrap) if len(fit.bootstrap) else {},
        profile=fit.profile,
        settings={s.name: dict(v) for s, v in zip(series, fit.told.settings(), strict=True)},
        windows=fit.windows,
        rms_rad=fit.rms_rad,
        converged=fit.converged,
    )


def stamped_by_row(logs: Sequence[EpisodeLog], spec: RobotSpec) -> bool:
    """Whether commands have no stamps of their own, and their delay is a number of rows: not of servos, whose answer is
    slower than a row."""
    servos = any(a.kind == "position_pd" for a in spec.actuators)
    return not servos and all(log.meta.get("stamps") == "row" for log in logs)


def _refuse_floating(model: Model) -> None:
    """ConfigError for a robot whose base moves freely: where it was is in no channel of joints."""
    mj, driven = model.mj, {model.mj.jnt_bodyid[model.mj.joint(j).id] for j in model.spec.joint_names}
    for joint in np.flatnonzero(mj.jnt_type == int(mujoco.mjtJoint.mjJNT_FREE)):
        base = mj.jnt_bodyid[joint]
        if any(mj.body_rootid[body] == base for body in driven):
            raise ConfigError(
                f"robot '{model.spec.name}' has a floating base, '{mj.body(base).name}', which no channel records, so "
                "open-loop windows cannot start anywhere. Fix the base to a stand, record, and give a model of that."
            )


class Search:
    """One search: coarse over a share of the windows, then what is discrete, then fine over all of them."""

    def __init__(
        self,
        logs: Sequence[EpisodeLog],
        model: Model,
        unknowns: Sequence[Unknown] | None,
        effort: Effort,
        nthread: int = 0,
        report: Report = silent,
    ) -> None:
        """As identify(), which runs it."""
        spec = model.spec
        self.logs, self.model, self.effort = logs, model, effort
        self.series = [series_of(log, spec, metric_for(spec).fit) for log in logs]
        _refuse_floating(model)
        self.by_row = stamped_by_row(logs, spec)
        self.unknowns = tuple(unknowns) if unknowns is not None else default_unknowns(model, self.by_row)
        self.protocol, self.nthread = protocol_for(model.spec), nthread
        self.shots = windows(self.series, self.protocol, effort.windows)
        share = self.protocol.coarse_share
        self.sparse = every(self.shots, share) if len(self.shots) >= 10 * share else self.shots
        self.choices = candidates(model)
        self.tries = 3 * (len(SHIFTS) if self.by_row else 0) + ASKED * effort.search * (len(self.choices) > 1)
        total = effort.search + TRIED * (effort.starts - 1) + self.tries + effort.finish + 1
        self.counter = _Counter(Meter("identify", total, "iterations", report))
        self.coarse = Shooting(self.model, self.sparse, self.unknowns, self.protocol.coarse_s, nthread=self.nthread)

    def run(self, elsewhere: Elsewhere | None = None) -> posterior.Fit:
        effort, counter, protocol, coarse = self.effort, self.counter, self.protocol, self.coarse
        objective = self._objective(self.sparse)
        begin = self._begin(elsewhere)
        found = minimize(coarse, objective, begin, effort.search, report=counter)
        counter.done = effort.search + TRIED * (effort.starts - 1)
        told, found = self._ask(coarse, objective, found)
        shift, costs = 0, dict[int, float]()
        if self.by_row:
            shift, costs, found = _profile_shift(coarse, self.series, found, objective, counter)
        counter.done = self.counter.meter.total - effort.finish - 1
        fine = Shooting(
            self.model, self.shots, self.unknowns, protocol.fine_s, shift, self.nthread, settings=told.settings()
        )
        objective = self._objective(self.shots)
        start = replace(Estimate.prior(self.unknowns, self.shots), x=found.at.x, zeros=found.at.zeros)
        found = minimize(fine, objective, start, effort.finish, scale=found.scale, report=counter)
        rms = float(np.sqrt(np.mean(fine.errors(found.at) ** 2)))
        counter.meter(counter.meter.total, rms_rad=rms)
        normal = objective.normal(found.at, found.slopes, found.scale)
        spread = covariance(objective, normal)
        solver = elsewhere.solve if elsewhere is not None and effort.bootstrap else None
        drawn = bootstrap(objective, normal, found.at, effort.bootstrap, np.random.default_rng(0), solver)
        profiled = profile_delay(fine, objective, normal, found.at, found.scale, spread) if effort.profile else None
        return posterior.Fit(
            unknowns=self.unknowns,
            x=found.at.x,
            covariance=spread,
            zeros=found.at.zeros,
            series=self.series,
            shift=shift,
            shift_costs=costs,
            told=told,
            bootstrap=drawn,
            profile=profiled,
            windows=len(self.shots),
            rms_rad=rms,
            converged=found.converged,
        )

    def _begin(self, elsewhere: Elsewhere | None) -> Estimate:
        """Where the search begins: the prior's middle, or a draw from which a few iterations lead further."""
        middle = Estimate.prior(self.unknowns, self.sparse)
        if self.effort.starts < 2:
            return middle
        rng, sd = np.random.default_rng(0), np.array([u.sd for u in self.unknowns])
        starts = [middle.x]
        starts += [middle.x + SPREAD * sd * rng.normal(size=len(sd)) for _ in range(1, self.effort.starts)]
        scale = self._objective(self.sparse).scale(self.coarse.errors(middle))
        if elsewhere is not None:
            tried = elsewhere.follow(self, np.array(starts), scale)
        else:
            tried = [self.follow(start, scale) for start in starts]
        return min(tried, key=lambda end: end[0])[1]

    def follow(self, start: Array, scale: Array) -> tuple[float, Estimate]:
        """Cost and end of a few coarse iterations from the coordinates `start` (P,); errors are in units of `scale`."""
        begin = replace(Estimate.prior(self.unknowns, self.sparse), x=start)
        found = minimize(self.coarse, self._objective(self.sparse), begin, TRIED, scale=scale, report=self.counter)
        return found.cost, found.at

    def _objective(self, shots: Shots) -> Objective:
        return Objective(shots, self.unknowns, self.protocol.zero_sd_rad, self.protocol.start_sd)

    def _ask(self, coarse: Shooting, objective: Objective, found: Fitted) -> tuple[Told, Fitted]:
        """What each episode's servos were set to, with everything else refitted until that no longer changes."""
        told = ask(coarse, objective, found.at, found.scale, self.choices)
        for _ in range(ASKED if len(self.choices) > 1 else 0):
            if list(coarse.settings) == told.settings():
                break
            coarse.settings = told.settings()
            found = minimize(coarse, objective, found.at, self.effort.search, report=self.counter)
            told = ask(coarse, objective, found.at, found.scale, self.choices)
        return told, found


class _Counter:
    """Counts iterations for the progress report."""

    def __init__(self, meter: Meter) -> None:
        self.meter, self.done = meter, 0

    def __call__(self, rms_rad: float) -> None:
        self.done += 1
        self.meter(min(self.done, self.meter.total - 1), rms_rad=rms_rad)


def _profile_shift(
    coarse: Shooting, series: Sequence[Series], found: Fitted, objective: Objective, counter: _Counter
) -> tuple[int, dict[int, float], Fitted]:
    """The number of rows by which commands come late, with everything else refitted for each."""
    unknowns = coarse.unknowns
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

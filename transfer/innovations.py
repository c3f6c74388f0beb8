"""Innovations: by how much a recording departs from what an identified simulator foretells, moment by moment.

Every GRID_S the simulator starts at the recorded state and gets the recorded commands for AHEAD_S; how far it is then
off, early, midway and late, stands in a row beside state and command. What differs between this recording and the
simulator (its joint zeros above all) shows in these rows nearly linearly, and by how much each parameter would show is
known from the simulator itself. So an encoder of innovations needs no new motion to be simulated: its training windows
are recorded ones, with the effect of parameters drawn from the posterior added, and noise as recordings have it.

A row is complete AHEAD_S after the moment that it describes, and its time is that of its completion.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import mujoco
import numpy as np
import numpy.typing as npt

from policies.encoders.physics import EncoderCard, EncoderConfig
from policies.encoders.windows import WindowData, cut, join
from robot.log import EpisodeLog
from robot.spec import RobotSpec
from sim.model import Model, unit_of
from sim.plant import Plant
from sim.randomization import Randomization
from transfer import shots as recorded
from transfer.dataset import DataRefused
from transfer.prediction import metric_for
from transfer.series import series_of
from transfer.shots import Shots

Array = npt.NDArray[np.float64]

GRID_S = 0.05
AHEAD_S = 0.2
PARTS = (0.0, 0.07, 0.14, AHEAD_S)
"""Edges [s] of the stretches over which the departure is averaged."""
FIRST_S = 0.02
ROW_PERIOD_S = 0.01
TIMESTEP_S, COARSE_S = 0.002, 0.004
"""Physics steps for departures, and for how they change."""
STEP = 0.3
"""Deviations by which a parameter is moved to see its effect."""
DRAWS = 4000
"""From which the law's covariance is taken."""
ROUNDS = 3
"""Alternations between what a recording's own parameters are and how noisy recordings are."""
WANDER = 20
"""Rows by which noise is moved along its recording, so that none can be learned by heart."""


def components(spec: RobotSpec) -> tuple[str, ...]:
    """Names of a row's columns: angles, rates, and the departures [rad] of each stretch."""
    state = [f"{kind}/{j}" for kind in ("cos", "sin", "velocity") for j in spec.joint_names]
    return (*state, *(f"innovation/{j}/{part}" for part in range(len(PARTS) - 1) for j in spec.joint_names))


@dataclass(frozen=True, slots=True)
class Innovations:
    """Rows of one recording."""

    name: str
    t: Array
    """(n,) [s] since the first position, when each row is complete."""
    state: Array
    """(n, 3 J) the first columns of components(): cos, sin, rate [rad/s] at the row's moment."""
    departure: Array
    """(n, R) [rad] the others: simulated less recorded."""
    command: Array
    """(n, A) mean command of each actuator over the stretch, as a share of its limit."""

    @property
    def observation(self) -> npt.NDArray[np.float32]:
        """(n, D) the columns of components()."""
        return np.concatenate([self.state, self.departure], axis=1).astype(np.float32)


class Foreteller:
    """An identified simulator that foretells recordings, at its estimate or beside it."""

    def __init__(self, model: Model, law: Randomization, nthread: int = 0) -> None:
        law.check(model)
        self.model, self.law, self.nthread = model, law, nthread
        self.center = {name: float(v[0]) for name, v in law.center(model).items()}
        self._plant: Plant | None = None

    def shots(self, log: EpisodeLog) -> Shots:
        """A start every GRID_S, each followed for AHEAD_S."""
        series = series_of(log, self.model.spec, metric_for(self.model.spec).fit)
        return recorded.cut([series], FIRST_S, GRID_S, AHEAD_S, ROW_PERIOD_S)

    def rows(self, log: EpisodeLog) -> Innovations:
        """What the estimate does not foretell of a recording."""
        shots, spec = self.shots(log), self.model.spec
        still = np.zeros(len(shots))
        departure = self.departure(shots, {n: still + v for n, v in self.center.items()})
        acting = shots.torque(AHEAD_S, round(self.center.get("timing/command/shift", 0.0)), 0.0, 0.0)[:, 0]
        limits = spec.effort_limits[spec.driven]
        state = np.concatenate([np.cos(shots.position), np.sin(shots.position), shots.velocity], axis=1)
        return Innovations(log.name, shots.start + AHEAD_S, state, departure, acting[:, spec.driven] / limits)

    def departure(self, shots: Shots, values: Mapping[str, Array], timestep_s: float = TIMESTEP_S) -> Array:
        """(W, R) simulated less recorded positions [rad], with parameters (W,) of each window's own.

        The way of the commands is as it was identified: it belongs to the recording loop.
        """
        plant, joints = self._plant_of(len(shots), timestep_s), self.model.spec.joint_names
        plant.set({**values, **{n: np.full(len(shots), v) for n, v in self.center.items() if n.startswith("timing/")}})
        still = np.zeros(len(shots))
        zeros = np.stack([values.get(f"sensor/{j}/offset", still) for j in joints], axis=1)
        torque = shots.torque(timestep_s, round(plant.shift[0]), float(plant.delay[0]), float(plant.lag[0]))
        position, velocity = recorded.simulate(plant, shots.position - zeros, shots.velocity, torque)
        read, _ = shots.at_rows(position + zeros[:, None], velocity, timestep_s)
        off, out = read - shots.row_position, []
        for low, high in itertools.pairwise(PARTS):
            inside = (shots.since > low) & (shots.since <= high + 1e-6)
            count = np.maximum(np.bincount(shots.window[inside], minlength=len(shots)), 1)
            sums = [np.bincount(shots.window[inside], column[inside], minlength=len(shots)) for column in off.T]
            out.append(np.stack(sums, axis=1) / count[:, None])
        return np.concatenate(out, axis=1)

    def slopes(self, shots: Shots, steps: Mapping[str, float]) -> Array:
        """(W, R, P) change of the departures with each parameter [rad a unit], by differences of the given steps."""
        still = {n: np.full(len(shots), v) for n, v in self.center.items()}
        here = self.departure(shots, still, COARSE_S)
        moved = [
            (self.departure(shots, {**still, n: still.get(n, 0.0) + np.full(len(shots), h)}, COARSE_S) - here) / h
            for n, h in steps.items()
        ]
        return np.stack(moved, axis=2)

    def _plant_of(self, nsim: int, timestep_s: float) -> Plant:
        plant = self._plant
        if plant is None or (plant.nsim, plant.timestep) != (nsim, timestep_s):
            self.model.mj.opt.integrator = mujoco.mjtIntegrator.mjINT_RK4
            self._plant = plant = Plant(self.model, nsim, timestep_s, timestep_s, self.nthread)
        return plant


def card_of(spec: RobotSpec, encoder: EncoderConfig) -> EncoderCard:
    """The card of an encoder of innovations."""
    return EncoderCard(
        robot=spec.name,
        fingerprint=spec.fingerprint(),
        control_period_s=GRID_S,
        components=components(spec),
        actuators=tuple(a.name for a in spec.actuators),
        history=encoder.history,
        context=encoder.context,
        span=encoder.span,
        hidden=encoder.hidden,
        predictor=encoder.predictor,
    )


def innovation_windows(
    logs: Sequence[EpisodeLog], model: Model, law: Randomization, encoder: EncoderConfig, *, seed: int, nthread: int = 0
) -> WindowData:
    """`encoder.windows` windows of each of `encoder.simulations` draws of `law`, seen along the recordings.

    Labelled with how far the parameters drawn are from the estimate; groups are draws. DataRefused when no recording is
    long enough.
    """
    rng = np.random.default_rng(seed)
    foreteller = Foreteller(model, law, nthread)
    draws = law.draw(model, rng, DRAWS)
    names = tuple(n for n, v in draws.items() if v.std() > 0.0 and not n.startswith("timing/"))
    away = np.stack([draws[n] - foreteller.center[n] for n in names], axis=1)
    steps = dict(zip(names, STEP * away.std(axis=0), strict=True))
    seen = []
    for log in logs:
        rows = foreteller.rows(log)
        if len(rows.t) > encoder.horizon + 1:
            seen.append((rows, foreteller.slopes(foreteller.shots(log), steps)))
    if not seen:
        raise DataRefused(f"no recording gives {encoder.horizon + 2} rows of innovations, one every {GRID_S:g} s.")
    noise = unexplained([r.departure for r, _ in seen], [s for _, s in seen], np.atleast_2d(np.cov(away.T)))
    parts = []
    for group in range(encoder.simulations):
        which = rng.integers(len(seen))
        rows, slopes = seen[which]
        drawn = rng.choice([-1.0, 1.0]) * np.roll(noise[which], rng.integers(-WANDER, WANDER + 1), axis=0)
        part = window_rows(replace(rows, departure=drawn - slopes @ away[group % DRAWS]), encoder, rng, group)
        parts.append(replace(part, parameters=np.tile(away[group % DRAWS], (len(part), 1))))
    units = tuple(unit_of(n) for n in names)
    return replace(join(parts), names=names, units=units)


def window_rows(rows: Innovations, encoder: EncoderConfig, rng: np.random.Generator, group: int) -> WindowData:
    """Windows at random rows of one recording."""
    start = np.zeros((1, len(rows.t)), dtype=bool)
    start[0, 0] = True
    return cut(
        rows.observation[None],
        rows.command[None].astype(np.float32),
        start,
        history=encoder.history,
        horizon=encoder.horizon,
        count=encoder.windows,
        rng=rng,
        group=group,
    )


def unexplained(departures: Sequence[Array], slopes: Sequence[Array], covariance: Array) -> list[Array]:
    """What is left of each recording's departures (n, R) when parameters of its own have explained what they can.

    slopes: (n, R, P) each; covariance (P, P) of the parameters before any recording. A linear regression with that
    prior, in which the noise's covariance over the R columns is estimated along.
    """
    spread = np.cov(np.concatenate(departures).T)
    prior = np.linalg.inv(covariance + 1e-6 * np.diag(np.diag(covariance)))
    left = list(departures)
    for _ in range(ROUNDS):
        weight = np.linalg.inv(spread) * GRID_S / AHEAD_S  # rows overlap
        left = []
        for e, s in zip(departures, slopes, strict=True):
            known = np.einsum("nrp,rq,nqk->pk", s, weight, s) + prior
            left.append(e - s @ np.linalg.solve(known, np.einsum("nrp,rq,nq->p", s, weight, e)))
        limit = 3.0 * np.sqrt(np.diag(spread))
        spread = np.cov(np.concatenate(left).clip(-limit, limit).T)
    return left

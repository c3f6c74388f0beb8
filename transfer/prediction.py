"""Prediction error: how far the simulator drifts from a recorded episode, open loop, over fixed horizons.

Windows start on a grid of times in each episode at the logged position and the fitted velocity; the logged
command drives the model through the model's own shift, delay and lag; errors are taken at every logged row
up to each horizon, without angle wrapping, and pooled over rows, windows, joints and files. Intervals come
from a bootstrap over windows within files, since the rows of one window are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from robot.log import EpisodeLog
from robot.spec import RobotSpec
from sim.model import Model
from sim.randomization import Randomization
from transfer.dataset import DataRefused
from transfer.playback import Playback
from transfer.series import VelocityFit, series_of
from transfer.session import possible, told_by_start
from transfer.shots import Shots, cut

Array = npt.NDArray[np.float64]

TIMESTEP_S = 0.001
"""Scoring integrates with RK4 at this step [s]: within 0.3 % of a five times finer one."""
WHOLE_S = 12.0
"""Longest recording that is played back as a whole [s]."""
BOOTSTRAP = 1000
FIGURES = ("position_rmse", "velocity_rmse", "position_median")
NOTHING: dict[str, Any] = {"mean": None, "ci95": None, "n": 0, "note": "no row so near ahead"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """Where windows start, how long they are, and how velocities are fitted."""

    horizons_s: tuple[float, ...] = (0.1, 0.5, 1.0)
    first_s: float = 0.25
    """First window, from the first row [s]: velocities at the very start are badly known."""
    every_s: float = 0.25
    fit: VelocityFit = field(default_factory=VelocityFit)


TORQUE = Metric()
POSITION = Metric(
    horizons_s=(0.2, 1.0, 2.0),
    first_s=0.04,
    every_s=1.0,
    fit=VelocityFit(degree=2, half_s=0.0, half_periods=2.5),
)
"""For robots whose actuators hold positions: slower logs, so a quadratic through five rows."""


def metric_for(spec: RobotSpec) -> Metric:
    """The metric of a robot, by how its actuators are commanded."""
    return POSITION if any(a.kind == "position_pd" for a in spec.actuators) else TORQUE


@dataclass(frozen=True, slots=True)
class Prediction:
    """Squared errors of every window, from which all figures and intervals are made."""

    horizons_s: tuple[float, ...]
    joints: tuple[str, ...]
    files: tuple[str, ...]
    file: npt.NDArray[np.intp]
    """(W,) file of each window."""
    rows: Array
    """(H, W) scored rows."""
    position: Array
    """(H, W, J) sum of squared position errors [rad²]."""
    velocity: Array
    """(H, W, J) the same of velocity [rad²/s²]."""

    def position_rmse(self, horizon: int, windows: npt.NDArray[Any] | slice = slice(None)) -> float:
        """Pooled position RMSE [rad] at horizon number `horizon`, over some windows."""
        return float(_rmse(self.position[horizon], self.rows[horizon])(windows))

    def of(self, windows: npt.NDArray[np.intp]) -> Prediction:
        """Those of some windows; files without any keep their place."""
        rows, position, velocity = self.rows[:, windows], self.position[:, windows], self.velocity[:, windows]
        return replace(self, file=self.file[windows], rows=rows, position=position, velocity=velocity)

    def result(self, rng: np.random.Generator) -> dict[str, Any]:
        """The keys that `evaluate` writes: prediction, files, joints, windows."""
        everything = np.arange(len(self.file))
        joints = {name: self._horizons(everything, rng, slice(j, j + 1)) for j, name in enumerate(self.joints)}
        files = {name: self._horizons(np.flatnonzero(self.file == i), rng) for i, name in enumerate(self.files)}
        return {
            "prediction": self._horizons(everything, rng),
            "files": {name: figures for name, figures in files.items() if figures},
            "joints": joints,
            "windows": len(self.file),
        }

    def _horizons(
        self, windows: npt.NDArray[np.intp], rng: np.random.Generator, joints: slice = slice(None)
    ) -> dict[str, Any]:
        if not len(windows):
            return {}
        samples = resample(self.file[windows], rng)
        out: dict[str, Any] = {}
        for h, seconds in enumerate(self.horizons_s):
            name = f"{seconds:g}" if seconds % 1 else f"{seconds:.1f}"
            told = self.rows[h, windows] > 0  # where a gap follows at once a window has nothing so near ahead
            scored, drawn = (
                (windows, samples) if told.all() else (windows[told], resample(self.file[windows[told]], rng))
            )
            if not len(scored):
                out[name] = dict.fromkeys(FIGURES, NOTHING)
                continue
            rows = self.rows[h, scored]
            position, velocity = self.position[h, scored][:, joints], self.velocity[h, scored][:, joints]
            each = np.sqrt(position.sum(axis=1) / (rows * position.shape[1]))
            made = _rmse(position, rows), _rmse(velocity, rows), _median(each)
            out[name] = {figure: _with_interval(f, drawn) for figure, f in zip(FIGURES, made, strict=True)}
        return out


def _rmse(squares: Array, rows: Array) -> Callable[[Any], Array]:
    """index array (..., W) -> pooled RMSE (...), with squares (W, J) and rows (W,)."""
    total = squares.sum(axis=1)
    return lambda index: np.sqrt(total[index].sum(axis=-1) / (rows[index].sum(axis=-1) * squares.shape[1]))


def _median(values: Array) -> Callable[[Any], Array]:
    """index array (..., W) -> median (...)."""
    return lambda index: np.asarray(np.median(values[index], axis=-1))


def resample(file: npt.NDArray[np.intp], rng: np.random.Generator, n: int = BOOTSTRAP) -> npt.NDArray[np.intp]:
    """(n, W) bootstrap draws of window numbers, within files."""
    columns = [np.zeros((n, 0), np.intp)]
    for i in np.unique(file):
        mine = np.flatnonzero(file == i)
        columns.append(mine[rng.integers(len(mine), size=(n, len(mine)))])
    return np.concatenate(columns, axis=1)


def _with_interval(statistic: Callable[[Any], Array], samples: npt.NDArray[np.intp]) -> dict[str, Any]:
    n = samples.shape[1]
    low, high = np.quantile(statistic(samples), [0.025, 0.975])
    return {"mean": float(statistic(np.arange(n))), "ci95": [float(low), float(high)], "n": n}


def difference(a: Prediction, b: Prediction, horizon_s: float, rng: np.random.Generator) -> dict[str, Any]:
    """Position RMSE of `a` less that of `b` [rad], paired by window; an interval below 0 says that `a` is better.

    Both must have scored the same windows. Bootstrap over windows within files.
    """
    if a.files != b.files or not np.array_equal(a.rows, b.rows):
        raise ValueError("the two predictions were not scored on the same windows")
    h = a.horizons_s.index(horizon_s)
    of_a, of_b = _rmse(a.position[h], a.rows[h]), _rmse(b.position[h], b.rows[h])
    return _with_interval(lambda index: of_a(index) - of_b(index), resample(a.file, rng))


def pooled(parts: Sequence[Prediction]) -> Prediction:
    """Predictions of different files, as of leave-one-file-out, as one."""
    offsets = np.cumsum([0, *(len(p.files) for p in parts)])
    return Prediction(
        parts[0].horizons_s,
        parts[0].joints,
        tuple(name for p in parts for name in p.files),
        np.concatenate([p.file + offset for p, offset in zip(parts, offsets, strict=False)]),
        np.concatenate([p.rows for p in parts], axis=1),
        np.concatenate([p.position for p in parts], axis=1),
        np.concatenate([p.velocity for p in parts], axis=1),
    )


def evaluate(
    logs: Sequence[EpisodeLog],
    model: Model,
    parameters: Randomization,
    metric: Metric | None = None,
    zeros: Mapping[str, Array] | None = None,
    from_s: float = 0.0,
    nthread: int = 0,
    settings: Mapping[str, Mapping[str, float]] | None = None,
) -> Prediction:
    """Score the middle of `parameters` (nominal, published or posterior) on recorded episodes.

    `zeros`: episode name -> (J,) joint zero offset [rad], for a method that found it elsewhere; default: the
    parameters' own, which is 0 unless they set `sensor/<joint>/offset`. `settings`: episode name -> target -> value of
    what was set up anew before it. Windows that start before `from_s` are
    left out: rows that a method adapted to are not scored. DataRefused when no episode is long enough for one
    window. The model's timestep and integrator are set for scoring.
    """
    metric = metric or metric_for(model.spec)
    shots = shots_for(logs, model.spec, metric, from_s)
    parameters.check(model)
    values = {name: float(v[0]) for name, v in parameters.center(model).items()}
    more = np.zeros_like(shots.position)  # beside what the parameters say
    named = np.array([values.get(f"sensor/{j}/offset", 0.0) for j in model.spec.joint_names])
    for i, log in enumerate(logs):
        if zeros is not None and log.name in zeros:
            more[shots.episode == i] = zeros[log.name] - named
    each = {name: np.full(len(shots), v) for name, v in values.items()}
    for i, log in enumerate(logs):
        for name, value in (settings or {}).get(log.name, {}).items():
            each.setdefault(name, np.full(len(shots), model.nominal(name)))[shots.episode == i] = value
    if settings is not None:
        return open_loop(shots, model, each, more, metric, nthread)
    return _score(shots, metric, model.spec, *_expected(shots, model, parameters, each, more, nthread))


def _expected(
    shots: Shots, model: Model, parameters: Randomization, values: Mapping[str, Array], zeros: Array, nthread: int
) -> tuple[Array, Array]:
    """Errors (R, J) of position and velocity of the mean prediction over what a session may have set up.

    The law of a register that is set anew before each recording is a categorical one, of which no value is the middle:
    what is expected of a window is the mean of what each value leads to, as likely as its start makes them.
    """
    choices = possible(parameters, values, len(shots))
    likely = told_by_start(shots, model, choices, zeros, _shift(values), nthread)
    play, position, velocity = Playback(model, shots, TIMESTEP_S, nthread), np.zeros(()), np.zeros(())
    for weight, (_, chosen) in zip(likely, choices, strict=True):
        read, rate = play([chosen], zeros[None], shift=_shift(chosen))
        weights = weight[shots.window, None]
        position = position + weights * (read[0] - shots.row_position)
        velocity = velocity + weights * (rate[0] - shots.row_velocity)
    return position, velocity


def whole_episodes(
    logs: Sequence[EpisodeLog], model: Model, parameters: Randomization, nthread: int = 0
) -> dict[str, dict[str, Any]]:
    """`mae_full`: mean absolute position error [rad] of whole recordings played back from their first row, pooled and
    of each file; only for recordings of at most WHOLE_S."""
    parameters.check(model)
    metric = metric_for(model.spec)
    values = {name: float(v[0]) for name, v in parameters.center(model).items()}
    each = {}
    for log in logs:
        series = series_of(log, model.spec, metric.fit)
        if series.t[-1] > WHOLE_S:
            continue
        shots = cut([series], 0.0, float(series.t[-1]), float(series.t[-1]))
        play = Playback(model, shots, TIMESTEP_S, nthread)
        read, _ = play([values], np.zeros((1, *shots.position.shape)), shift=_shift(values))
        each[log.name] = np.abs(read[0] - shots.row_position).mean(axis=1)
    if not each:
        return {}
    means, rng = np.array([e.mean() for e in each.values()]), np.random.default_rng(0)
    rows = np.array([len(e) for e in each.values()])
    drawn = rng.integers(len(rows), size=(BOOTSTRAP, len(rows)))
    low, high = np.quantile((means * rows)[drawn].sum(axis=1) / rows[drawn].sum(axis=1), [0.025, 0.975])
    pooled_mean = float((means * rows).sum() / rows.sum())
    whole = {"mean": pooled_mean, "ci95": [float(low), float(high)], "n": len(rows)}
    return {"mae_full": whole, "mae_full_files": {n: float(m) for n, m in zip(each, means, strict=True)}}


def open_loop(
    shots: Shots, model: Model, values: Mapping[str, Array], zeros: Array, metric: Metric, nthread: int = 0
) -> Prediction:
    """Score each window with parameters (W,) of its own, and joint zeros (W, J) [rad] beside them; those of the way of
    commands (`timing/...`) must be the same in all windows. The model's timestep and integrator are set for scoring.
    """
    read, rate = Playback(model, shots, TIMESTEP_S, nthread)([values], zeros[None], shift=_shift(values))
    return _score(shots, metric, model.spec, read[0] - shots.row_position, rate[0] - shots.row_velocity)


def _shift(values: Mapping[str, float | Array]) -> int:
    """Rows by which commands come late."""
    return round(float(np.max(values.get("timing/command/shift", 0.0))))


def hold_still(
    logs: Sequence[EpisodeLog], spec: RobotSpec, metric: Metric | None = None, from_s: float = 0.0
) -> Prediction:
    """The trivial prediction, that nothing moves: what any model has to beat."""
    metric = metric or metric_for(spec)
    shots = shots_for(logs, spec, metric, from_s)
    return _score(shots, metric, spec, shots.position[shots.window] - shots.row_position, -shots.row_velocity)


def shots_for(logs: Sequence[EpisodeLog], spec: RobotSpec, metric: Metric, from_s: float = 0.0) -> Shots:
    """The windows that a metric scores; DataRefused when there are none."""
    series = [series_of(log, spec, metric.fit) for log in logs]
    first = metric.first_s + metric.every_s * max(0, np.ceil((from_s - metric.first_s) / metric.every_s - 1e-9))
    shots = cut(series, first, metric.every_s, max(metric.horizons_s))
    if not len(shots):
        longest = max((s.t[-1] for s in series), default=0.0)
        needed = first + max(metric.horizons_s)
        raise DataRefused(f"no episode gives a window: one needs {needed:g} s of log, the longest has {longest:.2f} s.")
    return shots


def _score(shots: Shots, metric: Metric, spec: RobotSpec, position: Array, velocity: Array) -> Prediction:
    """Errors (R, J) at the rows to sums a window and horizon."""
    count, joints = len(shots), len(spec.joints)
    shape = (len(metric.horizons_s), count)
    rows, q, v = np.zeros(shape), np.zeros((*shape, joints)), np.zeros((*shape, joints))
    for h, horizon in enumerate(metric.horizons_s):
        inside = shots.since <= horizon + 1e-9
        window = shots.window[inside]
        rows[h] = np.bincount(window, minlength=count)
        for j in range(joints):
            q[h, :, j] = np.bincount(window, np.square(position[inside, j]), minlength=count)
            v[h, :, j] = np.bincount(window, np.square(velocity[inside, j]), minlength=count)
    names = tuple(s.name for s in shots.series)
    return Prediction(metric.horizons_s, spec.joint_names, names, shots.episode, rows, q, v)

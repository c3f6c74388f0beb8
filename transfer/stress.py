"""The stress suite: in how many perturbed runs a controller still succeeds, criterion by criterion.

A suite is a YAML file in configs/stress: an arena, and for each criterion what is varied over which range. plan() makes
a list of runs of it, an arena runs them, score() counts. Nothing here simulates, draws or writes files.
The criteria are those of the public double-pendulum robustness leaderboard (DFKI RIC Underactuated Robotics Lab).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError, nearest
from robot.result import wilson
from sim.arena import Arena, Unit
from sim.model import Model
from sim.mujoco_arena import MujocoArenaConfig
from sim.perturbation import Perturbation, PulseLaw
from sim.published_arena import PublishedArenaConfig
from sim.randomization import Randomization

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]

CRITERIA = ("model", "velocity_noise", "torque_noise", "torque_response", "delay", "pushes")
SWEPT, OVERALL = CRITERIA[:-1], "overall"
DRAWS = 2000
"""By which the central part of a posterior's law is found."""
SEEDS = 100_000
"""Runs of different suite seeds never share one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """One quantity over evenly spaced values, everything else at its nominal."""

    of: str
    """A knob of the arena, or a pattern with `*`, of which each match gets a row of its own."""
    low: float
    high: float
    count: int = 21
    """Values, both ends included."""
    relative_to: Unit = ""
    together: bool = False
    """Whether all matches of a pattern move together, in one row."""
    repetitions: int = 1
    """Runs at each value, which differ by their noise and start."""

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ConfigError(f"the range of '{self.of}' is [{self.low:g}, {self.high:g}]; low must be below high.")
        if self.count < 2 or self.repetitions < 1:
            raise ConfigError(f"'{self.of}': needs count >= 2 and repetitions >= 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pushes(PulseLaw):
    """Random sets of pulses."""

    runs: int = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """How each target of a posterior, or of a prior, is varied where one is given: in place of `model`."""

    share: float = 0.99
    """Central part of the target's law."""
    count: int = 11
    repetitions: int = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """configs/stress/<name>.yaml."""

    name: str
    source: str = ""
    """Where the ranges come from."""
    task: str = ""
    """The one task that it is for; empty for any."""
    arena: PublishedArenaConfig | MujocoArenaConfig
    model: tuple[Sweep, ...] = ()
    law: Spread = field(default_factory=Spread)
    velocity_noise: tuple[Sweep, ...] = ()
    torque_noise: tuple[Sweep, ...] = ()
    torque_response: tuple[Sweep, ...] = ()
    delay: tuple[Sweep, ...] = ()
    pushes: Pushes | None = None
    counted: Literal["runs", "majority"] = "runs"
    """What a score is the share of: of runs; or of values at which more than half of the repetitions succeed."""
    min_overall: float = 0.0
    """A lower overall score is refused."""
    min: dict[str, float] = field(default_factory=dict)
    """Criterion -> a lower score of it is refused."""

    def __post_init__(self) -> None:
        for name in self.min:
            if name not in CRITERIA:
                raise ConfigError(f"min names criterion '{name}', which is unknown. {nearest(name, CRITERIA)}")

    def check(self, task: str) -> None:
        """ConfigError when it is for another task."""
        if self.task and self.task != task:
            raise ConfigError(f"suite '{self.name}' is for task '{self.task}', not '{task}'. Pass stress=default.")

    def shrunk(self) -> Suite:
        """A suite of few runs, for tests: the same computation, less of it."""
        few: dict[str, Any] = {c: tuple(replace(s, count=3, repetitions=1) for s in getattr(self, c)) for c in SWEPT}
        pushes = self.pushes and replace(self.pushes, runs=4)
        return replace(self, **few, pushes=pushes, law=replace(self.law, count=3, repetitions=1))


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What is varied in some runs, as the heat map shows it."""

    criterion: str
    label: str
    relative_to: str
    values: Array
    """(m,) on the axis, ascending; of pushes, the sum of size x width of each run's pulses."""
    settings: dict[str, Array]
    """Knob -> (m,) what it is set to; nothing for pushes."""
    repetitions: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All runs of a suite."""

    rows: tuple[Row, ...]
    runs: tuple[Perturbation, ...]
    row: Ids
    """(n,) of each run."""
    value: Ids
    """(n,) index of each run's value in its row."""


def plan(suite: Suite, arena: Arena, seed: int, law: tuple[Randomization, Model] | None = None) -> Plan:
    """The runs of a suite; with a law (a posterior or prior, and the model it is for) its targets are varied.

    ConfigError names a knob that the arena lacks, or pushes that do not fit into an episode.
    """
    rows: list[Row] = []
    for criterion in SWEPT:
        if criterion == "model" and law is not None:
            rows += law_rows(*law, suite.law)
        else:
            rows += [row for sweep in getattr(suite, criterion) for row in sweep_rows(criterion, sweep, arena)]
    runs: list[Perturbation] = []
    at: list[tuple[int, int]] = []
    for i, row in enumerate(rows):
        for j in range(len(row.values)):
            values = {knob: float(settings[j]) for knob, settings in row.settings.items()}
            for _ in range(row.repetitions):
                runs.append(Perturbation(values=values, seed=seed * SEEDS + len(runs)))
                at.append((i, j))
    if suite.pushes is not None:
        pushes = _pushes(suite.pushes, arena, seed, len(runs))
        strength = np.array([sum(abs(pulse.size) * pulse.width_s for pulse in run.pulses) for run in pushes])
        order = np.argsort(strength, kind="stable")
        at += [(len(rows), j) for j in range(len(order))]
        rows.append(Row(criterion="pushes", label="pushes", relative_to="", values=strength[order], settings={}))
        runs += [pushes[i] for i in order]
    row_of, value_of = np.array(at, dtype=np.intp).reshape(-1, 2).T
    return Plan(rows=tuple(rows), runs=tuple(runs), row=row_of, value=value_of)


def sweep_rows(criterion: str, sweep: Sweep, arena: Arena) -> list[Row]:
    """Rows of one sweep; none of a knob that is relative to a nominal of 0."""
    found = arena.expand(sweep.of)
    if sweep.together:
        found = {sweep.of: tuple(knob for knobs in found.values() for knob in knobs)}
    values, rows = np.linspace(sweep.low, sweep.high, sweep.count), []
    for label, knobs in found.items():
        settings = {knob: values * arena.unit(knob, sweep.relative_to) for knob in knobs}
        settings = {knob: at for knob, at in settings.items() if np.ptp(at) > 0.0}
        if settings:
            rows.append(
                Row(
                    criterion=criterion, label=label, relative_to=sweep.relative_to, values=values, settings=settings,
                    repetitions=sweep.repetitions,
                )
            )  # fmt: skip
    return rows


def law_rows(law: Randomization, model: Model, spread: Spread) -> list[Row]:
    """A row for each target of a law, over the central part of its draws; targets that share one draw move together."""
    drawn, rows = law.draw(model, np.random.default_rng(0), DRAWS), []
    tail = 0.5 * (1.0 - spread.share)
    for term in law.terms:
        if term.law.kind == "point":
            continue
        for targets in [term.targets] if term.tie else [(t,) for t in term.targets]:
            ends = {t: np.quantile(drawn[t], [tail, 1.0 - tail]) for t in targets}
            settings = {t: np.linspace(low, high, spread.count) for t, (low, high) in ends.items()}
            rows.append(
                Row(
                    criterion="model", label=targets[0], relative_to="", values=settings[targets[0]],
                    settings=settings, repetitions=spread.repetitions,
                )
            )  # fmt: skip
    return rows


def _pushes(law: Pushes, arena: Arena, seed: int, first: int) -> list[Perturbation]:
    return [
        Perturbation(
            pulses=law.draw(arena.channels, arena.duration_s, np.random.default_rng([seed, i])),
            seed=seed * SEEDS + first + i,
        )
        for i in range(law.runs)
    ]


def score(made: Plan, success: npt.NDArray[np.bool_], counted: str = "runs") -> dict[str, Any]:
    """Scores by criterion (None where a suite has none) and overall, their intervals, and the rows of the heat map.

    success: (n,) of the plan's runs. The interval of the overall mean is made of the criteria's (Zou and Donner,
    Statistics in Medicine 27, 2008: distances to the limits add up as variances do).
    """
    rows, counts = [], {c: [0, 0] for c in CRITERIA}
    for i, row in enumerate(made.rows):
        mine = made.row == i
        shares = [float(success[mine & (made.value == j)].mean()) for j in range(len(row.values))]
        if counted == "majority":
            won, n = sum(share > 0.5 for share in shares), len(shares)
        else:
            won, n = int(success[mine].sum()), int(mine.sum())
        counts[row.criterion][0] += won
        counts[row.criterion][1] += n
        rows.append(
            {"criterion": row.criterion, "of": row.label, "relative_to": row.relative_to, "values": row.values.tolist(),
             "success": shares, **wilson(won, n)}
        )  # fmt: skip
    intervals = {c: wilson(*count) for c, count in counts.items() if count[1]}
    scores: dict[str, float | None] = {c: intervals[c]["mean"] if c in intervals else None for c in CRITERIA}
    intervals[OVERALL] = _mean(list(intervals.values()))
    return scores | {OVERALL: intervals[OVERALL]["mean"], "intervals": intervals, "rows": rows}


def _mean(shares: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not shares:
        raise ConfigError("the stress suite has no criterion; give at least one range.")
    k, mean = len(shares), float(np.mean([s["mean"] for s in shares]))
    low, high = (math.sqrt(sum((s["mean"] - s["ci95"][i]) ** 2 for s in shares)) / k for i in (0, 1))
    return {"mean": mean, "ci95": [max(mean - low, 0.0), min(mean + high, 1.0)], "n": sum(s["n"] for s in shares)}


def refused(suite: Suite, result: Mapping[str, Any]) -> list[str]:
    """What is below the suite's thresholds, in words; empty when it passes."""
    wanted = {**suite.min, **({OVERALL: suite.min_overall} if suite.min_overall else {})}
    below = {c: least for c, least in wanted.items() if result[c] is None or result[c] < least}
    return [
        f"{c} is {'not measured' if result[c] is None else format(result[c], '.3f')}, {least:g} is asked for"
        for c, least in below.items()
    ]

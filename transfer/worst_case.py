"""The most harmful realistic perturbation of a controller: the smallest one that still makes it fail.

Everything that a suite varies one at a time is varied jointly here, each within its own range, and pushes fall as the
suite's law allows. A cross-entropy search (Rubinstein, 1999) draws perturbations, keeps the worst, and draws near them;
what fails by less counts as worse than what fails by more, and what does not fail is ranked by its return. At last the
worst one is made smaller as a whole as far as it still fails, and is run alone, as a replay will be: what a controller
does among others may differ in the last bit, which a pendulum does not forgive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robot import config
from robot.config import ConfigError
from sim.arena import Arena, Outcome, Subject
from sim.mujoco_arena import MujocoArenaConfig
from sim.perturbation import Perturbation, Pulse
from sim.published_arena import PublishedArenaConfig
from transfer.stress import SEEDS, Pushes, Row

Array = npt.NDArray[np.float64]

SHRINK = 32
"""Sizes at which the worst one found is tried, as shares of its own."""
ALONE = 6
"""Candidates that are run alone at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """search: in configs/stress.yaml."""

    runs: int = 1024
    """Budget, in episodes; 0 does not search."""
    population: int = 128
    elite: float = 0.125
    """Share of a population that the next one is drawn near."""
    keep: float = 0.3
    """Share of the old mean and spread that stays in the new ones."""

    def __post_init__(self) -> None:
        if self.runs < 0 or self.population < 8 or not 0.0 < self.elite < 1.0 or not 0.0 <= self.keep < 1.0:
            raise ConfigError("search: needs runs >= 0, population >= 8, elite between 0 and 1, and keep in [0, 1).")


@dataclass(frozen=True, kw_only=True, slots=True)
class WorstCase:
    """worst.yaml: what is needed to run it again, and what happened."""

    task: str
    suite: str
    robot: str
    fingerprint: str
    arena: PublishedArenaConfig | MujocoArenaConfig
    perturbation: Perturbation
    size: float
    """Root mean square of how far each quantity is from its nominal, as a share of its range; 1: all at their ends."""
    success: bool
    returns: float
    final: tuple[float, ...]
    """Positions and velocities of the joints at the end [rad], [rad/s]."""

    def save(self, path: Path) -> Path:
        config.save(path, self)
        return path


class Space:
    """Perturbations as points: amplitudes in [-1, 1], 0 being nominal; then, in [0, 1], when and where pushes fall."""

    def __init__(
        self, arena: Arena, rows: Sequence[Row], pushes: Pushes | None, base: dict[str, float], seed: int
    ) -> None:
        """`base`: knobs that are set in every run, so that a file of one is complete without a posterior."""
        self._arena, self._law, self._base, self._seed = arena, pushes, base, seed
        self._rows = [row for row in rows if row.settings]
        self._nominal = [{knob: arena.nominal(knob) for knob in row.settings} for row in self._rows]
        self._pulses = pushes.count(len(arena.channels)) if pushes else 0
        self.amplitudes = len(self._rows) + self._pulses
        self.size = self.amplitudes + 3 * self._pulses
        if not self.amplitudes:
            raise ConfigError("the stress suite has nothing to search in; give at least one range.")
        sides = [self._sides(i) for i in range(len(self._rows))] + [(-1.0, 1.0)] * self._pulses
        self.low, self.high = np.array(sides + [(0.0, 1.0)] * (3 * self._pulses)).T

    def _sides(self, i: int) -> tuple[float, float]:
        """The bounds of an amplitude: 0 on the side of the nominal where the range does not reach."""
        settings, nominal = self._rows[i].settings, self._nominal[i]
        below = any(at[0] < nominal[knob] for knob, at in settings.items())
        above = any(at[-1] > nominal[knob] for knob, at in settings.items())
        return (-1.0 if below else 0.0), (1.0 if above else 0.0)

    def perturbation(self, point: Array) -> Perturbation:
        """What a point (size,) stands for."""
        values = dict(self._base)
        for row, nominal, z in zip(self._rows, self._nominal, point, strict=False):
            for knob, at in row.settings.items():
                end = at[-1] if z > 0.0 else at[0]
                values[knob] = float(nominal[knob] + abs(z) * (end - nominal[knob]))
        return Perturbation(values=values, pulses=self._pushes(point), seed=self._seed * SEEDS)

    def _pushes(self, point: Array) -> tuple[Pulse, ...]:
        if self._law is None:
            return ()
        size = point[len(self._rows) : self.amplitudes]
        wait, width, on = point[self.amplitudes :].reshape(3, -1)
        channels = len(self._arena.channels)
        where = np.minimum((on * channels).astype(np.intp), channels - 1)
        return self._law.at(self._arena.channels, self._arena.duration_s, where, wait, width, size, least=False)

    def harm(self, points: Array) -> Array:
        """(n,) size of n points."""
        return np.sqrt(np.square(points[:, : self.amplitudes]).mean(axis=1))

    def scaled(self, point: Array, shares: Array) -> Array:
        """(n, size) the point with its amplitudes at these shares (n,)."""
        out = np.tile(point, (len(shares), 1))
        out[:, : self.amplitudes] *= shares[:, None]
        return out

    def made_physical(self, points: Array) -> Array:
        """The points, those of robots that cannot exist drawn towards the nominal until they can."""
        points = points.copy()
        for shrink in [0.9] * 40 + [0.0]:
            bad = ~self._arena.physical([self.perturbation(p) for p in points])
            if not bad.any():
                break
            points[bad, : self.amplitudes] *= shrink
        return points


def search(
    arena: Arena, subject: Subject, space: Space, settings: SearchConfig, rng: np.random.Generator
) -> tuple[Perturbation, float, Outcome, int]:
    """The worst perturbation found, its size, what happened when it was run alone, and how many runs it took."""
    mean = np.where(np.arange(space.size) < space.amplitudes, 0.0, 0.5)
    spread = np.where(np.arange(space.size) < space.amplitudes, 0.5, 0.4)
    seen: list[tuple[Array, Outcome]] = []
    keep, elites = settings.keep, max(round(settings.elite * settings.population), 2)
    for generation in range(max(settings.runs // settings.population, 1)):
        points = np.clip(mean + spread * rng.standard_normal((settings.population, space.size)), space.low, space.high)
        if generation == 0:
            points[0, : space.amplitudes] = 0.0  # a controller that fails at the nominal needs no perturbation
        points = space.made_physical(points)
        seen.append((points, _run(arena, subject, space, points)))
        best = points[_order(space, *seen[-1])[:elites]]
        mean = keep * mean + (1.0 - keep) * best.mean(axis=0)
        spread = np.maximum(keep * spread + (1.0 - keep) * best.std(axis=0), 0.03)
    points, found = np.concatenate([p for p, _ in seen]), _joined([o for _, o in seen])
    order = _order(space, points, found)
    candidates, runs = points[order[: ALONE - 2]], len(points)
    if not found.success[order[0]]:
        smaller = space.scaled(points[order[0]], np.linspace(0.05, 1.0, SHRINK))
        outcome = _run(arena, subject, space, smaller)
        failing = smaller[~outcome.success][:2]
        candidates, runs = np.concatenate([failing, candidates]), runs + SHRINK
    return *_alone(arena, subject, space, candidates), runs + len(candidates)


def _run(arena: Arena, subject: Subject, space: Space, points: Array) -> Outcome:
    return arena.run(subject, [space.perturbation(p) for p in points])


def _order(space: Space, points: Array, outcome: Outcome) -> npt.NDArray[np.intp]:
    """Indices, the most harmful first."""
    rank = np.where(outcome.success, outcome.returns, space.harm(points))
    return np.lexsort((rank, outcome.success))


def _joined(outcomes: Sequence[Outcome]) -> Outcome:
    success, returns, final = (
        np.concatenate([getattr(o, k) for o in outcomes]) for k in ("success", "returns", "final")
    )
    return Outcome(success=success, returns=returns, final=final)


def _alone(arena: Arena, subject: Subject, space: Space, candidates: Array) -> tuple[Perturbation, float, Outcome]:
    """The first candidate that fails alone, too; else the one with the lowest return."""
    tried = []
    for point in candidates:
        outcome = _run(arena, subject, space, point[None])
        tried.append((point, outcome))
        if not outcome.success[0]:
            break
    else:
        tried.sort(key=lambda item: float(item[1].returns[0]))
        tried = tried[:1]
    point, outcome = tried[-1]
    return space.perturbation(point), float(space.harm(point[None])[0]), outcome

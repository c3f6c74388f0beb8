"""The search for the worst case, on arenas whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from robot.config import ConfigError
from sim.arena import Outcome
from sim.perturbation import Perturbation
from transfer.stress import Pushes, Row
from transfer.worst_case import ALONE, SHRINK, SearchConfig, Space, search

RANGES = {"a": (-1.0, 1.0), "b": (0.0, 4.0), "c": (2.0, 3.0)}
NOMINAL = {"a": 0.0, "b": 0.0, "c": 2.0}


@dataclass
class Plane:
    """An arena without physics: a run fails where a + b / 8 exceeds a threshold; its return falls towards there."""

    threshold: float = 0.6
    duration_s: float = 10.0
    channels: dict[str, float] = field(default_factory=lambda: {"x": 1.0, "y": 1.0})
    sizes: list[int] = field(default_factory=list)
    heaviest: float = np.inf
    fickle: bool = False
    """Whether nothing fails when it is run alone."""

    def nominal(self, knob: str) -> float:
        return NOMINAL[knob]

    def physical(self, perturbations: Sequence[Perturbation]) -> np.ndarray:
        return np.array([p.values["b"] <= self.heaviest for p in perturbations])

    def run(self, subject: Any, perturbations: Sequence[Perturbation], *, trace: bool = False) -> Outcome:
        self.sizes.append(len(perturbations))
        assert self.physical(perturbations).all()
        level = np.array([p.values["a"] + p.values["b"] / 8.0 for p in perturbations])
        success = (level <= self.threshold) | (self.fickle and len(perturbations) == 1)
        return Outcome(success=success, returns=-level, final=np.zeros((len(level), 2)))


def rows() -> list[Row]:
    return [
        Row(criterion="model", label=k, relative_to="", values=np.linspace(*r, 5), settings={k: np.linspace(*r, 5)})
        for k, r in RANGES.items()
    ]


def find(
    arena: Plane, seed: int = 0, pushes: Pushes | None = None, **settings: Any
) -> tuple[Perturbation, float, Outcome, int]:
    space = Space(arena, rows(), pushes, {"base": 7.0}, seed)  # type: ignore[arg-type]
    return search(arena, None, space, SearchConfig(**settings), np.random.default_rng(seed))  # type: ignore[arg-type]


def test_it_finds_nearly_the_smallest_perturbation_that_fails() -> None:
    """On a + b / 8 = 0.6 with b up to 4 the shares are a and b / 4: the nearest point is (0.48, 0.24)."""
    smallest = np.sqrt((0.48**2 + 0.24**2) / 3)
    for seed in range(5):
        perturbation, size, outcome, runs = find(Plane(), seed, runs=768, population=64)
        assert not outcome.success[0] and smallest <= size < 1.15 * smallest
        assert perturbation.values["a"] == pytest.approx(0.48, abs=0.12)
        assert perturbation.values["c"] < 2.2 and perturbation.values["base"] == 7.0
        assert runs <= 768 + SHRINK + ALONE


def test_where_nothing_fails_it_tells_of_the_lowest_return() -> None:
    _, size, outcome, _ = find(Plane(threshold=9.0), runs=512, population=64)
    assert outcome.success[0] and outcome.returns[0] < -1.3 and size <= 1.0


def test_a_controller_that_fails_at_the_nominal_needs_no_perturbation() -> None:
    perturbation, size, outcome, _ = find(Plane(threshold=-1.0), runs=64, population=16)
    assert size == 0.0 and not outcome.success[0]
    assert perturbation.values == NOMINAL | {"base": 7.0}


def test_what_it_reports_was_run_alone() -> None:
    arena = Plane()
    find(arena, runs=128, population=32)
    assert arena.sizes[:4] == [32] * 4 and arena.sizes[4] == SHRINK and set(arena.sizes[5:]) == {1}
    _, _, outcome, _ = find(Plane(fickle=True), runs=128, population=32)
    assert outcome.success[0]  # none of the candidates failed by itself


def test_the_same_seed_finds_the_same() -> None:
    first, again, other = (find(Plane(), seed, runs=128, population=32)[0] for seed in (1, 1, 2))
    assert first == again != other


def test_robots_that_cannot_exist_are_not_run() -> None:
    perturbation, _, _, _ = find(Plane(heaviest=0.1), runs=128, population=32)  # Plane.run() asserts it
    assert perturbation.values["b"] <= 0.1


def test_pushes_stay_within_their_law_and_can_be_as_small_as_nothing() -> None:
    law = Pushes(pulses=2, each=True, gap=0.1, width_s=(0.05, 0.1), size=(0.5, 5.0))
    space = Space(Plane(), rows(), law, {}, 0)  # type: ignore[arg-type]
    assert (space.amplitudes, space.size) == (3 + 4, 3 + 4 * 4)
    rng = np.random.default_rng(0)
    for _ in range(50):
        pulses = space.perturbation(rng.uniform(space.low, space.high)).pulses
        times = [p.time_s for p in pulses]
        assert len(pulses) == 4 and min(np.diff(times)) >= 1.0 and times[0] >= 1.0 and times[-1] <= 9.0
        assert all(abs(p.size) <= 5.0 and 0.05 <= p.width_s <= 0.1 for p in pulses)
    assert all(p.size == 0.0 for p in space.perturbation(np.zeros(space.size)).pulses)
    assert {p.channel for p in space.perturbation(np.ones(space.size)).pulses} == {"y"}


def test_amplitudes_reach_only_where_the_ranges_do() -> None:
    space = Space(Plane(), rows(), None, {}, 0)  # type: ignore[arg-type]
    assert space.low.tolist() == [-1.0, 0.0, 0.0] and space.high.tolist() == [1.0, 1.0, 1.0]
    assert space.perturbation(np.array([-0.5, 0.25, 1.0])).values == {"a": -0.5, "b": 1.0, "c": 3.0}


def test_settings_that_make_no_search_are_refused() -> None:
    with pytest.raises(ConfigError, match="population >= 8"):
        SearchConfig(population=2)
    with pytest.raises(ConfigError, match="nothing to search in"):
        Space(Plane(), [], None, {}, 0)  # type: ignore[arg-type]

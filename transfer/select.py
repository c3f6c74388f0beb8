"""Which candidate is kept: the one that held-out evidence prefers, and "nothing" unless another is proven better.

The rule stands before anything is tried; docs/transfer.md tells it in words. Candidates are compared with doing nothing
episode by episode, from the same starts in the same robots, by intervals that hold for all of them together. What a
candidate may not lose (robots that were learned before, the stress suite) is held against each by itself: there the
careful side is to roll back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from robot.result import student_t, wilson
from transfer import kpi, simultaneous

TOLERANCE = 0.05
"""Share of successes that may be lost on what is to be kept: more, with an interval without 0, is too much."""


class Episodes(Protocol):
    """Outcome of n episodes, as sim.evaluate.EpisodeStats has it."""

    @property
    def success(self) -> npt.NDArray[np.bool_]: ...

    @property
    def returns(self) -> npt.NDArray[np.float64]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One way to fine-tune and what it led to; a way that was given up on the way has no episodes, and says why."""

    method: str
    real: Episodes | None
    """On the evidence from the robot that was held out."""
    source: Episodes | None
    """On the domain that the policy came from."""
    kept: Mapping[str, Episodes] = field(default_factory=dict)
    """On each robot or day that was learned before."""
    stress: npt.NDArray[np.float64] | None = None
    """(n,) success of each run of a stress suite times its weight in the overall score, which is the mean of these."""
    accepted: bool = False
    why: str = ""
    change: Mapping[str, simultaneous.Interval] = field(default_factory=dict)
    """Against doing nothing: success and return, with simultaneous intervals, and what is not to be lost."""

    def row(self, rng: np.random.Generator) -> dict[str, Any]:
        """The candidate as result.json lists it."""
        return {
            "method": self.method,
            "real_score": None if self.real is None else success_of(self.real),
            "real_return": None if self.real is None else kpi.mean(self.real.returns, rng),
            "source_return": None if self.source is None else kpi.mean(self.source.returns, rng),
            "source_success": None if self.source is None else success_of(self.source),
            "kept": {name: success_of(episodes) for name, episodes in self.kept.items()},
            "stress": None if self.stress is None else float(self.stress.mean()),
            "change": dict(self.change),
            "accepted": self.accepted,
            "why": self.why,
        }


def success_of(episodes: Episodes) -> dict[str, Any]:
    """Success rate with its Wilson interval."""
    return wilson(int(episodes.success.sum()), len(episodes.success))


def judged(
    candidates: Sequence[Candidate], rng: np.random.Generator, tolerance: float = TOLERANCE
) -> tuple[Candidate, ...]:
    """The candidates with their verdicts; the first is doing nothing, which all are compared with."""
    nothing = candidates[0]
    ran = [c for c in candidates[1:] if c.real is not None]
    found = iter(simultaneous.intervals([d for c in ran for d in _changes(c, nothing)], rng) if ran else ())
    out = [replace(nothing, accepted=True, why="the baseline")]
    for candidate in candidates[1:]:
        if candidate.real is None:
            out.append(replace(candidate, accepted=False))
            continue
        change = {"success": next(found), "return": next(found)} | _lost(candidate, nothing)
        accepted, why = verdict(change, tolerance)
        out.append(replace(candidate, accepted=accepted, why=why, change=change))
    return tuple(out)


def _changes(candidate: Candidate, nothing: Candidate) -> list[npt.NDArray[np.float64]]:
    """Success and return minus those of doing nothing, episode by episode."""
    assert candidate.real is not None and nothing.real is not None
    success = candidate.real.success.astype(float) - nothing.real.success
    return [success, candidate.real.returns - nothing.real.returns]


def _lost(candidate: Candidate, nothing: Candidate) -> dict[str, simultaneous.Interval]:
    """What became of each thing that is not to be lost, with an interval for it alone."""
    changes = {n: candidate.kept[n].success.astype(float) - before.success for n, before in nothing.kept.items()}
    if candidate.stress is not None and nothing.stress is not None:
        changes["stress score"] = candidate.stress - nothing.stress
    return {n: simultaneous.interval(change, student_t(len(change) - 1)) for n, change in changes.items()}


def verdict(change: Mapping[str, simultaneous.Interval], tolerance: float) -> tuple[bool, str]:
    """(accepted, why) by what changed against doing nothing; names other than success and return are not to be lost."""
    success, returns = change["success"], change["return"]
    told = f"success {_signed(success)} and return {_signed(returns)} against doing nothing"
    lost = [n for n, c in change.items() if n not in ("success", "return") and _is_lost(c, tolerance)]
    if success["ci95"][1] < 0.0:
        return False, f"negative transfer, rolled back: {told}"
    if lost:
        names = ", ".join(f"{name} {_signed(change[name])}" for name in lost)
        return False, f"negative transfer, rolled back: it loses what was to be kept: {names}; {told}"
    if success["ci95"][0] > 0.0 or (success["mean"] >= 0.0 and returns["ci95"][0] > 0.0):
        return True, told
    return False, f"not proven better, rolled back: {told}"


def _is_lost(change: simultaneous.Interval, tolerance: float) -> bool:
    return bool(change["mean"] < -tolerance and change["ci95"][1] < 0.0)


def _signed(value: kpi.Kpi) -> str:
    low, high = value["ci95"]
    return f"{value['mean']:+.3f} [{low:+.3f}, {high:+.3f}]"


def choose(candidates: Sequence[Candidate]) -> int:
    """Index of the accepted candidate with the most successes, then the highest return; ties go to the earlier one.

    Robots that were learned before count as much as the new one.
    """

    def score(candidate: Candidate) -> tuple[float, float]:
        assert candidate.real is not None
        everywhere = [float(e.success.mean()) for e in (candidate.real, *candidate.kept.values())]
        return round(float(np.mean(everywhere)), 9), round(float(candidate.real.returns.mean()), 6)

    accepted = [i for i, c in enumerate(candidates) if c.accepted]
    return max(accepted, key=lambda i: (*score(candidates[i]), -i))

"""Which candidate is kept: the one that held-out evidence prefers, and "nothing" unless another is proven better.

Candidates are compared with doing nothing episode by episode, from the same starts in the same robots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from robot.result import wilson
from transfer import kpi


class Episodes(Protocol):
    """Outcome of n episodes, as sim.evaluate.EpisodeStats has it."""

    @property
    def success(self) -> npt.NDArray[np.bool_]: ...

    @property
    def returns(self) -> npt.NDArray[np.float64]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One way to fine-tune and what it led to; a way that was given up on the way has no episodes."""

    method: str
    real: Episodes | None
    """On the evidence from the robot that was held out."""
    source: Episodes | None
    """On the domain that the policy came from."""
    accepted: bool
    why: str

    def row(self, rng: np.random.Generator) -> dict[str, Any]:
        """The candidate as result.json lists it."""
        return {
            "method": self.method,
            "real_score": None if self.real is None else success_of(self.real),
            "real_return": None if self.real is None else kpi.mean(self.real.returns, rng),
            "source_return": None if self.source is None else kpi.mean(self.source.returns, rng),
            "source_success": None if self.source is None else success_of(self.source),
            "accepted": self.accepted,
            "why": self.why,
        }


def success_of(episodes: Episodes) -> dict[str, Any]:
    """Success rate with its Wilson interval."""
    return wilson(int(episodes.success.sum()), len(episodes.success))


def judge(real: Episodes, nothing: Episodes, rng: np.random.Generator) -> tuple[bool, str]:
    """(accepted, why): better than doing nothing in success, or no worse in success and better in return."""
    success = kpi.difference(real.success.astype(float), nothing.success.astype(float), rng)
    returns = kpi.difference(real.returns, nothing.returns, rng)
    told = f"success {_signed(success)} and return {_signed(returns)} against doing nothing"
    if success["ci95"][0] > 0.0:
        return True, told
    if success["mean"] >= 0.0 and returns["ci95"][0] > 0.0:
        return True, told
    if success["ci95"][1] < 0.0:
        return False, f"negative transfer, rolled back: {told}"
    return False, f"not proven better, rolled back: {told}"


def _signed(value: kpi.Kpi) -> str:
    low, high = value["ci95"]
    return f"{value['mean']:+.3f} [{low:+.3f}, {high:+.3f}]"


def choose(candidates: Sequence[Candidate]) -> int:
    """Index of the accepted candidate with the most successes, then the highest return; ties go to the earlier one."""

    def score(candidate: Candidate) -> tuple[float, float]:
        assert candidate.real is not None
        return float(candidate.real.success.mean()), round(float(candidate.real.returns.mean()), 6)

    accepted = [i for i, c in enumerate(candidates) if c.accepted]
    return max(accepted, key=lambda i: (*score(candidates[i]), -i))

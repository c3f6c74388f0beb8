"""Which friction and firmware models are worth having: decided by the error on recordings that the fit did not see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot.log import EpisodeLog
from sim.model import Model
from sim.randomization import Randomization
from transfer.dataset import DataRefused
from transfer.prediction import Prediction, difference, evaluate, pooled

FOLDS = 4
"""Recordings are held out in so many groups, or one by one where there are fewer."""

Fit = Callable[[Sequence[EpisodeLog], str], Randomization]
"""Recordings and the name of a model -> what was identified."""
Fits = Callable[[Sequence[tuple[Sequence[int], str]]], Sequence[Randomization]]
"""The same of many: indices of recordings and the name of a model, each."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Held-out errors of each candidate, on the same windows."""

    scored: dict[str, Prediction]
    horizon_s: float

    @property
    def chosen(self) -> str:
        """The simplest candidate that none beats with an interval that excludes zero; the simplest come first."""
        names = list(self.scored)
        for i, name in enumerate(names):
            gaps = [self.gap(other, name) for other in names[i + 1 :]]
            if all(gap["ci95"][1] >= 0.0 for gap in gaps):
                return name
        return names[-1]

    def gap(self, a: str, b: str) -> dict[str, Any]:
        """Held-out position RMSE of `a` less that of `b` [rad]."""
        return difference(self.scored[a], self.scored[b], self.horizon_s, np.random.default_rng(0))

    def rows(self) -> list[dict[str, Any]]:
        """A row a candidate: held-out errors, and how much more than the chosen one's."""
        chosen, out = self.chosen, []
        for name, prediction in self.scored.items():
            figures = prediction.result(np.random.default_rng(0))
            gap = self.gap(name, chosen) if name != chosen else None
            row = {"model": name, "held_out": figures["prediction"], "files": figures["files"]}
            out.append(row | {"more_than_chosen": gap, "chosen": name == chosen})
        return out


def select(
    logs: Sequence[EpisodeLog], model: Callable[[], Model], names: Sequence[str], fit: Fit, fits: Fits | None = None
) -> Selection:
    """Fit every candidate to all groups of recordings but one, and score it on that one, for each group in turn.

    `fits` does all of them at once, in the place of `fit`. DataRefused with a single recording, of which nothing can be
    held out.
    """
    if len(logs) < 2:
        raise DataRefused("models= compares held-out errors and needs two recordings at least; the data set has one.")
    folds, each = min(FOLDS, len(logs)), range(len(logs))
    wanted = [([i for i in each if i % folds != k], name) for name in names for k in range(folds)]
    laws = iter(fits(wanted) if fits is not None else (fit([logs[i] for i in kept], name) for kept, name in wanted))
    scored = {}
    for name in names:
        groups = [[log for i, log in enumerate(logs) if i % folds == k] for k in range(folds)]
        scored[name] = pooled([evaluate(held, model(), next(laws)) for held in groups])
    horizons = next(iter(scored.values())).horizons_s
    return Selection(scored, horizons[1])

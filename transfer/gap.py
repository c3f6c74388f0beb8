"""The gap budget: what each part of a correction takes off the error on recordings that no part has seen.

nominal -> + delay -> + identified -> + residual, each step's prediction scored on the same windows, and its gain over
the step before paired by window, so that a part that does nothing shows an interval about zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot.log import EpisodeLog
from sim.model import Model
from sim.randomization import NOMINAL, Point, Randomization, Term
from transfer.prediction import Prediction, difference, evaluate


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the correction with everything before it."""

    name: str
    prediction: Prediction
    gain: dict[str, dict[str, Any]] | None
    """Horizon -> position RMSE less that of the step before [rad]: mean, ci95, n; None of the first."""

    def row(self, rng: np.random.Generator) -> dict[str, Any]:
        """As result.json has it."""
        return {"step": self.name, "prediction": self.prediction.result(rng)["prediction"], "change": self.gain}


def budget(logs: Sequence[EpisodeLog], model: Callable[[], Model], law: Randomization, seed: int = 0) -> list[Step]:
    """The steps that `law` has, in order; DataRefused as for evaluate()."""
    steps: list[Step] = []
    for name, part in parts(law, model()):
        prediction = evaluate(logs, model(), part)
        steps.append(Step(name, prediction, _gains(prediction, steps[-1].prediction, seed) if steps else None))
    return steps


def parts(law: Randomization, model: Model) -> list[tuple[str, Randomization]]:
    """Parameter sets of the steps: how a command comes late alone, then everything identified, then the network."""
    timing = {t: float(v[0]) for t, v in law.center(model).items() if t.startswith("timing/")}
    without = tuple(term for term in law.terms if not term.targets[0].startswith("residual/"))
    found = [("nominal", NOMINAL)]
    if timing:
        term = Term(targets=tuple(timing), law=Point(values=tuple(timing.values())))
        found.append(("+ delay", Randomization(name="delay", terms=(term,), robot=law.robot)))
    if len(without) < len(law.terms):
        found.append(("+ identified", Randomization(name="identified", terms=without, robot=law.robot)))
        return [*found, ("+ residual", law)]
    return [*found, ("+ identified", law)]


def _gains(now: Prediction, before: Prediction, seed: int) -> dict[str, dict[str, Any]]:
    """Horizon -> the change of position RMSE [rad], paired by window."""
    horizons = now.horizons_s
    return {f"{s:.1f}": difference(now, before, s, np.random.default_rng(seed)) for s in horizons}

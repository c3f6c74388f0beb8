"""Mixture: a randomization that draws each simulation's parameters from one of several laws, chosen at random.

Two robots, two days of one, or an identified robot beside the prior: what is trained on all of them forgets none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError
from sim.model import Model
from sim.randomization import Point, Randomization, Term

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Mixture(Randomization):
    """A randomization whose draws come from `parts`; what a part does not name stays at the nominal there."""

    parts: tuple[Randomization, ...]
    weights: tuple[float, ...]
    """Share of the draws that come from each part; they add up to 1."""
    model: Model = field(repr=False, compare=False)
    """What the parts' laws are combined with: some of them scale a nominal."""

    @classmethod
    def of(cls, model: Model, parts: Sequence[Randomization], weights: Sequence[float]) -> Mixture:
        """ConfigError when a part is for another robot, or the weights are no shares."""
        if len(parts) != len(weights) or min(weights) < 0.0 or not sum(weights) > 0.0:
            raise ConfigError(f"a mixture of {len(parts)} laws needs as many weights of at least 0, not {weights}.")
        for part in parts:
            part.check(model)
        names = dict.fromkeys(target for part in parts for target in part.targets)
        middle = {target: model.nominal(target) for target in names}
        for part in reversed(parts):
            middle |= {target: float(value[0]) for target, value in part.center(model).items()}
        return cls(
            name=" + ".join(part.name for part in parts),
            robot=model.spec.name,
            terms=tuple(Term(targets=(target,), law=Point(values=(middle[target],))) for target in names),
            parts=tuple(parts),
            weights=tuple(float(w) / sum(weights) for w in weights),
            model=model,
        )

    @property
    def fixed(self) -> bool:
        """Never: even fixed parts differ."""
        return False

    def draw_laws(self, rng: np.random.Generator, n: int) -> list[Array]:
        """n draws, (n, 1) for each target: of a part chosen anew for each."""
        chosen = rng.choice(len(self.parts), n, p=self.weights)
        values = {target: np.full((n, 1), self.model.nominal(target)) for target in self.targets}
        for number, part in enumerate(self.parts):
            rows = np.flatnonzero(chosen == number)
            for target, drawn in part.draw(self.model, rng, len(rows)).items():
                values[target][rows, 0] = drawn
        return list(values.values())

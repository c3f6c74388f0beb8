"""Arranged: a randomization that gives the rows it was told, in order, instead of drawing them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError
from sim.randomization import Point, Randomization, Term

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Arranged(Randomization):
    """A randomization whose draws are given: simulation i gets row i."""

    rows: tuple[Array, ...] = ()
    """One a term, (n, 1) each."""

    @classmethod
    def of(cls, name: str, values: Mapping[str, Array]) -> Arranged:
        """From target -> (n,) values to be set; its center is their median."""
        terms = tuple(Term(targets=(t,), law=Point(values=(float(np.median(v)),))) for t, v in values.items())
        return cls(name=name, terms=terms, rows=tuple(v[:, None] for v in values.values()))

    def draw_laws(self, rng: np.random.Generator, n: int) -> list[Array]:
        """The rows; ConfigError for another number of simulations than there are rows."""
        for target, rows in zip(self.targets, self.rows, strict=True):
            if len(rows) != n:
                raise ConfigError(f"randomization '{self.name}': {target} has {len(rows)} rows for {n} simulations.")
        return list(self.rows)

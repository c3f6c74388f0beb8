"""Randomization: named physical quantities and the laws they are drawn from.

A *nominal* or *published* parameter set (point laws), a *prior* (from YAML) and a *posterior* (from
identification) are the same type, so training never knows which one it got. Draws always start from the
robot's nominal, so they never pile up over resets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from robot import config
from robot.config import ConfigError
from sim.curriculum import Settings
from sim.laws import (
    Categorical,
    JointGaussian,
    Law,
    LogUniform,
    Normal,
    Point,
    TruncatedNormal,
    Uniform,
    from_coordinates,
    to_coordinates,
)
from sim.model import TARGETS, Model, split
from sim.targets import check_ranges

Array = npt.NDArray[np.float64]

COMBINE: dict[str, Callable[[Array, Array], Array]] = {
    "set": lambda nominal, drawn: np.broadcast_to(drawn, np.broadcast_shapes(nominal.shape, drawn.shape)),
    "scale": lambda nominal, drawn: nominal * drawn,
    "offset": lambda nominal, drawn: nominal + drawn,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """One law over some targets."""

    targets: tuple[str, ...]
    """Rows of sim.model.TARGETS, which know unit and valid range."""
    how: Literal["set", "scale", "offset"] = "set"
    law: Law
    tie: bool = False
    """Whether all targets get the one value drawn (both rotors are the same motor, say)."""

    def __post_init__(self) -> None:
        for target in self.targets:
            split(target)
        count = {"point": lambda law: len(law.values), "joint_gaussian": lambda law: len(law.mean)}
        size = count.get(self.law.kind, lambda law: self.size)(self.law)
        if size != self.size:
            raise ConfigError(
                f"term over {list(self.targets)}: its law has {size} values for {len(self.targets)} targets."
            )

    @property
    def size(self) -> int:
        """How many numbers its law draws."""
        return 1 if self.tie else len(self.targets)

    def apply(self, nominal: Array, drawn: Array) -> Array:
        """(n, n_targets) values of what the law has drawn, (n, size); `nominal` is (n_targets,).

        From the nominal, so draws never pile up over resets.
        """
        return COMBINE[self.how](nominal, drawn)


@dataclass(frozen=True, kw_only=True, slots=True)
class Randomization:
    """A set of terms under a name."""

    name: str
    terms: tuple[Term, ...] = ()
    source: str = ""
    """Where the numbers come from: a publication, a person's judgement, or the logs of an identification."""
    robot: str = ""
    """Robot it was made for; empty for any. Another robot refuses it by name."""
    curriculum: Settings | None = None
    """How training moves within the laws; evaluation draws from the laws as they stand."""
    meta: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = self.targets
        double = next((t for t in named if named.count(t) > 1), None)
        if double:
            raise ConfigError(f"randomization '{self.name}': target '{double}' stands in two terms.")

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(t for term in self.terms for t in term.targets)

    @property
    def fixed(self) -> bool:
        """Whether every draw is the same."""
        return all(term.law.kind == "point" for term in self.terms)

    def check(self, model: Model) -> None:
        """ConfigError when it was made for another robot, or names a target that this one lacks."""
        if self.robot and self.robot != model.spec.name:
            raise ConfigError(
                f"randomization '{self.name}' was made for robot '{self.robot}'; this robot is '{model.spec.name}'."
            )
        for target in self.targets:
            model.nominal(target)

    def draw(self, model: Model, rng: np.random.Generator, n: int) -> dict[str, Array]:
        """n draws: target -> (n,). ConfigError when a draw leaves its target's valid range."""
        return self.combine(model, self.draw_laws(rng, n))

    def draw_laws(self, rng: np.random.Generator, n: int) -> list[Array]:
        """n draws of each term's law, (n, size) each, before they meet the nominal."""
        return [term.law.draw(rng, n, term.size) for term in self.terms]

    def center(self, model: Model, n: int = 1) -> dict[str, Array]:
        """The middle of each law (the estimate, for a posterior), repeated n times: target -> (n,)."""
        return self.combine(model, [np.tile(term.law.center(term.size), (n, 1)) for term in self.terms])

    def combine(self, model: Model, drawn: Sequence[Array]) -> dict[str, Array]:
        """What the laws have drawn, (n, size) a term, as values: target -> (n,); ConfigError as for draw()."""
        out: dict[str, Array] = {}
        for term, numbers in zip(self.terms, drawn, strict=True):
            values = term.apply(np.array([model.nominal(t) for t in term.targets]), numbers)
            check_ranges(term.targets, values)
            out |= zip(term.targets, np.ascontiguousarray(values.T), strict=True)
        return out


NOMINAL = Randomization(name="nominal", source="the robot's own nominal values")


def load(path: Path) -> Randomization:
    """Read a randomization, a published parameter set or a posterior from YAML."""
    return config.load(Randomization, path)


__all__ = [
    "NOMINAL", "TARGETS", "Categorical", "JointGaussian", "LogUniform", "Normal", "Point", "Randomization", "Term",
    "TruncatedNormal", "Uniform", "from_coordinates", "load", "to_coordinates",
]  # fmt: skip

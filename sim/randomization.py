"""Randomization: named physical quantities and the laws they are drawn from.

A *nominal* or *published* parameter set (point laws), a *prior* (from YAML) and a *posterior* (from
identification) are the same type, so training never knows which one it got. Draws always start from the
robot's nominal, so they never pile up over resets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from robot import config
from robot.config import ConfigError
from sim.model import TARGETS, Model, check_range, split

Array = npt.NDArray[np.float64]

COMBINE: dict[str, Callable[[Array, Array], Array]] = {
    "set": lambda nominal, drawn: np.broadcast_to(drawn, np.broadcast_shapes(nominal.shape, drawn.shape)),
    "scale": lambda nominal, drawn: nominal * drawn,
    "offset": lambda nominal, drawn: nominal + drawn,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """Always the same values, one a target."""

    kind: Literal["point"] = "point"
    values: tuple[float, ...]

    def draw(self, rng: np.random.Generator, n: int, k: int) -> Array:
        return np.tile(self.center(k), (n, 1))

    def center(self, k: int) -> Array:
        return np.array(self.values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Uniform:
    """Uniform on [low, high]; each target of the term is drawn by itself."""

    kind: Literal["uniform"] = "uniform"
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ConfigError(f"uniform law: low {self.low} is above high {self.high}.")

    def draw(self, rng: np.random.Generator, n: int, k: int) -> Array:
        return rng.uniform(self.low, self.high, (n, k))

    def center(self, k: int) -> Array:
        return np.full(k, 0.5 * (self.low + self.high))


@dataclass(frozen=True, kw_only=True, slots=True)
class LogUniform:
    """Uniform in the logarithm on [low, high], both above 0."""

    kind: Literal["log_uniform"] = "log_uniform"
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high:
            raise ConfigError(f"log_uniform law: needs 0 < low <= high, found [{self.low}, {self.high}].")

    def draw(self, rng: np.random.Generator, n: int, k: int) -> Array:
        return np.exp(rng.uniform(np.log(self.low), np.log(self.high), (n, k)))

    def center(self, k: int) -> Array:
        return np.full(k, np.sqrt(self.low * self.high))


@dataclass(frozen=True, kw_only=True, slots=True)
class JointGaussian:
    """Gaussian in transformed coordinates, jointly over the targets, so that no draw is unphysical.

    `log`: the coordinate is log(x). `logit`: log((x - low) / (high - x)) with the target's `bounds`.
    `none`: x itself.
    """

    kind: Literal["joint_gaussian"] = "joint_gaussian"
    transform: tuple[Literal["log", "logit", "none"], ...]
    bounds: tuple[tuple[float, float], ...]
    """[low, high] of each target; used by `logit` alone."""
    mean: tuple[float, ...]
    """In transformed coordinates."""
    covariance: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        k = len(self.mean)
        if any(len(x) != k for x in (self.transform, self.bounds, self.covariance, *self.covariance)):
            raise ConfigError("joint_gaussian law: transform, bounds, mean and covariance disagree about the size.")
        matrix = np.array(self.covariance)
        if not np.allclose(matrix, matrix.T) or np.linalg.eigvalsh(matrix).min() < -1e-9 * max(
            1.0, np.abs(matrix).max()
        ):
            raise ConfigError("joint_gaussian law: covariance is not symmetric positive semidefinite.")

    def draw(self, rng: np.random.Generator, n: int, k: int) -> Array:
        coordinates = rng.multivariate_normal(np.array(self.mean), np.array(self.covariance), size=n, method="eigh")
        return self.physical(coordinates)

    def center(self, k: int) -> Array:
        return self.physical(np.array(self.mean)[None])[0]

    def physical(self, coordinates: Array) -> Array:
        """(n, k) transformed coordinates to physical values."""
        return from_coordinates(coordinates, self.transform, self.bounds)


Law = Point | Uniform | LogUniform | JointGaussian


def from_coordinates(x: Array, transform: tuple[str, ...], bounds: tuple[tuple[float, float], ...]) -> Array:
    """Transformed coordinates (n, k) to physical values (n, k)."""
    out = np.array(x, dtype=np.float64)
    for i, kind in enumerate(transform):
        if kind == "log":
            out[:, i] = np.exp(x[:, i])
        elif kind == "logit":
            low, high = bounds[i]
            out[:, i] = low + (high - low) / (1.0 + np.exp(-x[:, i]))
    return out


def to_coordinates(values: Array, transform: tuple[str, ...], bounds: tuple[tuple[float, float], ...]) -> Array:
    """Physical values (n, k) to transformed coordinates (n, k); the inverse of from_coordinates."""
    out = np.array(values, dtype=np.float64)
    for i, kind in enumerate(transform):
        if kind == "log":
            out[:, i] = np.log(values[:, i])
        elif kind == "logit":
            low, high = bounds[i]
            out[:, i] = np.log((values[:, i] - low) / (high - values[:, i]))
    return out


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
        size = count.get(self.law.kind, lambda law: len(self.targets))(self.law)
        if size not in (len(self.targets), 1 if self.tie else len(self.targets)):
            raise ConfigError(
                f"term over {list(self.targets)}: its law has {size} values for {len(self.targets)} targets."
            )

    def apply(self, nominal: Array, rng: np.random.Generator, n: int) -> Array:
        """(n, n_targets) values; `nominal` is (n_targets,). From the nominal, so draws never pile up over resets."""
        return COMBINE[self.how](nominal, self.law.draw(rng, n, 1 if self.tie else len(self.targets)))

    def center(self, nominal: Array) -> Array:
        """(n_targets,) the law's middle, combined with the nominal."""
        return COMBINE[self.how](nominal, self.law.center(1 if self.tie else len(self.targets)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Randomization:
    """A set of terms under a name."""

    name: str
    terms: tuple[Term, ...] = ()
    source: str = ""
    """Where the numbers come from: a publication, a person's judgement, or the logs of an identification."""
    robot: str = ""
    """Robot it was made for; empty for any. Another robot refuses it by name."""
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
        return self._values(model, lambda term, nominal: term.apply(nominal, rng, n))

    def center(self, model: Model, n: int = 1) -> dict[str, Array]:
        """The middle of each law (the estimate, for a posterior), repeated n times: target -> (n,)."""
        return self._values(model, lambda term, nominal: np.tile(term.center(nominal), (n, 1)))

    def _values(self, model: Model, values_of: Callable[[Term, Array], Array]) -> dict[str, Array]:
        out: dict[str, Array] = {}
        for term in self.terms:
            nominal = np.array([model.nominal(t) for t in term.targets])
            values = values_of(term, nominal)
            for i, target in enumerate(term.targets):
                check_range(target, values[:, i])
                out[target] = np.ascontiguousarray(values[:, i])
        return out


NOMINAL = Randomization(name="nominal", source="the robot's own nominal values")


def load(path: Path) -> Randomization:
    """Read a randomization, a published parameter set or a posterior from YAML."""
    return config.load(Randomization, path)


__all__ = [
    "NOMINAL", "TARGETS", "JointGaussian", "LogUniform", "Point", "Randomization", "Term", "Uniform",
    "from_coordinates", "load", "to_coordinates",
]  # fmt: skip

"""Laws: what a randomized quantity is drawn from.

A law draws (n, k) numbers for k targets; Term in sim/randomization.py turns them into values of the targets. To add
one: a frozen dataclass with a `kind` and the methods of Point, its name in Law, and a test of its moments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError

Array = npt.NDArray[np.float64]
USUAL_SHARE = 0.3
"""Share of a normal law inside its bounds from which rejecting the rest is the quickest way to draw."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """Always the same values, one a target."""

    kind: Literal["point"] = "point"
    values: tuple[float, ...]

    def draw(self, rng: np.random.Generator, n: int, k: int) -> Array:
        """(n, k) draws."""
        return np.tile(self.center(k), (n, 1))

    def center(self, k: int) -> Array:
        """(k,) the middle."""
        return np.array(self.values)

    def near(self, values: Array, rng: np.random.Generator, width: float) -> Array:
        """Draws close to earlier ones (n, k): the same at `width` 0, as far as the law reaches at 1."""
        return values


@dataclass(frozen=True, kw_only=True, slots=True)
class Uniform:
    """Uniform on [low, high]; each target of the term is drawn by itself."""

    kind: Literal["uniform"] = "uniform"
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ConfigError(f"uniform law: low {self.low} is above high {self.high}.")

    def at(self, share: Array | float) -> Array:
        """The values that lie at these shares of the range, 0 to 1."""
        return np.asarray(self.low + (self.high - self.low) * np.asarray(share))

    def share(self, values: Array | float) -> Array:
        """The inverse of at(); 0.5 for a law of one value."""
        width = self.high - self.low
        return (np.asarray(values) - self.low) / width if width else np.full(np.shape(values), 0.5)

    def draw(self, rng: np.random.Generator, n: int, k: int) -> Array:
        """(n, k) draws."""
        return rng.uniform(self.low, self.high, (n, k))

    def center(self, k: int) -> Array:
        """(k,) the middle."""
        return np.full(k, 0.5 * (self.low + self.high))

    def near(self, values: Array, rng: np.random.Generator, width: float) -> Array:
        """Draws close to earlier ones (n, k), reflected at the bounds."""
        return self.at(_reflected(self.share(values) + width * rng.standard_normal(values.shape)))


@dataclass(frozen=True, kw_only=True, slots=True)
class LogUniform:
    """Uniform in the logarithm on [low, high], both above 0."""

    kind: Literal["log_uniform"] = "log_uniform"
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high:
            raise ConfigError(f"log_uniform law: needs 0 < low <= high, found [{self.low}, {self.high}].")

    def at(self, share: Array | float) -> Array:
        """The values that lie at these shares of the range's logarithm, 0 to 1."""
        return np.asarray(self.low * (self.high / self.low) ** np.asarray(share))

    def share(self, values: Array | float) -> Array:
        """The inverse of at(); 0.5 for a law of one value."""
        width = math.log(self.high / self.low)
        return np.log(np.asarray(values) / self.low) / width if width else np.full(np.shape(values), 0.5)

    def draw(self, rng: np.random.Generator, n: int, k: int) -> Array:
        """(n, k) draws."""
        return np.exp(rng.uniform(np.log(self.low), np.log(self.high), (n, k)))

    def center(self, k: int) -> Array:
        """(k,) the middle of the logarithm."""
        return np.full(k, np.sqrt(self.low * self.high))

    def near(self, values: Array, rng: np.random.Generator, width: float) -> Array:
        """Draws close to earlier ones (n, k), reflected at the bounds."""
        return self.at(_reflected(self.share(values) + width * rng.standard_normal(values.shape)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Normal:
    """Normal; each target of the term is drawn by itself. A draw outside a target's valid range is an error."""

    kind: Literal["normal"] = "normal"
    mean: float
    sd: float

    def __post_init__(self) -> None:
        if not self.sd >= 0:
            raise ConfigError(f"normal law: sd is {self.sd}; it must be at least 0.")

    def draw(self, rng: np.random.Generator, n: int, k: int) -> Array:
        """(n, k) draws."""
        return rng.normal(self.mean, self.sd, (n, k))

    def center(self, k: int) -> Array:
        """(k,) the mean."""
        return np.full(k, self.mean)

    def near(self, values: Array, rng: np.random.Generator, width: float) -> Array:
        """Draws close to earlier ones (n, k), by a step that keeps the law."""
        fresh = self.draw(rng, *values.shape) - self.mean
        return self.mean + math.sqrt(1.0 - width**2) * (values - self.mean) + width * fresh


@dataclass(frozen=True, kw_only=True, slots=True)
class TruncatedNormal:
    """Normal, of which only the draws inside [low, high] count; `mean` and `sd` are those before the cut."""

    kind: Literal["truncated_normal"] = "truncated_normal"
    mean: float
    sd: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not (self.sd > 0 and self.low < self.high):
            raise ConfigError(
                f"truncated_normal law: needs sd above 0 and low below high, found sd {self.sd} and "
                f"[{self.low}, {self.high}]."
            )

    def draw(self, rng: np.random.Generator, n: int, k: int) -> Array:
        """(n, k) draws, exact, by rejection: of the normal where enough of it is inside, else of a uniform."""
        low, high = (self.low - self.mean) / self.sd, (self.high - self.mean) / self.sd
        inside = 0.5 * (math.erf(high / math.sqrt(2.0)) - math.erf(low / math.sqrt(2.0)))
        densest = min(max(0.0, low), high)
        found = np.empty(n * k)
        missing = np.arange(n * k)
        while missing.size:
            if inside > USUAL_SHARE:
                x = rng.standard_normal(missing.size)
                good = (x >= low) & (x <= high)
            else:
                x = rng.uniform(low, high, missing.size)
                good = rng.random(missing.size) < np.exp(0.5 * (densest**2 - np.square(x)))
            found[missing[good]] = x[good]
            missing = missing[~good]
        return np.clip(self.mean + self.sd * found, self.low, self.high).reshape(n, k)

    def center(self, k: int) -> Array:
        """(k,) the most likely value."""
        return np.full(k, min(max(self.mean, self.low), self.high))

    def near(self, values: Array, rng: np.random.Generator, width: float) -> Array:
        """Draws close to earlier ones (n, k), by a step of Metropolis, which keeps the law."""
        share = (values - self.low) / (self.high - self.low) + width * rng.standard_normal(values.shape)
        moved = self.low + (self.high - self.low) * _reflected(share)
        energy = [0.5 * np.square((x - self.mean) / self.sd) for x in (values, moved)]
        return np.where(np.log1p(-rng.random(values.shape)) < energy[0] - energy[1], moved, values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Categorical:
    """One of some values, with weights (equal ones by default); each target of the term is drawn by itself."""

    kind: Literal["categorical"] = "categorical"
    values: tuple[float, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        weights = self.weights or (1.0,) * len(self.values)
        if not self.values or len(weights) != len(self.values) or min(weights) < 0 or not sum(weights) > 0:
            raise ConfigError(
                "categorical law: needs values, and as many weights, none below 0 and not all 0, or none at all."
            )

    @property
    def _shares(self) -> Array:
        weights = np.array(self.weights or (1.0,) * len(self.values))
        return weights / weights.sum()

    def draw(self, rng: np.random.Generator, n: int, k: int) -> Array:
        """(n, k) draws."""
        return rng.choice(np.array(self.values), size=(n, k), p=self._shares)

    def center(self, k: int) -> Array:
        """(k,) the most likely value, the first of equals."""
        return np.full(k, self.values[int(np.argmax(self._shares))])

    def near(self, values: Array, rng: np.random.Generator, width: float) -> Array:
        """Earlier draws (n, k), of which a share `width` is drawn again."""
        again = rng.random(values.shape) < width
        return np.where(again, self.draw(rng, *values.shape), values)


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
        """(n, k) draws."""
        return self.physical(self._coordinates(rng, n))

    def _coordinates(self, rng: np.random.Generator, n: int) -> Array:
        return rng.multivariate_normal(np.array(self.mean), np.array(self.covariance), size=n, method="eigh")

    def center(self, k: int) -> Array:
        """(k,) the mean of the coordinates."""
        return self.physical(np.array(self.mean)[None])[0]

    def near(self, values: Array, rng: np.random.Generator, width: float) -> Array:
        """Draws close to earlier ones (n, k), by a step that keeps the law."""
        mean, here = np.array(self.mean), to_coordinates(values, self.transform, self.bounds)
        fresh = self._coordinates(rng, len(values)) - mean
        return self.physical(mean + math.sqrt(1.0 - width**2) * (here - mean) + width * fresh)

    def physical(self, coordinates: Array) -> Array:
        """(n, k) transformed coordinates to physical values."""
        return from_coordinates(coordinates, self.transform, self.bounds)


Law = Point | Uniform | LogUniform | Normal | TruncatedNormal | Categorical | JointGaussian


def _reflected(share: Array) -> Array:
    """Numbers folded back into [0, 1] at its ends."""
    return 1.0 - np.abs(1.0 - np.mod(share, 2.0))


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

"""Monitor: does the policy see what it saw in training? Mahalanobis distance of observation and context to training's.

Its statistics travel in the bundle as monitor.npz. A reading is unfamiliar when it and the PATIENCE - 1 before it lie
beyond the limit, which is set on episodes that the statistics have not seen, to a stated rate of false alarms. What
follows from it is for robot/safety.py and the person who runs the robot: a warning, less torque, or the end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import mul

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating]

PATIENCE = 3
"""Readings in a row that must be beyond the limit."""
FALSE_ALARM = 1e-3
"""Share of familiar readings that may be called unfamiliar."""
_SHRINK = 1e-2
"""Share of the diagonal added to the covariance: features such as cos and sin are nearly dependent."""
_FEW = 16
"""Components up to which plain numbers are quicker than arrays."""
_MARGIN = 1.5
"""Without episodes to set the limit on: the limit as a multiple of the largest distance in training."""


@dataclass(frozen=True, slots=True)
class Region:
    """Where D numbers lay in training, and how far from there is too far."""

    components: tuple[str, ...]
    mean: Array
    std: Array
    low: Array
    high: Array
    precision: Array
    """(D, D) inverse covariance."""
    limit: float
    """Distance above which a row is unfamiliar."""
    _whiten: Array = field(init=False, repr=False)
    """(D, D) lower triangular: its product with a row, less that with the mean, is as long as the row is far."""
    _rows: list[tuple[list[float], float]] = field(init=False, repr=False, compare=False)
    """Its rows up to the diagonal, each with what is taken off, where there are few: in plain numbers (see
    robot/one_robot.py)."""

    def __post_init__(self) -> None:
        upper = np.linalg.cholesky(self.precision[::-1, ::-1]).T
        whiten = np.ascontiguousarray(upper[::-1, ::-1])
        object.__setattr__(self, "_whiten", whiten)
        few = enumerate(whiten) if len(whiten) <= _FEW else ()
        rows = [(row[: i + 1].tolist(), -float(row @ self.mean)) for i, row in few]
        object.__setattr__(self, "_rows", rows)

    @classmethod
    def fit(cls, components: tuple[str, ...], rows: Floats) -> Region:
        """Statistics of `rows` (n, D) with the names `components`; ValueError when n < 2 or shapes differ."""
        x = np.asarray(rows, dtype=np.float64)
        if x.ndim != 2 or len(x) < 2 or x.shape[1] != len(components):
            raise ValueError(f"observations have shape {x.shape}; (n >= 2, {len(components)}) is needed")
        mean, std = x.mean(axis=0), x.std(axis=0)
        variance = np.maximum(std**2, 1e-6)  # a component that never moved in training may move a little
        covariance = np.atleast_2d(np.cov(x, rowvar=False)) + np.diag(_SHRINK * variance)
        precision = np.linalg.inv(covariance).astype(np.float64)
        region = cls(components, mean, std, x.min(axis=0), x.max(axis=0), 0.5 * (precision + precision.T), math.inf)
        return replace(region, limit=_MARGIN * float(region.distances(x).max()))

    def distances(self, rows: Floats) -> Array:
        """(...) Mahalanobis distances of rows (..., D)."""
        return np.asarray(np.linalg.norm((np.asarray(rows, np.float64) - self.mean) @ self._whiten.T, axis=-1))

    def distance(self, row: Floats) -> float:
        """Mahalanobis distance of one row (D,)."""
        if not self._rows:
            white = self._whiten.dot(row - self.mean)
            return math.sqrt(white.dot(white))
        values = row.tolist()
        return math.hypot(*[sum(map(mul, weights, values), start) for weights, start in self._rows])

    def beyond(self, row: Floats) -> bool:
        """Whether one row is unfamiliar; not when it is not a number, which is a fault elsewhere."""
        return self.distance(row) > self.limit

    def unfamiliar(self, row: Floats) -> str | None:
        """None, or a sentence with the component that is farthest from the training data."""
        distance = self.distance(row)
        if not distance > self.limit:
            return None
        i = int(np.argmax(np.abs(row - self.mean) / np.maximum(self.std, 1e-3)))
        return (
            f"is {distance / self.limit:.1f} times as far from training as its limit; "
            f"'{self.components[i]}' is {row[i]:.4g}, in training [{self.low[i]:.4g}, {self.high[i]:.4g}]"
        )

    def limited_on(self, episodes: Floats, patience: int, false_alarm: float) -> Region:
        """The same with the limit that a share `false_alarm` of the rows of `episodes` (steps, n, D) is beyond."""
        distances = self.distances(episodes)
        count = max(len(distances) - patience + 1, 1)
        lasting = np.min([distances[k : k + count] for k in range(min(patience, len(distances)))], axis=0)
        return replace(self, limit=float(np.quantile(lasting, 1.0 - false_alarm, method="higher")))


_FIELDS = ("mean", "std", "low", "high", "precision")


@dataclass(frozen=True, slots=True)
class Monitor:
    """Regions of the observation and, where there is a physics encoder, of its context."""

    observation: Region
    context: Region | None = None
    patience: int = 1
    false_alarm: float = math.nan
    """Share of familiar readings beyond a limit; NaN where no episodes were at hand to set it on."""

    @classmethod
    def fit(
        cls,
        components: tuple[str, ...],
        observations: Floats,
        contexts: Floats | None = None,
        false_alarm: float = FALSE_ALARM,
    ) -> Monitor:
        """Of `observations` (n, D), or of episodes (steps, n, D): statistics on the first half, limits on the other.

        `contexts` (n, Z) or (steps, n, Z) likewise. ValueError when there are fewer than two rows or shapes differ.
        """
        observation, context = _region(components, np.asarray(observations), false_alarm), None
        if contexts is not None:
            names = tuple(f"context/{i}" for i in range(contexts.shape[-1]))
            context = _region(names, np.asarray(contexts), false_alarm)
        if observations.ndim == 2:
            return cls(observation, context)
        return cls(observation, context, PATIENCE, false_alarm)

    def beyond(self, observation: Floats, context: Floats | None = None) -> bool:
        """Whether this one reading is unfamiliar: what unfamiliar() says, without the price of a sentence."""
        return self.observation.beyond(observation) or (
            self.context is not None and context is not None and self.context.beyond(context)
        )

    def unfamiliar(self, observation: Floats, context: Floats | None = None) -> str | None:
        """None, or a sentence why this one reading is unfamiliar."""
        text = self.observation.unfamiliar(observation)
        if text is not None:
            return f"observation {text}"
        if self.context is not None and context is not None:
            text = self.context.unfamiliar(context)
        return None if text is None else f"context {text}"

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """What monitor.npz holds."""
        found: dict[str, npt.NDArray[np.generic]] = {
            "patience": np.array(self.patience),
            "false_alarm": np.array(self.false_alarm),
        }
        for name, region in (("observation", self.observation), ("context", self.context)):
            if region is not None:
                found[f"{name}.components"] = np.array(region.components)
                found[f"{name}.limit"] = np.array(region.limit)
                found |= {f"{name}.{f}": getattr(region, f) for f in _FIELDS}
        return found

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> Monitor:
        """The inverse of arrays(); KeyError when one is missing."""
        regions = {}
        for name in ("observation", "context") if "context.mean" in arrays else ("observation",):
            values = {f: np.asarray(arrays[f"{name}.{f}"], np.float64) for f in _FIELDS}
            components = tuple(str(c) for c in arrays[f"{name}.components"])
            regions[name] = Region(components=components, limit=float(arrays[f"{name}.limit"]), **values)
        return cls(**regions, patience=int(arrays["patience"]), false_alarm=float(arrays["false_alarm"]))


def _region(components: tuple[str, ...], rows: Array, false_alarm: float) -> Region:
    if rows.ndim == 2:
        return Region.fit(components, rows)
    half = max(rows.shape[1] // 2, 1)
    region = Region.fit(components, rows[:, :half].reshape(-1, rows.shape[2]))
    return region.limited_on(rows[:, half:] if rows.shape[1] > 1 else rows, PATIENCE, false_alarm)

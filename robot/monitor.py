"""Monitor: does the policy see what it saw in training? Mahalanobis distance to the training observations.

Its statistics travel in the bundle as monitor.npz. By default the runtime warns and goes on (see
robot/safety.py): a policy outside its training data is a matter for a person, not always for the brake.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_SHRINK = 1e-2
"""Share of the diagonal added to the covariance: features such as cos and sin are nearly dependent."""
_MARGIN = 1.5
"""The limit, as a multiple of the largest distance in training."""


@dataclass(frozen=True, slots=True)
class Monitor:
    """Statistics of D observation components over the training data."""

    components: tuple[str, ...]
    mean: Array
    std: Array
    low: Array
    high: Array
    precision: Array
    """(D, D) inverse covariance."""
    limit: float
    """Distance above which an observation is unfamiliar."""

    @classmethod
    def fit(cls, components: tuple[str, ...], observations: npt.NDArray[np.floating]) -> Monitor:
        """Statistics of `observations` (n, D) with the names `components`; ValueError when n < 2 or shapes differ."""
        x = np.asarray(observations, dtype=np.float64)
        if x.ndim != 2 or len(x) < 2 or x.shape[1] != len(components):
            raise ValueError(f"observations have shape {x.shape}; (n >= 2, {len(components)}) is needed")
        mean, std = x.mean(axis=0), x.std(axis=0)
        variance = np.maximum(std**2, 1e-6)  # a component that never moved in training may move a little
        covariance = np.atleast_2d(np.cov(x, rowvar=False)) + np.diag(_SHRINK * variance)
        precision = np.linalg.inv(covariance).astype(np.float64)
        centred = x - mean
        limit = _MARGIN * float(np.sqrt(np.einsum("ni,ij,nj->n", centred, precision, centred).max()))
        return cls(components, mean, std, x.min(axis=0), x.max(axis=0), precision, limit)

    def distance(self, observation: npt.NDArray[np.floating]) -> float:
        """Mahalanobis distance of one observation (D,)."""
        centred = observation - self.mean
        return math.sqrt(centred @ self.precision @ centred)

    def unfamiliar(self, observation: npt.NDArray[np.floating]) -> str | None:
        """None, or a sentence with the component that is farthest from the training data."""
        distance = self.distance(observation)
        if not distance > self.limit:  # also when it is not a number, which is a fault elsewhere
            return None
        i = int(np.argmax(np.abs(observation - self.mean) / np.maximum(self.std, 1e-3)))
        return (
            f"observation is {distance / self.limit:.1f} times as far from training as its limit; "
            f"'{self.components[i]}' is {observation[i]:.4g}, in training [{self.low[i]:.4g}, {self.high[i]:.4g}]"
        )

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """What monitor.npz holds."""
        return {
            "components": np.array(self.components),
            "mean": self.mean,
            "std": self.std,
            "low": self.low,
            "high": self.high,
            "precision": self.precision,
            "limit": np.array(self.limit),
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> Monitor:
        """The inverse of arrays(); KeyError when one is missing."""
        values = {k: np.asarray(arrays[k], np.float64) for k in ("mean", "std", "low", "high", "precision")}
        return cls(components=tuple(str(c) for c in arrays["components"]), limit=float(arrays["limit"]), **values)

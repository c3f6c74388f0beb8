"""Statistics by which inputs are scaled: of all rows seen, in force from one update to the next."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from policies.network import CLIP
from policies.symmetry import Reflection


class RunningStatistics:
    """Mean and deviation of all rows seen; what is in force changes only when commit() is called."""

    def __init__(self, size: int, mirror: Reflection | None = None) -> None:
        """With `mirror` every row counts with its mirror image, so that scaling keeps a symmetry."""
        self.count, self.sum, self.squares = 0.0, np.zeros(size), np.zeros(size)
        self.mean, self.deviation = np.zeros(size), np.ones(size)
        self.frozen, self._mirror = False, mirror

    def add(self, rows: npt.NDArray[np.floating[Any]]) -> None:
        """Count rows (n, size)."""
        if self.frozen:
            return
        wide = rows.astype(np.float64)
        self.count += len(rows)
        self.sum += wide.sum(axis=0)
        self.squares += np.square(wide).sum(axis=0)

    def commit(self) -> None:
        """Put what was counted in force; between two calls every row is scaled alike."""
        if self.frozen or not self.count:
            return
        mean, squares = self.sum / self.count, self.squares / self.count
        if self._mirror is not None:
            mean = 0.5 * (mean + self._mirror.apply(mean))
            squares = 0.5 * (squares + squares[list(self._mirror.index)])
        spread = np.sqrt(np.maximum(squares - np.square(mean), 0.0))
        self.mean, self.deviation = mean, np.where(spread > 1e-6, spread, 1.0)

    def freeze(self, mean: npt.ArrayLike, deviation: npt.ArrayLike) -> None:
        """Keep the statistics of the policy that training starts from."""
        self.mean, self.deviation = np.asarray(mean, dtype=np.float64), np.asarray(deviation, dtype=np.float64)
        self.frozen = True

    def apply(self, rows: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
        """Scaled rows, as policies.network.Scale does it."""
        return np.clip((rows - self.mean) / self.deviation, -CLIP, CLIP).astype(np.float32)

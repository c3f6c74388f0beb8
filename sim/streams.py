"""Random numbers of which each simulation has a stream of its own.

What a simulation draws does not depend on how many others run beside it, so one simulated robot behind a driver and
the same robot among a thousand see the same jitter and the same lost commands. Sensor noise does not need this and
uses numpy's generators.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mixed(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Each 64-bit counter to 64 bits that look random. Source: Steele et al., OOPSLA 2014 (SplitMix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


class Streams:
    """n independent streams of uniform numbers."""

    def __init__(self, n: int, seed: int = 0) -> None:
        self._n = n
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Begin every stream anew; stream i depends on `seed` and i alone."""
        first = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
        # streams are far apart: their counters start at mixed values, not at neighbouring ones
        self._counter = _mixed(first + np.arange(1, self._n + 1, dtype=np.uint64) * GOLDEN)

    def uniform(self, ids: Ids | slice = slice(None)) -> Array:
        """The next number in [0, 1) of some streams, (len(ids),)."""
        self._counter[ids] += GOLDEN
        return np.asarray((_mixed(self._counter[ids]) >> np.uint64(11)) * 2.0**-53, dtype=np.float64)

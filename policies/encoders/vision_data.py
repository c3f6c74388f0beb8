"""Pictures with labels in memory, as pretraining, adaptation and probes of the vision encoder read them.

Whoever renders or records makes ImageData of it (transfer/images.py for simulation): policies import no simulator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageData:
    """N samples of one robot, seen by the same cameras at the same size."""

    images: npt.NDArray[np.uint8]
    """(N, cameras, 3, h, w) RGB."""
    state: Floats
    """(N, states) in the order of VisionCard.states; NaN where it is not known."""
    keypoints: Floats
    """(N, cameras * keypoints, 2) in [-1, 1] of the picture, beyond it outside; NaN where it is not known."""
    group: npt.NDArray[np.int64]
    """(N,) samples of one group belong together (one state in several appearances, one recording): never split."""
    maps: npt.NDArray[np.uint8] | None = None
    """(N, cameras, 2, h, w) how much of a pixel is robot, and how near what it shows is (0: nothing); None when it is
    not known."""

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> ImageData:
        """The samples `rows`."""
        return ImageData(
            images=self.images[rows],
            state=self.state[rows],
            keypoints=self.keypoints[rows],
            group=self.group[rows],
            maps=None if self.maps is None else self.maps[rows],
        )

    def split(self, held_out: float, rng: np.random.Generator) -> tuple[ImageData, ImageData]:
        """(train, test) with a share `held_out` of the groups in the test; groups stay whole."""
        train, test = self.split_rows(held_out, rng)
        return self.take(train), self.take(test)

    def split_rows(
        self, held_out: float, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """The rows of split(), for whom a copy of all pictures would be too much."""
        groups = np.unique(self.group)
        test = rng.choice(groups, max(1, round(held_out * len(groups))), replace=False)
        kept = np.isin(self.group, test)
        return np.flatnonzero(~kept), np.flatnonzero(kept)

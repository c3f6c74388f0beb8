"""Is this window, or this picture, inside what the encoder has seen? A distance to training data in feature space.

Features are whitened, and what counts is the mean distance to the K nearest training rows; held-out simulated rows
turn it into a rank: 0.99 says that only one simulated row in a hundred is as strange. The file beside the encoder
holds what is needed. Which features, and how real windows and frames are judged: policies/encoders/signatures.py.
Source of the distance: Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors, ICML 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from policies import tensors
from robot.config import ConfigError

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]

NEIGHBOURS = 10
KEPT = 2000
"""Training rows that are kept for comparison, at most."""
STRANGE = 0.99
"""Rank from which a single row is called strange: one held-out simulated row in a hundred is."""
_FLOOR = 1e-2
"""Directions of feature space with less than this share of the largest deviation are not blown up further."""
_TINY = 1e-6
"""Nor are features that hardly vary."""
_CHUNK = 2048


@dataclass(frozen=True, slots=True)
class Novelty:
    """Distances of feature rows (N, F) to those of training."""

    mean: Array
    """(F,)"""
    whitening: Array
    """(F, F) features -> uncorrelated ones of unit size."""
    reference: Array
    """(R, F) whitened training rows."""
    usual: Array
    """(M,) distances of held-out simulated rows, ascending."""

    @classmethod
    def fit(cls, train: Array, held_out: Array, rng: np.random.Generator) -> Novelty:
        """From features of training rows and of simulated rows that were not trained on, both (., F)."""
        if len(train) <= NEIGHBOURS or not len(held_out):
            raise ValueError(f"novelty needs more than {NEIGHBOURS} training rows and some held-out ones")
        mean, unit = train.mean(axis=0), np.maximum(train.std(axis=0), _TINY)
        scaled = (train - mean) / unit
        values, vectors = np.linalg.eigh(scaled.T @ scaled / len(train))
        deviation = np.sqrt(np.maximum(values, 0.0))
        whitening = vectors / np.maximum(deviation, _FLOOR * deviation.max()) / unit[:, None]
        kept = np.arange(len(train)) if len(train) <= KEPT else rng.permutation(len(train))[:KEPT]
        found = cls(mean, whitening, (train[kept] - mean) @ whitening, np.zeros(0))
        return cls(mean, whitening, found.reference, np.sort(found.distance(held_out)))

    def distance(self, features: Array) -> Array:
        """(N,) mean distance of feature rows (N, F) to their nearest training rows, whitened."""
        if features.shape[1] != len(self.mean):
            raise ConfigError(
                f"novelty: it was fitted on {len(self.mean)} features and is asked about {features.shape[1]}; "
                "take the file that lies beside this encoder."
            )
        nearest = [self._nearest(part)[1] for part in _parts((features - self.mean) @ self.whitening)]
        return np.concatenate([d.mean(axis=1) for d in nearest]) if nearest else np.zeros(0)

    def neighbours(self, features: Array, count: int = NEIGHBOURS) -> Ids:
        """(N, count) rows of the reference that are nearest, nearest first."""
        parts = [self._nearest(part, count)[0] for part in _parts((features - self.mean) @ self.whitening)]
        return np.concatenate(parts)

    def _nearest(self, white: Array, count: int = NEIGHBOURS) -> tuple[Ids, Array]:
        square = np.square(white).sum(axis=1)[:, None] + np.square(self.reference).sum(axis=1)
        square -= 2.0 * white @ self.reference.T
        count = min(count, len(self.reference))
        near = np.argpartition(square, count - 1, axis=1)[:, :count]
        distance = np.sqrt(np.maximum(np.take_along_axis(square, near, axis=1), 0.0))
        order = np.argsort(distance, axis=1)
        return np.take_along_axis(near, order, axis=1), np.take_along_axis(distance, order, axis=1)

    def rank(self, features: Array) -> Array:
        """(N,) share of held-out simulated rows that are less strange than each row, 0 to 1."""
        return np.searchsorted(self.usual, self.distance(features), side="left") / len(self.usual)

    def save(self, folder: Path, name: str) -> None:
        """Write `name`.safetensors."""
        arrays = {"mean": self.mean, "whitening": self.whitening, "reference": self.reference, "usual": self.usual}
        tensors.save(_path(folder, name), {k: torch.from_numpy(v.astype(np.float32)) for k, v in arrays.items()})

    @classmethod
    def load(cls, folder: Path, name: str) -> Novelty:
        """ConfigError when the encoder's folder has no such file, or another."""
        path = _path(folder, name)
        if not path.is_file():
            raise ConfigError(f"{folder}: no {path.name} in it; pretraining writes one with the encoder's card.")
        named = {k: v.numpy().astype(np.float64) for k, v in tensors.load(path).items()}
        names = ("mean", "whitening", "reference", "usual")
        if set(named) != set(names):
            raise ConfigError(f"{path}: it holds {sorted(named)}, not {sorted(names)}; pretrain the encoder again.")
        return cls(*(named[name] for name in names))


def _path(folder: Path, name: str) -> Path:
    return Path(folder) / f"{name}.safetensors"


def _parts(rows: Array) -> list[Array]:
    return [rows[i : i + _CHUNK] for i in range(0, len(rows), _CHUNK)]


def verdict(rank: Array) -> dict[str, Any]:
    """What ranks (N,) of many rows say together: median rank, share of strange rows, and a sentence."""
    strange = float((rank > STRANGE).mean())
    median = float(np.median(rank))
    if strange <= 0.05:
        text = "inside what the encoder has seen"
    elif strange <= 0.5:
        text = "partly outside of what the encoder has seen: adapt it, or widen the prior"
    else:
        text = "outside of what the encoder has seen: do not rely on it before it is adapted"
    return {"median_rank": median, "strange_share": strange, "n": len(rank), "verdict": text}


def auroc(inside: Array, outside: Array) -> float:
    """Probability that a row from outside is stranger than one from inside; 0.5 is chance, ties count half."""
    both = np.concatenate([inside, outside])
    _, index, counts = np.unique(both, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - 0.5 * (counts - 1))[index]  # mean rank of ties, from 1
    n_in, n_out = len(inside), len(outside)
    return float((ranks[n_in:].sum() - n_out * (n_out + 1) / 2.0) / (n_in * n_out))

"""Is this window, or this picture, inside what the encoder has seen? A distance to training data in feature space.

Features come in parts (what the encoder tells, what the input looks like). Each part is whitened, and what counts is
the mean distance to the K nearest training rows, as a rank among held-out simulated rows; the part in which a row is
strangest decides, for many parts at once would drown the one that notices. Held-out rows turn that score into a rank
again: 0.99 says that only one simulated row in a hundred is as strange. Which features, and how real windows and
frames are judged: policies/encoders/signatures.py.
Source of the distance: Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors, ICML 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
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
class Part:
    """Some features that are compared together, (N, F) rows of them."""

    mean: Array
    """(F,)"""
    whitening: Array
    """(F, F) features -> uncorrelated ones of unit size."""
    reference: Array
    """(R, F) whitened training rows."""
    usual: Array
    """(M,) distances of held-out simulated rows, ascending."""

    @classmethod
    def fit(cls, train: Array, kept: Ids, held_out: Array) -> Part:
        """From features of training rows, of which `kept` are compared with, and of held-out ones."""
        mean, unit = train.mean(axis=0), np.maximum(train.std(axis=0), _TINY)
        scaled = (train - mean) / unit
        values, vectors = np.linalg.eigh(scaled.T @ scaled / len(train))
        deviation = np.sqrt(np.maximum(values, 0.0))
        whitening = vectors / np.maximum(deviation, max(_FLOOR * deviation.max(), _TINY)) / unit[:, None]
        bare = cls(mean, whitening, (train[kept] - mean) @ whitening, np.zeros(0))
        return cls(mean, whitening, bare.reference, np.sort(bare.distance(held_out)))

    def distance(self, features: Array) -> Array:
        """(N,) mean distance to the nearest training rows."""
        return np.concatenate([self.nearest(part)[1].mean(axis=1) for part in _parts(features)])

    def strangeness(self, features: Array) -> Array:
        """(N,) share of held-out rows that are nearer; 1 and more beyond the farthest of them."""
        distance, farthest = self.distance(features), max(float(self.usual[-1]), _TINY)
        rank = np.searchsorted(self.usual, distance, side="left") / len(self.usual)
        return np.asarray(rank + np.log(np.maximum(distance / farthest, 1.0)))

    def nearest(self, features: Array, count: int = NEIGHBOURS) -> tuple[Ids, Array]:
        """((N, count) rows of the reference, nearest first, (N, count) distances)."""
        white = (features - self.mean) @ self.whitening
        square = np.square(white).sum(axis=1)[:, None] + np.square(self.reference).sum(axis=1)
        square -= 2.0 * white @ self.reference.T
        count = min(count, len(self.reference))
        near = np.argpartition(square, count - 1, axis=1)[:, :count]
        distance = np.sqrt(np.maximum(np.take_along_axis(square, near, axis=1), 0.0))
        order = np.argsort(distance, axis=1)
        return np.take_along_axis(near, order, axis=1), np.take_along_axis(distance, order, axis=1)


@dataclass(frozen=True, slots=True)
class Novelty:
    """How far feature rows (N, F) lie from those of training."""

    parts: tuple[Part, ...]
    usual: Array
    """(M,) scores of held-out simulated rows, ascending."""

    @classmethod
    def fit(
        cls, train: Array, held_out: Array, rng: np.random.Generator, widths: Sequence[int] | None = None
    ) -> Novelty:
        """From features of training rows and of simulated rows that were not trained on, both (., F).

        `widths` says how many features each part has; default: all are one part.
        """
        if len(train) <= NEIGHBOURS or not len(held_out):
            raise ValueError(f"novelty needs more than {NEIGHBOURS} training rows and some held-out ones")
        widths = widths or (train.shape[1],)
        kept = np.arange(len(train)) if len(train) <= KEPT else rng.permutation(len(train))[:KEPT]
        pairs = zip(_columns(train, widths), _columns(held_out, widths), strict=True)
        found = cls(tuple(Part.fit(x, kept, y) for x, y in pairs), np.zeros(0))
        return cls(found.parts, np.sort(found.score(held_out)))

    def score(self, features: Array) -> Array:
        """(N,) how strange feature rows (N, F) are: in the part in which they are strangest."""
        widths = [len(part.mean) for part in self.parts]
        if features.shape[1] != sum(widths):
            raise ConfigError(
                f"novelty: it was fitted on {sum(widths)} features and is asked about {features.shape[1]}; "
                "take the file that lies beside this encoder."
            )
        columns = _columns(features, widths)
        return np.max([part.strangeness(x) for part, x in zip(self.parts, columns, strict=True)], axis=0)

    def rank(self, features: Array) -> Array:
        """(N,) share of held-out simulated rows that are less strange than each row, 0 to 1."""
        return np.searchsorted(self.usual, self.score(features), side="left") / len(self.usual)

    def save(self, folder: Path, name: str) -> None:
        """Write `name`.safetensors."""
        arrays = {"usual": self.usual}
        for i, part in enumerate(self.parts):
            arrays |= {f"{i}.{field}": getattr(part, field) for field in _FIELDS}
        named = {k: torch.from_numpy(v.astype(np.float32)) for k, v in arrays.items()}
        tensors.save(_path(folder, name), named)

    @classmethod
    def load(cls, folder: Path, name: str) -> Novelty:
        """ConfigError when the encoder's folder has no such file, or another."""
        path = _path(folder, name)
        if not path.is_file():
            raise ConfigError(f"{folder}: no {path.name} in it; pretraining writes one with the encoder's card.")
        named = {k: v.numpy().astype(np.float64) for k, v in tensors.load(path).items()}
        count = len(named) // len(_FIELDS)
        if set(named) != {"usual", *(f"{i}.{field}" for i in range(count) for field in _FIELDS)}:
            raise ConfigError(f"{path}: it holds {sorted(named)}; pretrain the encoder again.")
        parts = tuple(Part(*(named[f"{i}.{field}"] for field in _FIELDS)) for i in range(count))
        return cls(parts, named["usual"])


_FIELDS = ("mean", "whitening", "reference", "usual")


def _columns(features: Array, widths: Sequence[int]) -> list[Array]:
    return np.split(features, np.cumsum(widths)[:-1], axis=1)


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

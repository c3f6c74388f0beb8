"""Statistics as a LeRobotDataset keeps them: per feature and episode, and of the whole.

Of the whole, minimum and maximum are exact, mean and standard deviation are combined by counts, and quantiles are the
means of the episodes' quantiles weighted by counts, which is LeRobot's definition and only close to the true ones.
Source: LeRobot v0.6.1, src/lerobot/datasets/compute_stats.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Stats = dict[str, Array]

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
PIXELS = 150
"""Pictures are thinned to about this many pixels across, where they are more than twice as wide."""


def of_numbers(values: Array) -> Stats:
    """Of a feature (n, k) in one episode; NaN where a component has no number."""
    rows = np.asarray(values, np.float64)
    empty = ~np.isfinite(rows).any(axis=0)
    filled = np.where(empty, 0.0, np.where(np.isfinite(rows), rows, np.nan))
    stats = {"min": np.nanmin(filled, 0), "max": np.nanmax(filled, 0), "mean": np.nanmean(filled, 0)}
    stats |= {"std": np.nanstd(filled, 0)}
    stats |= {name: np.nanquantile(filled, q, axis=0) for name, q in QUANTILES.items()}
    return {n: np.where(empty, np.nan, v) for n, v in stats.items()} | {"count": np.array([float(len(rows))])}


def of_pictures(images: npt.NDArray[np.uint8]) -> Stats:
    """Of pictures (n, h, w, 3) in one episode: per colour (3, 1, 1), of values 0 to 1, from evenly spaced pictures."""
    n = len(images)
    chosen = np.round(np.linspace(0, n - 1, max(min(100, n), min(int(n**0.75), 10_000)))).astype(int)
    step = max(images.shape[1:3]) // PIXELS if max(images.shape[1:3]) >= 2 * PIXELS else 1
    colours = images[chosen][:, ::step, ::step].reshape(-1, 3) / 255.0
    stats = {n: v.reshape(3, 1, 1) for n, v in of_numbers(colours).items() if n != "count"}
    return stats | {"count": np.array([float(len(chosen))])}


def combined(parts: Sequence[Mapping[str, Array]]) -> Stats:
    """Of several episodes as one."""
    counts = np.array([p["count"][0] for p in parts])
    share = (counts / counts.sum()).reshape(-1, *([1] * parts[0]["mean"].ndim))
    means, stds = np.stack([p["mean"] for p in parts]), np.stack([p["std"] for p in parts])
    mean = (share * means).sum(0)
    variance = (share * (stds**2 + (means - mean) ** 2)).sum(0)
    stats = {
        "min": np.stack([p["min"] for p in parts]).min(0),
        "max": np.stack([p["max"] for p in parts]).max(0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": np.array([counts.sum()]),
    }
    return stats | {q: (share * np.stack([p[q] for p in parts])).sum(0) for q in QUANTILES}

"""What of a window, a recording or a picture is compared with training: the features behind an encoder's novelty.

An encoder folds away what it was not trained to tell: a context alone does not notice a noisy sensor or a frozen
channel. So its features stand beside what the input itself looks like and, for windows, beside how well predictions
come true. judge_windows() and judge_images() are for real data: is this inside what the encoder has seen?
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from policies.encoders.heads import Heads
from policies.encoders.novelty import Novelty, verdict
from policies.encoders.physics import PhysicsEncoder
from policies.encoders.probes import contexts, prediction_errors
from policies.encoders.vision import Eye, VisionEncoder
from policies.encoders.windows import WindowData

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]

RECORDING = 16
"""Windows that are averaged into one signature of a recording."""
WINDOWS, RECORDINGS, IMAGES = "novelty_windows", "novelty_recordings", "novelty_images"
"""Names of the fitted files."""
_TINY = 1e-4
_CHUNK = 256


def of_windows(encoder: PhysicsEncoder, heads: Heads, data: WindowData) -> Array:
    """(N, F): context; errors of the predictions with and without it; level, change and roughness of each channel."""
    errors = [np.log(prediction_errors(encoder, p, data) + _TINY) for p in (heads.predictor, heads.blind)]
    rows = data.history * data.mask[..., None] / encoder.scale.deviation.numpy()
    count = np.sqrt(np.maximum(data.mask.sum(axis=1), 1.0))[:, None]
    shapes = [np.diff(rows, n=order, axis=1) if order else rows for order in range(3)]
    sizes = [np.log(np.linalg.norm(s, axis=1) / count + _TINY**0.5) for s in shapes]
    return np.concatenate([contexts(encoder, data), np.stack(errors, axis=1), *sizes], axis=1)


def of_recordings(windows: Array, group: Ids) -> tuple[Array, Ids]:
    """((R, F), (R,) group): means of RECORDING windows (N, F) of one recording; what is left over goes with the last.

    The mean over windows forgets what the robot happened to do in each, and keeps what the robot is.
    """
    rows, groups = [], []
    for g in np.unique(group):
        mine = np.flatnonzero(group == g)
        for part in np.array_split(mine, max(len(mine) // RECORDING, 1)):
            rows.append(windows[part].mean(axis=0))
            groups.append(g)
    return np.stack(rows), np.array(groups, dtype=np.intp)


def of_images(encoder: VisionEncoder, images: npt.NDArray[np.uint8]) -> Array:
    """(N, F) of pictures (N, cameras, 3, h, w): features, how sure the encoder is, and what the pictures look like."""
    parts = []
    with torch.no_grad():
        for i in range(0, len(images), _CHUNK):
            pictures = torch.from_numpy(images[i : i + _CHUNK])
            seen = encoder(*pictures.unbind(dim=1))
            tops = [_top(eye, p) for eye, p in zip(encoder.eyes, pictures.unbind(dim=1), strict=True)]
            told = [seen.features, seen.log_variance, seen.spread.log(), *tops, _look(pictures)]
            parts.append(torch.cat(told, dim=1).numpy())
    return np.concatenate(parts).astype(np.float64)


def _top(eye: nn.Module, picture: torch.Tensor) -> torch.Tensor:
    assert isinstance(eye, Eye)
    return eye.maps(picture)[1]


def _look(pictures: torch.Tensor) -> torch.Tensor:
    """(N, F) mean and contrast of each colour, and how fine the pictures' structure is."""
    light = pictures.flatten(1, 2).float() / 255.0
    grey = pictures.float().mean(dim=2) / 255.0
    contrast = (light.std(dim=(2, 3)) + 1e-3).log()
    fine = [(grey.diff(n=n, dim=d).abs().mean(dim=(2, 3)) + 1e-3).log() for n in (1, 2) for d in (2, 3)]
    return torch.cat([light.mean(dim=(2, 3)), contrast, *fine], dim=1)


def judge_windows(folder: Path, encoder: PhysicsEncoder, heads: Heads, data: WindowData) -> dict[str, Any]:
    """Verdicts on windows of real recordings, one by one and by recording; see novelty.verdict().

    ConfigError when the encoder's folder has no novelty files. `data` needs the base that the encoder's card names.
    """
    windows = of_windows(encoder, heads, data)
    recordings, _ = of_recordings(windows, data.group)
    return {
        "windows": verdict(Novelty.load(folder, WINDOWS).rank(windows)),
        "recordings": verdict(Novelty.load(folder, RECORDINGS).rank(recordings)),
    }


def judge_images(folder: Path, encoder: VisionEncoder, images: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Verdict on real frames (N, cameras, 3, h, w) uint8 RGB; see novelty.verdict(). ConfigError as above."""
    return verdict(Novelty.load(folder, IMAGES).rank(of_images(encoder, images)))

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

from policies.encoders.heads import Heads
from policies.encoders.novelty import Novelty, verdict
from policies.encoders.physics import PhysicsEncoder
from policies.encoders.probes import contexts, prediction_errors
from policies.encoders.vision import VisionEncoder
from policies.encoders.windows import WindowData

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]

RECORDING = 16
"""Windows that are averaged into one signature of a recording."""
WINDOWS, RECORDINGS, IMAGES = "novelty_windows", "novelty_recordings", "novelty_images"
"""Names of the fitted files."""
STILL = 0.03
"""Of a channel's deviation: whatever moves less than that lies as still as anything."""
_TINY = 1e-4
_CHUNK = 256


def of_windows(encoder: PhysicsEncoder, heads: Heads, data: WindowData) -> list[Array]:
    """Parts (N, .) of windows: the context; errors of the predictions with and without it; what the channels look like.

    The last is the level, the change and the roughness of each channel.
    """
    errors = [np.log(prediction_errors(encoder, p, data) + _TINY) for p in (heads.predictor, heads.blind)]
    rows = data.history * data.mask[..., None] / encoder.scale.deviation.numpy()
    count = np.sqrt(np.maximum(data.mask.sum(axis=1), 1.0))[:, None]
    shapes = [np.diff(rows, n=order, axis=1) if order else rows for order in range(3)]
    sizes = [np.log(np.linalg.norm(s, axis=1) / count + STILL) for s in shapes]
    return [contexts(encoder, data), np.stack(errors, axis=1), np.concatenate(sizes, axis=1)]


def of_recordings(windows: list[Array], group: Ids) -> tuple[list[Array], Ids]:
    """(parts (R, .), (R,) group): means of RECORDING windows of one recording; what is left over goes with the last.

    The mean over windows forgets what the robot happened to do in each, and keeps what the robot is.
    """
    chosen: list[Ids] = []
    for g in np.unique(group):
        mine = np.flatnonzero(group == g)
        chosen += np.array_split(mine, max(len(mine) // RECORDING, 1))
    parts = [np.stack([part[rows].mean(axis=0) for rows in chosen]) for part in windows]
    return parts, np.array([group[rows[0]] for rows in chosen], dtype=np.intp)


def of_images(encoder: VisionEncoder, images: npt.NDArray[np.uint8]) -> list[Array]:
    """Parts (N, .) of pictures (N, cameras, 3, h, w): features; keypoints; how sure it is; what they look like."""
    told: list[list[torch.Tensor]] = []
    with torch.no_grad():
        for i in range(0, len(images), _CHUNK):
            pictures = torch.from_numpy(images[i : i + _CHUNK])
            seen = encoder(*pictures.unbind(dim=1))
            sure = torch.cat([seen.log_variance, seen.spread.log()], dim=1)
            told.append([seen.features, seen.keypoints.flatten(1), sure, _look(pictures)])
    return [torch.cat(part).numpy().astype(np.float64) for part in zip(*told, strict=True)]


def _look(pictures: torch.Tensor) -> torch.Tensor:
    """(N, F) mean and contrast of each colour, and how fine the pictures' structure is."""
    light = pictures.flatten(1, 2).float() / 255.0
    grey = pictures.float().mean(dim=2) / 255.0
    contrast = (light.std(dim=(2, 3)) + 1e-3).log()
    fine = [(grey.diff(n=n, dim=d).abs().mean(dim=(2, 3)) + 1e-3).log() for n in (1, 2) for d in (2, 3)]
    return torch.cat([light.mean(dim=(2, 3)), contrast, *fine], dim=1)


def fitted(train: list[Array], held_out: list[Array]) -> Novelty:
    """The novelty score of parts of training rows and of held-out ones."""
    widths = [part.shape[1] for part in train]
    return Novelty.fit(np.hstack(train), np.hstack(held_out), np.random.default_rng(0), widths)


def judge_windows(folder: Path, encoder: PhysicsEncoder, heads: Heads, data: WindowData) -> dict[str, Any]:
    """Verdicts on windows of real recordings, one by one and by recording; see novelty.verdict().

    ConfigError when the encoder's folder has no novelty files. `data` needs the base that the encoder's card names.
    """
    windows = of_windows(encoder, heads, data)
    recordings, _ = of_recordings(windows, data.group)
    return {
        "windows": verdict(Novelty.load(folder, WINDOWS).rank(np.hstack(windows))),
        "recordings": verdict(Novelty.load(folder, RECORDINGS).rank(np.hstack(recordings))),
    }


def judge_images(folder: Path, encoder: VisionEncoder, images: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Verdict on real frames (N, cameras, 3, h, w) uint8 RGB; see novelty.verdict(). ConfigError as above."""
    return verdict(Novelty.load(folder, IMAGES).rank(np.hstack(of_images(encoder, images))))

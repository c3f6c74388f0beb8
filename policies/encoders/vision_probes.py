"""How well a vision encoder tells the state and the keypoints on pictures that it has not seen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from policies.encoders.probes import linear_r2
from policies.encoders.vision import COSINE, POSITION, Seen, VisionCard, VisionEncoder
from policies.encoders.vision_data import ImageData

Array = npt.NDArray[np.float64]
ERRORS = ("keypoint_error", "joint_error")
AT_ONCE = 256
MOST = 4096
"""Most samples of training that the probes read."""
COARSE = 8
"""Side of the picture that the baseline of the probes reads [pixel]."""


@torch.no_grad()
def look(encoder: VisionEncoder, data: ImageData) -> Seen:
    """What the encoder tells of all samples; it is left in the mode in which it was."""
    training = encoder.training
    encoder.eval()
    parts = [
        encoder(*torch.from_numpy(data.images[i : i + AT_ONCE]).unbind(dim=1)) for i in range(0, len(data), AT_ONCE)
    ]
    encoder.train(training)
    return Seen(*(torch.cat(column) for column in zip(*parts, strict=True)))


def errors(encoder: VisionEncoder, data: ImageData) -> dict[str, float]:
    """ERRORS: medians over the samples of the mean keypoint error [share of the picture's height], and of the mean
    joint error [rad or m]."""
    seen = look(encoder, data)
    scale = np.array([data.images.shape[-1] / data.images.shape[-2], 1.0]) / 2.0
    away = np.linalg.norm((seen.keypoints.numpy() - data.keypoints) * scale, axis=2)
    joint = joint_errors(seen.state.numpy(), data.state, encoder.card)
    return dict(zip(ERRORS, (float(np.nanmedian(np.nanmean(e, axis=1))) for e in (away, joint)), strict=True))


def joint_errors(told: npt.NDArray[np.float32], state: npt.NDArray[np.float32], card: VisionCard) -> Array:
    """(N, joints) absolute errors [rad or m] of states (N, S); of joints that turn all around the shorter way."""
    columns = []
    for i, name in enumerate(card.states):
        if name.startswith(COSINE):
            mine, real = (np.arctan2(s[:, i + 1], s[:, i]) for s in (told, state))
            columns.append(np.abs((mine - real + np.pi) % (2.0 * np.pi) - np.pi))
        elif name.startswith(POSITION):
            columns.append(np.abs(told[:, i] - state[:, i]))
    return np.stack(columns, axis=1).astype(np.float64)


def probe(encoder: VisionEncoder, train: ImageData, test: ImageData) -> dict[str, dict[str, float]]:
    """Probe name -> {score, baseline}: R^2 of each component of the state, read linearly from the features, against
    as much from the picture itself at 8 x 8 pixels. At most MOST samples are read from `train`."""
    some = train.take(np.arange(min(len(train), MOST)))
    inputs = [(_features(encoder, d), d.state.astype(np.float64)) for d in (some, test)]
    raw = [(_coarse(d), d.state.astype(np.float64)) for d in (some, test)]
    mine, base = (linear_r2(pair[0], pair[1]) for pair in (inputs, raw))
    return {
        f"state/{name}": {"score": float(score), "baseline": float(baseline)}
        for name, score, baseline in zip(encoder.card.states, mine, base, strict=True)
    }


def _features(encoder: VisionEncoder, data: ImageData) -> Array:
    features: Array = look(encoder, data).features.numpy().astype(np.float64)
    return features


def _coarse(data: ImageData) -> Array:
    """(N, cameras * 3 * 64) means over blocks of pixels."""
    flat = torch.from_numpy(data.images).flatten(1, 2).float() / 255.0
    small: Array = torch.nn.functional.adaptive_avg_pool2d(flat, COARSE).flatten(1).numpy().astype(np.float64)
    return small

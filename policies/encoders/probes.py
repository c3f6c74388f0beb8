"""Probes: what an encoder's context knows, measured on simulated robots that it was not trained on.

Every score is a share of variance explained: 1 is perfect, 0 is no better than the mean (parameters) or than the base
of the prediction (next_state), which is a simulator's or the last state. Each stands beside a baseline that had the
same data.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from policies.encoders.heads import LAGS, Heads, Predictor
from policies.encoders.physics import PhysicsEncoder
from policies.encoders.windows import WindowData

Array = npt.NDArray[np.float64]
_CHUNK = 512
"""Windows at a time; with many latents each one takes megabytes."""


def contexts(encoder: PhysicsEncoder, data: WindowData) -> Array:
    """(N, Z) context of each window."""
    with torch.no_grad():
        parts = [
            encoder(torch.from_numpy(data.history[i : i + _CHUNK]), torch.from_numpy(data.mask[i : i + _CHUNK]))
            for i in range(0, len(data), _CHUNK)
        ]
    return torch.cat(parts).numpy().astype(np.float64)


def prediction_errors(
    encoder: PhysicsEncoder, predictor: Predictor, data: WindowData, context: torch.Tensor | None = None
) -> Array:
    """(N,) open-loop error of each window over the horizon; 1 is what the base gives on average.

    The base is the simulator where the encoder has one, and holding the last state where not. `context` (N, Z) is
    what the encoder makes of them, where that is known.
    """
    if context is None:
        context = torch.from_numpy(contexts(encoder, data).astype(np.float32))
    with torch.no_grad():
        base = torch.from_numpy(data.base) if predictor.use_base and data.base is not None else None
        action = torch.from_numpy(data.action)
        predicted = predictor(torch.from_numpy(data.observation), earlier_actions(data), action, context, base)
        errors = predictor.unexplained(predicted, torch.from_numpy(data.future)).mean(dim=(1, 2))
    return errors.numpy().astype(np.float64)


def earlier_actions(data: WindowData) -> torch.Tensor:
    """(N, LAGS, A) the actions just before the present; 0 before the episode and beyond the window."""
    return torch.from_numpy(data.earlier(LAGS)[0])


def linear_r2(train: tuple[Array, Array], test: tuple[Array, Array], ridge: float = 1e-3) -> Array:
    """(P,) coefficient of determination on `test` of a ridge regression fitted on `train`; both (features, targets)."""
    (x, y), (x_test, y_test) = train, test
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    middle = y.mean(axis=0)

    def design(features: Array) -> Array:
        return (features - mean) / spread

    a = design(x)
    weights = np.linalg.solve(a.T @ a + ridge * len(a) * np.eye(a.shape[1]), a.T @ (y - middle))
    residual = y_test - middle - design(x_test) @ weights
    variance = np.square(y_test - y_test.mean(axis=0)).sum(axis=0)
    return 1.0 - np.square(residual).sum(axis=0) / np.maximum(variance, 1e-12)


def probe(encoder: PhysicsEncoder, heads: Heads, train: WindowData, test: WindowData) -> dict[str, dict[str, float]]:
    """Probe name -> {score, baseline}.

    `next_state`: the prediction head with the context, against the same head trained without one.
    `parameter/<target>`: a linear probe on the context, against a linear probe on the raw window.
    """
    score = 1.0 - prediction_errors(encoder, heads.predictor, test).mean()
    blind = 1.0 - prediction_errors(encoder, heads.blind, test).mean()
    probes = {"next_state": {"score": float(score), "baseline": float(blind)}}
    if train.names:
        mine = linear_r2((contexts(encoder, train), train.parameters), (contexts(encoder, test), test.parameters))
        raw = linear_r2((_raw(train), train.parameters), (_raw(test), test.parameters))
        for name, own, base in zip(train.names, mine, raw, strict=True):
            probes[f"parameter/{name}"] = {"score": float(own), "baseline": float(base)}
    return probes


def _raw(data: WindowData) -> Array:
    return np.concatenate([data.history.reshape(len(data), -1), data.mask, data.observation], axis=1).astype(np.float64)

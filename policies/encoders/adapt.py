"""Adaptation of a pretrained physics encoder to real windows, which carry no labels: only the prediction loss is used.

What keeps it from forgetting the simulation is a guard's (guards.py; replay by default). The scaling of the inputs
stays as it was: the same reading keeps the same meaning. Recordings have three uses that never mix: to train on, to
stop by, and, by the caller, to judge by; an encoder that does not predict the last ones better is rolled back.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from policies.encoders.guards import TuneConfig, Tuned, tune
from policies.encoders.heads import Heads
from policies.encoders.physics import PhysicsEncoder
from policies.encoders.pretrain import Batches, losses
from policies.encoders.probes import prediction_errors
from policies.encoders.windows import WindowData
from policies.progress import Report, silent
from robot.config import ConfigError

BOOTSTRAP = 2000
FEW, PIECES = 5, 8
"""Recordings below which pieces of them are drawn, and of how many pieces each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptConfig(TuneConfig):
    """How an encoder is adapted to real windows."""

    parameter_weight: float = 0.5
    """Weight of the parameter regression in the loss of simulated windows."""
    stop_share: float = 0.25
    """Share of the recordings that training is stopped by; a single recording is trained on whole, to the end."""

    def __post_init__(self) -> None:
        TuneConfig.__post_init__(self)
        if not 0.0 < self.stop_share < 1.0:
            raise ConfigError(f"adapt.stop_share is {self.stop_share}; it must lie between 0 and 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptResult:
    """An encoder after adaptation, beside its errors on held-out real windows."""

    encoder: PhysicsEncoder
    """The adapted one; a copy of the one given when that was rolled back."""
    heads: Heads
    before: np.ndarray
    """(N,) error of each held-out window before adaptation."""
    after: np.ndarray
    """(N,) the same after it, whether it is kept or not."""
    group: np.ndarray
    """(N,) the log of each window: windows of one log overlap, so intervals go by it."""
    change: dict[str, Any]
    """of_recordings(): what adaptation does to the held-out error; negative is better."""
    kept: bool
    """False: rolled back, because `change` is not below 0 with its whole interval."""
    tried: tuple[PhysicsEncoder, Heads]
    """The adapted ones, kept or not: for whoever studies what guards are worth."""
    tuned: Tuned


def adapt(
    encoder: PhysicsEncoder,
    heads: Heads,
    real: WindowData,
    held_out: WindowData,
    replay: WindowData,
    config: AdaptConfig,
    *,
    seed: int,
    report: Report = silent,
) -> AdaptResult:
    """Train a copy of encoder and heads on `real`, guarded by simulated windows (`replay`).

    `held_out` is scored before and after, and neither trained on nor stopped by.
    """
    before = prediction_errors(encoder, heads.predictor, held_out)
    mine, its = copy.deepcopy(encoder), copy.deepcopy(heads)
    train, stop = real.split(config.stop_share, np.random.default_rng(seed))
    generator = torch.Generator().manual_seed(seed)
    batches = Batches(train, config.batch, generator)

    def validate() -> float:
        return float(prediction_errors(mine, its.predictor, stop).mean())

    tuned = tune(
        nn.ModuleList([mine, its]),
        lambda: losses(mine, its, batches.draw())[0],
        Rehearsal(mine, its, replay, config.parameter_weight, generator),
        config,
        validate if len(stop) else None,
        seed=seed,
        report=report,
    )
    after = prediction_errors(mine, its.predictor, held_out)
    change = of_recordings(after - before, held_out.group, np.random.default_rng(seed))
    kept = change["ci95"][1] < 0.0
    return AdaptResult(
        encoder=mine if kept else copy.deepcopy(encoder).eval(),
        heads=its if kept else copy.deepcopy(heads).eval(),
        before=before,
        after=after,
        group=held_out.group,
        change=change,
        kept=kept,
        tried=(mine, its),
        tuned=tuned,
    )


class Rehearsal:
    """count -> the loss that pretraining had, on `count` simulated windows; a SourceLoss of guards.py."""

    def __init__(
        self, encoder: PhysicsEncoder, heads: Heads, data: WindowData, parameter_weight: float, rng: torch.Generator
    ) -> None:
        self.encoder, self.heads, self.data, self.weight, self.rng = encoder, heads, data, parameter_weight, rng
        self.batches: dict[int, Batches] = {}

    def __call__(self, count: int) -> Tensor:
        if count not in self.batches:
            self.batches[count] = Batches(self.data, count, self.rng)
        batch = self.batches[count].draw()
        loss, _, context = losses(self.encoder, self.heads, batch)
        if self.data.names:
            loss = loss + self.weight * self.heads.parameters_head.loss(context, batch[-1])
        return loss


def of_recordings(change: np.ndarray, group: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """Mean over recordings of each one's mean (N,), its interval a percentile bootstrap over the recordings.

    Fewer than FEW agree by chance too often (and one always does): of those PIECES consecutive pieces each are drawn.
    """
    parts = [change[group == g] for g in np.unique(group)]
    means, recordings = np.array([p.mean() for p in parts]), len(parts)
    if recordings < FEW:
        parts = [piece for p in parts for piece in np.array_split(p, min(PIECES, len(p)))]
    each = np.array([p.mean() for p in parts])
    drawn = each[rng.integers(len(each), size=(BOOTSTRAP, len(each)))].mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"mean": float(means.mean()), "ci95": [float(low), float(high)], "n": recordings}

"""Adaptation of a pretrained encoder to real windows, which carry no labels: only the prediction loss is used.

Half of every batch is replayed from simulation, with its labels, so that what pretraining learned is not
forgotten. The scaling of the inputs stays as it was: the same reading keeps the same meaning.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch

from policies.encoders.heads import Heads
from policies.encoders.physics import PhysicsEncoder
from policies.encoders.pretrain import Batches, losses
from policies.encoders.probes import prediction_errors
from policies.encoders.windows import WindowData
from policies.progress import Meter, Report, silent
from robot.config import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptConfig:
    """How an encoder is adapted to real windows."""

    updates: int = 400
    batch: int = 128
    """Real windows in a batch; as many simulated ones are replayed."""
    learning_rate: float = 3e-4
    replay_weight: float = 1.0
    """Weight of the simulated windows beside the real ones."""
    parameter_weight: float = 0.5
    """Weight of the parameter regression on the simulated ones."""

    def __post_init__(self) -> None:
        if self.updates < 1 or self.batch < 1:
            raise ConfigError("adapt: updates and batch must be at least 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptResult:
    """An adapted encoder beside its held-out errors; each is (N,), one a held-out real window."""

    encoder: PhysicsEncoder
    heads: Heads
    before: np.ndarray
    after: np.ndarray
    group: np.ndarray
    """(N,) the log of each window: windows of one log overlap, so intervals go by it."""


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
    """Train a copy of encoder and heads on `real` and `replay`.

    `held_out` is scored before and after, and never trained on.
    """
    before = prediction_errors(encoder, heads.predictor, held_out)
    encoder, heads = copy.deepcopy(encoder).train(), copy.deepcopy(heads).train()
    generator = torch.Generator().manual_seed(seed)
    batches = Batches(real, config.batch, generator), Batches(replay, config.batch, generator)
    weights = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.Adam(weights, lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.updates)
    meter = Meter("adapt", config.updates, "updates", report)
    for update in range(1, config.updates + 1):
        real_loss, _, _ = losses(encoder, heads, batches[0].draw())
        batch = batches[1].draw()
        replay_loss, _, context = losses(encoder, heads, batch)
        loss = real_loss + config.replay_weight * replay_loss
        if replay.names:
            loss = loss + config.parameter_weight * heads.parameters_head.loss(context, batch[-1])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if update % 50 == 0 or update == config.updates:
            meter(update, real_loss=float(real_loss.detach()), replay_loss=float(replay_loss.detach()))
    encoder.eval(), heads.eval()
    after = prediction_errors(encoder, heads.predictor, held_out)
    return AdaptResult(encoder=encoder, heads=heads, before=before, after=after, group=held_out.group)

"""Pretraining of the physics encoder on windows of randomized rollouts."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from policies.encoders.heads import Heads
from policies.encoders.physics import BLOCK, EncoderCard, EncoderConfig, PhysicsEncoder
from policies.encoders.probes import earlier_actions, prediction_errors, probe
from policies.encoders.windows import WindowData
from policies.progress import Meter, Report, silent

_VALIDATIONS = 20
_MAX_LOSS = 25.0
"""Squared errors are flattened here, so that one impact or wrap does not dominate a batch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainResult:
    """A trained encoder with what training knew about it."""

    encoder: PhysicsEncoder
    heads: Heads
    probes: dict[str, dict[str, float]]
    """Probe name -> {score, baseline}; more is better."""
    curve: tuple[dict[str, float], ...]
    """One row a validation: update, train_loss, held_out_error."""


def pretrain(
    data: WindowData, card: EncoderCard, config: EncoderConfig, out: Path, *, seed: int, report: Report = silent
) -> PretrainResult:
    """Train encoder and heads, keep the best by held-out error, probe it and write its folder to `out`."""
    torch.manual_seed(seed)
    train, test = data.split(config.held_out, np.random.default_rng(seed))
    base = None if data.simulator is None else dict(data.simulator)
    encoder = PhysicsEncoder(replace(card, parameters=data.names, base=base))
    heads = Heads(encoder.card, config.horizon)
    set_statistics(encoder, heads, train)
    curve = _fit(encoder, heads, train, test, config, report)
    encoder.eval(), heads.eval()
    probes = probe(encoder, heads, train, test)
    encoder.card = replace(encoder.card, scores=probes)
    encoder.save(out)
    heads.save(out)
    return PretrainResult(encoder=encoder, heads=heads, probes=probes, curve=tuple(curve))


def set_statistics(encoder: PhysicsEncoder, heads: Heads, data: WindowData) -> None:
    """Scale inputs and targets by the training windows' statistics."""
    real = data.history[data.mask > 0]
    encoder.scale.set(real.mean(axis=0), real.std(axis=0))
    scaled = data.history[data.mask.all(axis=1)] / encoder.scale.deviation.numpy()
    change = (scaled[:, 2 * BLOCK :] - scaled[:, : -2 * BLOCK]).std(axis=(0, 1))
    encoder.change.copy_(torch.from_numpy(change[encoder.measured]).clamp(min=1e-3))
    with torch.no_grad():
        some = slice(None, None, max(len(data) // 4096, 1))
        known = encoder.reduce(torch.from_numpy(data.history[some]), torch.from_numpy(data.mask[some])).numpy()
    encoder.known.set(known.mean(axis=0), known.std(axis=0))
    heads.predictor.set_statistics(data)
    heads.blind.set_statistics(data)
    if data.names:
        heads.parameters_head.scale.set(data.parameters.mean(axis=0), data.parameters.std(axis=0))


class Batches:
    """Random batches of windows as tensors."""

    def __init__(self, data: WindowData, size: int, generator: torch.Generator) -> None:
        self._arrays = [torch.from_numpy(a) for a in (data.history, data.mask, data.observation)]
        self._arrays += [earlier_actions(data), torch.from_numpy(data.action), torch.from_numpy(data.future)]
        self._arrays += [torch.zeros(len(data), 0) if data.base is None else torch.from_numpy(data.base)]
        self._arrays.append(torch.from_numpy(data.parameters.astype(np.float32)))
        self._size, self._count, self._generator = size, len(data), generator

    def draw(self) -> list[Tensor]:
        """history, mask, observation, earlier actions, actions, future, base (empty without one), parameters."""
        rows = torch.randint(self._count, (self._size,), generator=self._generator)
        return [array[rows] for array in self._arrays]


def losses(encoder: PhysicsEncoder, heads: Heads, batch: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Prediction loss with context, prediction loss without, and the context (B, Z) of one batch."""
    history, mask, observation, earlier, actions, future, foretold, _ = batch
    base = foretold if heads.predictor.use_base and foretold.numel() else None
    context = encoder(history, mask)
    seeing = heads.predictor.unexplained(heads.predictor(observation, earlier, actions, context, base), future)
    blind = heads.blind.unexplained(heads.blind(observation, earlier, actions, context, base), future)
    return seeing.clamp(max=_MAX_LOSS).mean(), blind.clamp(max=_MAX_LOSS).mean(), context


def _fit(
    encoder: PhysicsEncoder, heads: Heads, train: WindowData, test: WindowData, config: EncoderConfig, report: Report
) -> list[dict[str, float]]:
    batches = Batches(train, config.batch, torch.Generator().manual_seed(torch.initial_seed()))
    weights = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.Adam(weights, lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.updates, config.learning_rate * 0.02)
    meter = Meter("pretrain", config.updates, "updates", report)
    every = max(config.updates // _VALIDATIONS, 1)
    best, best_state, since = float("inf"), _state(encoder, heads), 0
    curve: list[dict[str, float]] = []
    for update in range(1, config.updates + 1):
        batch = batches.draw()
        seeing, blind, context = losses(encoder, heads, batch)
        loss = seeing + blind
        if train.names:
            loss = loss + config.parameter_weight * heads.parameters_head.loss(context, batch[-1])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if update % every and update != config.updates:
            continue
        error = float(prediction_errors(encoder, heads.predictor, test).mean())
        curve.append({"update": update, "train_loss": float(seeing.detach()), "held_out_error": error})
        meter(update, train_loss=curve[-1]["train_loss"], held_out_error=error)
        if error < best:
            best, best_state, since = error, _state(encoder, heads), 0
        else:
            since += 1
        if since >= config.patience:
            break
    encoder.load_state_dict(best_state[0])
    heads.load_state_dict(best_state[1])
    return curve


def _state(encoder: PhysicsEncoder, heads: Heads) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return copy.deepcopy(encoder.state_dict()), copy.deepcopy(heads.state_dict())

"""Pretraining of the physics encoder on windows of randomized rollouts.

Two stages. Grounding (grounding.py) teaches what to expect of a robot whose parameters are known; where stretches vote
(votes.py), to tell them. Then the whole runs as it will run later, from windows alone, on the losses of objectives.py;
an encoder with equations of motion is done by then, and its heads learn alone. The best by held-out loss is kept.
Every validation writes a checkpoint, from which `resume` goes on; where torchrun starts processes again that end, every
step does.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from policies import tensors
from policies.encoders import checkpoint
from policies.encoders.evidence import Evidence
from policies.encoders.grounding import Grounding
from policies.encoders.heads import Heads
from policies.encoders.objectives import Batches, disagreement, losses
from policies.encoders.physics import EncoderCard, EncoderConfig, PhysicsEncoder
from policies.encoders.probes import contexts, prediction_errors, probe
from policies.encoders.ranks import Ranks, here
from policies.encoders.votes import Votes
from policies.encoders.windows import WindowData
from policies.progress import Meter, Report, silent

__all__ = ["Batches", "PretrainResult", "losses", "pretrain", "set_statistics"]

VALIDATIONS = 20
"""In each of the two stages."""
FINAL_RATE = 0.02
"""Share of the learning rate that is left at the end of a stage."""
SOME = 4096
"""Windows that the statistics of the evidence are taken from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainResult:
    """A trained encoder with what training knew about it."""

    encoder: PhysicsEncoder
    heads: Heads
    probes: dict[str, dict[str, float]]
    """Probe name -> {score, baseline}; more is better. Rank 0 alone has them."""
    curve: tuple[dict[str, float], ...]
    """One row a validation: update, train_loss, held_out_error."""
    losses: tuple[float, ...] = ()
    """Of every update, over the whole batch."""


def pretrain(
    data: WindowData,
    card: EncoderCard,
    config: EncoderConfig,
    out: Path,
    *,
    seed: int,
    resume: bool = False,
    report: Report = silent,
) -> PretrainResult:
    """Train encoder and heads, keep the best by held-out loss, probe it and write its folder to `out`.

    With `resume` a run that stopped on the way goes on from its checkpoint in `out`, given the same data and settings.
    ConfigError when the checkpoint there is of another encoder. The processes of torchrun all call this, with the same
    data and settings; rank 0 writes, and the checkpoint stays until the caller removes it.
    """
    ranks = here()
    torch.manual_seed(seed)
    train, test = data.split(config.held_out, np.random.default_rng(seed))
    base = None if data.simulator is None else dict(data.simulator)
    known = data.equations is not None and bool(data.names) and card.weighing == "regression"
    context = 2 * len(data.names) if known else card.context
    card = replace(card, parameters=data.names, base=base, equations=known, context=context)
    encoder = PhysicsEncoder(card)
    heads = Heads(encoder.card, config.horizon)
    set_statistics(encoder, heads, train)
    training = _Training(encoder, heads, train, test, config, out / checkpoint.FILE, report, ranks)
    curve = training.run(resume)
    encoder.eval(), heads.eval()
    losses = tuple(training.losses)
    if not ranks.leads:
        return PretrainResult(encoder=encoder, heads=heads, probes={}, curve=tuple(curve), losses=losses)
    probes = probe(encoder, heads, train, test)
    encoder.card = replace(encoder.card, scores=probes)
    encoder.save(out)
    heads.save(out)
    if not ranks.elastic:  # whoever is killed after this goes on from here, too
        (out / checkpoint.FILE).unlink(missing_ok=True)
    return PretrainResult(encoder=encoder, heads=heads, probes=probes, curve=tuple(curve), losses=losses)


def set_statistics(encoder: PhysicsEncoder, heads: Heads, data: WindowData) -> None:
    """Scale inputs and targets by the training windows' statistics."""
    real = data.history[data.mask > 0]
    encoder.scale.set(real.mean(axis=0), real.std(axis=0))
    some = slice(None, None, max(len(data) // SOME, 1))
    stretches = encoder.evidence.stretches
    if stretches.foreseen is not None and data.equations is not None:
        stretches.foreseen.set(data.equations)
    stretches.set_statistics(torch.from_numpy(data.history[some]), torch.from_numpy(data.mask[some]))
    heads.predictor.set_statistics(data)
    heads.blind.set_statistics(data)
    if data.names:
        heads.parameters_head.scale.set(data.parameters.mean(axis=0), data.parameters.std(axis=0))


class _Training:
    """One pretraining: its networks, its batches, its place."""

    def __init__(
        self,
        encoder: PhysicsEncoder,
        heads: Heads,
        train: WindowData,
        test: WindowData,
        config: EncoderConfig,
        path: Path,
        report: Report,
        ranks: Ranks,
    ) -> None:
        self.encoder, self.heads, self.train, self.test, self.config = encoder, heads, train, test, config
        self.path, self.report, self.ranks = path, report, ranks
        evidence = encoder.evidence
        foreseen = evidence.stretches.foreseen
        self.grounding = Grounding(max(len(train.names), 1), evidence.latents, fixed=foreseen is not None)
        if train.names:
            self.grounding.set_statistics(train)
        if foreseen is not None and isinstance(evidence, Evidence) and evidence.mixing is not None:
            evidence.mixing.copy_(self.grounding.mixing(foreseen))
        self.parts: dict[str, nn.Module] = {"encoder": encoder, "heads": heads, "grounding": self.grounding}
        self.best: dict[str, nn.Module] = {"best_encoder": copy.deepcopy(encoder), "best_heads": copy.deepcopy(heads)}
        self.generator = torch.Generator().manual_seed(torch.initial_seed())
        self.batches = Batches(train, config.batch, self.generator, config.lost, ranks)
        self.grounded = config.grounding if train.names else 0
        self.total = self.grounded + config.updates
        self.done, self.least, self.since = 0, float("inf"), 0
        self.curve: list[dict[str, float]] = []
        self.losses: list[float] = []
        self.weights = [w for part in self.parts.values() for w in part.parameters()]
        self.optimizer = torch.optim.Adam(self.weights, lr=config.learning_rate)

    def run(self, resume: bool) -> list[dict[str, float]]:
        """Train to the end, or until the held-out loss falls no more; returns the curve."""
        named = checkpoint.read(self.path, resume, self.ranks)
        if named is not None:
            self._restore(named)
        meter = Meter("pretrain", self.total, "updates", self.report, done=self.done)
        for update in self._updates():
            self.losses.append(self._update(update))
            self.done = update + 1
            validated = self._validates()
            if validated:
                self._validate()
            if self.ranks.leads and (validated or self.ranks.elastic):
                self._save(sync=validated)
            if validated:
                meter(self.done, **{k: v for k, v in self.curve[-1].items() if k != "update"})
        if self.done > self.grounded:
            for part, module in (("best_encoder", self.encoder), ("best_heads", self.heads)):
                module.load_state_dict(self.best[part].state_dict())
        return self.curve

    def _updates(self) -> Iterator[int]:
        for update in range(self.done, self.total):
            if self.since >= self.config.patience:
                return
            yield update

    def _update(self, update: int) -> float:
        """One step on the gradient of the whole batch; returns its loss."""
        self.optimizer.zero_grad()
        loss = self._loss(update)
        loss.backward()
        told = self.ranks.add(self.weights, float(loss.detach()))
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(update)
        self.optimizer.step()
        return told

    def _loss(self, update: int) -> Tensor:
        """This process's share: those of all processes add up to the loss of the whole batch."""
        batch, size = self.batches.draw(), self.batches.size
        share = len(batch[0]) / size
        if update < self.grounded:
            return self._grounding_loss(batch, share)
        told = self._told[0][self.batches.rows] if self.grounding.fixed else None
        seeing, blind, context = losses(self.encoder, self.heads, batch, told)
        loss = seeing + blind
        if self.train.names:
            loss = loss + self.config.parameter_weight * self.heads.parameters_head.loss(context, batch[-1])
        loss = share * loss
        if self.config.agreement_weight and not self.grounding.fixed:
            apart = disagreement(self.ranks.gathered(context, size))
            loss = loss + self.config.agreement_weight * self.ranks.once(apart)
        return loss

    @cached_property
    def _told(self) -> tuple[Tensor, Tensor]:
        """(N, Z) each: what the grounded encoder makes of the windows for training, of which every second lacks rows,
        and of those for validation."""
        generator = torch.Generator().manual_seed(torch.initial_seed())
        kept = torch.rand(self.train.mask.shape, generator=generator) >= self.config.lost
        kept[::2] = True
        short = replace(self.train, mask=self.train.mask * kept.numpy().astype(np.float32))
        train, test = (contexts(self.encoder, data).astype(np.float32) for data in (short, self.test))
        return torch.from_numpy(train), torch.from_numpy(test)

    @cached_property
    def _examined(self) -> WindowData:
        """This process's share of the windows for validation."""
        return self.test if self.ranks.count == 1 else self.test.take(np.arange(len(self.test))[self._own])

    @property
    def _own(self) -> slice:
        return self.ranks.own(len(self.test))

    def _grounding_loss(self, batch: list[Tensor], share: float) -> Tensor:
        history, mask, parameters = batch[0], batch[1], batch[-1]
        evidence = self.encoder.evidence
        if isinstance(evidence, Votes):
            return share * self.heads.parameters_head.loss(self.encoder(history, mask), parameters)
        if self.grounding.fixed:
            return share * self.grounding.surprise(evidence, history, mask, parameters)
        return self.grounding.loss(evidence, history, mask, parameters, self.ranks)

    def _rate(self, update: int) -> float:
        """A cosine in each stage, after a short rise."""
        first, length = (0, self.grounded) if update < self.grounded else (self.grounded, self.config.updates)
        place = (update - first) / length
        fall = FINAL_RATE + (1.0 - FINAL_RATE) * 0.5 * (1.0 + np.cos(np.pi * place))
        return float(self.config.learning_rate * min(fall, (update - first + 1) / (0.05 * length + 1.0)))

    def _validates(self) -> bool:
        stages = ((self.done, self.grounded), (self.done - self.grounded, self.config.updates))
        return any(0 < d <= n and (d % max(n // VALIDATIONS, 1) == 0 or d == n) for d, n in stages)

    def _validate(self) -> None:
        train_loss = self.losses[-1]
        if self.done <= self.grounded:
            self.curve.append({"update": self.done, "grounding_loss": train_loss})
            return
        told = self._told[1][self._own] if self.grounding.fixed else None
        errors = prediction_errors(self.encoder, self.heads.predictor, self._examined, told)
        error = float(self.ranks.total(torch.tensor(errors.sum()))) / len(self.test)
        self.curve.append({"update": self.done, "train_loss": train_loss, "held_out_error": error})
        self.since += 1
        if error < self.least:
            self.least, self.since = error, 0
            self.best["best_encoder"].load_state_dict(self.encoder.state_dict())
            self.best["best_heads"].load_state_dict(self.heads.state_dict())

    def _save(self, sync: bool) -> None:
        named = checkpoint.collect(self.parts | self.best, self.optimizer)
        named["random"] = self.generator.get_state()
        named["place"] = torch.tensor([self.done, self.least, self.since], dtype=torch.float64)
        for name in ("grounding_loss", "train_loss", "held_out_error"):
            rows = [(row["update"], row[name]) for row in self.curve if name in row]
            named[f"curve.{name}"] = torch.tensor(rows, dtype=torch.float64).reshape(-1, 2)
        named["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        tensors.save(self.path, named, sync)

    def _restore(self, named: dict[str, Tensor]) -> None:
        checkpoint.restore(named, self.parts | self.best, self.optimizer, self.path)
        self.generator.set_state(named["random"])
        self.losses = named["losses"].tolist()
        done, self.least, since = named["place"].tolist()
        self.done, self.since = int(done), int(since)
        rows: dict[int, dict[str, float]] = {}
        for name in ("grounding_loss", "train_loss", "held_out_error"):
            for update, value in named[f"curve.{name}"].tolist():
                rows.setdefault(int(update), {"update": int(update)})[name] = value
        self.curve = [rows[update] for update in sorted(rows)]

"""Pretraining of the vision encoder on labelled pictures from simulation.

A batch is shifted at random and changed in its looks; the eyes learn where the keypoints are (by their coordinates,
and by looking near them), the whole network the state with its uncertainty. Where two samples of a group follow each
other, they show one state in two appearances, and their features have to agree. Killed at any moment it goes on from
its checkpoint, to the same result. A batch has encoder.processes parts, each normalized by itself: who works them, the
processes of together.py, those of torchrun on several hosts, or one of these after the other, changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from policies import tensors
from policies.encoders.augment import random_shift, strong
from policies.encoders.checkpoint import collect, read, restore
from policies.encoders.eye import Eye
from policies.encoders.ranks import Crew, here
from policies.encoders.together import Team, helpers
from policies.encoders.vision import Seen, VisionCard, VisionConfig, VisionEncoder
from policies.encoders.vision_data import ImageData
from policies.encoders.vision_heads import MapHeads
from policies.encoders.vision_probes import ERRORS, MOST, errors, probe
from policies.progress import Meter, Report, silent
from robot.config import ConfigError

VALIDATIONS = 10
CHECKPOINT = "checkpoint.safetensors"
LOOK = 0.12
"""How near to a keypoint the cells that vote for it should be: standard deviation, in halves of the picture."""
PRECISE = 0.02
"""Error of a keypoint, in halves of the picture, below which its loss is quadratic."""
DECAY = 1e-3
"""Of the weights, by AdamW."""
WARM_UP = 50
"""Updates over which the step grows to its full size."""
REPORTED = 20
"""Updates between two reports on the progress."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionResult:
    """A trained encoder with what training knew about it."""

    encoder: VisionEncoder
    probes: dict[str, dict[str, float]]
    """Probe name -> {score, baseline}; more is better. Rank 0 alone has them."""
    curve: tuple[dict[str, float], ...]
    """One row a validation: update, train_loss, and the errors on held-out pictures."""
    losses: tuple[float, ...] = ()
    """Of every update, over the first part of its batch."""


def pretrain_vision(
    data: ImageData,
    card: VisionCard,
    config: VisionConfig,
    out: Path,
    *,
    seed: int,
    resume: bool = False,
    report: Report = silent,
) -> VisionResult:
    """Train an encoder, probe it and write its folder to `out`; the checkpoint lies in `out` until it is done.

    With `resume` it goes on from that checkpoint, if there is one. The processes of torchrun all call this, with the
    same data and settings; rank 0 writes, and the checkpoint stays until the caller removes it.
    """
    ranks = here()
    torch.manual_seed(seed)
    rows, held = data.split_rows(config.held_out, np.random.default_rng(seed))
    encoder = VisionEncoder(card)
    if config.backbone is not None:
        start_from(encoder, config.backbone)
    batches = Batches(data, config, seed, rows)
    training = Training(encoder, config, batches)
    named = read(out / CHECKPOINT, resume, ranks)
    if named is not None:
        training.load(named, out / CHECKPOINT)
    test = data.take(held) if ranks.leads else None
    if ranks.elastic:
        training.run(Crew(ranks, config.processes), ranks.rank, test, out / CHECKPOINT, report, every_step=True)
    else:
        team = Team(config.processes, training.weights)
        with helpers(team, assist, card, config, batches, training.snapshot()):
            training.run(team, 0, test, out / CHECKPOINT, report)
    curve, losses = tuple(training.curve), tuple(training.losses)
    if test is None:
        return VisionResult(encoder=encoder, probes={}, curve=curve, losses=losses)
    encoder.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # as load() makes it
    probes = probe(encoder, data.take(rows[:MOST]), test)
    encoder.card = replace(card, scores=probes)
    encoder.save(out)
    if training.heads is not None:
        training.heads.save(out)
    if not ranks.elastic:
        (out / CHECKPOINT).unlink(missing_ok=True)
    return VisionResult(encoder=encoder, probes=probes, curve=curve, losses=losses)


def assist(
    team: Team, rank: int, card: VisionCard, config: VisionConfig, batches: Batches, start: dict[str, Tensor]
) -> None:
    """What a helping process does: the same updates from the same start, on batches of its own."""
    training = Training(VisionEncoder(card), config, batches)
    training.load(start, Path("the start"))
    while training.done < config.updates:
        training.update(team, rank)


def start_from(encoder: VisionEncoder, path: Path) -> None:
    """Begin with the tensors of a local safetensors file that fit; ConfigError when none does.

    Names may have one prefix in common, and a backbone of one eye serves all of them.
    """
    named, own = tensors.load(path), encoder.state_dict()
    fitting = {
        name: value
        for name in own
        for short in (name, name.split(".", 2)[-1])
        if (value := named.get(short)) is not None and value.shape == own[name].shape
    }
    if not fitting:
        raise ConfigError(
            f"encoder.backbone={path}: none of its {len(named)} tensors fits the encoder; it needs names and shapes as "
            f"{next(iter(own))} {list(next(iter(own.values())).shape)}."
        )
    encoder.load_state_dict(own | fitting)


class Batches:
    """Random batches of samples as tensors; both samples of a pair follow each other."""

    def __init__(self, data: ImageData, config: VisionConfig, seed: int, rows: npt.NDArray[np.intp]) -> None:
        """`rows` of the data are for training; no other is read, and none before it is drawn."""
        self._seed, self._shift, self._strong = seed, config.shift, config.strong
        self._images = torch.from_numpy(data.images)
        self._maps = None if data.maps is None else torch.from_numpy(data.maps)
        self._state, self._keypoints = torch.from_numpy(data.state), torch.from_numpy(data.keypoints)
        self.with_maps = data.maps is not None
        self.together = 2 if len(rows) > 1 and data.group[rows[0]] == data.group[rows[1]] else 1
        self._starts = torch.from_numpy(rows[: len(rows) // self.together * self.together : self.together])
        self._count = config.batch // self.together

    def draw(self, update: int, part: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (B, cameras, 3 or with maps 5, h, w) uint8, state (B, S), keypoints (B, K, 2).

        They follow from the seed, the update and the part, so that nothing must be kept to go on.
        """
        number = np.random.SeedSequence([self._seed, update, part]).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(number))
        rows = self._starts[torch.randint(len(self._starts), (self._count,), generator=generator)]
        rows = (rows[:, None] + torch.arange(self.together)).flatten()
        points = self._keypoints[rows].unflatten(1, (self._images.shape[1], -1))
        pictures, places = [], []
        for camera in range(self._images.shape[1]):
            image, place = self._images[rows, camera], points[:, camera]
            if self._maps is not None:
                image = torch.cat([image, self._maps[rows, camera]], dim=1)
            if self._shift:
                image, place = random_shift(image, place, generator, self._shift)
            if self._strong:
                image = torch.cat([strong(image[:, :3], generator), image[:, 3:]], dim=1)
            pictures.append(image)
            places.append(place)
        return torch.stack(pictures, dim=1), self._state[rows], torch.cat(places, dim=1)


class Training:
    """The loop, its losses and its checkpoint."""

    def __init__(self, encoder: VisionEncoder, config: VisionConfig, batches: Batches) -> None:
        self.encoder, self.config, self.batches = encoder, config, batches
        encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stubs do not know it
        self.heads = MapHeads(encoder.card) if batches.with_maps else None
        self._parts: dict[str, nn.Module] = {"encoder": encoder} | ({"heads": self.heads} if self.heads else {})
        self.weights = [p for part in self._parts.values() for p in part.parameters()]
        self._optimizer = torch.optim.AdamW(self.weights, betas=(0.9, 0.99), weight_decay=DECAY)
        self._halved = torch.cpu._is_avx512_bf16_supported()
        self._norms = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)]
        self.curve: list[dict[str, float]] = []
        self.losses: list[float] = []
        self.done = 0

    def run(
        self,
        team: Team | Crew,
        rank: int,
        test: ImageData | None,
        checkpoint: Path,
        report: Report,
        every_step: bool = False,
    ) -> None:
        """All updates that are missing; with pictures to `test` on also validations, checkpoints, at validations or at
        every step, and reports."""
        config = self.config
        meter = Meter("pretrain", config.updates, "updates", report, done=self.done)
        every = max(config.updates // VALIDATIONS, 1)
        while self.done < config.updates:
            self.losses.append(loss := self.update(team, rank))
            if test is None:
                continue
            if self.done % every and self.done != config.updates:
                if every_step:
                    tensors.save(checkpoint, self.snapshot(), sync=False)
                if self.done % REPORTED == 0:
                    meter(self.done, train_loss=loss)
                continue
            row = {"update": float(self.done), "train_loss": loss} | errors(self.encoder, test)
            self.curve.append(row)
            tensors.save(checkpoint, self.snapshot())
            meter(self.done, **{k: v for k, v in row.items() if k != "update"})

    def update(self, team: Team | Crew, rank: int) -> float:
        """One step on the mean gradient of all parts of the batch; returns the loss of this process's first."""
        share = self.done / self.config.updates
        rate = self.config.learning_rate * (0.51 + 0.49 * math.cos(math.pi * share))
        for group in self._optimizer.param_groups:
            group["lr"] = rate * min(1.0, (self.done + 1) / WARM_UP)
        self.encoder.train()
        self._optimizer.zero_grad(set_to_none=True)
        told = [self._part(part) for part in team.parts_of(rank)]
        team.average(rank, self.weights)
        torch.nn.utils.clip_grad_norm_(self.weights, 5.0)
        self._optimizer.step()
        self.done += 1
        return told[0]

    def _part(self, part: int) -> float:
        """Add the gradient of one part of the batch; returns its loss. The first one alone is what the statistics for
        later use are taken from, whoever works the others."""
        for norm in self._norms:
            norm.track_running_stats = part == 0
        loss = self.loss(*self.batches.draw(self.done, part))
        loss.backward()
        for norm in self._norms:
            norm.track_running_stats = True
        return float(loss.detach())

    def loss(self, images: Tensor, state: Tensor, keypoints: Tensor) -> Tensor:
        """Of one batch, as Batches.draw() gives it; labels that are NaN are left out."""
        looked, total = [], torch.zeros(())
        for camera, points in enumerate(self._split(keypoints)):
            eye = cast(Eye, self.encoder.eyes[camera])
            with torch.autocast("cpu", torch.bfloat16, enabled=self._halved):
                fine = eye.maps(images[:, camera, :3].contiguous(memory_format=torch.channels_last))
            fine = fine.float()
            looked.append(eye.read(fine))
            total = total + located(eye, fine, looked[-1][1], points)
            if self.heads is not None:
                total = total + self.config.map_weight * self.heads.loss(camera, fine, images[:, camera, 3:])
        seen = self.encoder.fuse(looked)
        total = total + self.config.state_weight * told(seen, state)
        if self.batches.together == 2:
            total = total + self.config.agreement_weight * disagreement(seen.features)
        return total

    def _split(self, keypoints: Tensor) -> list[Tensor]:
        """One (B, K, 2) a camera."""
        return list(keypoints.unflatten(1, (len(self.encoder.eyes), -1)).unbind(dim=1))

    def snapshot(self) -> dict[str, Tensor]:
        """Everything from which load() goes on, as copies."""
        rows = torch.tensor([list(row.values()) for row in self.curve], dtype=torch.float64)
        named = collect(self._parts, self._optimizer) | {"done": torch.tensor(self.done), "curve": rows}
        named["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        return {name: tensor.clone() for name, tensor in named.items()}

    def load(self, named: dict[str, Tensor], where: Path) -> None:
        """Go on from a snapshot; ConfigError when it is of another network."""
        restore(named, self._parts, self._optimizer, where)
        self.done, self.losses = int(named["done"]), named["losses"].tolist()
        names = ("update", "train_loss", *ERRORS)
        self.curve = [dict(zip(names, row.tolist(), strict=True)) for row in named["curve"]]


def located(eye: Eye, fine: Tensor, found: Tensor, points: Tensor) -> Tensor:
    """How far the keypoints `found` (B, K, 2) are from `points`, and how far from these the cells look that vote."""
    known = torch.isfinite(points).all(dim=2)
    wanted = torch.where(known[..., None], points, found.detach())
    distance = functional.smooth_l1_loss(found, wanted, beta=PRECISE)
    away = (eye.grid - wanted[..., None]).square().sum(dim=2)
    nearby = torch.softmax(-0.5 * away / LOOK**2, dim=2)
    logits = eye.out(fine).flatten(2)[:, : eye.keypoints]
    looking = -(nearby * torch.log_softmax(logits, dim=2)).sum(dim=2)
    return 5.0 * distance + (looking * known).mean()


def told(seen: Seen, state: Tensor) -> Tensor:
    """Negative logarithm of the state's likelihood under the encoder's own uncertainty."""
    known = torch.isfinite(state)
    error = torch.where(known, seen.state - state, 0.0)
    return (0.5 * (error.square() * torch.exp(-seen.log_variance) + seen.log_variance) * known).mean()


def disagreement(features: Tensor) -> Tensor:
    """Mean squared difference of the features of samples 2 i and 2 i + 1, against the spread over all."""
    first, second = features[::2], features[1::2]
    return (first - second).square().mean() / features.var(dim=0).mean().clamp(min=1e-4).detach()

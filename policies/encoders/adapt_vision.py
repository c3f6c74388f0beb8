"""Adaptation of a pretrained vision encoder to real pictures: with labels of a few, by the joints' sensors, or without.

Every update takes real pictures, turned, shifted and lit otherwise (warp.py), and as many simulated ones with all their
labels. Labels are angles in the picture (a person's, a few frames) or states (the joints' sensors, synchrony.py).
Pictures without one are told by what all pictures say together (consensus.py), which is made anew a few times. Some
real pictures are held out: they say when to stop, and whether the encoder is kept or given up.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from policies.encoders.consensus import COPIES, Consensus, agree, look, pose_shares
from policies.encoders.guards import GuardConfig, TuneConfig, tune
from policies.encoders.vision import VisionEncoder, image_angle
from policies.encoders.vision_data import ImageData
from policies.encoders.warp import Motion, pixels, reduced, relit
from policies.progress import Report, silent
from robot.config import ConfigError

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.bool_]
LOOKS = 3
"""Copies of each held-out picture that are scored turned a little, and as many turned much, to stand for all poses."""
STRETCH = 5
"""Pictures without a label are held out in stretches of so many."""
FEWEST = 20
"""Frames that can tell something together, without a label."""
BEND = 0.05
"""Errors above this [rad, halves of the picture, or the states' units] count by their size, not by their square."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionAdaptConfig:
    """How a vision encoder is adapted."""

    tune: TuneConfig = field(
        default_factory=lambda: TuneConfig(
            guard=GuardConfig(weight=2.0), updates=100, batch=32, learning_rate=6e-4, validations=5, patience=5
        )
    )
    """Updates, batch (real pictures), and the guard against forgetting."""
    rounds: int = 2
    """How often unlabelled pictures are told anew what they show together; 0: they are not used."""
    turn_deg: float = 180.0
    """Pictures are turned by up to this; where states are told, which a turned picture would change, they are not."""
    look_deg: float = 6.0
    """Copies whose answers are averaged are turned by up to this: no more than pretraining has shown."""
    shift: float = 0.12
    """Pictures are shifted by up to this [halves of the picture]."""
    held_out: float = 0.2
    """Share of the told pictures (of all, where none is) that says when to stop."""

    def __post_init__(self) -> None:
        if self.rounds < 0:
            raise ConfigError(f"adapt.rounds is {self.rounds}; it must be at least 0.")
        if not 0.0 < self.held_out < 1.0:
            raise ConfigError(f"adapt.held_out is {self.held_out}; it must lie between 0 and 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Footage:
    """N real pictures of one camera in time order, and what is known of them."""

    images: npt.NDArray[np.uint8]
    """(N, 3, n h, n w) RGB, a whole multiple n of the encoder's size: 2 for turns that blur little."""
    seconds: Array
    """(N,) stamps [s], rising."""
    fresh: Rows
    """(N,) False where a picture repeats the one before."""
    angle: Array
    """(N,) angle in the picture [rad]; NaN where nobody told it."""
    state: Array
    """(N, S) the card's states; NaN where nobody told them."""
    group: npt.NDArray[np.int64]
    """(N,) told pictures of one group are alike, and held out together: a stretch of time, or a recording."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def told(self) -> Rows:
        """(N,) whether there is a label."""
        return np.isfinite(self.angle) | np.isfinite(self.state).any(axis=1)

    @property
    def by_angle(self) -> bool:
        """Whether turns are free: no state is told, which would change its meaning."""
        return not np.isfinite(self.state).any()


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionAdaptResult:
    """The encoder that is kept, and why."""

    encoder: VisionEncoder
    """Adapted, or the one that was given where that is no worse on the held-out pictures."""
    accepted: bool
    why: str
    before: float
    """Held-out score of the given encoder, less is better; see held_out_score()."""
    after: float
    curve: tuple[dict[str, float], ...] = field(default=())


def adapt(
    encoder: VisionEncoder,
    footage: Footage,
    replay: ImageData,
    config: VisionAdaptConfig,
    *,
    seed: int,
    report: Report = silent,
) -> VisionAdaptResult:
    """Train a copy of an encoder of one camera on `footage` and on simulated pictures; the original stays as it is.

    ConfigError when the two do not fit, or there are too few labels.
    """
    check(encoder, footage, config)
    generator = torch.Generator().manual_seed(seed)
    train, held, untold = split(footage, config.held_out, np.random.default_rng(seed))
    adapted = Steady(copy.deepcopy(encoder)).eval()
    real = _Real(adapted.encoder, footage, train, ~(held | untold), config, generator)
    truth = footage.angle
    if real.consensus is not None:
        held |= untold
        truth = np.where(np.isfinite(truth), truth, real.consensus.angle)
    tuned = tune(
        adapted,
        real,
        lambda count: replay_loss(adapted.encoder, replay, count, generator),
        config.tune,
        Judge(adapted.encoder, footage, held, truth, config, seed),
        seed=seed,
        report=report,
    )
    before, after = tuned.curve[0]["held_out"], min(row["held_out"] for row in tuned.curve)
    accepted = tuned.best > 0
    why = f"the held-out score fell from {before:.4g} to {after:.4g} in {tuned.best} updates"
    return VisionAdaptResult(
        encoder=adapted.encoder if accepted else encoder,
        accepted=accepted,
        why=why if accepted else f"the held-out score did not fall below {before:.4g}",
        before=before,
        after=after,
        curve=tuned.curve,
    )


class Steady(nn.Module):
    """An encoder whose normalizations keep the statistics of pretraining: the same picture keeps the same meaning."""

    def __init__(self, encoder: VisionEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def train(self, mode: bool = True) -> Steady:
        return super().train(False)


def check(encoder: VisionEncoder, footage: Footage, config: VisionAdaptConfig) -> None:
    """ConfigError when footage and encoder do not fit, or there is too little to hold some out."""
    card = encoder.card
    if len(card.cameras) != 1:
        raise ConfigError(f"the encoder takes {len(card.cameras)} cameras; it can be adapted to pictures of one.")
    height, width = footage.images.shape[2:]
    if height % card.height or width % card.width or height // card.height != width // card.width:
        raise ConfigError(
            f"pictures of {width} x {height}: the encoder takes {card.width} x {card.height} or a multiple."
        )
    told = int(footage.told.sum())
    groups = len(np.unique(footage.group[footage.told]))
    if groups == 1 or (told == 0 and (config.rounds == 0 or len(footage) < FEWEST)):
        raise ConfigError(
            f"{told} labels on {len(footage)} pictures are too few to adapt to, as some must be held out; give two "
            f"labels or more, or {FEWEST} frames without."
        )


def split(footage: Footage, held_out: float, rng: np.random.Generator) -> tuple[Rows, Rows, Rows]:
    """(N,) told pictures to train on, told ones to hold out, and untold ones to hold out.

    Of the told ones every few groups one is held out, so that both parts span the motion; of the untold ones every few
    stretches of STRETCH pictures.
    """
    told, step = footage.told, max(2, round(1.0 / held_out))
    groups = np.unique(footage.group[told])
    every = max(2, min(step, len(groups)))
    held = told & np.isin(footage.group, groups[rng.integers(every) :: every])
    untold = ~told & (np.arange(len(footage)) // STRETCH % step == rng.integers(step))
    return told & ~held, held, untold


class Judge:
    """The held-out score: mean error [rad, or the states' units] on held-out pictures, in turned copies.

    Where nobody told the angle, the consensus before adaptation stands for it.
    """

    def __init__(
        self, encoder: VisionEncoder, footage: Footage, held: Rows, truth: Array, config: VisionAdaptConfig, seed: int
    ) -> None:
        """`truth` (N,) angles in the picture [rad], for footage without states."""
        self.encoder, self.footage, self.held, self.truth = encoder, footage, held, truth
        self.config, self.seed = config, seed

    def __call__(self) -> float:
        footage, held, card = self.footage, self.held, self.encoder.card
        generator = torch.Generator().manual_seed(self.seed)  # the same turns each time
        if not footage.by_angle:
            pictures = pixels(reduced(torch.from_numpy(footage.images[held]), card.height, card.width))
            with torch.no_grad():
                state = self.encoder(pictures).state.numpy()
            return float(np.nanmean(np.abs(state - footage.state[held])))
        turns = [math.radians(turn) for turn in (self.config.look_deg, self.config.turn_deg)]
        answers = np.concatenate([look(self.encoder, footage.images[held], LOOKS, turn, generator) for turn in turns])
        flat = torch.from_numpy(answers.astype(np.float32)).flatten(0, 1)
        unit = np.exp(1j * image_angle(flat, card.width / card.height).view(2 * LOOKS, -1).numpy().astype(np.float64))
        return float(np.abs(np.angle(unit * np.exp(-1j * self.truth[held]))).mean())


class _Real:
    """Loss on a batch of real pictures: against their consensus, which has the labels in it, or against labels alone.

    The consensus is made anew every so many batches.
    """

    def __init__(
        self,
        encoder: VisionEncoder,
        footage: Footage,
        train: Rows,
        free: Rows,
        config: VisionAdaptConfig,
        generator: torch.Generator,
    ) -> None:
        """`train` (N,) pictures whose labels are used, `free` (N,) those that are not held out."""
        self.encoder, self.footage, self.train, self.free = encoder, footage, train, np.flatnonzero(free)
        self.config, self.generator = config, generator
        self.turn = math.radians(config.turn_deg) if footage.by_angle else 0.0
        self.aspect = encoder.card.width / encoder.card.height
        self.count, self.consensus = 0, self._agree() if config.rounds and footage.by_angle else None

    def _agree(self) -> Consensus:
        turn = math.radians(self.config.look_deg)
        answers = look(self.encoder, self.footage.images, COPIES, turn, self.generator)
        known = np.where(self.train, self.footage.angle, np.nan)
        return agree(answers, self.footage.seconds, self.footage.fresh, known, self.aspect)

    def __call__(self) -> Tensor:
        tune = self.config.tune
        if self.consensus is not None and self.count and self.count % -(-tune.updates // self.config.rounds) == 0:
            self.consensus = self._agree()
        self.count += 1
        rows = self._rows(tune.batch)
        card, footage = self.encoder.card, self.footage
        motion = Motion.draw(len(rows), self.generator, turn=self.turn, shift=self.config.shift, aspect=self.aspect)
        moved = motion.images(torch.from_numpy(footage.images[rows]), card.height, card.width)
        seen = self.encoder(pixels(relit(moved, self.generator)))
        told = torch.from_numpy(self.train[rows])
        if self.consensus is not None:
            return self._apart(seen.keypoints, motion, rows)
        loss = angle_loss(seen.keypoints, _tensor(footage.angle[rows]) + motion.turn, told, self.aspect)
        return loss + robust(seen.state, _tensor(footage.state[rows]), told)

    def _apart(self, keypoints: Tensor, motion: Motion, rows: npt.NDArray[np.intp]) -> Tensor:
        """Robust error against the consensus, of pivot and end and of the angle between, as far as it is trusted."""
        assert self.consensus is not None
        wanted = motion.points(_tensor(self.consensus.keypoints[rows]))
        apart = functional.smooth_l1_loss(keypoints[:, :2], wanted, beta=BEND, reduction="none").mean(dim=(1, 2))
        turned = image_angle(keypoints, self.aspect) - image_angle(wanted, self.aspect)
        turned = torch.atan2(torch.sin(turned), torch.cos(turned))
        apart = apart + functional.smooth_l1_loss(turned, torch.zeros_like(turned), beta=BEND, reduction="none")
        return (_tensor(self.consensus.weight[rows]) * apart).mean()

    def _rows(self, batch: int) -> npt.NDArray[np.intp]:
        """Of told pictures; or of all, so that every pose comes as often, however long the body rests there."""
        if self.consensus is None:
            told = np.flatnonzero(self.train)
            return told[_draw(len(told), batch, self.generator)]
        share = torch.from_numpy(pose_shares(self.consensus.angle[self.free]))
        return self.free[torch.multinomial(share, batch, replacement=True, generator=self.generator).numpy()]


def angle_loss(keypoints: Tensor, wanted: Tensor, told: Tensor, aspect: float) -> Tensor:
    """Robust error of the angle in the picture, over the `told` (B,) of which `wanted` (B,) is known."""
    told = told & torch.isfinite(wanted)
    if not told.any():
        return keypoints.new_zeros(())
    apart = (image_angle(keypoints, aspect) - wanted)[told]
    apart = torch.atan2(torch.sin(apart), torch.cos(apart))
    return functional.smooth_l1_loss(apart, torch.zeros_like(apart), beta=BEND)


def robust(found: Tensor, wanted: Tensor, told: Tensor) -> Tensor:
    """Robust error of `found` (B, ...) over the `told` (B,), leaving out what is NaN in `wanted`."""
    known = torch.isfinite(wanted) & told.view(-1, *[1] * (wanted.ndim - 1))
    if not known.any():
        return found.new_zeros(())
    return functional.smooth_l1_loss(found[known], wanted[known], beta=BEND)


def replay_loss(encoder: VisionEncoder, replay: ImageData, count: int, generator: torch.Generator) -> Tensor:
    """Robust error of keypoints and states of `count` simulated samples, newly drawn."""
    rows = _draw(len(replay), count, generator)
    seen = encoder(*torch.from_numpy(replay.images[rows]).unbind(dim=1))
    every = torch.ones(count, dtype=torch.bool)
    keypoints, state = torch.from_numpy(replay.keypoints[rows]), torch.from_numpy(replay.state[rows])
    return robust(seen.keypoints, keypoints, every) + robust(seen.state, state, every)


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _draw(count: int, wanted: int, generator: torch.Generator) -> npt.NDArray[np.intp]:
    return torch.randint(count, (wanted,), generator=generator).numpy()

"""Prediction by an identified simulator and a context: what an encoder has told of a recording so far.

Before each window the encoder reads the innovations of the recording's past (innovations.py), in pieces as long as its
history; what its head estimates of the parameters from each piece is put together, sure estimates weighing more, and
the simulator predicts with that. So the context carries what differs between this recording and the identified
simulator, and what no piece was sure of stays as identified. Nothing after a window's start is read.

Estimates of pieces are combined by their precision less the prior's, which each of them contains: Bayes' rule for
pieces that are independent given the parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from policies.encoders.heads import Heads
from policies.encoders.physics import EncoderConfig, PhysicsEncoder
from robot.config import ConfigError
from robot.log import EpisodeLog
from sim.model import Model
from sim.randomization import Randomization
from transfer.dataset import DataRefused
from transfer.innovations import Foreteller, Innovations, card_of
from transfer.prediction import Metric, Prediction, difference, metric_for, open_loop, shots_for

Array = npt.NDArray[np.float64]
Float = npt.NDArray[np.float32]

LEAST = 1e-3
"""Least variance of a piece's estimate that is believed, as a share of the prior's."""
REACH = 2.5
"""Estimates are cut at this many deviations of the prior."""
READABLE = 0.3
"""Parameters of which the encoder's probe on simulated robots explains a smaller share stay as identified."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the context says before each of W windows, in deviations of the prior; 0 is the identified simulator."""

    names: tuple[str, ...]
    mean: Array
    """(W, P)"""
    variance: Array
    """(W, P) share of the prior's variance that is left."""
    rows: npt.NDArray[np.intp]
    """(W,) rows of the past that were read; 0: nothing is known yet."""


@dataclass(frozen=True, slots=True)
class Contextual:
    """The same windows predicted twice."""

    given: Prediction
    """By the identified simulator and the context."""
    alone: Prediction
    """By the identified simulator."""
    told: Told

    def scored(self) -> tuple[Prediction, Prediction]:
        """(with the context, without it) of the windows with a past that could be read.

        DataRefused when no recording has any.
        """
        windows = np.flatnonzero(self.told.rows > 0)
        if not len(windows):
            raise DataRefused("no recording has a past that is long enough for the encoder before its first window.")
        return self.given.of(windows), self.alone.of(windows)

    def result(self, rng: np.random.Generator) -> dict[str, Any]:
        """The keys of `evaluate` with the context; the simulator `alone`, and the paired `difference` [rad]."""
        given, alone = self.scored()
        apart = {f"{h:.1f}": difference(given, alone, h, rng) for h in given.horizons_s}
        return {**given.result(rng), "alone": alone.result(rng), "difference": apart}


class Reader:
    """An encoder of innovations with its parameter head."""

    def __init__(self, encoder: PhysicsEncoder, heads: Heads, foreteller: Foreteller) -> None:
        """ConfigError when the encoder does not read innovations, or those of another robot."""
        card, spec = encoder.card, foreteller.model.spec
        mine = card_of(spec, EncoderConfig(history=card.history, context=card.context, span=card.span))
        if (card.robot, card.components, card.actuators) != (mine.robot, mine.components, mine.actuators):
            raise ConfigError(
                f"the encoder reads {', '.join(card.components[:3])}, ... of robot '{card.robot}'; to predict "
                f"recordings of '{spec.name}' it must read innovations. Pretrain one that does: terrafirma pretrain "
                f"encoder=recordings robot={spec.name} logs=DATASET posterior=FILE."
            )
        self.encoder, self.heads, self.foreteller = encoder.eval(), heads.eval(), foreteller

    def told(self, log: EpisodeLog, starts: Array) -> Told:
        """What the recording tells up to each of the times `starts` (W,) [s since the first position]."""
        card = self.encoder.card
        rows = self.foreteller.rows(log)
        ends = np.searchsorted(rows.t, starts + 1e-9, "right")
        ends[ends <= 4 * card.span] = 0
        owner, history, mask = pieces(rows, ends, card.history, 4 * card.span)
        mean, precision = np.zeros((len(starts), len(card.parameters))), np.ones((len(starts), len(card.parameters)))
        one, own = self._read(history, mask)
        np.add.at(precision, owner, own - 1.0)
        np.add.at(mean, owner, own * one)
        return Told(card.parameters, (mean / precision).clip(-REACH, REACH), 1.0 / precision, ends)

    def _read(self, history: Float, mask: Float) -> tuple[Array, Array]:
        """Mean (N, P) and precision (N, P), at least the prior's, of pieces (N, H, K) with their masks (N, H)."""
        with torch.no_grad():
            context = self.encoder(torch.from_numpy(history), torch.from_numpy(mask))
            mean, log_variance = self.heads.parameters_head(context)
        return mean.double().numpy(), 1.0 / log_variance.exp().double().numpy().clip(LEAST, 1.0)

    def values(self, told: Told) -> dict[str, Array]:
        """Target -> (W,) what the simulator is to be set to.

        Only what the encoder can read of robots that it has not seen, as its card tells, is changed. Quantities above 0
        change in proportion, so none becomes negative.
        """
        scale = self.heads.parameters_head.scale.deviation.numpy()
        center = self.foreteller.center
        out = {name: np.full(len(told.mean), value) for name, value in center.items()}
        scores = self.encoder.card.scores
        for i, name in enumerate(told.names):
            if scores.get(f"parameter/{name}", {}).get("score", 0.0) < READABLE:
                continue
            middle, step = center.get(name, 0.0), scale[i] * told.mean[:, i]
            out[name] = middle * np.exp(step / middle) if middle > 0.0 else middle + step
        return out


def load(folder: Path) -> tuple[PhysicsEncoder, Heads]:
    """An encoder with the heads beside it; ConfigError when the folder holds none."""
    encoder = PhysicsEncoder.load(folder)
    return encoder, Heads.load(folder, encoder.card)


def pieces(
    rows: Innovations, ends: npt.NDArray[np.intp], length: int, least: int
) -> tuple[npt.NDArray[np.intp], Float, Float]:
    """Rows before each of `ends` (W,) in pieces of `length`, newest first, none of `least` rows or fewer.

    Returns the window (N,) of each piece, the pieces (N, length, K), and their masks (N, length).
    """
    whole = np.concatenate([rows.observation, rows.command], axis=1).astype(np.float32)
    owner, history, mask = [], [np.zeros((0, length, whole.shape[1]), np.float32)], [np.zeros((0, length), np.float32)]
    for window, stop in enumerate(ends):
        end = int(stop)
        while end > least:
            first = max(end - length, 0)
            short = length - (end - first)
            history.append(np.pad(whole[first:end], ((short, 0), (0, 0)))[None])
            mask.append(np.pad(np.ones(end - first, np.float32), (short, 0))[None])
            owner.append(window)
            end = first
    return np.array(owner, dtype=np.intp), np.concatenate(history), np.concatenate(mask)


def evaluate_with_context(
    logs: Sequence[EpisodeLog],
    model: Model,
    parameters: Randomization,
    encoder: PhysicsEncoder,
    heads: Heads,
    metric: Metric | None = None,
    until_s: float | None = None,
    nthread: int = 0,
) -> Contextual:
    """Score the middle of `parameters` with and without what the encoder tells, on the same windows.

    With `until_s` the encoder reads the first so many seconds of each recording and no more, and windows that start
    before are left out; else it reads all that lies before each window.
    """
    metric = metric or metric_for(model.spec)
    shots = shots_for(logs, model.spec, metric, until_s or 0.0)
    read_to = shots.start if until_s is None else np.minimum(shots.start, until_s)
    reader = Reader(encoder, heads, Foreteller(model, parameters, nthread))
    parts = [reader.told(log, read_to[shots.episode == i]) for i, log in enumerate(logs)]
    told = Told(
        parts[0].names,
        np.concatenate([p.mean for p in parts]),
        np.concatenate([p.variance for p in parts]),
        np.concatenate([p.rows for p in parts]),
    )

    def score(values: dict[str, Array]) -> Prediction:
        return open_loop(shots, model, values, np.zeros_like(shots.position), metric, nthread)

    alone = score({name: np.full(len(shots), value) for name, value in reader.foreteller.center.items()})
    return Contextual(score(reader.values(told)), alone, told)

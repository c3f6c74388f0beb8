"""The arms of the data-efficiency study on pictures: how many labelled pictures an encoder needs on a new robot.

Every seed is another surrogate robot, with another camera pose, lens and light, and an encoder pretrained under that
seed. Labels are the joints' sensors. All ways train the same network on the same pictures and are judged on recordings
that none of them sees.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from policies.encoders.adapt_vision import Footage, VisionAdaptConfig, adapt, robust
from policies.encoders.augment import random_shift
from policies.encoders.guards import GuardConfig, TuneConfig, tune
from policies.encoders.vision import VisionEncoder, joint_angles
from policies.encoders.vision_data import ImageData
from robot.log import EpisodeLog
from sim.model import RobotConfig
from sim.surrogate import record_episode
from transfer import study
from transfer.finetune_vision import REPLAYED, proprioceptive, simulated
from transfer.study import Cell

RECORDING_S = 12.0
RECORDINGS, JUDGES = 3, 2
AMPLITUDE = 1.0
"""Share of the full torque: the pendulum gets everywhere."""
AMOUNTS = (5, 20, 80)
MORE = (320,)
"""What training from scratch gets beyond, so that the ratio need not be a bound."""
UPDATES = 150
SCRATCH_UPDATES, SCRATCH_RATE = 400, 1e-3
SHIFT = 4
"""Most pixels of the random shift."""
QUICK_UPDATES = 10


@dataclass(frozen=True)
class Robot:
    """One seed's robot: the pretrained encoder, pictures to train on and to judge by, and simulated ones to replay."""

    encoder: VisionEncoder
    train: Footage
    judge: Footage
    replay: ImageData


class Images:
    """Arms of transfer.study: amounts are labelled pictures."""

    unit = "labelled pictures"
    error = "mean joint error on held-out recordings [deg]"
    ways = (study.ZERO_SHOT, study.PRETRAINED, study.FROZEN, study.SCRATCH, study.SHIFTED)

    def __init__(self, robot: RobotConfig, encoder_of: Callable[[int], Path], quick: bool) -> None:
        """`encoder_of`: seed -> folder of an encoder that was pretrained with it."""
        self.robot, self.encoder_of, self.quick = robot, encoder_of, quick
        self._robots: dict[int, Robot] = {}
        self.updates = (QUICK_UPDATES, QUICK_UPDATES) if quick else (UPDATES, SCRATCH_UPDATES)
        self.settings: dict[str, Any] = {"robot": robot.spec.name, "updates": list(self.updates), "shift": SHIFT}

    def amounts(self, way: str) -> tuple[int, ...]:
        if way == study.ZERO_SHOT:
            return (0,)
        amounts = AMOUNTS[:2] if self.quick else AMOUNTS
        return (*amounts, *MORE) if way in study.BASELINES and not self.quick else amounts

    def run(self, cell: Cell) -> dict[str, float]:
        if cell.seed not in self._robots:
            self._robots[cell.seed] = self._robot(cell.seed)
        robot = self._robots[cell.seed]
        if cell.way == study.ZERO_SHOT:
            return judge(robot.encoder, robot.judge)
        # spread over all recordings; each amount's pictures are among the next larger one's
        order = np.random.default_rng(cell.seed).permutation(len(robot.train))
        some = np.sort(order[: cell.amount])
        footage = _take(robot.train, some)
        if cell.way in study.BASELINES:
            shift = SHIFT if cell.way == study.SHIFTED else 0
            return judge(self._scratch(robot.encoder, footage, shift, cell.seed), robot.judge)
        encoder = copy.deepcopy(robot.encoder)
        if cell.way == study.FROZEN:
            encoder.requires_grad_(False)
            encoder.state.requires_grad_(True)
        guard = GuardConfig(method="replay" if cell.way == study.PRETRAINED else "none")
        config = VisionAdaptConfig(tune=replace(VisionAdaptConfig().tune, updates=self.updates[0], guard=guard))
        adapted = adapt(encoder, footage, robot.replay, config, seed=cell.seed)
        return judge(adapted.encoder, robot.judge)

    def _scratch(self, like: VisionEncoder, footage: Footage, shift: int, seed: int) -> VisionEncoder:
        """The same network from a random start; a fifth of the labels says which weights are kept."""
        torch.manual_seed(seed)
        encoder = VisionEncoder(like.card)
        generator = torch.Generator().manual_seed(seed)
        held = np.arange(len(footage)) % 5 == 0
        train, stop = _take(footage, np.flatnonzero(~held)), _take(footage, np.flatnonzero(held))
        pictures, wanted = torch.from_numpy(train.images), torch.from_numpy(train.state.astype(np.float32))
        size = like.card.height, like.card.width

        def loss() -> Tensor:
            rows = torch.randint(len(pictures), (32,), generator=generator)
            images = pictures[rows]
            if shift:
                images, _ = random_shift(images, torch.zeros(len(rows), 1, 2), generator, shift)
            found = encoder(images.view(-1, 3, *size)).state
            return robust(found, wanted[rows], torch.ones(len(rows), dtype=torch.bool))

        config = TuneConfig(
            guard=GuardConfig(method="none"),
            updates=self.updates[1],
            batch=32,
            learning_rate=SCRATCH_RATE,
            validations=20,
            patience=20,
        )
        tune(encoder, loss, lambda count: torch.zeros(()), config, lambda: judge(encoder, stop)["error"], seed=seed)
        return encoder

    def _robot(self, seed: int) -> Robot:
        encoder, rng = VisionEncoder.load(self.encoder_of(seed)), np.random.default_rng(seed)
        counts = (1, 1) if self.quick else (RECORDINGS, JUDGES)
        train, judged = (
            proprioceptive(encoder, [self._record(encoder, seed, first + i) for i in range(count)], rng)[0]
            for first, count in zip((0, 100), counts, strict=True)
        )
        replay, _ = simulated(encoder, 64 if self.quick else REPLAYED, 16, seed)
        return Robot(encoder, train, judged, replay)

    def _record(self, encoder: VisionEncoder, seed: int, number: int) -> EpisodeLog:
        return record_episode(
            self.robot,
            "chirp",
            4.0 if self.quick else RECORDING_S,
            truth=seed,
            seed=1000 * seed + number,
            amplitude=AMPLITUDE,
            cameras=encoder.card.cameras,
        )


def judge(encoder: VisionEncoder, footage: Footage) -> dict[str, float]:
    """Mean, median and 90th percentile of the joints' absolute error [deg], angles by the shorter way round."""
    encoder.eval()
    with torch.no_grad():
        parts = [encoder(part) for part in torch.from_numpy(footage.images).split(256)]
    told = [p._replace(state=t) for p, t in zip(parts, torch.from_numpy(footage.state).split(256), strict=True)]
    found, truth = (torch.cat([joint_angles(p, encoder.card) for p in seen]) for seen in (parts, told))
    apart = found - truth
    errors = np.degrees(torch.atan2(apart.sin(), apart.cos()).abs().numpy())
    return {"error": float(errors.mean()), "median": float(np.median(errors)), "p90": float(np.percentile(errors, 90))}


def _take(footage: Footage, rows: npt.NDArray[np.intp]) -> Footage:
    return Footage(
        images=footage.images[rows],
        seconds=footage.seconds[rows],
        fresh=footage.fresh[rows],
        angle=footage.angle[rows],
        state=footage.state[rows],
        group=np.arange(len(rows)),  # they lie apart: each may be held out by itself
    )

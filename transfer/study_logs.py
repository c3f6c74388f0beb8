"""The arms of the data-efficiency study on logs: how much recorded motion an encoder needs to predict a new robot.

Every seed is another surrogate robot, with an encoder pretrained under that seed. All ways train the same networks on
the same recordings and simulator, by the same loop; they are judged on recordings that none of them sees.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from policies.encoders.adapt import Rehearsal
from policies.encoders.guards import GuardConfig, TuneConfig, tune
from policies.encoders.heads import STRIDE, Heads
from policies.encoders.physics import EncoderConfig, PhysicsEncoder
from policies.encoders.pretrain import Batches, losses, set_statistics
from policies.encoders.probes import contexts, earlier_actions
from policies.encoders.windows import WindowData
from robot.log import EpisodeLog
from robot.observation import Observation
from sim.model import RobotConfig
from sim.randomization import Randomization
from sim.surrogate import record_episode
from sim.tasks import Task
from transfer import study
from transfer.study import Cell
from transfer.windows import base_of, simulated_windows, windows_of

EXCITATIONS = ("chirp", "prbs")
RECORDING_S, JUDGE_S = 4.0, 6.0
RECORDINGS, JUDGES = 16, 8
AMPLITUDE = 0.2
"""Share of the full torque; with much more the recordings end early, at the velocity limit."""
DENSE = 200
"""Windows of a recording where they may begin anywhere: shifts in time."""
UPDATES = 600
RATES = {study.PRETRAINED: 3e-4, study.FROZEN: 3e-4, study.SCRATCH: 1e-3, study.SHIFTED: 1e-3}
"""Learning rates; a network that starts from chance takes larger steps."""
QUICK_UPDATES = 20


@dataclass(frozen=True)
class Robot:
    """One seed's robot: its recordings, and the encoder that was pretrained for its kind."""

    encoder: PhysicsEncoder
    heads: Heads
    train: tuple[EpisodeLog, ...]
    judge: WindowData
    replay: WindowData


class Logs:
    """Arms of transfer.study: amounts are seconds of log."""

    unit = "seconds of log"
    error = "prediction error, share of the motion's RMS"
    ways = (study.ZERO_SHOT, study.PRETRAINED, study.FROZEN, study.SCRATCH, study.SHIFTED)

    def __init__(
        self, robot: RobotConfig, task: Task, prior: Randomization, encoder_of: Callable[[int], Path], quick: bool
    ) -> None:
        """`encoder_of`: seed -> folder of an encoder that was pretrained with it."""
        self.robot, self.task, self.prior, self.encoder_of, self.quick = robot, task, prior, encoder_of, quick
        self.updates = QUICK_UPDATES if quick else UPDATES
        self.recordings = (1, 2) if quick else (1, 4, RECORDINGS)
        self.settings: dict[str, Any] = {"robot": robot.spec.name, "updates": self.updates, "rates": RATES}
        self._robots: dict[int, Robot] = {}

    def amounts(self, way: str) -> tuple[int, ...]:
        if way == study.ZERO_SHOT:
            return (0,)
        return tuple(round(n * RECORDING_S) for n in self.recordings)

    def run(self, cell: Cell) -> dict[str, float]:
        if cell.seed not in self._robots:
            self._robots[cell.seed] = self._robot(cell.seed)
        robot = self._robots[cell.seed]
        encoder, heads = copy.deepcopy(robot.encoder), copy.deepcopy(robot.heads)
        if cell.way == study.ZERO_SHOT:
            return judge(encoder, heads, robot.judge)
        horizon = robot.judge.action.shape[1]
        sparse = round(RECORDING_S / self.task.control_period_s / horizon)  # windows side by side
        logs = robot.train[: round(cell.amount / RECORDING_S)]
        real = self._windows(encoder, logs, horizon, sparse if cell.way == study.SCRATCH else DENSE, cell.seed)
        guard = GuardConfig(method="replay" if cell.way == study.PRETRAINED else "none")
        if cell.way in study.BASELINES:
            torch.manual_seed(cell.seed)
            card = replace(encoder.card, equations=False)  # nobody has told it any
            encoder, heads = PhysicsEncoder(card), Heads(card, horizon)
            set_statistics(encoder, heads, real)
        encoder.requires_grad_(cell.way != study.FROZEN)
        config = TuneConfig(guard=guard, updates=self.updates, batch=128, learning_rate=RATES[cell.way])
        self._fit(encoder, heads, real, robot.replay, config, cell.seed)
        return judge(encoder, heads, robot.judge)

    def _fit(
        self, encoder: PhysicsEncoder, heads: Heads, real: WindowData, replay: WindowData, config: TuneConfig, seed: int
    ) -> None:
        """In place; a quarter of the recordings, where there are several, says which weights are kept."""
        train, stop = real.split(0.25, np.random.default_rng(seed))
        generator = torch.Generator().manual_seed(seed)
        batches = Batches(train, config.batch, generator)

        def held_out() -> float:
            return judge(encoder, heads, stop)["error"]

        tune(
            nn.ModuleList([encoder, heads]),
            lambda: losses(encoder, heads, batches.draw())[0],
            Rehearsal(encoder, heads, replay, 0.5, generator),
            config,
            held_out if len(stop) else None,
            seed=seed,
        )

    def _robot(self, seed: int) -> Robot:
        folder = self.encoder_of(seed)
        encoder = PhysicsEncoder.load(folder)
        heads = Heads.load(folder, encoder.card)
        size = EncoderConfig(
            history=encoder.card.history,
            context=encoder.card.context,
            horizon=len(heads.predictor.spread) * STRIDE,
            simulations=8 if self.quick else 128,
            windows=32,
        )
        base = base_of(encoder.card, self.robot, self._layout)
        train = tuple(self._record(seed, i, RECORDING_S) for i in range(max(self.recordings)))
        judges = tuple(self._record(seed, 100 + i, JUDGE_S) for i in range(2 if self.quick else JUDGES))
        return Robot(
            encoder=encoder,
            heads=heads,
            train=train,
            judge=self._windows(encoder, judges, size.horizon, DENSE, seed),
            replay=simulated_windows(self.task, self.robot, self.prior, size, seed=1000 + seed, base=base),
        )

    def _record(self, seed: int, number: int, seconds: float) -> EpisodeLog:
        kind = EXCITATIONS[number % len(EXCITATIONS)]
        return record_episode(self.robot, kind, seconds, truth=seed, seed=1000 * seed + number, amplitude=AMPLITUDE)

    @cached_property
    def _layout(self) -> Observation:
        return Observation(self.robot.spec, self.task.observation, self.task.action)

    def _windows(
        self, encoder: PhysicsEncoder, logs: tuple[EpisodeLog, ...], horizon: int, count: int, seed: int
    ) -> WindowData:
        card = encoder.card
        made = windows_of(
            logs,
            self.robot.spec,
            self.task.observation,
            self.task.action,
            card.control_period_s,
            history=card.history,
            horizon=horizon,
            count=count,
            rng=np.random.default_rng(seed),
            base=base_of(card, self.robot, self._layout),
        )
        assert made is not None, "a recording is longer than a window"
        return made


def judge(encoder: PhysicsEncoder, heads: Heads, windows: WindowData) -> dict[str, float]:
    """Error over the horizon in units that no encoder chooses: the RMS of what is predicted about its last value.

    Of each measured component and step; 1 is what holding the last state gives.
    """
    encoder.eval(), heads.eval()
    predictor = heads.predictor
    with torch.no_grad():
        scaled = predictor(
            torch.from_numpy(windows.observation),
            earlier_actions(windows),
            torch.from_numpy(windows.action),
            torch.from_numpy(contexts(encoder, windows).astype(np.float32)),
            None if windows.base is None else torch.from_numpy(windows.base),
        )
        predicted = (scaled * predictor.scale.deviation + predictor.scale.mean).numpy()
    future = predictor.at_steps(windows.future)[..., predictor.measured]
    moved = future - windows.observation[:, None, predictor.measured]
    spread = np.square(moved).mean(axis=0) + 1e-12
    return {"error": float(np.sqrt((np.square(predicted - future) / spread).mean()))}


def all_motors(task: Task, robot: RobotConfig) -> Task:
    """The task with every motor of the robot driven: recordings excite them all."""
    limits = dict(zip(robot.spec.joint_names, robot.spec.effort_limits, strict=True))
    scale = tuple(float(limits[a.joint]) for a in robot.spec.actuators)
    action = replace(task.action, actuators=tuple(a.name for a in robot.spec.actuators), scale=scale)
    return replace(task, action=action)

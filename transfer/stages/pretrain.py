"""Pretrain an encoder on randomized simulation:

    terrafirma pretrain encoder=physics robot=simple_pendulum

Reads   nothing but configs: the robot, its prior (dr=NAME) and the encoder's size.
Writes  encoder/ (safetensors and a card), curve.jsonl and result.json with the probe scores.
Costs   about a minute on two cores for the pendulum.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from robot import files
from robot.observation import Observation
from robot.result import Run
from sim import tasks
from sim.model import RobotConfig
from sim.randomization import Randomization
from transfer.choices import TaskChoice, parameters
from transfer.cli import Common
from transfer.progress import terminal

VOLATILE = ("encoder",)


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    encoder: dict[str, Any]
    robot: RobotConfig
    task: TaskChoice | None = None
    """Whose observations the encoder will see; default: the first task of the robot."""
    dr: Randomization | None = None


def run(cfg: Config, run: Run) -> dict[str, Any]:
    from policies.encoders.physics import EncoderCard, EncoderConfig
    from policies.encoders.pretrain import pretrain
    from robot import config
    from transfer.windows import simulated_windows

    encoder = config.convert(EncoderConfig, cfg.encoder, "terrafirma pretrain", "encoder")
    if cfg.quick:
        encoder = replace(encoder, simulations=48, seconds=3.0, windows=16, updates=60)
    task = cfg.task.load() if cfg.task else task_of(cfg.robot.spec.name)
    prior = parameters(cfg.robot, None, cfg.dr)
    data = simulated_windows(task, cfg.robot, prior, encoder, seed=cfg.seed)
    observation = Observation(cfg.robot.spec, replace(task.observation, history=encoder.history), task.action)
    card = EncoderCard.of(observation, encoder, task.control_period_s)
    result = pretrain(data, card, encoder, run.out / "encoder", seed=cfg.seed, report=terminal())
    files.write_text(run.out / "curve.jsonl", "".join(json.dumps(row) + "\n" for row in result.curve))
    return {"encoder": str(run.out / "encoder"), "probes": result.probes}


def task_of(robot: str) -> tasks.Task:
    """The first task of a robot, whose observations an encoder is made for."""
    from robot.config import ConfigError

    mine = [tasks.load_task(n) for n in tasks.names() if tasks.load_task(n).robot == robot]
    if not mine:
        raise ConfigError(f"robot '{robot}' has no task yet; give one with task=NAME of {', '.join(tasks.names())}.")
    return mine[0]

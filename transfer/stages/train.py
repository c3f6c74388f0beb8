"""Train a policy in simulation:

    terrafirma train task=pendulum_swingup physics=runs/pretrain/encoder
    terrafirma train task=pendubot_swingup posterior=runs/identify/posterior.yaml
    terrafirma train task=pendubot_swingup out=runs/mine resume=true

Reads   an encoder (physics=), and what robots are drawn from: a posterior, or a prior (dr=NAME).
Writes  policy/ (safetensors and YAML), curve.jsonl, checkpoints/, tensorboard/ and result.json.
Costs   1-2 minutes on two cores for the pendulum, about 5 for the pendubot.
Survives kill -9: with resume=true it goes on from the last checkpoint and gives the curve of the uninterrupted run.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from robot import config
from robot.config import ConfigError
from robot.result import Run, mean_ci, wilson
from sim.evaluate import rollout_success
from sim.model import RobotConfig
from sim.randomization import Randomization
from transfer.choices import TaskChoice, existing, parameters
from transfer.cli import Common
from transfer.progress import terminal

VOLATILE = ("policy", "env_steps_per_s")
EPISODES = 100
"""Of the final figure."""


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    task: TaskChoice
    robot: RobotConfig
    network: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    physics: Path | None = None
    """Folder of a pretrained physics encoder; without one the policy sees the present alone."""
    posterior: Path | None = None
    dr: Randomization | None = None
    like: Path | None = None
    """A policy whose network, encoder included, is trained from a random start: the from-scratch baseline."""


def run(cfg: Config, run: Run) -> dict[str, Any]:
    import torch

    from policies.network import NetworkConfig
    from policies.ppo import TrainConfig
    from policies.train import train
    from transfer.training import card_of, environments, scorer

    torch.set_num_threads(1)  # networks this small are slower on two
    task = cfg.task.load()
    if task.observation.cameras:
        raise ConfigError(
            f"task '{task.name}' sees through cameras; train learns from joints and IMU. Choose another task, or train "
            "on its environment (sim.vecenv) with a learner of images."
        )
    law = parameters(cfg.robot, cfg.posterior, cfg.dr, run)
    recipe = config.convert(TrainConfig, cfg.recipe, "terrafirma train", "recipe")
    if cfg.quick:
        recipe = shrunk(recipe)
    card = card_of(task, cfg.robot, config.convert(NetworkConfig, cfg.network, "terrafirma train", "network"))
    encoder, network = _start(cfg, run, card.network)
    card = replace(card, network=network, lineage={"law": law.name, "seed": str(cfg.seed)})
    if encoder is not None:
        encoder.card.check(card.with_encoder(encoder.card).layout(), task.control_period_s)
    result = train(
        environments(task, cfg.robot, law, 0 if encoder is None else encoder.card.history, cfg.seed),
        card,
        recipe,
        run.out,
        seed=cfg.seed,
        resume=cfg.resume,
        encoder=encoder,
        evaluate=scorer(task, cfg.robot, law, 20 if cfg.quick else 64),
        report=terminal(),
    )
    if cfg.physics is not None:  # with its heads, by which fine-tuning adapts it to recordings
        shutil.copytree(cfg.physics, run.out / "policy" / "encoder", dirs_exist_ok=True)
    n = 20 if cfg.quick else EPISODES
    policy = result.policy
    stats = rollout_success(policy.act, task, cfg.robot, law, n, cfg.seed, history=policy.observation.history)
    return {
        "policy": str(run.out / "policy"),
        "success": wilson(int(stats.success.sum()), n),
        "return": mean_ci(stats.returns),
        "env_steps": result.env_steps,
        "env_steps_per_s": result.env_steps_per_s,
    }


def shrunk(recipe: Any) -> Any:
    """A recipe of seconds, for tests: the same computation, less of it."""
    return replace(
        recipe,
        env_steps=8_000,
        num_envs=32,
        rollout_steps=64,
        segment_rollouts=2,
        batch=512,
        epochs=4,
        evaluate_segments=1,
    )


def _start(cfg: Config, run: Run, network: Any) -> tuple[Any, Any]:
    """The encoder and the network that training begins with."""
    from policies.encoders.physics import PhysicsEncoder
    from policies.policy import Policy

    if cfg.like is not None:
        if cfg.physics is not None:
            raise ConfigError("like= and physics= exclude each other: like= starts its encoder at random.")
        source = Policy.load(run.input(existing(cfg.like, "like", "train")))
        return _fresh(source.encoder, cfg.seed), source.card.network
    if cfg.physics is None:
        return None, network
    return PhysicsEncoder.load(run.input(existing(cfg.physics, "physics", "pretrain"))), network


def _fresh(encoder: Any, seed: int) -> Any:
    """An encoder of the same shape with random weights; the scaling of its inputs is kept, to the baseline's favour."""
    import torch

    from policies.encoders.physics import PhysicsEncoder

    if encoder is None:
        return None
    torch.manual_seed(seed)
    fresh = PhysicsEncoder(encoder.card)
    scales = dict(encoder.named_buffers())
    for name, buffer in fresh.named_buffers():
        buffer.copy_(scales[name])
    return fresh.eval()

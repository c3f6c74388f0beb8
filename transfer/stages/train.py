"""Train a policy in simulation:

    terrafirma train task=pendulum_swingup physics=runs/pretrain/encoder
    terrafirma train task=pendubot_swingup posterior=runs/identify/posterior.yaml
    terrafirma train task=pendubot_swingup out=runs/mine resume=true
    terrafirma train task=pendulum_swingup_pixels vision=runs/pretrain/encoder
    terrafirma train task=pendulum_swingup_pixels vision=runs/pretrain/encoder teacher=runs/train/policy

Reads   encoders (physics=, vision=), and what robots are drawn from: a posterior, or a prior (dr=NAME).
Writes  policy/ (safetensors and YAML), curve.jsonl, checkpoints/, tensorboard/ and result.json.
Costs   1-2 minutes on two cores for the pendulum, about 5 for the pendubot.
Through cameras a policy sees what a frozen vision encoder tells of each picture. Drawing pictures is slow, so it is
trained on the true state, off by errors that the encoder was measured to make on rendered episodes (sim/sight.py);
rendered=true draws every picture instead. Either way success is counted on rendered pictures. With teacher=, a policy
for the same actuators that is shown the joints, the student learns to do what that would (policies/distill.py), in half
a minute.
Survives kill -9: with resume=true it goes on from the last checkpoint and gives the curve of the uninterrupted run.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from robot import config
from robot.config import ConfigError
from robot.result import Run, mean_ci, wilson
from sim.evaluate import rollout_success
from sim.model import RobotConfig
from sim.randomization import Randomization
from sim.tasks import Task
from sim.vecenv import BatchedEnv
from transfer.choices import TaskChoice, existing, parameters
from transfer.cli import Common
from transfer.progress import terminal

VOLATILE = ("policy", "env_steps_per_s")
EPISODES_SEEN = 64
"""Rendered, in which a vision encoder's errors are measured."""


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    task: TaskChoice
    robot: RobotConfig
    network: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    physics: Path | None = None
    """Folder of a pretrained physics encoder; without one the policy sees the present alone."""
    vision: Path | None = None
    """Folder of a pretrained vision encoder; a task with cameras needs one."""
    rendered: bool = False
    """Whether a policy with cameras is trained on rendered pictures."""
    teacher: Path | None = None
    """A policy that is shown the joints, from which one with cameras learns."""
    distill: dict[str, Any] = field(default_factory=dict)
    """Fields of policies.distill.DistillConfig."""
    posterior: Path | None = None
    dr: Randomization | None = None
    like: Path | None = None
    """A policy whose network, encoder included, is trained from a random start: the from-scratch baseline."""


def run(cfg: Config, run: Run) -> dict[str, Any]:
    import torch

    from policies.network import NetworkConfig
    from transfer.hold import hold_of
    from transfer.sight import with_appearance
    from transfer.training import COUNTED, card_of

    torch.set_num_threads(1)  # networks this small are slower on two
    task = cfg.task.load()
    law = with_appearance(parameters(cfg.robot, cfg.posterior, cfg.dr, run), task)
    card = card_of(task, cfg.robot, config.convert(NetworkConfig, cfg.network, "terrafirma train", "network"))
    if card.network.hold:
        card = replace(card, hold=hold_of(task, cfg.robot, law, card.observation))
    encoder, network = _start(cfg, run, card.network)
    card = replace(card, network=network, lineage={"law": law.name, "seed": str(cfg.seed)})
    if encoder is not None:
        encoder.card.check(card.with_encoder(encoder.card).layout(), task.control_period_s)
    vision, sight = _eyes(cfg, run, card, task, law)
    task = task.seen_as(card.observation)
    how = _taught if cfg.teacher else _trained
    policy, env_steps, rate = how(cfg, run, card, task, law, encoder, vision, sight)
    for name, folder in (("encoder", cfg.physics), ("vision", cfg.vision)):
        if folder is not None:  # with its heads, by which fine-tuning adapts it to recordings
            shutil.copytree(folder, run.out / "policy" / name, dirs_exist_ok=True)
    n = COUNTED[vision is not None][cfg.budget]
    shown = task.seen_as(policy.observation)
    stats = rollout_success(policy.episode(), shown, cfg.robot, law, n, cfg.seed)
    return {
        "policy": str(run.out / "policy"),
        "success": wilson(int(stats.success.sum()), n),
        "return": mean_ci(stats.returns),
        "env_steps": env_steps,
        "env_steps_per_s": rate,
    }


def _trained(
    cfg: Config, run: Run, card: Any, task: Task, law: Randomization, encoder: Any, vision: Any, sight: Any
) -> tuple[Any, int, float]:
    """A policy by trial and error, the environment steps it took, and their rate [1/s]."""
    from policies.ppo import TrainConfig
    from policies.train import train
    from transfer.training import environments

    recipe = config.convert(TrainConfig, cfg.recipe, "terrafirma train", "recipe")
    result = train(
        environments(task, cfg.robot, law, 0 if encoder is None else encoder.card.history, cfg.seed, sight),
        card,
        shrunk(recipe) if cfg.quick else recipe,
        run.out,
        seed=cfg.seed,
        resume=cfg.resume,
        encoder=encoder,
        vision=vision,
        evaluate=_ranked_by(cfg, recipe.select, task, law, sight),
        report=terminal(),
    )
    return result.policy, result.env_steps, result.env_steps_per_s


def _ranked_by(cfg: Config, suite: str, task: Task, law: Randomization, sight: Any) -> Any:
    """What ranks the checkpoints: a stress suite where the recipe names one."""
    from transfer.suites import load_suite
    from transfer.training import scorer, stress_scorer

    if not suite:
        return scorer(task, cfg.robot, law, 20 if cfg.quick else 64, sight=sight)
    found = load_suite(suite)
    return stress_scorer(task, found.shrunk() if cfg.quick else found)


def _taught(
    cfg: Config, run: Run, card: Any, task: Task, law: Randomization, encoder: Any, vision: Any, sight: Any
) -> tuple[Any, int, float]:
    """A policy that learned from a teacher, the environment steps it took, and their rate [1/s]."""
    from policies.distill import DistillConfig, distill
    from policies.policy import Policy
    from sim import tasks

    teacher = Policy.load(run.input(existing(cfg.teacher, "teacher", "train")))
    if encoder is not None or sight is None or teacher.observation.cameras:
        raise ConfigError("teacher= teaches a task with cameras what to do without them: give vision=, not physics=.")
    settings = config.convert(DistillConfig, cfg.distill, "terrafirma train", "distill")
    if cfg.quick:
        settings = replace(settings, rounds=2, steps=40, updates=40)
    history, lesson = teacher.observation.history, tasks.load_task(teacher.task)
    env = BatchedEnv(lesson, cfg.robot, law, settings.num_envs, history=history, seed=cfg.seed, sight=sight)
    begin = time.monotonic()
    policy = distill(env, teacher, card, vision, settings, seed=cfg.seed, report=terminal())
    policy.save(run.out / "policy")
    repeat = round(task.control_period_s / lesson.control_period_s)
    steps = settings.num_envs * settings.rounds * settings.steps * repeat
    return policy, steps, steps / (time.monotonic() - begin)


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


def _eyes(cfg: Config, run: Run, card: Any, task: Task, law: Randomization) -> tuple[Any, Any]:
    """The vision encoder, and the errors that stand for its pictures where none are drawn."""
    from policies.encoders.vision import VisionEncoder
    from transfer.sight import measure

    if not task.observation.cameras:
        if cfg.vision or cfg.teacher:
            raise ConfigError(f"task '{task.name}' has no cameras, for which vision= and teacher= are.")
        return None, None
    if cfg.vision is None:
        card.with_vision(None)  # says what is missing
    vision = VisionEncoder.load(run.input(existing(cfg.vision, "vision", "pretrain")))
    card = card.with_vision(vision.card)
    if cfg.rendered or card.network.sight == "features":
        return vision, None
    return vision, measure(vision, card, task, cfg.robot, law, cfg.seed, 8 if cfg.quick else EPISODES_SEEN)


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
    """An encoder of the same shape with random weights, which knows no equations of motion.

    The scaling of its inputs is kept, to the baseline's favour.
    """
    import torch

    from policies.encoders.physics import PhysicsEncoder

    if encoder is None:
        return None
    torch.manual_seed(seed)
    fresh = PhysicsEncoder(replace(encoder.card, equations=False))
    scales = dict(encoder.named_buffers())
    for name, buffer in fresh.named_buffers():
        if name in scales and scales[name].shape == buffer.shape:
            buffer.copy_(scales[name])
    return fresh.eval()

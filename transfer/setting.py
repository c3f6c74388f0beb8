"""What a training is set up with, from the configuration of `terrafirma train`: task, law, card, encoders, symmetry."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from robot import config
from robot.config import ConfigError
from robot.result import Run
from sim.model import RobotConfig
from sim.randomization import Randomization
from sim.sight import SightErrors
from sim.tasks import Task
from transfer.choices import existing, parameters
from transfer.shaping import as_made, shaped, symmetry_of

if TYPE_CHECKING:
    from policies.card import PolicyCard
    from policies.encoders.physics import PhysicsEncoder
    from policies.encoders.vision import VisionEncoder
    from policies.policy import Policy
    from policies.symmetry import Symmetry
    from transfer.stages.train import Config

EPISODES_SEEN = 64
"""Rendered, in which a vision encoder's errors are measured."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a training is handed."""

    task: Task
    robot: RobotConfig
    law: Randomization
    card: PolicyCard
    encoder: PhysicsEncoder | None
    vision: VisionEncoder | None
    sight: SightErrors | None
    """The errors that stand for pictures where none are drawn."""
    augment: Symmetry | None
    """With which samples are mirrored."""
    start: Policy | None
    """From which training goes on."""

    @property
    def history(self) -> int:
        return 0 if self.encoder is None else self.encoder.card.history


def prepare(cfg: Config, run: Run) -> Setting:
    """Everything that training needs; ConfigError names what is missing or does not fit."""
    from policies.network import NetworkConfig
    from policies.policy import Policy
    from transfer.sight import with_appearance
    from transfer.training import card_of

    start = Policy.load(run.input(existing(cfg.start, "start", "train"))) if cfg.start else None
    task = shaped(cfg.task.load(), cfg.robot.spec, cfg.action, cfg.reward)
    vision = _vision(cfg, run, start)
    if cfg.privileged:
        task = _told(task, cfg)
    elif vision is not None and not task.observation.cameras:
        task = replace(task, observation=replace(task.observation, cameras=vision.card.cameras))
    law = with_appearance(parameters(cfg.robot, cfg.posterior, cfg.dr, run), task)
    network = config.convert(NetworkConfig, cfg.network, "terrafirma train", "network")
    if start is not None:  # a hold has no weights, so one that counts on friction may join a policy without
        stiction = start.card.network.stiction or network.stiction
        network = replace(start.card.network, hold=start.card.network.hold or stiction, stiction=stiction)
    encoder, network = _physics(cfg, run, network, start)
    card = card_of(task, cfg.robot, network)
    task = as_made(task, card)
    if network.hold:
        from policies.learner import recipe_of
        from policies.off_policy import OffPolicyConfig
        from transfer.hold import hold_of, near

        hold = hold_of(task, cfg.robot, law, card.observation, network.stiction)
        card = replace(card, hold=hold)
        recipe = recipe_of(cfg.recipe, "terrafirma train")
        if not isinstance(recipe, OffPolicyConfig):
            task = replace(task, near=near(hold, recipe.near_hold, recipe.hold_bonus))
    card = replace(card, privileged=task.privileged_names if cfg.privileged else ())
    drawn = {"law": law.name, "law_sha256": hashlib.sha256(config.dump_yaml(law).encode()).hexdigest()[:16]}
    card = replace(card, lineage={**drawn, "seed": str(cfg.seed), "encoders": cfg.encoders})
    if encoder is not None:
        encoder.card.check(card.with_encoder(encoder.card).layout(), task.control_period_s)
    sight = _sight(cfg, card, vision, task, law)
    card, augment = _mirrored(cfg, card.with_vision(None if vision is None else vision.card), task)
    return Setting(task, cfg.robot, law, card, encoder, vision, sight, augment, start)


def _told(task: Task, cfg: Config) -> Task:
    """The task of a teacher, who is told what cameras would tell a student."""
    if not task.privileged_names:
        raise ConfigError(f"privileged=true: task '{task.name}' has no privileged signals; what it measures is all.")
    if cfg.vision is not None or cfg.teacher is not None:
        raise ConfigError("privileged=true trains a teacher: leave vision= and teacher= to the student.")
    return replace(task, observation=replace(task.observation, cameras=()))


def _vision(cfg: Config, run: Run, start: Policy | None) -> VisionEncoder | None:
    """The vision encoder that was given, that of the policy to start from, or none."""
    from policies.encoders.vision import VisionEncoder

    if cfg.vision is None:
        return start.vision.encoder if start is not None and start.vision is not None else None
    vision = VisionEncoder.load(run.input(existing(cfg.vision, "vision", "pretrain")))
    return _fresh_vision(vision, cfg.seed) if cfg.encoders == "scratch" else vision


def _sight(
    cfg: Config, card: PolicyCard, vision: VisionEncoder | None, task: Task, law: Randomization
) -> SightErrors | None:
    """How far off the encoder is, where no pictures are drawn; ConfigError where a task with cameras has no encoder."""
    from transfer.sight import measure

    card = card.with_vision(None if vision is None else vision.card)
    if vision is None or cfg.rendered or card.network.sight == "features":
        return None
    return measure(vision, card, task, cfg.robot, law, cfg.seed, 4 if cfg.quick else EPISODES_SEEN)


def _mirrored(cfg: Config, card: PolicyCard, task: Task) -> tuple[PolicyCard, Symmetry | None]:
    if cfg.symmetry == "none":
        return card, None
    found = symmetry_of(task, cfg.robot, card)
    return (replace(card, symmetry=found), None) if cfg.symmetry == "equivariant" else (card, found)


def _physics(cfg: Config, run: Run, network: Any, start: Policy | None) -> tuple[PhysicsEncoder | None, Any]:
    """The encoder and the network that training begins with."""
    from policies.encoders.physics import PhysicsEncoder
    from policies.policy import Policy

    if cfg.like is not None:
        if cfg.physics is not None:
            raise ConfigError("like= and physics= exclude each other: like= starts its encoder at random.")
        source = Policy.load(run.input(existing(cfg.like, "like", "train")))
        return shortened(fresh(source.encoder, cfg.seed), cfg.history), source.card.network
    if cfg.physics is None:
        return (None if start is None else start.encoder), network
    encoder = PhysicsEncoder.load(run.input(existing(cfg.physics, "physics", "pretrain")))
    return shortened(fresh(encoder, cfg.seed) if cfg.encoders == "scratch" else encoder, cfg.history), network


def shortened(encoder: PhysicsEncoder | None, history: int) -> PhysicsEncoder | None:
    """The same encoder with another window, which its weights do not depend on; 0: as it is."""
    from policies.encoders.physics import PhysicsEncoder

    if encoder is None or not history:
        return encoder
    made = PhysicsEncoder(replace(encoder.card, history=history))
    made.load_state_dict(encoder.state_dict())
    return made.eval()


def fresh(encoder: PhysicsEncoder | None, seed: int) -> PhysicsEncoder | None:
    """An encoder of the same shape with random weights, which knows no equations of motion.

    The scaling of its inputs is kept, to the baseline's favour.
    """
    import torch

    from policies.encoders.physics import PhysicsEncoder

    if encoder is None:
        return None
    torch.manual_seed(seed)
    made = PhysicsEncoder(replace(encoder.card, equations=False))
    scales = dict(encoder.named_buffers())
    for name, buffer in made.named_buffers():
        if name in scales and scales[name].shape == buffer.shape:
            buffer.copy_(scales[name])
    return made.eval()


def _fresh_vision(encoder: VisionEncoder, seed: int) -> VisionEncoder:
    """A vision encoder of the same shape with random weights; its batch norms keep the statistics of pretraining."""
    import torch

    from policies.encoders.vision import VisionEncoder

    torch.manual_seed(seed)
    made = VisionEncoder(encoder.card)
    scales = dict(encoder.named_buffers())
    for name, buffer in made.named_buffers():
        buffer.copy_(scales[name])
    return made.eval()

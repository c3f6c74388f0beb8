"""The physics encoder: a window of past observations and actions -> a context vector that tells which robot this is.

One network for training and for the robot: the statistics that scale its inputs are buffers inside it, so they
travel with the weights into the policy and the exported file. On disk it is a folder: encoder.safetensors (what
is deployed), heads.safetensors (what only training needs, see heads.py) and encoder.yaml (the card).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from policies import tensors
from policies.encoders.evidence import Evidence
from policies.encoders.votes import Votes
from policies.network import Scale
from robot import config
from robot.config import ConfigError
from robot.observation import Observation
from robot.spec import RobotSpec

VERSION = 4
REACH = 3.0
"""Latents beyond this many of their deviations are cut, and the context is their share of it."""
WEIGHTS, CARD = "encoder.safetensors", "encoder.yaml"


def check_size(history: int, span: int, context: int) -> None:
    """ConfigError where a window has no stretch to compare, or the context no two halves."""
    if span < 1 or history < 4 * span + 1:
        raise ConfigError(f"encoder.history is {history}; with a span of {span} it must be at least {4 * span + 1}.")
    if context < 2 or context % 2:
        raise ConfigError(f"encoder.context is {context}; it must be even and at least 2.")


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    """configs/encoder/physics.yaml: the encoder's size and how it is pretrained."""

    kind: Literal["physics", "recordings"] = "physics"
    """Of simulations, or of innovations (transfer/innovations.py)."""
    history: int = 128
    """Past control steps in the window."""
    context: int = 24
    """Length of the context vector: estimates of half as many latents, and how surely each is known. Where the
    equations of motion are known there is a latent for each parameter, however long this says."""
    span: int = 2
    """Rows between two that are compared; several make up for the sensors' noise, few show fast motion."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the network that knows what to expect."""
    horizon: int = 32
    """Future steps [control steps] over which the prediction loss runs open loop."""
    weighing: Literal["regression", "votes"] = "regression"
    """How stretches are put together: as evidence to be explained (evidence.py), or as votes (votes.py)."""
    equations: bool = True
    """Whether the robot's equations of motion are given, where they are known (transfer/rigid.py); evidence only."""
    predictor: tuple[int, ...] = (64, 64)
    """Widths of the prediction head."""
    base: bool = True
    """Whether predictions stand on a simulator's, where the observation shows the state that it must start from."""
    told: tuple[str, ...] = ("*",)
    """Patterns of the parameters that the context is to tell; the others only vary."""
    simulations: int = 512
    """Randomized robots that are rolled out for training."""
    seconds: float = 4.0
    """Length of each rollout [s]."""
    windows: int = 64
    """Windows cut from each rollout."""
    grounding: int = 1500
    """Gradient steps with the true parameters, before those without."""
    updates: int = 1500
    """Most gradient steps; training stops earlier when the held-out loss no longer falls."""
    batch: int = 256
    learning_rate: float = 1e-3
    parameter_weight: float = 0.5
    """Weight of the parameter regression beside the prediction loss."""
    agreement_weight: float = 0.1
    """Weight of the agreement of two windows of one robot beside the prediction loss."""
    lost: float = 0.02
    """Share of rows that are lost on the way in half of the windows of training."""
    held_out: float = 0.15
    """Share of the simulated robots that is kept for validation and for the probes."""
    patience: int = 6
    """Validations without progress after which training stops."""

    def __post_init__(self) -> None:
        for name in ("history", "context", "horizon", "simulations", "windows", "updates", "batch", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(f"encoder.{name} is {getattr(self, name)}; it must be at least 1.")
        check_size(self.history, self.span, self.context)
        if not 0.0 <= self.lost < 1.0 or self.grounding < 0:
            raise ConfigError("encoder.lost must lie in [0, 1), and encoder.grounding be at least 0.")
        if not 0.0 < self.held_out < 1.0:
            raise ConfigError(f"encoder.held_out is {self.held_out}; it must lie between 0 and 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderCard:
    """What an encoder was made for; a policy for anything else refuses it."""

    kind: Literal["physics"] = "physics"
    version: int = VERSION
    robot: str
    fingerprint: str
    """RobotSpec.fingerprint() of that robot."""
    control_period_s: float
    components: tuple[str, ...]
    """Names of one observation's components, in order."""
    actuators: tuple[str, ...]
    """Names of the actions that follow each observation in a history row."""
    history: int
    context: int
    span: int
    hidden: tuple[int, ...]
    predictor: tuple[int, ...]
    base: dict[str, float] | None = None
    """Target -> value of the simulator on which predictions stand; None: they stand on the last state."""
    weighing: Literal["regression", "votes"] = "regression"
    equations: bool = False
    """Whether the robot's equations of motion are inside."""
    parameters: tuple[str, ...] = ()
    """Physical quantities that the parameter head estimates."""
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    """Probe name -> {score, baseline}; more is better."""
    lineage: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise ConfigError(
                f"the encoder's version is {self.version}; this terrafirma knows {VERSION}: pretrain it again."
            )
        check_size(self.history, self.span, self.context)
        if self.equations and self.context != 2 * len(self.parameters):
            raise ConfigError(
                f"the encoder's context is {self.context} long; with equations of motion and {len(self.parameters)} "
                f"parameters it must be {2 * len(self.parameters)}."
            )

    @classmethod
    def of(cls, observation: Observation, config: EncoderConfig, control_period_s: float) -> EncoderCard:
        """The card of an encoder for this robot and layout; scores and parameters follow from training."""
        return cls(
            robot=observation.spec.name,
            fingerprint=observation.spec.fingerprint(),
            control_period_s=control_period_s,
            components=observation.components,
            actuators=observation.action.actuators,
            history=config.history,
            context=config.context,
            span=config.span,
            weighing=config.weighing,
            hidden=config.hidden,
            predictor=config.predictor,
        )

    @property
    def row(self) -> int:
        """Length of one history row."""
        return len(self.components) + len(self.actuators)

    @property
    def measured(self) -> list[int]:
        """Columns of the observation that are measured; the others are the policy's own previous action."""
        return [i for i, c in enumerate(self.components) if not c.startswith("previous_action/")]

    def check(self, observation: Observation, control_period_s: float) -> None:
        """ConfigError, naming what differs, when this robot or this layout is not the one that was pretrained on."""
        spec: RobotSpec = observation.spec
        again = f"Pretrain one for it: terrafirma pretrain encoder=physics robot={spec.name}."
        if spec.fingerprint() != self.fingerprint:
            differs = f"robot '{spec.name}'" if spec.name != self.robot else f"another version of robot '{spec.name}'"
            raise ConfigError(f"the encoder was pretrained for robot '{self.robot}', and this is {differs}. {again}")
        if (observation.components, observation.action.actuators) != (self.components, self.actuators):
            raise ConfigError(
                f"the encoder reads {list(self.components)} and actions {list(self.actuators)}; this task gives "
                f"{list(observation.components)} and {list(observation.action.actuators)}. {again}"
            )
        if abs(control_period_s - self.control_period_s) > 1e-9:
            raise ConfigError(
                f"the encoder was pretrained at a control period of {self.control_period_s} s; "
                f"this task runs at {control_period_s} s. {again}"
            )


class PhysicsEncoder(nn.Module):
    """(history, mask) -> context in [-1, 1].

    The first half of the context are estimates of latents that tell one robot from another, the second half is how
    surely each is known: 0 for not at all. A longer window makes them more certain; an empty one gives zeros.
    """

    def __init__(self, card: EncoderCard) -> None:
        super().__init__()
        self.card = card
        self.scale = Scale(card.row)
        rows: dict[str, Any] = {"components": card.components, "actions": len(card.actuators), "span": card.span}
        rows |= {"latents": card.context // 2, "hidden": card.hidden, "period_s": card.control_period_s}
        parameters = len(card.parameters) if card.equations else None
        voting = card.weighing == "votes"
        self.evidence = Votes(**rows) if voting else Evidence(**rows, parameters=parameters)

    def forward(self, history: Tensor, mask: Tensor) -> Tensor:
        """history (B, H, K) raw, mask (B, H) of 0 and 1, newest row last; returns the context (B, Z)."""
        mean, variance = self.evidence(history, mask)
        return torch.cat([(mean / REACH).clamp(-1.0, 1.0), 1.0 - variance], dim=1)

    def save(self, folder: Path) -> Path:
        """Write weights and card."""
        tensors.save(folder / WEIGHTS, dict(self.state_dict()))
        config.save(folder / CARD, self.card)
        return folder

    @classmethod
    def load(cls, folder: Path) -> PhysicsEncoder:
        """Read an encoder; ConfigError when the folder holds none, or one of another version."""
        card = config.load(EncoderCard, Path(folder) / CARD)
        encoder = cls(card)
        tensors.load_into(encoder, Path(folder) / WEIGHTS)
        return encoder.eval()

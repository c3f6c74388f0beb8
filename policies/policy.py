"""Policy: raw observation -> action in [-1, 1], with everything in between inside one torch module.

Normalizer, encoders and network are saved together (policy.safetensors) beside a card (policy.yaml) that says
for which robot, task and observation it was made. Units and clips are not here: robot.observation.decode() has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from policies import tensors
from policies.encoders.physics import EncoderCard, PhysicsEncoder
from policies.encoders.vision import CameraEncoder
from policies.network import ACTIVATIONS, NetworkConfig, Scale, mlp
from robot import config
from robot.config import ConfigError
from robot.observation import ActionConfig, Observation, ObservationConfig
from robot.spec import RobotSpec

VERSION = 1
WEIGHTS, CARD = "policy.safetensors", "policy.yaml"


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyCard:
    """policy.yaml: what a policy was made for, and from what."""

    version: int = VERSION
    task: str
    control_period_s: float
    spec: RobotSpec
    observation: ObservationConfig
    action: ActionConfig
    network: NetworkConfig = field(default_factory=NetworkConfig)
    encoder: EncoderCard | None = None
    """The physics encoder inside, if there is one."""
    lineage: dict[str, str] = field(default_factory=dict)
    """What it was trained on: randomization, environment steps, the policy it started from."""

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise ConfigError(
                f"the policy's version is {self.version}; this terrafirma knows {VERSION}: train it again."
            )
        if self.encoder is not None:
            self.encoder.check(self.layout(), self.control_period_s)
            if self.encoder.history != self.observation.history:
                raise ConfigError(
                    f"observation.history is {self.observation.history}; the encoder needs {self.encoder.history}."
                )

    def layout(self, batch: int = 1) -> Observation:
        """The encoder of inputs and decoder of outputs that belongs to this policy."""
        return Observation(self.spec, self.observation, self.action, batch)

    def with_encoder(self, encoder: EncoderCard | None) -> PolicyCard:
        """The same card with another physics encoder, or none, and the history that it needs."""
        history = 0 if encoder is None else encoder.history
        return replace(self, observation=replace(self.observation, history=history), encoder=encoder)


class Policy(nn.Module):
    """Deterministic policy; its inputs and outputs have the names that the exported file has."""

    def __init__(self, card: PolicyCard) -> None:
        super().__init__()
        self.card = card
        layout = card.layout()
        self.normalizer = Scale(layout.size)
        self.encoder = None if card.encoder is None else PhysicsEncoder(card.encoder)
        sizes = {c.name: (c.height, c.width) for c in card.spec.cameras}
        self.cameras = nn.ModuleDict(
            {name: CameraEncoder(*sizes[name], card.network.camera_features) for name in card.observation.cameras}
        )
        inputs = layout.size + (card.encoder.context if card.encoder else 0)
        inputs += card.network.camera_features * len(self.cameras)
        network = card.network
        self.actor = mlp(inputs, network.hidden, layout.action_size, ACTIVATIONS[network.activation])

    @property
    def spec(self) -> RobotSpec:
        return self.card.spec

    @property
    def observation(self) -> ObservationConfig:
        return self.card.observation

    @property
    def action(self) -> ActionConfig:
        return self.card.action

    @property
    def task(self) -> str:
        return self.card.task

    @property
    def control_period_s(self) -> float:
        return self.card.control_period_s

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs that forward() takes, in order."""
        history = ("history", "history_mask") if self.encoder is not None else ()
        return ("observation", *history, *(f"image_{name}" for name in self.observation.cameras))

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return ("action", "context") if self.encoder is not None else ("action",)

    def forward(
        self, observation: Tensor, history: Tensor | None = None, history_mask: Tensor | None = None, **images: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """observation (B, D), history (B, H, K), history_mask (B, H), image_<camera> (B, 3, h, w) uint8, all raw.

        Returns the action (B, A) in [-1, 1] and the context (B, Z), None without a physics encoder.
        """
        parts, context = [self.normalizer(observation)], None
        if self.encoder is not None:
            if history is None or history_mask is None:
                raise ValueError("this policy has a physics encoder: it needs history and history_mask")
            context = self.encoder(history, history_mask)
            parts.append(context)
        parts += [encoder(images[f"image_{name}"]) for name, encoder in self.cameras.items()]
        return torch.tanh(self.actor(torch.cat(parts, dim=1))), context

    @torch.no_grad()
    def act(self, inputs: Mapping[str, npt.NDArray[np.generic]]) -> npt.NDArray[np.float32]:
        """Actions (B, A) for inputs as robot.observation makes them."""
        named = {name: torch.from_numpy(inputs[name]) for name in self.input_names}
        action: npt.NDArray[np.float32] = self(**named)[0].numpy()
        return action

    def save(self, folder: Path) -> Path:
        """Write weights and card."""
        tensors.save(Path(folder) / WEIGHTS, dict(self.state_dict()))
        config.save(Path(folder) / CARD, self.card)
        return Path(folder)

    @classmethod
    def load(cls, folder: Path) -> Policy:
        """Read a policy; ConfigError when the folder holds none, or one of another version."""
        policy = cls(config.load(PolicyCard, Path(folder) / CARD))
        tensors.load_into(policy, Path(folder) / WEIGHTS)
        return policy.eval()

"""Policy: raw observation -> action in [-1, 1], with everything in between inside one torch module.

Normalizer, encoders, memory and network are saved together (policy.safetensors) beside a card (policy.yaml) that says
for which robot, task and observation it was made. Units and clips are not here: robot.observation.decode() has them.

    observation ─┬─────────────┐
    images ─ vision encoder ─ sight ─┬─ normalizer ─┐
    state_memory (the last of these) ┘              ├─ actor ─ action
    history ─ physics encoder ─ context ────────────┘

The encoders are frozen: policies/pretrain makes them, and adapting one to a robot means giving the policy another
encoder (with_vision), not training this one's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from policies import tensors
from policies.encoders.physics import EncoderCard, PhysicsEncoder
from policies.encoders.vision import VisionCard, VisionEncoder
from policies.hold import Hold, HoldCard
from policies.memory import MEMORY, Memory
from policies.network import ACTIVATIONS, NetworkConfig, Scale, mlp
from policies.sight import SIGHT, Sight
from robot import config
from robot.config import ConfigError
from robot.observation import ActionConfig, Observation, ObservationConfig
from robot.spec import RobotSpec

VERSION = 2
WEIGHTS, CARD = "policy.safetensors", "policy.yaml"

Arrays = Mapping[str, npt.NDArray[Any]]
Act = Callable[[Arrays], npt.NDArray[np.float32]]


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
    hold: HoldCard | None = None
    """The linear feedback under the network, if there is one."""
    vision: VisionCard | None = None
    """The vision encoder inside; there is one where the observation lists cameras."""
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
        if self.vision is not None:
            self.vision.check(self.spec)
            if set(self.vision.cameras) != set(self.observation.cameras):
                raise ConfigError(
                    f"the vision encoder looks through {list(self.vision.cameras)}; task '{self.task}' gives "
                    f"{list(self.observation.cameras)}. Pretrain one with encoder.cameras="
                    f"[{','.join(self.observation.cameras)}]."
                )

    def layout(self, batch: int = 1) -> Observation:
        """The encoder of inputs and decoder of outputs that belongs to this policy."""
        return Observation(self.spec, self.observation, self.action, batch)

    @property
    def shown(self) -> int:
        """Length of what the actor is shown of one moment: the observation, then what the vision encoder tells."""
        return self.layout().size + (Sight.size(self.vision, self.network) if self.vision else 0)

    def with_encoder(self, encoder: EncoderCard | None) -> PolicyCard:
        """The same card with another physics encoder, or none, and the history that it needs."""
        history = 0 if encoder is None else encoder.history
        return replace(self, observation=replace(self.observation, history=history), encoder=encoder)

    def with_vision(self, vision: VisionCard | None) -> PolicyCard:
        """The same card with another vision encoder.

        ConfigError when none is given and the task has cameras, or when another's state does not mean the same.
        """
        if vision is None and self.observation.cameras:
            raise ConfigError(
                f"task '{self.task}' sees through cameras: pretrain an encoder for them with `terrafirma pretrain "
                f"encoder=vision robot={self.spec.name}`, and give its folder as vision=DIR."
            )
        if self.vision is not None and vision is not None and vision.states != self.vision.states:
            raise ConfigError(
                f"the policy reads {list(self.vision.states)}; the vision encoder tells {list(vision.states)}."
            )
        return replace(self, vision=vision)


class Answer(NamedTuple):
    """What a policy computes for B robots."""

    action: Tensor
    """(B, A) in [-1, 1]."""
    context: Tensor | None
    """(B, Z), of the physics encoder."""
    memory: Tensor | None
    """(B, M, 1 + shown), to be given with the next step."""


class Policy(nn.Module):
    """Deterministic policy; its inputs and outputs have the names that the exported file has."""

    def __init__(self, card: PolicyCard) -> None:
        super().__init__()
        self.card = card
        self.normalizer = Scale(card.shown)
        self.encoder = None if card.encoder is None else PhysicsEncoder(card.encoder)
        self.vision = None if card.vision is None else Sight(VisionEncoder(card.vision), card.network)
        self.memory = Memory(card.network.memory, card.shown)
        inputs = card.shown + (card.encoder.context if card.encoder else 0) + self.memory.size
        self.hold = None if card.hold is None else Hold(card.hold, card.layout().components)
        network = card.network
        self.actor = mlp(inputs, network.hidden, card.layout().action_size, ACTIVATIONS[network.activation])

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
        memory = (MEMORY,) if self.memory.steps else ()
        return ("observation", *history, *memory, *(f"image_{name}" for name in self.observation.cameras))

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        context = ("context",) if self.encoder is not None else ()
        return ("action", *context, *((f"{MEMORY}_next",) if self.memory.steps else ()))

    def forward(
        self,
        observation: Tensor,
        history: Tensor | None = None,
        history_mask: Tensor | None = None,
        state_memory: Tensor | None = None,
        sight: Tensor | None = None,
        **images: Tensor,
    ) -> Answer:
        """observation (B, D), history (B, H, K), history_mask (B, H), image_<camera> (B, 3, h, w) uint8, all raw;
        state_memory (B, M, 1 + shown): zeros at the start of an episode, then what the last call gave back;
        sight (B, S): what the vision encoder would tell, from environments that draw no pictures.

        ValueError when an input that this policy needs is missing.
        """
        context = None
        if self.encoder is not None:
            if history is None or history_mask is None:
                raise ValueError("this policy has a physics encoder: it needs history and history_mask")
            context = self.encoder(history, history_mask)
        shown = observation
        if self.vision is not None:
            shown = torch.cat([observation, self.vision(images) if sight is None else sight], dim=1)
        if self.memory.steps and state_memory is None:
            raise ValueError("this policy remembers: it needs state_memory")
        return Answer(self.decide(shown, context, state_memory), context, self.memory.push(state_memory, shown))

    def decide(self, shown: Tensor, context: Tensor | None, memory: Tensor | None) -> Tensor:
        """(B, A) action from what is shown now (B, shown), the context and the memory."""
        parts = [self.normalizer(shown), *([] if context is None else [context])]
        said = torch.tanh(self.actor(torch.cat([*parts, *self.memory.recall(memory, self.normalizer)], dim=1)))
        return said if self.hold is None else self.hold(shown, said)

    @torch.no_grad()
    def act(self, inputs: Arrays) -> npt.NDArray[np.float32]:
        """Actions (B, A) for inputs as robot.observation makes them; of one step, which a memory must come with."""
        action: npt.NDArray[np.float32] = self.answer(inputs)["action"]
        return action

    @torch.no_grad()
    def answer(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """All outputs by name; inputs may hold `sight` in place of pictures. KeyError when an input is missing."""
        names = self.input_names
        if SIGHT in inputs and self.vision is not None:
            names = (*(n for n in names if not n.startswith("image_")), SIGHT)
        named = {name: torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in names}
        return dict(zip(self.output_names, (t.numpy() for t in self(**named) if t is not None), strict=True))

    def episode(self) -> Episode:
        """A controller for robots that all begin an episode now."""
        return Episode(self)

    def with_vision(self, vision: VisionEncoder) -> Policy:
        """The same policy with another vision encoder, adapted to a robot for instance.

        ConfigError when it reads features, which mean something in its own encoder alone, or the states differ.
        """
        if self.card.network.sight == "features":
            raise ConfigError("the policy reads its vision encoder's features: another encoder's mean something else.")
        policy = Policy(self.card.with_vision(vision.card))
        assert policy.vision is not None
        own = {k: v for k, v in self.state_dict().items() if not k.startswith("vision.")}
        policy.load_state_dict(own | {f"vision.encoder.{k}": v for k, v in vision.state_dict().items()})
        return policy.eval()

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


class Episode:
    """A policy through an episode of n robots: carries the memory from step to step."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.inputs: Arrays = {}
        """The newest inputs, memory included, as the exported file takes them."""
        self._state: Arrays = {}

    def __call__(self, inputs: Arrays) -> npt.NDArray[np.float32]:
        """Actions (n, A) in [-1, 1]."""
        if not self._state:
            self._state = self._policy.memory.blank(len(inputs["observation"]))
        self.inputs = {**inputs, **self._state}
        outputs = self._policy.answer(self.inputs)
        self._state = {name: outputs[f"{name}_next"] for name in self._state}
        action: npt.NDArray[np.float32] = outputs["action"]
        return action

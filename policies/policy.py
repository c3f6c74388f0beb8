"""Policy: raw observation -> action in [-1, 1], with everything in between inside one torch module.

Normalizer, encoders, memory and network are saved together (policy.safetensors) beside a card (policy.yaml) that says
for which robot, task and observation it was made. Units and clips are not here: robot.observation.decode() has them.

    observation ─┬─────────────┐
    images ─ vision encoder ─ sight ─┬─ normalizer ─┐
    state_memory (the last of these) ┘              ├─ (LSTM) ─ actor ─ action
    history ─ physics encoder ─ context ────────────┘

Where there is a hold (policies/hold.py), the action within its region is the hold's.

The encoders are made by policies/pretrain and stay as they are, unless a training is told to train them along
(policies/features.py). Adapting one to a robot means giving the policy another encoder (with_vision). A teacher is
shown the simulator's privileged signals beside the observation; it is never exported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from policies import tensors
from policies.card import PolicyCard
from policies.encoders.physics import PhysicsEncoder
from policies.encoders.vision import VisionEncoder
from policies.hold import Hold
from policies.memory import MEMORY, Memory
from policies.network import ACTIVATIONS, Scale, mlp
from policies.recurrent import LSTM, Recurrent
from policies.sight import PRIVILEGED, SIGHT, Sight
from policies.symmetry import Mirror
from robot import config
from robot.config import ConfigError
from robot.observation import ActionConfig, ObservationConfig
from robot.spec import RobotSpec

WEIGHTS, CARD = "policy.safetensors", "policy.yaml"

Arrays = Mapping[str, npt.NDArray[Any]]
Act = Callable[[Arrays], npt.NDArray[np.float32]]


class Answer(NamedTuple):
    """What a policy computes for B robots."""

    action: Tensor
    """(B, A) in [-1, 1]."""
    context: Tensor | None
    """(B, Z), of the physics encoder."""
    memory: Tensor | None
    """(B, M, 1 + shown), to be given with the next step."""
    lstm: Tensor | None
    """(B, 2, width), likewise."""


class Policy(nn.Module):
    """Deterministic policy; its inputs and outputs have the names that the exported file has."""

    def __init__(self, card: PolicyCard) -> None:
        super().__init__()
        self.card = card
        self.normalizer = Scale(card.shown)
        self.encoder = None if card.encoder is None else PhysicsEncoder(card.encoder)
        self.vision = None if card.vision is None else Sight(VisionEncoder(card.vision), card.network)
        self.memory = Memory(card.network.memory, card.shown)
        network = card.network
        self.recurrent = Recurrent(card.vector, network.recurrent) if network.recurrent else None
        inputs = network.recurrent or card.vector
        self.actor = mlp(inputs, network.hidden, card.layout().action_size, ACTIVATIONS[network.activation])
        self.hold = None if card.hold is None else Hold(card.hold, card.layout().components)
        mirrored = card.symmetry is not None
        self.mirror = Mirror(card.symmetry.vector(0, network.memory)) if mirrored else None  # type: ignore[union-attr]
        self.mirror_action = Mirror(card.symmetry.action) if mirrored else None  # type: ignore[union-attr]

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
        told = (PRIVILEGED,) if self.card.privileged else ()
        images = (f"image_{name}" for name in self.observation.cameras)
        return ("observation", *history, *told, *self.states, *images)

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the inputs that carry what is remembered; their outputs have `_next` behind."""
        return (*((MEMORY,) if self.memory.steps else ()), *((LSTM,) if self.recurrent is not None else ()))

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        context = ("context",) if self.encoder is not None else ()
        return ("action", *context, *(f"{name}_next" for name in self.states))

    def blank(self, n: int) -> dict[str, npt.NDArray[np.float32]]:
        """What n robots remember at the start of an episode, by input name."""
        return self.memory.blank(n) | ({} if self.recurrent is None else self.recurrent.blank(n))

    def forward(
        self,
        observation: Tensor,
        history: Tensor | None = None,
        history_mask: Tensor | None = None,
        state_memory: Tensor | None = None,
        sight: Tensor | None = None,
        privileged: Tensor | None = None,
        state_lstm: Tensor | None = None,
        **images: Tensor,
    ) -> Answer:
        """observation (B, D), history (B, H, K), history_mask (B, H), image_<camera> (B, 3, h, w) uint8, all raw;
        state_memory (B, M, 1 + shown), state_lstm (B, 2, width): zeros at the start of an episode, then what the last
        call gave back; privileged (B, P), to a teacher;
        sight (B, S): what the vision encoder would tell, from environments that draw no pictures.

        ValueError when an input that this policy needs is missing.
        """
        shown, context = self.perceive(observation, history, history_mask, sight, privileged, **images)
        if self.memory.steps and state_memory is None:
            raise ValueError("this policy remembers: it needs state_memory")
        vector, lstm = self.read(shown, context, state_memory), None
        if self.recurrent is not None:
            if state_lstm is None:
                raise ValueError("this policy remembers: it needs state_lstm")
            vector, lstm = self.recurrent(vector, state_lstm)
        return Answer(self._action(vector, shown), context, self.memory.push(state_memory, shown), lstm)

    def perceive(
        self,
        observation: Tensor,
        history: Tensor | None = None,
        history_mask: Tensor | None = None,
        sight: Tensor | None = None,
        privileged: Tensor | None = None,
        **images: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """What is shown now (B, shown) and the context (B, Z), of inputs as forward() takes them."""
        context = None
        if self.encoder is not None:
            if history is None or history_mask is None:
                raise ValueError("this policy has a physics encoder: it needs history and history_mask")
            context = self.encoder(history, history_mask)
        shown = observation
        if self.vision is not None:
            shown = torch.cat([observation, self.vision(images) if sight is None else sight], dim=1)
        if self.card.privileged:
            if privileged is None:
                raise ValueError("this policy is a teacher: it needs privileged")
            shown = torch.cat([shown, privileged], dim=1)
        return shown, context

    def decide(self, shown: Tensor, context: Tensor | None, memory: Tensor | None) -> Tensor:
        """(B, A) action from what is shown now (B, shown), the context and the memory; of a policy without LSTM."""
        return self._action(self.read(shown, context, memory), shown)

    def read(self, shown: Tensor, context: Tensor | None, memory: Tensor | None) -> Tensor:
        """(B, vector) what the actor reads, scaled."""
        parts = [self.normalizer(shown), *([] if context is None else [context])]
        return torch.cat([*parts, *self.memory.recall(memory, self.normalizer)], dim=1)

    def _action(self, vector: Tensor, shown: Tensor) -> Tensor:
        """(B, A) the hold's within its region, else the actor's."""
        said = self._bounded(vector)
        return said if self.hold is None else self.hold(shown, said)

    def _bounded(self, vector: Tensor) -> Tensor:
        """(B, A) in [-1, 1]; a symmetric actor is the mean of itself and of its mirror image."""
        action = torch.tanh(self.actor(vector))
        if self.mirror is None or self.mirror_action is None:
            return action
        return 0.5 * (action + self.mirror_action(torch.tanh(self.actor(self.mirror(vector)))))

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

    def with_encoder(self, encoder: PhysicsEncoder) -> Policy:
        """The same policy with another physics encoder of the same card: one that was adapted to a robot."""
        policy = Policy(self.card)
        assert policy.encoder is not None
        policy.load_state_dict(self.state_dict())
        policy.encoder.load_state_dict(encoder.state_dict())
        return policy.eval()

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
            self._state = self._policy.blank(len(inputs["observation"]))
        self.inputs = {**inputs, **self._state}
        outputs = self._policy.answer(self.inputs)
        self._state = {name: outputs[f"{name}_next"] for name in self._state}
        action: npt.NDArray[np.float32] = outputs["action"]
        return action

    def forget(self, ended: npt.NDArray[np.bool_]) -> None:
        """Robots of `ended` (n,) begin another episode."""
        if self._state and ended.any():
            blank = self._policy.blank(len(ended))
            self._state = {
                name: np.where(ended.reshape(-1, *[1] * (state.ndim - 1)), blank[name], state)
                for name, state in self._state.items()
            }

"""Features extractors: what actor and critic read of an observation of policies/context_env.py.

`Plain` reads vectors in which frozen encoders have already had their say. `TrainedEncoders` has the encoders inside,
so that the loss of the policy trains them too, at a learning rate of their own: what a Policy does before its actor, on
tensors. Buffers then hold histories and pictures: of 64 simulations x 128 steps a history of 128 rows of 5 numbers
takes 21 MB, pictures of 64 x 64 take 101 MB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from policies.context_env import MEMORY, ContextVecEnv
from policies.encoders.physics import PhysicsEncoder
from policies.memory import Memory
from policies.network import Scale
from policies.sight import PRIVILEGED, SIGHT, Sight

if TYPE_CHECKING:
    from policies.card import PolicyCard


class Plain(BaseFeaturesExtractor):
    """Vectors as they are, without a teacher's advice at their end."""

    def __init__(self, space: spaces.Box, size: int) -> None:
        super().__init__(space, size)

    def forward(self, observations: Tensor) -> Tensor:
        return observations[:, : self.features_dim]


class TrainedEncoders(BaseFeaturesExtractor):
    """A dictionary of raw inputs -> [what the actor reads | privileged signals]."""

    def __init__(
        self,
        space: spaces.Dict,
        card: PolicyCard,
        encoder: PhysicsEncoder | None,
        sight: Sight | None,
        privileged: int,
    ) -> None:
        """`encoder` and `sight` are trained; a sight that only stands for pictures that nobody draws is not."""
        super().__init__(space, card.vector + privileged)
        self.normalizer, self.memory = Scale(card.shown), Memory(card.network.memory, card.shown)
        self.encoder, self.sight = encoder, sight
        for network in self.networks:
            network.requires_grad_(True)

    @property
    def networks(self) -> list[nn.Module]:
        """The encoders that are trained."""
        sight = None if self.sight is None else self.sight.encoder
        return [m for m in (self.encoder, sight) if m is not None]

    def train(self, mode: bool = True) -> TrainedEncoders:
        """Batch norms keep the statistics of pretraining: those of a rollout depend on the policy."""
        super().train(mode)
        for network in self.networks:
            network.eval()
        return self

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        given = observations
        shown = given["observation"]
        if SIGHT in given:
            shown = torch.cat([shown, given[SIGHT]], dim=1)
        elif self.sight is not None:
            shown = torch.cat([shown, self.sight({k: v for k, v in given.items() if k.startswith("image_")})], dim=1)
        parts = [self.normalizer(shown)]
        if self.encoder is not None:
            parts.append(self.encoder(given["history"], given["history_mask"]))
        parts += self.memory.recall(given.get(MEMORY), self.normalizer)
        return torch.cat([*parts, *([given[PRIVILEGED]] if PRIVILEGED in given else [])], dim=1)


def extractor(env: ContextVecEnv, encoder: PhysicsEncoder | None) -> tuple[type[BaseFeaturesExtractor], dict[str, Any]]:
    """The class of features extractor that belongs to these environments, and its arguments."""
    if not env.trained:
        return Plain, {"size": env.actor_size + env.privileged_size}
    drawn = any(name.startswith("image_") for name in env.observation_space.spaces)  # type: ignore[attr-defined]
    kwargs: dict[str, Any] = {"card": env.card, "encoder": encoder, "sight": env.sight if drawn else None}
    return TrainedEncoders, kwargs | {"privileged": env.privileged_size}

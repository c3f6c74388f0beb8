"""What a training begins with, and the digests by which a resumed one is known to be the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from policies.actor_guard import ActorGuardConfig
from policies.card import PolicyCard
from policies.context_env import Advise
from policies.encoders.physics import PhysicsEncoder
from policies.encoders.vision import VisionEncoder
from policies.policy import Policy
from policies.symmetry import Symmetry
from robot import config

Encoders = Literal["frozen", "finetuned", "scratch"]
"""Whether encoders stay as they were pretrained, are trained along with the policy, or that from random weights."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a training begins with."""

    encoder: PhysicsEncoder | None
    vision: VisionEncoder | None
    encoders: Encoders
    start_from: Policy | None
    start_critic: dict[str, Tensor] | None
    advise: Advise | None
    augment: Symmetry | None
    guard: ActorGuardConfig | None = None
    home: Callable[[int], VecEnv] | None = None
    """Number of simulations -> environments of the domain that `start_from` comes from."""

    def digests(self, card: PolicyCard) -> dict[str, str]:
        """What must be the same when a run is resumed."""
        named = {"policy card": digest(config.dump_yaml(replace(card, lineage={})).encode())}
        named |= {"law": card.lineage.get("law_sha256", "none")}
        named |= {"encoder": digest_of(self.encoder), "vision": digest_of(self.vision)}
        named |= {"start_from": digest_of(self.start_from), "encoders": self.encoders}
        augment = "none" if self.augment is None else digest(config.dump_yaml(self.augment).encode())
        guarded = self.guard is not None and self.guard.method != "none"
        named["guard"] = digest(config.dump_yaml(self.guard).encode()) if guarded else "none"
        return named | {"symmetry": augment, "advice": "none" if self.advise is None else "some"}


def digest(data: bytes) -> str:
    """The first digits of a sha256."""
    return hashlib.sha256(data).hexdigest()[:16]


def digest_of(module: nn.Module | None) -> str:
    """Of all weights and buffers; `none` of nothing."""
    if module is None:
        return "none"
    state = module.state_dict()
    return digest(b"".join(name.encode() + state[name].numpy().tobytes() for name in sorted(state)))

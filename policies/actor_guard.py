"""Guards for a policy that is trained on from another: what it may change, or how far it may go.

The divergence from what it would have done, and the low rank of policies/encoders/guards.py on the linear layers of
PPO's actor.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn

from policies.encoders.guards import GuardConfig, LoRA, TuneConfig
from policies.layers import actor_layers
from robot.config import ConfigError

if TYPE_CHECKING:
    from policies.on_policy import LeanPPO

Method = Literal["none", "kl", "lora", "replay"]
WEIGHTS = {"kl": 0.1, "replay": 0.25}
"""Of the term beside PPO's loss, whose own gain is of the order of 0.01; and a share of the episodes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ActorGuardConfig:
    """Which guard, and how strong."""

    method: Method = "none"
    """`kl`: the divergence from the actor that it began with is part of the loss. `lora`: matrices may change by a low
    rank only, all else stays. `replay`: some episodes are in the domain that it came from, which is up to who makes
    the environments."""
    weight: float | None = None
    """Of the guard's term, or the share of the episodes; default: WEIGHTS. `none` and `lora` have none."""
    rank: int = 4
    """Of lora's changes."""

    def __post_init__(self) -> None:
        if self.strength < 0.0 or (self.method == "replay" and not 0.0 < self.strength < 1.0):
            raise ConfigError(f"guard_weight is {self.weight}; it must be at least 0, and for replay a share below 1.")
        if self.rank < 1:
            raise ConfigError(f"rank is {self.rank}; of a low-rank change it must be at least 1.")

    @property
    def strength(self) -> float:
        """The weight, or the method's own."""
        return WEIGHTS.get(self.method, 0.0) if self.weight is None else self.weight


class ActorGuard:
    """Holds on to the actor of a learner as it is now."""

    def __init__(self, learner: LeanPPO, config: ActorGuardConfig, seed: int) -> None:
        """Put onto the learner, once the weights that it begins with are in it."""
        self.weight = config.strength
        self.start: Any = copy.deepcopy(learner.policy) if config.method == "kl" else None
        self.frozen: set[int] = set()
        """Ids of the parameters that must not be trained."""
        if config.method == "lora":
            layers = nn.ModuleList(actor_layers(learner))
            self.frozen = {id(p) for p in layers.parameters()}
            tune = TuneConfig(guard=GuardConfig(method="lora", rank=config.rank))
            added = LoRA(layers, _nothing, tune, seed).trained()
            optimizer = learner.policy.optimizer
            optimizer.add_param_group({"params": added, "lr": optimizer.defaults["lr"]})

    def term(self, observed: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
        """What is added to the loss of a minibatch, of which the actor's `mean` (B, A) and spread are known."""
        if self.start is None:
            return torch.zeros(())
        with torch.no_grad():
            before = self.start.mean(observed)
        return self.weight * 0.5 * ((before - mean) * (-log_std.detach()).exp()).square().sum(dim=1).mean()


def put_on(algorithm: BaseAlgorithm, config: ActorGuardConfig, seed: int, unfit: bool) -> None:
    """Guard a learner's actor; ConfigError when it is `unfit`: without a start, or on encoders that change."""
    from policies.on_policy import LeanPPO

    if config.method in ("none", "replay"):
        return
    if unfit or not isinstance(algorithm, LeanPPO):
        raise ConfigError(
            f"guard={config.method} needs recipe.algorithm=ppo, encoders=frozen and a policy to start from."
        )
    algorithm.guard = ActorGuard(algorithm, config, seed)


def _nothing(count: int) -> Tensor:
    """A low rank asks for no samples of the source."""
    return torch.zeros(())

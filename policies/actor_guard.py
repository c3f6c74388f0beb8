"""Guards for a policy that is trained on from another: what it may change, or how far it may go.

Those of encoders (policies/encoders/guards.py), put onto the linear layers of PPO's actor, and the divergence from what
it would have done.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn

from policies.encoders.guards import GUARDS, GuardConfig, TuneConfig
from policies.layers import actor_layers
from robot.config import ConfigError

if TYPE_CHECKING:
    from policies.on_policy import LeanPPO

Method = Literal["none", "kl", "l2sp", "lora", "replay"]
WEIGHTS = {"kl": 0.1, "l2sp": 0.01, "replay": 0.25}
"""Of the terms beside PPO's loss, whose own gain is of the order of 0.01; and a share of the episodes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ActorGuardConfig:
    """Which guard, and how strong."""

    method: Method = "none"
    """`kl`: the divergence from the actor that it began with. `l2sp`: a spring from every weight to where it was.
    `lora`: matrices may change by a low rank only, all else stays. `replay`: some episodes are in the domain that it
    came from, which is up to who makes the environments."""
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
        self.config = config
        self.weight = config.strength
        self.start: Any = copy.deepcopy(learner.policy) if config.method == "kl" else None
        layers = nn.ModuleList(actor_layers(learner))
        plain = list(layers.parameters())
        self.inner = None
        self.frozen: set[int] = set()
        """Ids of the parameters that must not be trained."""
        if config.method == "kl":
            return
        tune = TuneConfig(guard=GuardConfig(method=config.method, weight=self.weight, rank=config.rank))
        self.inner = GUARDS[config.method](layers, _nothing, tune, seed)
        free = self.inner.trained()
        self.frozen = {id(p) for p in plain} - {id(p) for p in free}
        added = [p for p in free if all(p is not q for q in plain)]
        if added:
            learner.policy.optimizer.add_param_group({"params": added, "lr": learner.policy.optimizer.defaults["lr"]})

    def term(self, observed: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
        """What is added to the loss of a minibatch, of which the actor's `mean` (B, A) and spread are known."""
        if self.inner is not None:
            return self.inner.term()
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
    """These guards ask for no samples of the source."""
    return torch.zeros(())

"""Guards for a policy that is trained on from another: what it may change, or how far it may go.

The divergence from what it would have done, here or where it came from, and the low rank of policies/encoders/guards.py
on the linear layers of PPO's actor.

Sources: Buzzega et al., Dark experience for general continual learning, NeurIPS 2020 (what the old network answered to
old inputs is kept with them, and part of the loss).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from policies.encoders.guards import GuardConfig, LoRA, TuneConfig
from policies.layers import actor_layers
from robot.config import ConfigError

if TYPE_CHECKING:
    from policies.on_policy import LeanPPO

Method = Literal["none", "kl", "lora", "rehearse", "replay"]
WEIGHTS = {"kl": 0.1, "rehearse": 1.0, "replay": 0.25}
"""Of the term beside PPO's loss, whose own gain is of the order of 0.01; and a share of the episodes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ActorGuardConfig:
    """Which guard, and how strong."""

    method: Method = "none"
    """`kl`: the divergence from the actor that it began with is part of the loss. `lora`: matrices may change by a low
    rank only, all else stays. `rehearse`: the divergence again, but over what it saw in the domain that it came from;
    in the new one it is free. `replay`: some episodes are in the domain that it came from, which is up to who makes the
    environments."""
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

    def __init__(self, learner: LeanPPO, config: ActorGuardConfig, seed: int, home: VecEnv | None = None) -> None:
        """Put onto the learner, once the weights that it begins with are in it; `home` is where those come from."""
        self.weight, self._mean = config.strength, learner.policy.mean
        self.kept: tuple[Tensor, Tensor] | None = None
        """What `rehearse` goes through again: inputs, and what the actor answered at first."""
        if config.method == "rehearse":
            assert home is not None
            self.kept = remembered(learner, home, seed)
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
        if self.kept is not None:
            pick = torch.randint(len(self.kept[0]), (len(observed),))
            before, mean = self.kept[1][pick], self._mean(self.kept[0][pick])
        elif self.start is not None:
            with torch.no_grad():
                before = self.start.mean(observed)
        else:
            return torch.zeros(())
        return self.weight * 0.5 * ((before - mean) * (-log_std.detach()).exp()).square().sum(dim=1).mean()


@torch.no_grad()
def remembered(learner: LeanPPO, home: VecEnv, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs that a learner's actor sees in a rollout at home, with its own spread of actions, and its means there."""
    learner.policy.set_training_mode(False)
    random, seen, said = torch.Generator().manual_seed(seed), [], []
    home.seed(seed)
    observed = torch.as_tensor(home.reset())
    for _ in range(learner.n_steps):
        mean, log_std, _ = learner.policy.assess(observed)
        seen.append(observed.clone())
        said.append(mean.clone())
        action = mean + log_std.exp() * torch.randn(mean.shape, generator=random)
        observed = torch.as_tensor(home.step(action.clamp(-1.0, 1.0).numpy())[0])
    return torch.cat(seen), torch.cat(said)


def put_on(
    algorithm: BaseAlgorithm, config: ActorGuardConfig, seed: int, unfit: bool, home: Callable[[], VecEnv] | None = None
) -> None:
    """Guard a learner's actor; ConfigError when it is `unfit`: without a start, or on encoders that change; or when
    `rehearse` has no `home`.
    """
    from policies.on_policy import LeanPPO

    if config.method in ("none", "replay"):
        return
    if unfit or not isinstance(algorithm, LeanPPO):
        raise ConfigError(
            f"guard={config.method} needs recipe.algorithm=ppo, encoders=frozen and a policy to start from."
        )
    if config.method != "rehearse":
        algorithm.guard = ActorGuard(algorithm, config, seed)
        return
    if home is None:
        raise ConfigError("guard=rehearse needs the environments that the policy comes from.")
    where = home()
    algorithm.guard = ActorGuard(algorithm, config, seed, where)
    where.close()


def _nothing(count: int) -> Tensor:
    """A low rank asks for no samples of the source."""
    return torch.zeros(())

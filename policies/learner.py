"""The learners that policies/train.py can drive, one for each `recipe.algorithm`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from policies.context_env import ContextVecEnv
from policies.encoders.physics import PhysicsEncoder
from policies.network import NetworkConfig
from policies.off_policy import OffPolicyConfig, OffPolicyLearner
from policies.policy import Policy
from policies.ppo import PPOLearner, TrainConfig, make_ppo
from policies.recurrent_ppo import RecurrentLearner
from policies.symmetry import Symmetry
from robot import config
from robot.config import ConfigError, nearest

Recipe = TrainConfig | OffPolicyConfig
ALGORITHMS = ("ppo", "sac", "tqc", "recurrent_ppo")


class Learner(Protocol):
    """What learns, a segment at a time."""

    @property
    def algorithm(self) -> BaseAlgorithm: ...
    def segment(self, done: int) -> None: ...
    def state(self) -> dict[str, Tensor]: ...
    def restore(self, named: Mapping[str, Tensor]) -> None: ...
    def write_to(self, policy: Policy) -> None: ...
    def begin_from(self, source: Policy) -> None: ...
    def critic(self) -> dict[str, Tensor]: ...
    def take_critic(self, critic: Mapping[str, Tensor]) -> None: ...


def recipe_of(data: Mapping[str, Any], source: str, key: str = "recipe") -> Recipe:
    """The recipe that plain data tells, of the kind that its `algorithm` needs."""
    algorithm = data.get("algorithm", "ppo")
    if algorithm not in ALGORITHMS:
        raise ConfigError(f"{source}: {key}.algorithm is {algorithm!r}. {nearest(str(algorithm), ALGORITHMS)}")
    if algorithm in ("sac", "tqc"):
        return config.convert(OffPolicyConfig, data, source, key)
    return config.convert(TrainConfig, data, source, key)


def make_learner(
    env: ContextVecEnv,
    network: NetworkConfig,
    recipe: Recipe,
    seed: int,
    encoder: PhysicsEncoder | None = None,
    augment: Symmetry | None = None,
) -> Learner:
    """A fresh learner; ConfigError where the algorithm does not know what is asked for."""
    if augment is not None and (env.trained or recipe.algorithm != "ppo"):
        raise ConfigError("symmetry=augment needs recipe.algorithm=ppo and encoders=frozen.")
    if env.holds and (env.trained or augment is not None or recipe.algorithm != "ppo"):
        raise ConfigError("network.hold=true needs recipe.algorithm=ppo, encoders=frozen and symmetry=none.")
    if isinstance(recipe, OffPolicyConfig):
        return OffPolicyLearner(env, network, recipe, seed)
    if recipe.algorithm == "recurrent_ppo":
        return RecurrentLearner(env, network, recipe, seed)
    if network.recurrent:
        raise ConfigError(f"network.recurrent is {network.recurrent}; an LSTM needs recipe.algorithm=recurrent_ppo.")
    return PPOLearner(env, recipe, make_ppo(env, network, recipe, seed, encoder, augment))

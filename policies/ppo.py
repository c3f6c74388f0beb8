"""Stable-Baselines3's PPO with this project's settings: a bounded mean, a floor under the noise, segments.

The actor here and `Policy.actor` are the same layers; `read_actor` and `write_actor` copy between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn

from policies.context_env import ContextVecEnv
from policies.network import ACTIVATIONS, NetworkConfig
from robot.config import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """configs/recipe/<name>.yaml: how a policy is trained with PPO."""

    env_steps: int = 400_000
    """Control steps over all simulations; rounded up to whole segments."""
    num_envs: int = 64
    rollout_steps: int = 128
    """Steps of each simulation between two updates."""
    segment_rollouts: int = 3
    """Rollouts between two checkpoints; at each the environments start anew, which makes resuming exact."""
    batch: int = 512
    epochs: int = 10
    learning_rate: float = 3e-4
    learning_rate_end: float = 3e-4
    """Reached linearly over the whole training."""
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy: float = 0.002
    """Weight of the entropy bonus."""
    value_weight: float = 0.5
    max_gradient: float = 0.5
    std_start: float = 1.0
    """Standard deviation of the actions at the beginning, in units of full command."""
    std_floor: float = 0.1
    """It is kept above this: without, exploration dies before the policy is good."""
    critic_rollouts: int = 0
    """First rollouts in which only the critic learns, for a policy that is started from another; and as many from where
    a hold takes part."""
    evaluate_segments: int = 3
    """Segments between two evaluations."""
    hold_from: int = 0
    """Environment steps after which a hold (network.hold) takes part in training; the policies that are ranked have it
    from the beginning. First the network is to learn the way: where the best is to be had near the pose at once, it
    learns nothing else."""
    select: str = ""
    """Stress suite of configs/stress whose overall score ranks the checkpoints; empty: success under the own law."""

    def __post_init__(self) -> None:
        whole = ("env_steps", "num_envs", "rollout_steps", "segment_rollouts", "batch", "epochs", "evaluate_segments")
        for name in whole:
            if getattr(self, name) < 1:
                raise ConfigError(f"recipe.{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("learning_rate", "learning_rate_end", "std_start", "std_floor", "max_gradient"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"recipe.{name} is {getattr(self, name)}; it must be above 0.")
        if self.batch > self.num_envs * self.rollout_steps:
            raise ConfigError(
                f"recipe.batch is {self.batch}; a rollout has only {self.num_envs} x {self.rollout_steps} steps."
            )

    @property
    def segment_steps(self) -> int:
        """Environment steps from one checkpoint to the next."""
        return self.num_envs * self.rollout_steps * self.segment_rollouts

    @property
    def segments(self) -> int:
        """Segments of the whole training."""
        return -(-self.env_steps // self.segment_steps)

    def learning_rate_at(self, segment: int) -> float:
        """Learning rate of a segment."""
        done = segment / max(self.segments - 1, 1)
        return self.learning_rate + (self.learning_rate_end - self.learning_rate) * done


class Seen(BaseFeaturesExtractor):
    """What the networks see of a row: all but its last `hidden` components."""

    def __init__(self, observation_space: spaces.Box, hidden: int) -> None:
        self._size = observation_space.shape[0] - hidden
        super().__init__(observation_space, self._size)

    def forward(self, observations: Tensor) -> Tensor:
        return observations[:, : self._size]


class BoundedActorCritic(ActorCriticPolicy):
    """The mean passes through tanh, as in the exported policy, so it cannot drift beyond the clip."""

    def __init__(self, *args: Any, holds: bool, **kwargs: Any) -> None:
        """`holds`: see ContextVecEnv."""
        self._holds = holds
        super().__init__(*args, **kwargs)

    def evaluate_actions(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """As SB3's; where a hold acted, nothing is learned of the likelihood of the action and of its entropy."""
        values, log_prob, entropy = super().evaluate_actions(obs, actions)
        if self._holds and isinstance(obs, Tensor) and entropy is not None:
            free = obs[:, -1] < 0.5
            log_prob, entropy = torch.where(free, log_prob, log_prob.detach()), entropy * free
        return values, log_prob, entropy

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> Distribution:
        return self.action_dist.proba_distribution(torch.tanh(self.action_net(latent_pi)), self.log_std)


def make_ppo(env: ContextVecEnv, network: NetworkConfig, config: TrainConfig, seed: int) -> PPO:
    """A fresh learner on the CPU, where networks of this size are fastest."""
    hidden = list(network.hidden)
    learner = PPO(
        BoundedActorCritic,
        env,
        n_steps=config.rollout_steps,
        batch_size=config.batch,
        n_epochs=config.epochs,
        learning_rate=config.learning_rate,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip,
        ent_coef=config.entropy,
        vf_coef=config.value_weight,
        max_grad_norm=config.max_gradient,
        policy_kwargs={
            "net_arch": {"pi": hidden, "vf": hidden},
            "activation_fn": ACTIVATIONS[network.activation],
            "holds": env.holds,
            "features_extractor_class": Seen,
            "features_extractor_kwargs": {"hidden": int(env.holds)},
            "log_std_init": math.log(config.std_start),
            "optimizer_kwargs": {"eps": 1e-5, "fused": True},
        },
        seed=seed,
        device="cpu",
        verbose=0,
    )
    # its own would leave a folder in /tmp at each call of learn()
    learner.set_logger(Logger(folder=None, output_formats=[]))
    return learner


def read_critic(learner: PPO) -> dict[str, Tensor]:
    """The learner's critic as named tensors."""
    return {k: v for k, v in learner.policy.state_dict().items() if "value_net." in k}


def write_critic(learner: PPO, critic: dict[str, Tensor]) -> None:
    """Put a critic into the learner; ValueError when it belongs to another network."""
    own = read_critic(learner)
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in critic.items()}:
        raise ValueError("the critic belongs to a network of other widths")
    learner.policy.load_state_dict(critic, strict=False)


def _actor_layers(learner: PPO) -> list[nn.Linear]:
    policy = learner.policy
    return [m for m in policy.mlp_extractor.policy_net if isinstance(m, nn.Linear)] + [policy.action_net]  # type: ignore[list-item]


def read_actor(learner: PPO, actor: nn.Sequential) -> None:
    """Copy the learner's actor into a Policy's."""
    for mine, theirs in zip([m for m in actor if isinstance(m, nn.Linear)], _actor_layers(learner), strict=True):
        mine.load_state_dict(theirs.state_dict())


def write_actor(learner: PPO, actor: nn.Sequential) -> None:
    """Copy a Policy's actor into the learner; ValueError when the networks differ in shape."""
    mine = [m for m in actor if isinstance(m, nn.Linear)]
    theirs = _actor_layers(learner)
    if [m.weight.shape for m in mine] != [m.weight.shape for m in theirs]:
        raise ValueError("the policy to start from has a network of other widths")
    for layer, source in zip(theirs, mine, strict=True):
        layer.load_state_dict(source.state_dict())


class Housekeeping(BaseCallback):
    """Between rollouts: statistics in force, the noise above its floor, the actor at rest while the critic warms up."""

    def __init__(self, learner: PPO, env: ContextVecEnv, config: TrainConfig, first_rollout: int) -> None:
        """`first_rollout`: how many rollouts were done before this segment."""
        super().__init__()
        self._env, self._config, self._rollout = env, config, first_rollout
        self._noise: nn.Parameter = learner.policy.log_std
        self._actor = [self._noise, *(p for layer in _actor_layers(learner) for p in layer.parameters())]

    def _on_rollout_start(self) -> None:
        self._env.statistics.commit()
        with torch.no_grad():
            self._noise.clamp_(min=math.log(self._config.std_floor))
        begun = self._config.hold_from // (self._config.num_envs * self._config.rollout_steps) * self._env.holds
        resting = begun <= self._rollout < begun + self._config.critic_rollouts
        for weights in self._actor:
            weights.requires_grad_(not resting)
        self._rollout += 1

    def _on_step(self) -> bool:
        return True

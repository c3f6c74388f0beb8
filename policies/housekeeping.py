"""What is done between two rollouts of PPO, beside learning."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import nn

from policies.average import Average
from policies.context_env import ContextVecEnv
from policies.features import TrainedEncoders
from policies.layers import read_critic
from policies.on_policy import LeanPPO

if TYPE_CHECKING:
    from policies.ppo import TrainConfig


def sync(learner: OnPolicyAlgorithm, env: ContextVecEnv) -> None:
    """Trained encoders scale by the statistics in force."""
    if isinstance(learner.policy.features_extractor, TrainedEncoders):
        learner.policy.features_extractor.normalizer.set(env.statistics.mean, env.statistics.deviation)


class Housekeeping(BaseCallback):
    """Between rollouts: statistics in force, the noise above its floor, the actor at rest while the critic warms up."""

    def __init__(
        self,
        learner: OnPolicyAlgorithm,
        env: ContextVecEnv,
        config: TrainConfig,
        first_rollout: int,
        average: Average,
    ) -> None:
        """`first_rollout`: how many rollouts were done before this segment."""
        super().__init__()
        self._env, self._config, self._rollout, self._learner = env, config, first_rollout, learner
        self._average, self._begun = average, False
        self._noise: nn.Parameter = learner.policy.log_std
        critic = set(read_critic(learner))
        guard = learner.guard if isinstance(learner, LeanPPO) else None
        still = set() if guard is None else guard.frozen
        named = [(n, p) for n, p in learner.policy.named_parameters() if id(p) not in still]
        self._actor = [p for name, p in named if not _of_critic(name, critic)]

    def _on_rollout_start(self) -> None:
        if self._begun:  # what the segment before left is in the mean already
            self._average.update()
        self._begun = True
        self._env.commit()
        sync(self._learner, self._env)
        with torch.no_grad():
            self._noise.clamp_(min=math.log(self._config.std_floor))
        begun = -(-self._config.hold_from // self._config.segment_steps) * self._config.segment_rollouts
        begun = begun if self._env.holds else 0
        resting = begun <= self._rollout < begun + self._config.critic_rollouts
        for weights in self._actor:
            weights.requires_grad_(not resting)
        self._rollout += 1

    def _on_step(self) -> bool:
        return True


def _of_critic(name: str, critic: set[str]) -> bool:
    return name in critic or name.startswith("lstm_critic")

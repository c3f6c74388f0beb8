"""sb3-contrib's RecurrentPPO: an LSTM before the hidden layers, exported with an explicit state.

A comparison: it learns slowly, because each minibatch is unrolled over whole episodes; `network.memory` is the way of
the recipes here.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.distributions import Distribution
from torch import Tensor

from policies.actor_critic import ADAM
from policies.context_env import ContextVecEnv
from policies.network import ACTIVATIONS, NetworkConfig
from policies.policy import Policy
from policies.ppo import PPOLearner, TrainConfig, quiet
from robot.config import ConfigError


class BoundedRecurrent(RecurrentActorCriticPolicy):
    """The mean passes through tanh, as in the exported policy."""

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> Distribution:
        return self.action_dist.proba_distribution(torch.tanh(self.action_net(latent_pi)), self.log_std)


class RecurrentLearner(PPOLearner):
    """RecurrentPPO as policies/train.py drives it."""

    def __init__(self, env: ContextVecEnv, network: NetworkConfig, config: TrainConfig, seed: int) -> None:
        """ConfigError without a width of the LSTM, and for what this algorithm does not know."""
        if not network.recurrent:
            raise ConfigError("recipe.algorithm=recurrent_ppo needs the LSTM's width: give network.recurrent=32, say.")
        if env.trained or env.privileged_size or env.advice_size:
            raise ConfigError(
                "recipe.algorithm=recurrent_ppo trains on frozen encoders and what the robot measures: give "
                "encoders=frozen and recipe.asymmetric=false, and no teacher's advice."
            )
        hidden = list(network.hidden)
        algorithm = RecurrentPPO(
            BoundedRecurrent,
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
                "log_std_init": math.log(config.std_start),
                "optimizer_kwargs": dict(ADAM),
                "lstm_hidden_size": network.recurrent,
            },
            seed=seed,
            device="cpu",
            verbose=0,
        )
        quiet(algorithm)
        super().__init__(env, config, algorithm)

    def segment(self, done: int) -> None:
        algorithm: Any = self.algorithm
        pi, vf = algorithm._last_lstm_states
        blank = (torch.zeros_like(pi[0]), torch.zeros_like(pi[1])), (torch.zeros_like(vf[0]), torch.zeros_like(vf[1]))
        algorithm._last_lstm_states = RNNStates(*blank)  # the environments begin anew
        super().segment(done)

    def write_to(self, policy: Policy) -> None:
        super().write_to(policy)
        assert policy.recurrent is not None
        policy.recurrent.copy_from(self.algorithm.policy.lstm_actor)  # type: ignore[arg-type]

    def begin_from(self, source: Policy) -> None:
        super().begin_from(source)
        assert source.recurrent is not None
        source.recurrent.copy_to(self.algorithm.policy.lstm_actor)  # type: ignore[arg-type]

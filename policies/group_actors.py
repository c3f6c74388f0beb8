"""How a group acts: Stable-Baselines3's own collecting, with a group's part of the buffer and noise of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

from policies.context_env import ContextVecEnv
from policies.off_policy import BUFFERED as REMEMBERED
from policies.off_policy import OffPolicyConfig, OffPolicyLearner
from policies.ppo import TrainConfig, make_ppo

if TYPE_CHECKING:
    from policies.groups import GroupPlan

Arrays = dict[str, npt.NDArray[Any]]
ROLLED = (
    "observations", "actions", "rewards", "returns", "advantages", "values", "log_probs", "episode_starts",
)  # fmt: skip
"""Of a rollout buffer: (steps, simulations, ...)."""


class OnPolicyActor:
    """PPO's rollouts."""

    def __init__(self, env: ContextVecEnv, plan: GroupPlan, recipe: TrainConfig) -> None:
        batch = min(recipe.batch, plan.size * recipe.rollout_steps)
        self.algorithm: Any = make_ppo(env, plan.card.network, replace(recipe, num_envs=plan.size, batch=batch), 0)

    def begin(self, seed: int) -> None:
        """Noise anew."""
        self.algorithm.noise = torch.Generator().manual_seed(seed)

    def roll(self, callback: BaseCallback) -> Arrays:
        """A rollout from where the environments are."""
        algorithm = self.algorithm
        algorithm.collect_rollouts(algorithm.env, callback, algorithm.rollout_buffer, algorithm.n_steps)
        return {name: getattr(algorithm.rollout_buffer, name) for name in ROLLED}


class OffPolicyActor:
    """Transitions for SAC and TQC."""

    def __init__(self, env: ContextVecEnv, plan: GroupPlan, recipe: OffPolicyConfig) -> None:
        # its buffer is to hold what one answer holds
        self._steps = TrainFreq(recipe.rollout_steps, TrainFrequencyUnit.STEP)
        own = replace(recipe, num_envs=plan.size, segment_rollouts=1, buffer=plan.size * recipe.rollout_steps)
        self.algorithm: Any = OffPolicyLearner(env, plan.card.network, own, 0).algorithm
        self._state = torch.get_rng_state()

    def begin(self, seed: int) -> None:
        """Noise and random actions anew."""
        self._state = torch.Generator().manual_seed(seed).get_state()
        self.algorithm.action_space.seed(seed % 2**31)

    def roll(self, callback: BaseCallback) -> Arrays:
        """The next transitions; the learner's own random stream stays as it is."""
        algorithm = self.algorithm
        algorithm.replay_buffer.reset()
        algorithm._total_timesteps = 1
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._state)
            algorithm.collect_rollouts(
                algorithm.env, callback, self._steps, algorithm.replay_buffer, None, algorithm.learning_starts
            )
            self._state = torch.get_rng_state()
        return {name: getattr(algorithm.replay_buffer, name) for name in REMEMBERED}


def actor_of(env: ContextVecEnv, plan: GroupPlan) -> OnPolicyActor | OffPolicyActor:
    """What acts in a group's environments."""
    if isinstance(plan.recipe, OffPolicyConfig):
        return OffPolicyActor(env, plan, plan.recipe)
    return OnPolicyActor(env, plan, plan.recipe)


def acting(algorithm: Any) -> torch.nn.Module:
    """What a learner's algorithm acts by: the actor of SAC and TQC; of PPO, which tells values on the way, all."""
    module: torch.nn.Module = algorithm.policy if isinstance(algorithm, OnPolicyAlgorithm) else algorithm.actor
    return module


def write(algorithm: Any, order: Mapping[str, npt.NDArray[Any]]) -> None:
    """Put the weights of an order into what acts."""
    with torch.no_grad():
        for name, weights in acting(algorithm).state_dict().items():
            weights.copy_(torch.from_numpy(np.array(order[f"policy/{name}"])))


class Ended(BaseCallback):
    """Keeps what episodes ended in a rollout, and at which step."""

    def __init__(self, algorithm: Any) -> None:
        super().__init__()
        self._algorithm = algorithm
        self.init_callback(algorithm)

    def clear(self) -> None:
        """A new rollout."""
        self._algorithm.ep_info_buffer, self._algorithm.ep_success_buffer = [], []
        self._before: list[int] = []

    def _on_step(self) -> bool:
        self._before.append(len(self._algorithm.ep_info_buffer))
        return True

    def arrays(self) -> Arrays:
        """`episode/<key>` (E,) of what is told of each, and `episode_step` (E,); E may be 0."""
        episodes: list[dict[str, float]] = self._algorithm.ep_info_buffer
        steps = np.searchsorted(self._before, np.arange(len(episodes)), side="right") - 1
        told = {f"episode/{k}": np.array([e[k] for e in episodes]) for k in (episodes[0] if episodes else ())}
        return told | {"episode_step": steps}

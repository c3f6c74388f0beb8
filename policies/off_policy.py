"""SAC and TQC in the place of PPO: few simulations, many updates, a replay buffer.

Stable-Baselines3's SAC and sb3-contrib's TQC, on the vectors of policies/context_env.py. Their actor is the network of
the exported policy with a second head for the noise; its deterministic action is tanh of the mean, as everywhere here.
The statistics that scale inputs are those of the first random steps and then rest: a buffer outlives what it was scaled
by. Each checkpoint writes what its segment has added to the buffer, so that resuming is exact and cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from sb3_contrib import TQC
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3 import SAC
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import RolloutReturn
from stable_baselines3.common.utils import ConstantSchedule
from stable_baselines3.sac.policies import SACPolicy
from torch import Tensor, nn

from policies import optimizers
from policies.context_env import ContextVecEnv
from policies.features import Plain
from policies.layers import copy_layers
from policies.network import ACTIVATIONS, NetworkConfig
from policies.policy import Policy
from robot.config import ConfigError

BUFFERED = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


@dataclass(frozen=True, kw_only=True, slots=True)
class OffPolicyConfig:
    """configs/recipe/<name>.yaml: how a policy is trained with SAC or TQC."""

    algorithm: Literal["sac", "tqc"]
    env_steps: int = 60_000
    """Control steps over all simulations; rounded up to whole segments."""
    num_envs: int = 16
    rollout_steps: int = 4
    """Steps of each simulation between two updates."""
    episode_s: float = 0.0
    """Length of a training episode [s]; 0: the task's explore_s."""
    gradient_steps: int = 16
    """Of each update."""
    segment_rollouts: int = 100
    """Updates between two checkpoints; at each the environments start anew, which makes resuming exact."""
    batch: int = 256
    buffer: int = 200_000
    """Transitions that are remembered; in memory, and on disk beside the checkpoints."""
    learning_starts: int = 2_000
    """Random steps before the first update."""
    learning_rate: float = 1e-3
    learning_rate_end: float = 1e-3
    """Reached linearly over the whole training."""
    gamma: float = 0.99
    tau: float = 0.005
    """Share of the target networks that is renewed in each gradient step."""
    asymmetric: bool = True
    """Whether the critics see the task's privileged signals, where it has any; the actor never does."""
    dropped_quantiles: int = 2
    """tqc: of the 25 quantiles of each critic, the highest that are left out of the target."""
    evaluate_segments: int = 3
    """Segments between two evaluations."""
    select: str = ""
    """Stress suite of configs/stress whose overall score ranks the checkpoints; empty: success under the own law."""

    def __post_init__(self) -> None:
        whole = ("env_steps", "num_envs", "rollout_steps", "gradient_steps", "segment_rollouts", "batch", "buffer")
        for name in (*whole, "evaluate_segments"):
            if getattr(self, name) < 1:
                raise ConfigError(f"recipe.{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("learning_rate", "learning_rate_end", "tau"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"recipe.{name} is {getattr(self, name)}; it must be above 0.")
        if self.buffer < self.segment_steps:
            raise ConfigError(
                f"recipe.buffer is {self.buffer}; it must hold the {self.segment_steps} transitions of a segment."
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


class _Halved:
    """The actor reads the first part of the observation, the critics all of it."""

    actor_size: int

    def make_actor(self, features_extractor: Any = None) -> Any:
        return super().make_actor(Plain(self.observation_space, self.actor_size))  # type: ignore[misc, attr-defined]


class HalvedSAC(_Halved, SACPolicy):
    def __init__(self, *args: Any, actor_size: int, **kwargs: Any) -> None:
        self.actor_size = actor_size
        super().__init__(*args, **kwargs)


class HalvedTQC(_Halved, TQCPolicy):
    def __init__(self, *args: Any, actor_size: int, **kwargs: Any) -> None:
        self.actor_size = actor_size
        super().__init__(*args, **kwargs)


class _Gathered:
    """Transitions may come from elsewhere."""

    gather: Callable[[Any], list[dict[str, float]]] | None = None
    """Adds to the buffer in the place of the environments, and tells of the episodes that ended
    (policies/gathering.py)."""

    def collect_rollouts(
        self, env: Any, callback: Any, train_freq: Any, replay_buffer: Any, *args: Any, **more: Any
    ) -> Any:
        """As Stable-Baselines3 does it, but for where transitions come from."""
        if self.gather is None:
            return super().collect_rollouts(env, callback, train_freq, replay_buffer, *args, **more)  # type: ignore[misc]
        self.ep_info_buffer.extend(self.gather(replay_buffer))  # type: ignore[attr-defined]
        steps = train_freq.frequency * env.num_envs
        self.num_timesteps: int = self.num_timesteps + steps
        return RolloutReturn(steps, 0, continue_training=True)


class GatheredSAC(_Gathered, SAC):
    """SAC whose transitions may come from groups."""


class GatheredTQC(_Gathered, TQC):
    """TQC whose transitions may come from groups."""


class OffPolicyLearner:
    """SAC or TQC as policies/train.py drives it."""

    def __init__(self, env: ContextVecEnv, network: NetworkConfig, config: OffPolicyConfig, seed: int) -> None:
        """ConfigError for what these algorithms do not know."""
        if env.trained or env.card.symmetry is not None or network.recurrent or env.advice_size:
            raise ConfigError(
                f"recipe.algorithm={config.algorithm} trains a plain actor on frozen encoders: encoders=finetuned, "
                "symmetry=, network.recurrent and a teacher's advice need recipe.algorithm=ppo."
            )
        self._config = config
        quantiles: dict[str, Any] = (
            {"top_quantiles_to_drop_per_net": config.dropped_quantiles} if config.algorithm == "tqc" else {}
        )
        kind, policy = (GatheredTQC, HalvedTQC) if config.algorithm == "tqc" else (GatheredSAC, HalvedSAC)
        self.algorithm: Any = kind(
            policy,  # type: ignore[arg-type]
            env,
            learning_rate=config.learning_rate,
            buffer_size=config.buffer,
            learning_starts=config.learning_starts,
            batch_size=config.batch,
            tau=config.tau,
            gamma=config.gamma,
            train_freq=(config.rollout_steps, "step"),
            gradient_steps=config.gradient_steps,
            policy_kwargs={
                "actor_size": env.actor_size,
                "net_arch": list(network.hidden),
                "activation_fn": ACTIVATIONS[network.activation],
                "optimizer_kwargs": {"fused": True},
            },
            seed=seed,
            device="cpu",
            verbose=0,
            **quantiles,
        )
        self.algorithm.set_logger(Logger(folder=None, output_formats=[]))

    def segment(self, done: int) -> None:
        """Learn for one segment, after `done` of them."""
        self.algorithm.lr_schedule = ConstantSchedule(self._config.learning_rate_at(done))
        self.algorithm.learn(self._config.segment_steps, log_interval=None, reset_num_timesteps=False)

    def _optimizers(self) -> dict[str, Any]:
        algorithm = self.algorithm
        named = {"actor": algorithm.actor.optimizer, "critic": algorithm.critic.optimizer}
        return named | {"entropy": algorithm.ent_coef_optimizer}

    def state(self) -> dict[str, Tensor]:
        """Weights, temperature and optimizers, for a checkpoint."""
        named = {f"learner/{k}": v for k, v in self.algorithm.policy.state_dict().items()}
        named["temperature"] = self.algorithm.log_ent_coef.detach()
        for name, optimizer in self._optimizers().items():
            named |= optimizers.read(f"optimizer.{name}", optimizer)
        return named

    def restore(self, named: Mapping[str, Tensor]) -> None:
        """Go on from a state()."""
        mine = {k.removeprefix("learner/"): v for k, v in named.items() if k.startswith("learner/")}
        self.algorithm.policy.load_state_dict(mine)
        with torch.no_grad():
            self.algorithm.log_ent_coef.copy_(named["temperature"])
        for name, optimizer in self._optimizers().items():
            optimizers.write(f"optimizer.{name}", optimizer, named)

    def newest(self) -> dict[str, npt.NDArray[Any]]:
        """What the last segment has added to the buffer, oldest first: name -> (steps, simulations, ...)."""
        buffer, steps = self.algorithm.replay_buffer, self._config.rollout_steps * self._config.segment_rollouts
        rows = (buffer.pos - steps + np.arange(steps)) % buffer.buffer_size
        return {name: getattr(buffer, name)[rows] for name in BUFFERED}

    @property
    def remembered(self) -> int:
        """Segments whose transitions the buffer may still hold."""
        return -(-self._config.buffer // self._config.segment_steps) + 1

    def remember(self, segment: int, rows: Mapping[str, npt.NDArray[Any]]) -> None:
        """Put back what newest() gave after that many segments; oldest first, they take their old places."""
        buffer, steps = self.algorithm.replay_buffer, len(rows["rewards"])
        end = segment * steps
        places = (end - steps + np.arange(steps)) % buffer.buffer_size
        for name in BUFFERED:
            getattr(buffer, name)[places] = rows[name]
        buffer.pos, buffer.full = end % buffer.buffer_size, end >= buffer.buffer_size

    def write_to(self, policy: Policy) -> None:
        """What was learned of the exported policy."""
        copy_layers(self._layers(), [m for m in policy.actor if isinstance(m, nn.Linear)])

    def _layers(self) -> list[nn.Linear]:
        actor = self.algorithm.actor
        return [*(m for m in actor.latent_pi if isinstance(m, nn.Linear)), actor.mu]

    def begin_from(self, source: Policy) -> None:
        """Take over the mean of a policy; ValueError when its network is another."""
        copy_layers([m for m in source.actor if isinstance(m, nn.Linear)], self._layers())

    def critic(self) -> dict[str, Tensor]:
        """Nothing: PPO's critic tells the value of a state, these that of an action."""
        return {}

    def take_critic(self, critic: Mapping[str, Tensor]) -> None:
        """Nothing to take over."""

"""Stable-Baselines3's PPO with this project's settings: a bounded mean, a floor under the noise, segments.

The actor here and `Policy.actor` are the same layers; policies/layers.py copies between them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import ConstantSchedule
from torch import Tensor, nn

from policies import optimizers
from policies.actor_critic import ADAM, BoundedActorCritic
from policies.average import Average
from policies.context_env import ContextVecEnv
from policies.encoders.physics import PhysicsEncoder
from policies.features import TrainedEncoders, extractor
from policies.housekeeping import Housekeeping, sync
from policies.layers import actor_layers, copy_layers, read_critic, write_actor, write_critic
from policies.network import ACTIVATIONS, NetworkConfig
from policies.on_policy import LeanPPO
from policies.policy import Policy
from policies.symmetry import Reflection, Symmetry
from robot.config import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """configs/recipe/<name>.yaml: how a policy is trained with PPO."""

    env_steps: int = 400_000
    """Control steps over all simulations; rounded up to whole segments."""
    num_envs: int = 64
    rollout_steps: int = 128
    """Steps of each simulation between two updates."""
    episode_s: float = 0.0
    """Length of a training episode [s], where a policy shall see what goes wrong late; 0: the task's explore_s."""
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
    average: float = 0.0
    """Decay, from rollout to rollout, of a running mean of the actor's weights, which then is what is ranked and kept;
    0: the weights themselves."""
    evaluate_segments: int = 3
    """Segments between two evaluations."""
    select: str = ""
    """Stress suite of configs/stress whose overall score ranks the checkpoints; empty: success under the own law."""
    hold_from: int = 0
    """Environment steps after which a hold (network.hold) takes part in training; the policies that are ranked have it
    from the beginning. First the network is to learn the way: where the best is to be had near the pose at once, it
    learns nothing else."""
    near_hold: float = 0.0
    """Share of the training's starts that lie in and about the hold's region, where the way has to lead."""
    hold_bonus: float = 0.0
    """Reward of a step in the middle of the hold's region, half of it at the edge, less and less beyond."""
    algorithm: Literal["ppo", "recurrent_ppo"] = "ppo"
    """recurrent_ppo: sb3-contrib's, for policies with network.recurrent."""
    asymmetric: bool = True
    """Whether the critic sees the task's privileged signals, where it has any; the actor never does."""
    encoder_rate: float = 0.1
    """Learning rate of encoders that are trained along, as a share of the policy's."""
    kl_weight: float = 0.0
    """Weight of the divergence from a teacher, with teacher= and start=: a student goes on by trial and error and stays
    near what it was taught."""

    def __post_init__(self) -> None:
        whole = ("env_steps", "num_envs", "rollout_steps", "segment_rollouts", "batch", "epochs", "evaluate_segments")
        for name in whole:
            if getattr(self, name) < 1:
                raise ConfigError(f"recipe.{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("learning_rate", "learning_rate_end", "std_start", "std_floor", "max_gradient", "encoder_rate"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"recipe.{name} is {getattr(self, name)}; it must be above 0.")
        if not 0.0 <= self.average < 1.0:
            raise ConfigError(f"recipe.average is {self.average}; it must be at least 0 and below 1.")
        if not 0.0 <= self.near_hold < 1.0 or self.hold_bonus < 0.0:
            raise ConfigError(
                f"recipe.near_hold is {self.near_hold} and recipe.hold_bonus {self.hold_bonus}; they are a share "
                "below 1 and a reward of at least 0."
            )
        for name in ("kl_weight", "episode_s"):
            if getattr(self, name) < 0.0:
                raise ConfigError(f"recipe.{name} is {getattr(self, name)}; it must be at least 0.")
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


def make_ppo(
    env: ContextVecEnv,
    network: NetworkConfig,
    config: TrainConfig,
    seed: int,
    encoder: PhysicsEncoder | None = None,
    augment: Symmetry | None = None,
) -> LeanPPO:
    """A fresh learner on the CPU, where networks of this size are fastest.

    `encoder` is trained where the environments are set up for that; with `augment` samples are mirrored.
    """
    hidden = list(network.hidden)
    features, arguments = extractor(env, encoder)
    learner = LeanPPO(
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
            "actor_size": env.actor_size,
            "symmetry": env.card.symmetry,
            "memory": network.memory,
            "encoder_rate": config.encoder_rate,
            "features_extractor_class": features,
            "features_extractor_kwargs": arguments,
            "net_arch": {"pi": hidden, "vf": hidden},
            "activation_fn": ACTIVATIONS[network.activation],
            "log_std_init": math.log(config.std_start),
            "optimizer_kwargs": dict(ADAM),
        },
        seed=seed,
        device="cpu",
        verbose=0,
    )
    learner.kl_weight = config.kl_weight if env.advice_size else 0.0
    learner.holds = env.holds
    if augment is not None:
        context = 0 if encoder is None else encoder.card.context
        parts = [augment.vector(context, network.memory)]
        parts += [augment.privileged] if env.privileged_size else []
        parts += [augment.action] if env.advice_size else []
        learner.augment(Reflection.join(parts), augment.action)
    quiet(learner)
    return learner


def quiet(learner: OnPolicyAlgorithm) -> None:
    """A logger that writes nothing: its own would leave a folder in /tmp at each call of learn()."""
    learner.set_logger(Logger(folder=None, output_formats=[]))


class PPOLearner:
    """PPO as policies/train.py drives it: a segment at a time, with all that is learned as named tensors."""

    def __init__(self, env: ContextVecEnv, config: TrainConfig, algorithm: OnPolicyAlgorithm) -> None:
        self.algorithm, self._env, self._config = algorithm, env, config
        self.average = Average(actor_layers(algorithm), config.average)
        if config.average and (env.trained or config.algorithm != "ppo"):
            raise ConfigError(
                "recipe.average needs recipe.algorithm=ppo and encoders=frozen: no mean of others is made."
            )
        env.hold_acts = config.hold_from == 0

    def segment(self, done: int) -> None:
        """Learn for one segment, after `done` of them."""
        algorithm, config = self.algorithm, self._config
        self._env.hold_acts = done * config.segment_steps >= config.hold_from
        algorithm.lr_schedule = ConstantSchedule(config.learning_rate_at(done))
        callback = Housekeeping(algorithm, self._env, config, done * config.segment_rollouts, self.average)
        algorithm.learn(config.segment_steps, callback=callback, log_interval=NEVER, reset_num_timesteps=False)
        self.average.update()
        sync(algorithm, self._env)

    def state(self) -> dict[str, Tensor]:
        """Weights and optimizer, for a checkpoint."""
        own = self.algorithm.policy.state_dict()  # in which the one features extractor has three names
        named = {f"learner/{k}": v for k, v in own.items() if not k.startswith(("pi_features", "vf_features"))}
        average = self.average.state() if self._config.average else {}
        return named | average | optimizers.read("optimizer", self.algorithm.policy.optimizer)

    def restore(self, named: Mapping[str, Tensor]) -> None:
        """Go on from a state()."""
        policy = self.algorithm.policy
        own = {k.removeprefix("learner/"): v for k, v in named.items() if k.startswith("learner/")}
        policy.load_state_dict(own, strict=False)
        if self._config.average:
            self.average.restore(named)
        else:
            self.average.begin()
        optimizers.write("optimizer", policy.optimizer, named)

    def write_to(self, policy: Policy) -> None:
        """What was learned of the exported policy."""
        copy_layers(self.average.layers, [m for m in policy.actor if isinstance(m, nn.Linear)])
        extractor = self.algorithm.policy.features_extractor
        if isinstance(extractor, TrainedEncoders):
            if extractor.encoder is not None and policy.encoder is not None:
                policy.encoder.load_state_dict(extractor.encoder.state_dict())
            if extractor.sight is not None and policy.vision is not None:
                policy.vision.encoder.load_state_dict(extractor.sight.encoder.state_dict())

    def begin_from(self, source: Policy) -> None:
        """Take over the actor of a policy; ValueError when its network is another."""
        write_actor(self.algorithm, source.actor)
        self.average.begin()

    def critic(self) -> dict[str, Tensor]:
        """What further training needs beside the policy."""
        return read_critic(self.algorithm)

    def take_critic(self, critic: Mapping[str, Tensor]) -> None:
        """ValueError when it belongs to another network."""
        write_critic(self.algorithm, critic)


NEVER = 10**9
"""Calls between two lines of Stable-Baselines3's own log."""

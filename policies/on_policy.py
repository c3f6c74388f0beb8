"""Stable-Baselines3's PPO with its two inner loops written out for Gaussian actions and many simulations at once.

What is computed is SB3's PPO. What that spends in Python (a distribution object, a dozen conversions, an .item() or two
a step and a minibatch, a network call for each simulation whose time is up) is as much as small networks take
themselves; `terrafirma bench what=train` measures it. Here are also what SB3 has no place for: mirrored samples, a
learning rate of their own for trained encoders, and a pull towards a teacher.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from policies.actor_critic import BoundedActorCritic
from policies.actor_guard import ActorGuard
from policies.context_env import ADVICE
from policies.symmetry import Mirror, Reflection

LOG_2PI = math.log(2.0 * math.pi)
Tensors = Any
"""(n, size), or a dictionary of such where encoders are trained along."""


class LeanPPO(PPO):
    """PPO for BoundedActorCritic."""

    policy: BoundedActorCritic
    kl_weight = 0.0
    """Weight of the divergence from a teacher, whose advice stands in the observations."""
    holds = False
    """Whether observations end with a flag, 1 where a hold acted: of what was done there nothing is learned."""
    guard: ActorGuard | None = None
    """What keeps the actor near another that it was started from."""
    mirror: Mirror | None = None
    """Of observations; with it half of the samples of each minibatch are mirrored."""
    mirror_action: Mirror | None = None
    noise: torch.Generator | None = None
    """Of actions; the global one where there is none."""
    gather: Callable[[RolloutBuffer], list[dict[str, float]]] | None = None
    """Fills the buffer in the place of `env`, and tells of the episodes that ended (policies/gathering.py)."""

    def augment(self, observation: Reflection, action: Reflection) -> None:
        """Learn from the mirror image of every other sample."""
        self.mirror, self.mirror_action = Mirror(observation), Mirror(action)

    def _update_learning_rate(self, optimizers: Any) -> None:
        """Of trained encoders it is another, by their group's factor."""
        rate = self.lr_schedule(self._current_progress_remaining)
        for group in optimizers.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)

    @torch.no_grad()
    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Fill the buffer; the value of what comes after a time limit is added to the last reward."""
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        if self.gather is not None:  # the buffer is empty and will be full
            self.ep_info_buffer.extend(self.gather(rollout_buffer))  # type: ignore[union-attr]
            self.num_timesteps += n_rollout_steps * env.num_envs
            callback.on_rollout_end()
            return True
        for _ in range(n_rollout_steps):
            observed = self._last_obs
            assert observed is not None
            mean, log_std, values = self.policy.assess(_tensors(observed))
            noise = torch.randn(mean.shape, generator=self.noise)
            actions = (mean + log_std.exp() * noise).numpy()
            new, rewards, dones, infos = env.step(np.clip(actions, -1.0, 1.0))
            self.num_timesteps += env.num_envs
            if not callback.on_step():
                return False
            ended = np.flatnonzero(dones)
            self._update_info_buffer([infos[i] for i in ended])
            late = [i for i in ended if infos[i].get("TimeLimit.truncated")]
            if late:
                final = _stacked([infos[i]["terminal_observation"] for i in late])
                rewards[late] += self.gamma * self.policy.predict_values(_tensors(final)).numpy()[:, 0]
            log_prob = _log_density(noise, log_std)
            rollout_buffer.add(observed, actions, rewards, self._last_episode_starts, values, log_prob)  # type: ignore[arg-type]
            self._last_obs, self._last_episode_starts = new, dones  # type: ignore[assignment]
        last = self.policy.predict_values(_tensors(self._last_obs))
        rollout_buffer.compute_returns_and_advantage(last_values=last, dones=dones)
        callback.on_rollout_end()
        return True

    def train(self) -> None:
        """Update the policy with what the buffer holds."""
        policy, optimizer = self.policy, self.policy.optimizer
        policy.set_training_mode(True)
        self._update_learning_rate(optimizer)
        clip = self.clip_range(self._current_progress_remaining)  # type: ignore[operator]
        data, weights = _whole(self.rollout_buffer), list(policy.parameters())
        count = len(data["action"])
        told: list[Tensor] = []
        for _ in range(self.n_epochs):
            order = torch.randperm(count)
            for begin in range(0, count, self.batch_size):
                pick = order[begin : begin + self.batch_size]
                loss, row = self._loss(_at(data["observation"], pick), {k: data[k][pick] for k in SCALARS}, clip)
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(weights, self.max_grad_norm, foreach=True)
                optimizer.step()
                told.append(row)
        self._n_updates += self.n_epochs
        self._report(torch.stack(told))

    def _loss(self, observed: Tensors, row: dict[str, Tensor], clip: float) -> tuple[Tensor, Tensor]:
        """The loss of a minibatch, and what is told of it."""
        action, advantage = row["action"], row["advantage"]
        advice = self._advice(observed) if self.kl_weight else None
        if self.mirror is not None and self.mirror_action is not None:
            turned = torch.rand(len(action), 1) < 0.5
            observed = torch.where(turned, self.mirror(observed), observed)
            action = torch.where(turned, self.mirror_action(action), action)
            advice = None if advice is None else torch.where(turned, self.mirror_action(advice), advice)
        if len(advantage) > 1:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        mean, log_std, values = self.policy.assess(observed)
        log_ratio = _log_density((action - mean) * (-log_std).exp(), log_std) - row["log_prob"]
        free = torch.ones(len(action))
        if self.holds:
            free = 1.0 - observed[:, -1]
            log_ratio = log_ratio * free
        ratio = log_ratio.exp()
        gain = torch.min(advantage * ratio, advantage * ratio.clamp(1.0 - clip, 1.0 + clip)).mean()
        error = (row["return"] - values).square().mean()
        entropy = ((log_std.sum(dim=-1) + 0.5 * mean.shape[1] * (1.0 + LOG_2PI)) * free).mean()
        loss = -gain - self.ent_coef * entropy + self.vf_coef * error
        pull = torch.zeros(())
        if advice is not None:
            # of two Gaussians with the policy's own spread; a teacher has none that means anything
            pull = 0.5 * ((advice - mean) * (-log_std.detach()).exp()).square().sum(dim=1)
            pull = (pull * free).mean()
            loss = loss + self.kl_weight * pull
        if self.guard is not None:
            loss = loss + self.guard.term(observed, mean, log_std)
        with torch.no_grad():
            divergence = (ratio - 1.0 - log_ratio).mean()
            clipped = ((ratio - 1.0).abs() > clip).float().mean()
            told = torch.stack([-entropy, -gain, error, divergence, clipped, loss, pull])
        return loss, told

    def _advice(self, observed: Tensors) -> Tensor:
        if isinstance(observed, dict):
            advice: Tensor = observed[ADVICE]
            return advice
        size, end = self.action_space.shape[0], observed.shape[1] - self.holds  # type: ignore[index]
        tail: Tensor = observed[:, end - size : end]
        return tail

    def _report(self, told: Tensor) -> None:
        buffer = self.rollout_buffer
        names = ("entropy_loss", "policy_gradient_loss", "value_loss", "approx_kl", "clip_fraction", "loss")
        means = told.mean(dim=0).tolist()
        for name, value in zip(names, means, strict=False):
            self.logger.record(f"train/{name}", value)
        if self.kl_weight:
            self.logger.record("train/teacher_kl", means[-1])
        self.logger.record(
            "train/explained_variance", explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        )
        self.logger.record("train/std", float(self.policy.log_std.detach().exp().mean()))


SCALARS = ("action", "advantage", "return", "log_prob")


def _log_density(scaled: Tensor, log_std: Tensor) -> Tensor:
    """(B,) of a Gaussian at deviations (B, A) in units of its own."""
    return -0.5 * (scaled.square().sum(dim=1) + scaled.shape[1] * LOG_2PI) - log_std.sum(dim=-1)


def _whole(buffer: Any) -> dict[str, Any]:
    """All that a full buffer holds as tensors of steps x simulations rows; without a copy."""

    def flat(array: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).flatten(0, 1)

    observed = buffer.observations
    return {
        "observation": {k: flat(v) for k, v in observed.items()} if isinstance(observed, dict) else flat(observed),
        "action": flat(buffer.actions),
        "advantage": flat(buffer.advantages),
        "return": flat(buffer.returns),
        "log_prob": flat(buffer.log_probs),
    }


def _tensors(observed: Tensors) -> Tensors:
    if isinstance(observed, dict):
        return {k: torch.from_numpy(v) for k, v in observed.items()}
    return torch.from_numpy(observed)


def _stacked(rows: list[Any]) -> Any:
    if isinstance(rows[0], dict):
        return {k: np.stack([row[k] for row in rows]) for k in rows[0]}
    return np.stack(rows)


def _at(observed: Tensors, pick: Tensor) -> Tensors:
    return {k: v[pick] for k, v in observed.items()} if isinstance(observed, dict) else observed[pick]

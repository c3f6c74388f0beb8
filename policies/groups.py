"""Rollouts in groups: simulations cut into a fixed number of parts, each with its own actor and random streams.

A group acts by weights that it is sent and answers with arrays, so it may be in this process or in another one
(transfer/scale/rollouts.py): what comes out depends on how many groups there are, and not on where they are. Everything
that goes to a group for a rollout, its order, is named arrays: the actor-critic's weights, the scaling in force,
whether a hold acts, and how far a curriculum is. What comes back is the part of the rollout buffer that is the group's,
the episodes that ended, and what its rows add to the statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from policies.card import PolicyCard
from policies.context_env import ContextVecEnv
from policies.encoders.physics import PhysicsEncoder
from policies.ppo import TrainConfig, make_ppo
from policies.sight import PRIVILEGED
from policies.statistics import RunningStatistics

Arrays = dict[str, npt.NDArray[Any]]
BUFFERED = (
    "observations", "actions", "rewards", "returns", "advantages", "values", "log_probs", "episode_starts",
)  # fmt: skip
"""Of a rollout buffer: (steps, simulations, ...)."""
COUNTED = ("count", "sum", "squares")
"""Of running statistics: what rows add up in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupPlan:
    """What every group of a training is made from: settings and arrays, no module."""

    card: PolicyCard
    recipe: TrainConfig
    groups: int
    """How many there are; each has recipe.num_envs / groups simulations."""
    encoder: Arrays | None
    """Weights of the physics encoder, which stay as they are; its card is in `card`."""

    @property
    def size(self) -> int:
        """Simulations of one group."""
        return self.recipe.num_envs // self.groups


class Collector(Protocol):
    """Has all groups, wherever they are."""

    def begin(self, segment: int, stream: int) -> None:
        """Environments and random streams start anew, from the segment's own stream."""

    def collect(self, order: Arrays) -> list[Arrays]:
        """One rollout of every group, in the order of the groups, each with its `stamp`: segment, rollout, group."""

    def told(self) -> dict[str, Any]:
        """Keys of result.json: where the groups were, and what was lost on the way."""

    def close(self) -> None:
        """Let go of all groups; may be called twice."""


@dataclass(frozen=True, slots=True)
class Groups:
    """That a training is to run in groups."""

    count: int
    make: Callable[[GroupPlan], Collector]


class Group:
    """Some simulations, and a copy of the actor-critic that acts in them."""

    def __init__(self, plan: GroupPlan, make_env: Callable[[int], VecEnv]) -> None:
        """Its weights mean nothing before the first order."""
        venv, card, encoder = make_env(plan.size), plan.card, None
        if plan.encoder is not None:
            assert card.encoder is not None
            encoder = PhysicsEncoder(card.encoder)
            encoder.load_state_dict({k: torch.from_numpy(v) for k, v in plan.encoder.items()})
            encoder.eval()
        space = venv.observation_space
        told = dict(space.spaces) if isinstance(space, spaces.Dict) else {}
        critic = None
        if PRIVILEGED in told and not card.privileged:
            critic = RunningStatistics(int(np.prod(told[PRIVILEGED].shape or ())))
        self.env = ContextVecEnv(venv, card, RunningStatistics(card.shown), encoder, critic=critic)
        self.scales = scales_of(self.env)
        self._curriculum = venv.get_attr("curriculum", 0)[0] if venv.has_attr("curriculum") else None
        batch = min(plan.recipe.batch, plan.size * plan.recipe.rollout_steps)
        recipe = replace(plan.recipe, num_envs=plan.size, batch=batch)
        self._actor = make_ppo(self.env, card.network, recipe, 0)
        self._ended = _Ended(self._actor)
        self._fresh = True

    def begin(self, stream: int, index: int) -> None:
        """Start environments and noise anew, as group `index` in the segment of this stream."""
        environments, noise = np.random.SeedSequence([stream, index]).generate_state(2)
        self.env.seed(int(environments) % 2**31)
        self._actor.noise = torch.Generator().manual_seed(int(noise))
        self._fresh = True

    def collect(self, order: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """One rollout by the weights of an order, going on where the last one ended."""
        self._follow(order)
        actor = self._actor
        if self._fresh:
            actor._last_obs = self.env.reset()
            actor._last_episode_starts = np.ones(self.env.num_envs, dtype=bool)
            self._fresh = False
        self._ended.clear()
        actor.collect_rollouts(self.env, self._ended, actor.rollout_buffer, actor.n_steps)
        made = {name: getattr(actor.rollout_buffer, name) for name in BUFFERED} | self._ended.arrays()
        for name, statistics in self.scales.items():
            made |= {f"{name}/{key}": np.array(getattr(statistics, key)) for key in COUNTED}
        return made

    def _follow(self, order: Mapping[str, npt.NDArray[Any]]) -> None:
        with torch.no_grad():
            for name, weights in self._actor.policy.state_dict().items():
                weights.copy_(torch.from_numpy(np.array(order[f"policy/{name}"])))
        for name, statistics in self.scales.items():
            statistics.mean, statistics.deviation = order[f"{name}/mean"], order[f"{name}/deviation"]
            statistics.frozen = bool(order[f"{name}/frozen"])
            statistics.count, statistics.sum, statistics.squares = 0.0, statistics.sum * 0.0, statistics.squares * 0.0
        self.env.hold_acts = bool(order["hold_acts"])
        state = {k.removeprefix("curriculum/"): v for k, v in order.items() if k.startswith("curriculum/")}
        if self._curriculum is not None and state:
            self._curriculum.restore(state)


def scales_of(env: ContextVecEnv) -> dict[str, RunningStatistics]:
    """Name -> the statistics by which an environment scales, as checkpoints name them."""
    critic = {} if env.critic_statistics is None else {"privileged": env.critic_statistics}
    return {"statistics": env.statistics} | critic


class _Ended(BaseCallback):
    """Keeps what episodes ended in a rollout, and at which step."""

    def __init__(self, actor: Any) -> None:
        super().__init__()
        self._actor = actor
        self.init_callback(actor)

    def clear(self) -> None:
        self._actor.ep_info_buffer, self._actor.ep_success_buffer = [], []
        self._before: list[int] = []

    def _on_step(self) -> bool:
        self._before.append(len(self._actor.ep_info_buffer))
        return True

    def arrays(self) -> Arrays:
        """`episode/<key>` (E,) of what is told of each, and `episode_step` (E,); E may be 0."""
        episodes: list[dict[str, float]] = self._actor.ep_info_buffer
        steps = np.searchsorted(self._before, np.arange(len(episodes)), side="right") - 1
        told = {f"episode/{k}": np.array([e[k] for e in episodes]) for k in (episodes[0] if episodes else ())}
        return told | {"episode_step": steps}


class InProcess:
    """All groups in this process, one after the other: the reference for every other place."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups, self._segment, self._rollout = groups, 0, 0

    def begin(self, segment: int, stream: int) -> None:
        self._segment, self._rollout = segment, 0
        for index, group in enumerate(self._groups):
            group.begin(stream, index)

    def collect(self, order: Arrays) -> list[Arrays]:
        made = [g.collect(order) | stamp(self._segment, self._rollout, i) for i, g in enumerate(self._groups)]
        self._rollout += 1
        return made

    def told(self) -> dict[str, Any]:
        return {"engine": "local", "workers": 1}

    def close(self) -> None:
        for group in self._groups:
            group.env.close()


def stamp(segment: int, rollout: int, group: int) -> Arrays:
    """Which part of a training some arrays are."""
    return {"stamp": np.array([segment, rollout, group])}

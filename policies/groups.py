"""Rollouts in groups: simulations cut into a fixed number of parts, each with its own actor and random streams.

A group acts by weights that it is sent and answers with arrays, so it may be in this process or in another one
(transfer/scale/rollouts.py): what comes out depends on how many groups there are, and not on where they are. Everything
that goes to a group for a rollout, its order, is named arrays: the actor-critic's weights, the scaling in force,
whether a hold acts, and how far a curriculum is. What comes back is the part of the rollout buffer that is the group's,
the episodes that ended, and what its rows add to the statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from policies.card import PolicyCard
from policies.context_env import ContextVecEnv
from policies.encoders.physics import PhysicsEncoder
from policies.group_actors import Arrays, Ended, actor_of, write
from policies.learner import Recipe
from policies.sight import PRIVILEGED
from policies.statistics import RunningStatistics

COUNTED = ("count", "sum", "squares")
"""Of running statistics: what rows add up in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupPlan:
    """What every group of a training is made from: settings and arrays, no module."""

    card: PolicyCard
    recipe: Recipe
    groups: int
    """How many there are; each has recipe.num_envs / groups simulations."""
    lag: int
    """By how many orders a group is behind the learner's newest, once a segment is so old; 0: they wait for each other.
    Fixed, so that the result depends on no timing."""
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
        """The next rollout of every group, in the order of the groups, each with its `stamp`: segment, rollout, group.

        Rollout k goes by order max(k - lag, 0) of the segment, so that `lag` rollouts more are under way meanwhile.
        """

    def told(self) -> dict[str, Any]:
        """Keys of result.json: where the groups were, and what was lost on the way."""

    def close(self) -> None:
        """Let go of all groups; may be called twice."""


@dataclass(frozen=True, slots=True)
class Groups:
    """That a training is to run in groups."""

    count: int
    make: Callable[[GroupPlan], Collector]
    staleness: int = 0
    """Of the weights by which groups act where the algorithm bears it: the lag of off-policy trainings."""


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
        self._actor = actor_of(self.env, plan)
        self._ended = Ended(self._actor.algorithm)
        self._done, self._round = 0, plan.recipe.num_envs * plan.recipe.rollout_steps

    def begin(self, stream: int, index: int) -> None:
        """Start environments and noise anew, as group `index` in the segment of this stream."""
        environments, noise = np.random.SeedSequence([stream, index]).generate_state(2)
        self.env.seed(int(environments) % 2**31)
        self._actor.begin(int(noise))
        self._done = 0

    def collect(self, order: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """One rollout by the weights of an order, going on where the last one ended."""
        self._follow(order)
        algorithm = self._actor.algorithm
        if self._done == 0:
            algorithm._last_obs = self.env.reset()
            algorithm._last_episode_starts = np.ones(self.env.num_envs, dtype=bool)
        algorithm.num_timesteps = int(order["segment_began"]) + self._done * self._round
        self._done += 1
        self._ended.clear()
        made = self._actor.roll(self._ended) | self._ended.arrays()
        for name, statistics in self.scales.items():
            made |= {f"{name}/{key}": np.array(getattr(statistics, key)) for key in COUNTED}
        return made

    def _follow(self, order: Mapping[str, npt.NDArray[Any]]) -> None:
        write(self._actor.algorithm, order)
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


class InProcess:
    """All groups in this process, one after the other: the reference for every other place."""

    def __init__(self, groups: Sequence[Group], lag: int = 0) -> None:
        self._groups, self._lag, self._segment = groups, lag, 0
        self._orders: list[Arrays] = []

    def begin(self, segment: int, stream: int) -> None:
        self._segment, self._orders = segment, []
        for index, group in enumerate(self._groups):
            group.begin(stream, index)

    def collect(self, order: Arrays) -> list[Arrays]:
        # what is kept for later is not to change with the learner's weights
        self._orders.append({k: np.array(v) for k, v in order.items()} if self._lag else order)
        rollout = len(self._orders) - 1
        old = self._orders[max(rollout - self._lag, 0)]
        return [g.collect(old) | stamp(self._segment, rollout, i) for i, g in enumerate(self._groups)]

    def told(self) -> dict[str, Any]:
        return {"engine": "local", "workers": 1}

    def close(self) -> None:
        for group in self._groups:
            group.env.close()


def stamp(segment: int, rollout: int, group: int) -> Arrays:
    """Which part of a training some arrays are."""
    return {"stamp": np.array([segment, rollout, group])}

"""The learner's side of rollouts in groups: orders go out, parts come back, and each part is counted exactly once."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer, RolloutBuffer

from policies.card import PolicyCard
from policies.context_env import ContextVecEnv
from policies.given import Given
from policies.group_actors import REMEMBERED, ROLLED, Arrays, acting
from policies.groups import COUNTED, Collector, GroupPlan, Groups, scales_of
from policies.learner import Recipe
from policies.off_policy import OffPolicyConfig
from robot.config import ConfigError


class Ledger:
    """What was taken into a training: (segment, rollout, group), each once and in its turn."""

    def __init__(self, groups: int) -> None:
        self.taken: dict[tuple[int, int, int], int] = {}
        """Stamp -> environment steps."""
        self._groups, self._turn = groups, (0, 0)

    def turn(self, segment: int, rollout: int) -> None:
        """From now on parts of this rollout are due."""
        self._turn = (segment, rollout)

    def take(self, part: Arrays, group: int) -> None:
        """Enter a part; RuntimeError when it was entered before, or is not the one that is due."""
        found = tuple(int(x) for x in part["stamp"])
        if found != (*self._turn, group):
            raise RuntimeError(f"rollout part {found} came where {(*self._turn, group)} is due")
        if found in self.taken:
            raise RuntimeError(f"rollout part {found} came twice")
        self.taken[(found[0], found[1], found[2])] = int(part["rewards"].size)

    @property
    def env_steps(self) -> int:
        """Environment steps of all that was taken."""
        return sum(self.taken.values())


class Gathering:
    """Gives a learner its rollouts from groups."""

    def __init__(self, collector: Collector, groups: int, env: ContextVecEnv, algorithm: Any, curriculum: Any) -> None:
        self.collector, self.ledger = collector, Ledger(groups)
        self._env, self._algorithm, self._curriculum = env, algorithm, curriculum
        self._scales, self._segment, self._rollout, self._began = scales_of(env), 0, 0, 0
        algorithm.gather = self._gather

    def begin(self, segment: int, stream: int) -> None:
        """A new segment. The learner's own environments are not stepped, and need no reset."""
        self._segment, self._rollout, self._began = segment, 0, self._algorithm.num_timesteps
        self.collector.begin(segment, stream)
        space = self._algorithm.observation_space
        self._algorithm._last_obs = np.zeros((self._env.num_envs, *(space.shape or ())), np.float32)

    def order(self) -> Arrays:
        """What the groups act by."""
        made = {f"policy/{k}": v.numpy() for k, v in acting(self._algorithm).state_dict().items()}
        for name, statistics in self._scales.items():
            made |= {f"{name}/mean": statistics.mean, f"{name}/deviation": statistics.deviation}
            made[f"{name}/frozen"] = np.array(statistics.frozen)
        made["hold_acts"], made["segment_began"] = np.array(self._env.hold_acts), np.array(self._began)
        state = {} if self._curriculum is None else self._curriculum.state()
        return made | {f"curriculum/{k}": v for k, v in state.items()}

    def _gather(self, buffer: RolloutBuffer | ReplayBuffer) -> list[dict[str, float]]:
        """Add one rollout to the buffer; the episodes that ended in it, as they did."""
        self.ledger.turn(self._segment, self._rollout)
        parts = self.collector.collect(self.order())
        self._rollout += 1
        for group, part in enumerate(parts):
            self.ledger.take(part, group)
        steps = len(parts[0]["rewards"])
        places = (buffer.pos + np.arange(steps)) % buffer.buffer_size
        for name in ROLLED if isinstance(buffer, RolloutBuffer) else REMEMBERED:
            getattr(buffer, name)[places] = np.concatenate([part[name] for part in parts], axis=1)
        buffer.full |= buffer.pos + steps >= buffer.buffer_size
        buffer.pos = (buffer.pos + steps) % buffer.buffer_size
        for name, statistics in self._scales.items():
            for key in COUNTED if not statistics.frozen else ():
                for part in parts:  # in the order of the groups: sums of floats depend on it
                    setattr(statistics, key, getattr(statistics, key) + part[f"{name}/{key}"])
        if self._curriculum is not None:
            self._curriculum.advance(steps * self._env.num_envs)
        return _episodes(parts)

    def told(self) -> dict[str, Any]:
        """Keys of result.json."""
        counts = {"groups": self.ledger._groups, "parts": len(self.ledger.taken), "env_steps": self.ledger.env_steps}
        return self.collector.told() | counts


def _episodes(parts: list[Arrays]) -> list[dict[str, float]]:
    found = []
    for group, part in enumerate(parts):
        keys = [k for k in part if k.startswith("episode/")]
        for i, step in enumerate(part["episode_step"]):
            found.append((int(step), group, {k.removeprefix("episode/"): float(part[k][i]) for k in keys}))
    return [told for *_, told in sorted(found, key=lambda e: e[:2])]


def plan_of(groups: Groups, card: PolicyCard, recipe: Recipe, given: Given, curriculum: Any) -> GroupPlan:
    """What the groups of a training are made from; ConfigError for what cannot be cut into groups."""
    why = _unfit(groups.count, card, recipe, given, curriculum)
    if why:
        raise ConfigError(f"scale.groups={groups.count}: {why}; give scale=local scale.groups=0.")
    weights = None if given.encoder is None else {k: v.numpy() for k, v in given.encoder.state_dict().items()}
    lag = groups.staleness if isinstance(recipe, OffPolicyConfig) else 0
    return GroupPlan(card=card, recipe=recipe, groups=groups.count, lag=lag, encoder=weights)


def _unfit(count: int, card: PolicyCard, recipe: Recipe, given: Given, curriculum: Any) -> str:
    if recipe.algorithm == "recurrent_ppo":
        return "recipe.algorithm=recurrent_ppo has no rollouts in groups; ppo, sac and tqc have"
    if recipe.num_envs % count:
        return f"recipe.num_envs={recipe.num_envs} cannot be cut into as many equal parts"
    if given.encoders != "frozen":
        return f"encoders={given.encoders} trains encoders on whole histories and pictures, which stay in one process"
    if given.vision is not None or card.vision is not None:
        return "a policy that sees is trained in one process"
    if given.advise is not None:
        return "a teacher's advice is asked for in one process"
    if given.guard is not None and given.guard.method != "none":
        return f"guard={given.guard.method} is for one process"
    if curriculum is not None and curriculum.judges:
        return "a curriculum that judges episodes (adr, adversarial) has to see all of them as they end"
    return ""

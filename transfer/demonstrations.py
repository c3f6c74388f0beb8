"""Recorded episodes that reached a task's goal, as a policy can learn their actions from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policies.cloning import Demonstrations
from policies.encoders.windows import cut, join
from policies.policy import Policy
from robot.config import ConfigError
from robot.log import EpisodeLog, LogError
from sim.tasks import Task
from transfer.trials import success_of
from transfer.windows import trajectory


def demonstrations(logs: Sequence[EpisodeLog], policy: Policy, task: Task) -> Demonstrations | str:
    """What can be learned from the successful ones among the recordings; where there is none, why.

    As many steps are drawn of each episode as it has, with what the policy would have remembered at each.
    """
    if policy.recurrent is not None or policy.observation.cameras or policy.card.privileged:
        return "the policy has an LSTM, sees, or is a teacher; recordings do not tell what it would have been given"
    memory, history = policy.memory.steps, policy.observation.history
    parts = []
    for number, log in enumerate(logs):
        try:
            if not success_of(log, task, policy.spec):
                continue
            path = trajectory(log, policy.spec, policy.observation, policy.action, policy.control_period_s)
        except (ConfigError, LogError, KeyError) as error:
            return f"its recordings cannot be judged or read: {error}"
        part = cut(
            path.observation[None], path.action[None], path.start[None], history=max(memory, history, 1), horizon=1,
            count=len(path.start), rng=np.random.default_rng(number), group=number,
        )  # fmt: skip
        if len(part):
            parts.append(part)
    if not parts:
        return f"none of the {len(logs)} recordings is a successful episode of task '{task.name}' with its actions"
    steps, size = join(parts), len(parts[0].observation[0])
    inputs = {"observation": steps.observation}
    if history:
        inputs |= {"history": steps.history[:, -history:], "history_mask": steps.mask[:, -history:]}
    if memory:
        rows = np.concatenate([steps.mask[..., None], steps.history[..., :size]], axis=2)
        inputs["state_memory"] = rows[:, -memory:]
    return Demonstrations(inputs, np.clip(steps.action[:, 0], -1.0, 1.0), steps.group)

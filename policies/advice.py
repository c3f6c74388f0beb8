"""A teacher's advice along a rollout: what it would have done, for a student that learns on by trial and error near it.

Source: Schmitt et al., "Kickstarting deep reinforcement learning", arXiv 1803.03835 (the divergence as a loss).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from policies.card import PolicyCard
from policies.context_env import Advise, Inputs
from policies.policy import Policy
from robot.config import ConfigError


def advisor(teacher: Policy, card: PolicyCard) -> Advise:
    """Environment's inputs -> the teacher's actions; ConfigError where it cannot read a student's environment."""
    mine, theirs = card.observation, teacher.observation
    same = mine.features == theirs.features and mine.goal == theirs.goal and card.action == teacher.action
    if not same or abs(card.control_period_s - teacher.control_period_s) > 1e-9:
        raise ConfigError(
            f"recipe.kl_weight: the teacher of task '{teacher.task}' reads another observation, or acts otherwise, "
            f"than the student of task '{card.task}'; distil alone, with kl_weight 0."
        )
    if teacher.states or theirs.cameras or (teacher.encoder is not None and theirs.history != mine.history):
        raise ConfigError("recipe.kl_weight: the teacher must have no memory, no cameras, and the student's history.")

    def advise(inputs: Inputs) -> npt.NDArray[np.float32]:
        known: dict[str, npt.NDArray[Any]] = dict(inputs)
        return np.clip(teacher.act(known), -1.0, 1.0)

    return advise

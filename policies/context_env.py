"""What stands between the environment and a learner: what a Policy does before its actor, in numpy and once a step.

Where the encoders stay as they are while a policy is trained, context and sight are computed here, and the buffer holds
one short vector a step instead of histories and pictures:

    [what the actor reads | privileged signals, scaled | what a teacher advises | whether a hold acts]

Of these the actor sees the first part, the critic the first two. Where a hold acts, its action is taken in place of
the learner's. Where encoders are trained along the buffer has to
hold what they read: observations are then a dictionary, and policies/features.py does the reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from policies.encoders.physics import PhysicsEncoder
from policies.encoders.vision import VisionEncoder
from policies.hold import Hold
from policies.memory import Memory
from policies.sight import PRIVILEGED, SIGHT, Sight, shown
from policies.statistics import RunningStatistics
from robot.config import ConfigError

if TYPE_CHECKING:
    from policies.card import PolicyCard

Inputs = Mapping[str, npt.NDArray[Any]]
Advise = Callable[[Inputs], npt.NDArray[np.float32]]
"""A teacher: the environment's inputs -> the actions (n, A) that it would take."""
Observed = Any
"""(n, size), or a dictionary where encoders are trained along."""

MEMORY, ADVICE = "memory", "advice"
PARTS = ("observation", "history", "history_mask", SIGHT)
"""Inputs of the environment that trained encoders read; and pictures."""


class ContextVecEnv(VecEnvWrapper):
    """Observations become what the actor of a Policy of this card reads, and behind it what only the critic does.

    Pictures go through the vision encoder; where the environment gives `sight` instead, what an encoder would tell of
    them, that is taken.
    """

    def __init__(
        self,
        venv: VecEnv,
        card: PolicyCard,
        statistics: RunningStatistics,
        encoder: PhysicsEncoder | None = None,
        vision: VisionEncoder | None = None,
        *,
        critic: RunningStatistics | None = None,
        advise: Advise | None = None,
        trained: bool = False,
    ) -> None:
        """`statistics` are of what the card says is shown; `critic` of privileged signals, where a critic sees them.

        `trained`: encoders are trained along. ConfigError when pictures were to be read and are not.
        """
        self.statistics, self.critic_statistics, self._encoder = statistics, critic, encoder
        self.card, self._advise, self.trained = card, advise, trained
        self._memory = Memory(card.network.memory, card.shown)
        self.sight = None if vision is None else Sight(vision, card.network).eval()
        self._hold = None if card.hold is None else Hold(card.hold, card.layout().components)
        self.hold_acts = True
        """Whether the hold takes part; where it does not, it is only in the policy that is made of what is learned."""
        space = venv.observation_space
        self._given = dict(space.spaces) if isinstance(space, spaces.Dict) else {"observation": space}
        if SIGHT in self._given and card.network.sight == "features":
            raise ConfigError("network.sight=features: only rendered pictures have features; give rendered=true.")
        self.actor_size = card.vector
        self.privileged_size = 0 if critic is None else len(critic.mean)
        self.advice_size = 0 if advise is None else int(np.prod(venv.action_space.shape or ()))
        super().__init__(venv, observation_space=self._space())
        self._past = np.zeros((venv.num_envs, self._memory.steps, self._memory.width), np.float32)
        self._fed_back = np.zeros((venv.num_envs, *(venv.action_space.shape or ())), np.float32)
        self._held = np.zeros((venv.num_envs, 1), bool)

    def _space(self) -> spaces.Space[Any]:
        extra = {PRIVILEGED: self.privileged_size, ADVICE: self.advice_size}
        if not self.trained:
            return _box(self.actor_size + sum(extra.values()) + self.holds)
        parts = {k: v for k, v in self._given.items() if k in PARTS or k.startswith("image_")}
        parts |= {k: _box(n) for k, n in extra.items() if n}
        if self._memory.steps:
            parts[MEMORY] = _box(self._memory.steps, self._memory.width)
        return spaces.Dict(parts)

    def reset(self) -> Observed:
        self._past[:] = 0.0
        return self._convert(self.venv.reset())

    @property
    def holds(self) -> bool:
        """Whether the last component of a row tells that a hold acts, so that the action taken there says nothing."""
        return self._hold is not None

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Actions of the learner; where a hold acts, they do nothing."""
        self.venv.step_async(np.where(self._held, self._fed_back, actions) if self.holds else actions)

    def step_wait(self) -> tuple[Observed, npt.NDArray[Any], npt.NDArray[Any], list[dict[str, Any]]]:
        inputs, reward, done, infos = self.venv.step_wait()
        for i in np.flatnonzero(done):
            if "terminal_observation" in infos[i]:
                infos[i]["terminal_observation"] = self._terminal(infos[i]["terminal_observation"], i)
        self._past[done] = 0.0
        return self._convert(inputs), reward, done, infos

    def _terminal(self, inputs: Any, i: np.intp) -> Observed:
        """What belongs to the last moment of an episode; nobody asks for advice there."""
        batch = {k: v[None] for k, v in inputs.items()} if isinstance(inputs, dict) else {"observation": inputs[None]}
        row = self._shown(batch)
        past = self._past[i : i + 1].copy()  # which is emptied for the next episode
        made = self._observed(batch, row, past, None, self._feedback(row)[1])
        return {k: v[0] for k, v in made.items()} if isinstance(made, dict) else made[0]

    def _convert(self, inputs: Any) -> Observed:
        batch = inputs if isinstance(inputs, dict) else {"observation": inputs}
        row = self._shown(batch)
        self.statistics.add(row)
        if self.critic_statistics is not None:
            self.critic_statistics.add(batch[PRIVILEGED])
        advice = None if self._advise is None else self._advise(batch)
        self._fed_back, self._held = self._feedback(row)
        made = self._observed(batch, row, self._past, advice, self._held)
        if self._memory.steps:
            # not in place: where encoders are trained along, the observation holds the rows themselves
            self._past = np.concatenate([self._past[:, 1:], self._past[:, :1]], axis=1)
            self._past[:, -1, 0], self._past[:, -1, 1:] = 1.0, row
        return made

    def _shown(self, batch: Inputs) -> npt.NDArray[np.float32]:
        return shown(batch, self.sight, bool(self.card.privileged))

    def _feedback(self, row: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """What the hold would do (n, A), and whether (n, 1) it does."""
        if self._hold is None:
            return self._fed_back, np.zeros((len(row), 1), bool)
        with torch.no_grad():
            action, held = self._hold.feedback(torch.from_numpy(row))
        return action.numpy(), held.numpy() & self.hold_acts

    def commit(self) -> None:
        """Put the statistics of all that was seen in force."""
        self.statistics.commit()
        if self.critic_statistics is not None:
            self.critic_statistics.commit()

    def _observed(
        self,
        inputs: Inputs,
        row: npt.NDArray[np.float32],
        past: npt.NDArray[np.float32],
        advice: npt.NDArray[np.float32] | None,
        held: npt.NDArray[np.bool_],
    ) -> Observed:
        extra: dict[str, npt.NDArray[np.float32]] = {}
        if self.critic_statistics is not None:
            extra[PRIVILEGED] = self.critic_statistics.apply(inputs[PRIVILEGED])
        if self.advice_size:
            extra[ADVICE] = np.zeros((len(row), self.advice_size), np.float32) if advice is None else advice
        if not self.trained:
            flag = [held.astype(np.float32)] if self.holds else []
            return np.concatenate([self._vector(inputs, row, past), *extra.values(), *flag], axis=1)
        kept = {k: inputs[k] for k in self.observation_space.spaces if k in inputs and k != PRIVILEGED}  # type: ignore[attr-defined]
        return kept | extra | ({MEMORY: past} if self._memory.steps else {})

    def _vector(
        self, inputs: Inputs, row: npt.NDArray[np.float32], past: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        parts = [self.statistics.apply(row)]
        if self._encoder is not None:
            with torch.no_grad():
                history, mask = torch.from_numpy(inputs["history"]), torch.from_numpy(inputs["history_mask"])
                parts.append(self._encoder(history, mask).numpy())
        if self._memory.steps:
            real = past[:, :, :1]
            rows = np.concatenate([real, self.statistics.apply(past[:, :, 1:]) * real], axis=2)
            parts.append(rows.reshape(len(rows), -1))
        return np.concatenate(parts, axis=1)


def _box(*shape: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, shape, np.float32)

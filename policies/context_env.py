"""What stands between the environment and PPO: what a Policy does before its actor, in numpy and once a step.

The encoders are frozen while a policy is trained, so context and sight are computed here, and the rollout buffer holds
short vectors instead of histories and pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from policies.network import CLIP
from policies.sight import SIGHT, Sight, shown
from robot.config import ConfigError

if TYPE_CHECKING:
    from policies.policy import PolicyCard

Array = npt.NDArray[np.float64]
Inputs = Mapping[str, npt.NDArray[Any]]


class RunningStatistics:
    """Mean and deviation of all rows seen; what is in force changes only when commit() is called."""

    def __init__(self, size: int) -> None:
        self.count, self.sum, self.squares = 0.0, np.zeros(size), np.zeros(size)
        self.mean, self.deviation = np.zeros(size), np.ones(size)
        self.frozen = False

    def add(self, rows: npt.NDArray[np.floating[Any]]) -> None:
        """Count rows (n, size)."""
        if self.frozen:
            return
        wide = rows.astype(np.float64)
        self.count += len(rows)
        self.sum += wide.sum(axis=0)
        self.squares += np.square(wide).sum(axis=0)

    def commit(self) -> None:
        """Put what was counted in force; between two calls every row is scaled alike."""
        if self.frozen or not self.count:
            return
        self.mean = self.sum / self.count
        spread = np.sqrt(np.maximum(self.squares / self.count - np.square(self.mean), 0.0))
        self.deviation = np.where(spread > 1e-6, spread, 1.0)

    def freeze(self, mean: npt.ArrayLike, deviation: npt.ArrayLike) -> None:
        """Keep the statistics of the policy that training starts from."""
        self.mean, self.deviation = np.asarray(mean, dtype=np.float64), np.asarray(deviation, dtype=np.float64)
        self.frozen = True

    def apply(self, rows: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
        """Scaled rows, as policies.network.Scale does it."""
        return np.clip((rows - self.mean) / self.deviation, -CLIP, CLIP).astype(np.float32)


class ContextVecEnv(VecEnvWrapper):
    """Observations become one vector, which is what the actor of a Policy of this card reads.

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
    ) -> None:
        """`statistics` are of what the card says is shown. ConfigError when pictures were to be read and are not."""
        self.statistics, self._encoder = statistics, encoder
        self._memory = Memory(card.network.memory, card.shown)
        self._sight = None if vision is None else Sight(vision, card.network).eval()
        size = card.shown + (encoder.card.context if encoder is not None else 0) + self._memory.size
        size += card.hold is not None
        space = venv.observation_space
        if isinstance(space, spaces.Dict) and SIGHT in space.spaces and card.network.sight == "features":
            raise ConfigError("network.sight=features: only rendered pictures have features; give rendered=true.")
        super().__init__(venv, observation_space=spaces.Box(-np.inf, np.inf, (size,), np.float32))
        self._hold = None if card.hold is None else Hold(card.hold, card.layout().components)
        self._fed_back = np.zeros((venv.num_envs, card.layout().action_size), np.float32)
        self._held = np.zeros((venv.num_envs, 1), bool)
        self.hold_acts = True
        """Whether the hold takes part; where it does not, it is only in the policy that is made of what is learned."""
        self._past = np.zeros((venv.num_envs, self._memory.steps, self._memory.width), np.float32)

    def reset(self) -> npt.NDArray[np.float32]:
        self._past[:] = 0.0
        return self._convert(self.venv.reset())

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Actions of the network; where a hold acts, they do nothing."""
        self.venv.step_async(np.where(self._held, self._fed_back, actions))

    @property
    def holds(self) -> bool:
        """Whether the last component of a row tells that a hold acts, so that the action taken there says nothing."""
        return self._hold is not None

    def step_wait(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any], npt.NDArray[Any], list[dict[str, Any]]]:
        inputs, reward, done, infos = self.venv.step_wait()
        for i in np.flatnonzero(done):
            if "terminal_observation" in infos[i]:
                infos[i]["terminal_observation"] = self._terminal(infos[i]["terminal_observation"], i)
        self._past[done] = 0.0
        return self._convert(inputs), reward, done, infos

    def _terminal(self, inputs: Any, i: np.intp) -> npt.NDArray[np.float32]:
        batch = {k: v[None] for k, v in inputs.items()} if isinstance(inputs, dict) else {"observation": inputs[None]}
        return self._vector(batch, shown(batch, self._sight), self._past[i : i + 1])[0]

    def _convert(self, inputs: Any) -> npt.NDArray[np.float32]:
        batch = inputs if isinstance(inputs, dict) else {"observation": inputs}
        row = shown(batch, self._sight)
        self.statistics.add(row)
        if self._hold is not None:
            with torch.no_grad():
                action, held = self._hold.feedback(torch.from_numpy(row))
            self._fed_back, self._held = action.numpy(), held.numpy() & self.hold_acts
        vector = self._vector(batch, row, self._past)
        if self._memory.steps:
            self._past[:, :-1] = self._past[:, 1:]
            self._past[:, -1, 0], self._past[:, -1, 1:] = 1.0, row
        return vector

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
        if self._hold is not None:
            with torch.no_grad():
                held = self._hold.feedback(torch.from_numpy(row))[1].numpy() & self.hold_acts
                parts.append(held.astype(np.float32))
        return np.concatenate(parts, axis=1)

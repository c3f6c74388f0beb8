"""What stands between the environment and PPO: the observation is scaled and the context appended.

The encoder is frozen while a policy is trained, so the context is computed once a step here, and the rollout buffer
holds short vectors instead of histories.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from policies.encoders.physics import PhysicsEncoder
from policies.network import CLIP

Array = npt.NDArray[np.float64]


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
    """Observations become one vector: scaled observation, then the context."""

    def __init__(self, venv: VecEnv, encoder: PhysicsEncoder | None, statistics: RunningStatistics) -> None:
        size = len(statistics.mean) + (encoder.card.context if encoder is not None else 0)
        super().__init__(venv, observation_space=spaces.Box(-np.inf, np.inf, (size,), np.float32))
        self.encoder, self.statistics = encoder, statistics

    def reset(self) -> npt.NDArray[np.float32]:
        return self._convert(self.venv.reset())

    def step_wait(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any], npt.NDArray[Any], list[dict[str, Any]]]:
        inputs, reward, done, infos = self.venv.step_wait()
        for i in np.flatnonzero(done):
            if "terminal_observation" in infos[i]:
                infos[i]["terminal_observation"] = self._terminal(infos[i]["terminal_observation"])
        return self._convert(inputs), reward, done, infos

    def _terminal(self, inputs: Any) -> npt.NDArray[np.float32]:
        batch = {k: v[None] for k, v in inputs.items()} if isinstance(inputs, dict) else inputs[None]
        return self._vector(batch)[0]

    def _convert(self, inputs: Any) -> npt.NDArray[np.float32]:
        self.statistics.add(inputs["observation"] if isinstance(inputs, dict) else inputs)
        return self._vector(inputs)

    def _vector(self, inputs: Any) -> npt.NDArray[np.float32]:
        if self.encoder is None:
            return self.statistics.apply(inputs["observation"] if isinstance(inputs, dict) else inputs)
        with torch.no_grad():
            context = self.encoder(torch.from_numpy(inputs["history"]), torch.from_numpy(inputs["history_mask"]))
        return np.concatenate([self.statistics.apply(inputs["observation"]), context.numpy()], axis=1)

"""The Stable-Baselines3 face of BatchedEnv; apart, so that only those who train import SB3 and torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvObs, VecEnvStepReturn

from sim.faces import observed
from sim.vecenv import BatchedEnv


class SB3VecEnv(VecEnv):
    """SB3's vector interface, without a copy between it and the core.

    `infos` of simulations that ended have `terminal_observation`, `TimeLimit.truncated`, `is_success`, and
    `episode` with return `r` and length `l`.
    """

    def __init__(self, core: BatchedEnv) -> None:
        """`core` must restart by itself (autoreset)."""
        if not core.autoreset:
            raise ValueError("SB3VecEnv needs a core with autoreset=True")
        self.core = core
        self.render_mode = None
        self._actions = np.zeros((core.num_envs, core.observation.action_size))
        super().__init__(core.num_envs, core.observation_space, core.action_space)

    def reset(self) -> VecEnvObs:
        if self._seeds[0] is not None:
            self.core.seed(self._seeds[0])
        self._reset_seeds()
        self._reset_options()
        return observed(self.core, self.core.reset())

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        out = self.core.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if out.final_inputs is not None:
            for i in np.flatnonzero(out.done):
                final = {name: value[i] for name, value in out.final_inputs.items()}
                infos[i] = {
                    "terminal_observation": observed(self.core, final),
                    "TimeLimit.truncated": bool(out.truncated[i]),
                    "is_success": bool(out.success[i]),
                    "episode": {"r": float(out.episode_return[i]), "l": int(out.episode_steps[i])},
                }
        return observed(self.core, out.inputs), out.reward.astype(np.float32), out.done, infos

    def close(self) -> None:
        """Nothing to release."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        return [getattr(self if hasattr(self, attr_name) else self.core, attr_name)] * len(self._ids(indices))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        setattr(self.core, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Call a method of the core once; the answer stands for every simulation."""
        return [getattr(self.core, method_name)(*method_args, **kwargs)] * len(self._ids(indices))

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        return [False] * len(self._ids(indices))

    def get_images(self) -> Sequence[np.ndarray | None]:
        return [None] * self.num_envs

    def _ids(self, indices: VecEnvIndices) -> Sequence[int]:
        if indices is None:
            return range(self.num_envs)
        return list(indices) if isinstance(indices, Iterable) else [indices]

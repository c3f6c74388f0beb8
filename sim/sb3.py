"""The Stable-Baselines3 face of BatchedEnv.

SB3 and torch are imported when the first face is made, so that simulating needs neither.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sim.faces import Observed, observed
from sim.vecenv import BatchedEnv

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

Indices = int | Iterable[int] | None


def SB3VecEnv(core: BatchedEnv) -> VecEnv:
    """SB3's vector interface, without a copy between it and the core, which must restart by itself (autoreset).

    `infos` of simulations that ended have `terminal_observation`, `TimeLimit.truncated`, `is_success`, `episode` with
    return `r`, length `l`, and `term/<name>` with the sum of each reward term.
    """
    if not core.autoreset:
        raise ValueError("SB3VecEnv needs a core with autoreset=True")
    face: VecEnv = _face_class()(core)
    return face


@functools.cache
def _face_class() -> type:
    from stable_baselines3.common.vec_env import VecEnv

    def start(self: Any, core: BatchedEnv) -> None:
        self.core, self.render_mode, self._actions, self._seed = core, None, None, None
        VecEnv.__init__(self, core.num_envs, core.observation_space, core.action_space)

    return type("SB3VecEnv", (_Face, VecEnv), {"__init__": start})


class _Face:
    """What SB3's VecEnv leaves to its subclasses."""

    core: BatchedEnv
    _actions: npt.NDArray[np.float32]
    _seed: int | None

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Start all random streams anew at the next reset()."""
        self._seed = seed
        return [seed] * self.core.num_envs

    def reset(self) -> Observed:
        if self._seed is not None:
            self.core.seed(self._seed)
            self._seed = None
        return observed(self.core, self.core.reset())

    def step_async(self, actions: npt.NDArray[np.float32]) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[Observed, npt.NDArray[Any], npt.NDArray[Any], list[dict[str, Any]]]:
        out = self.core.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.core.num_envs)]
        if out.final_inputs is not None:
            for i in np.flatnonzero(out.done):
                final = {name: value[i] for name, value in out.final_inputs.items()}
                infos[i] = {
                    "terminal_observation": observed(self.core, final),
                    "TimeLimit.truncated": bool(out.truncated[i]),
                    "is_success": bool(out.success[i]),
                    "episode": {"r": float(out.episode_return[i]), "l": int(out.episode_steps[i])}
                    | {f"term/{name}": float(total[i]) for name, total in out.episode_terms.items()},
                }
        return observed(self.core, out.inputs), out.reward.astype(np.float32), out.done, infos

    def close(self) -> None:
        """Nothing to release."""

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        return [getattr(self if hasattr(self, attr_name) else self.core, attr_name)] * len(self._ids(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        setattr(self.core, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Indices = None, **kwargs: Any) -> list[Any]:
        """Call a method of the core once; the answer stands for every simulation."""
        return [getattr(self.core, method_name)(*method_args, **kwargs)] * len(self._ids(indices))

    def env_is_wrapped(self, wrapper_class: type, indices: Indices = None) -> list[bool]:
        return [False] * len(self._ids(indices))

    def get_images(self) -> Sequence[None]:
        return [None] * self.core.num_envs

    def _ids(self, indices: Indices) -> Sequence[int]:
        if indices is None:
            return range(self.core.num_envs)
        return list(indices) if isinstance(indices, Iterable) else [indices]

"""The gymnasium faces of BatchedEnv: a VectorEnv, and a single environment for `gym.make`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from sim import randomization as randomizations
from sim.model import RobotConfig, find_robot
from sim.randomization import NOMINAL, Randomization
from sim.tasks import Task, load_task
from sim.vecenv import BatchedEnv, Inputs, Starts

Observed = npt.NDArray[np.float32] | Inputs


def observed(core: BatchedEnv, inputs: Inputs) -> Observed:
    """The inputs in the shape of the observation space: an array, or with history or privileged signals the dict."""
    return inputs if len(inputs) > 1 else inputs["observation"]


class GymVectorEnv(VectorEnv[Any, Any, Any]):
    """Gymnasium's vector interface; ended simulations restart in the same step, `final_obs` keeps their last inputs."""

    def __init__(self, core: BatchedEnv) -> None:
        """`core` must restart by itself (autoreset)."""
        if not core.autoreset:
            raise ValueError("GymVectorEnv needs a core with autoreset=True")
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}
        self.core, self.num_envs = core, core.num_envs
        self.single_observation_space, self.single_action_space = core.observation_space, core.action_space
        self.observation_space = batch_space(core.observation_space, core.num_envs)
        self.action_space = batch_space(core.action_space, core.num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        """One seed starts all random streams of the batch; of a list the first is taken."""
        first = seed[0] if isinstance(seed, list) else seed
        if first is not None:
            self.core.seed(first)
        return observed(self.core, self.core.reset()), {}

    def step(
        self, actions: npt.NDArray[np.float32]
    ) -> tuple[Observed, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], dict[str, Any]]:
        out = self.core.step(actions)
        infos: dict[str, Any] = {}
        if out.final_inputs is not None:
            infos = {
                "final_obs": observed(self.core, out.final_inputs),
                "_final_obs": out.done,
                "final_info": {
                    "is_success": out.success,
                    "_is_success": out.done,
                    "reward_terms": out.episode_terms,
                    "_reward_terms": out.done,
                },
                "_final_info": out.done,
            }
        return observed(self.core, out.inputs), out.reward, out.terminated, out.truncated, infos


class SingleEnv(gym.Env[Any, Any]):
    """One simulation as a plain gymnasium environment; the caller resets it."""

    def __init__(
        self,
        task: str | Task,
        *,
        robot: RobotConfig | Path | str | None = None,
        randomization: Randomization | Path | str | None = None,
        history: int | None = None,
        start: Starts = "evaluate",
        render_mode: str | None = None,
    ) -> None:
        """`robot` may be a name or a YAML file, `randomization` a YAML file; default: the task's robot, nominal."""
        if render_mode is not None:
            raise ValueError(f"render_mode is {render_mode!r}; this environment renders nothing: leave it None")
        self.render_mode = None
        goal = task if isinstance(task, Task) else load_task(task)
        chosen = robot or goal.robot
        law = randomization if randomization is not None else NOMINAL
        self.core = BatchedEnv(
            goal,
            chosen if isinstance(chosen, RobotConfig) else find_robot(chosen),
            law if isinstance(law, Randomization) else randomizations.load(Path(law)),
            1,
            history=history,
            start=start,
            autoreset=False,
            nthread=1,
            seed=int(np.random.SeedSequence().generate_state(1)[0]),  # unseeded runs differ, as gymnasium's do
        )
        self.observation_space, self.action_space = self.core.observation_space, self.core.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.core.seed(seed)
        return self._one(self.core.reset()), {}

    def step(self, action: npt.NDArray[np.float32]) -> tuple[Observed, float, bool, bool, dict[str, Any]]:
        out = self.core.step(np.asarray(action)[None])
        info = {"is_success": bool(out.success[0])} if out.done[0] else {}
        return self._one(out.inputs), float(out.reward[0]), bool(out.terminated[0]), bool(out.truncated[0]), info

    def _one(self, inputs: Inputs) -> Observed:
        one = {name: value[0] for name, value in inputs.items()}
        return observed(self.core, one)

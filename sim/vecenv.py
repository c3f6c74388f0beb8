"""BatchedEnv: many simulations of one task, stepped together; the core under every environment face.

One Plant holds the physics; everything else is batched numpy. At each reset the parameters of the simulations
that restart are drawn anew, always from the nominal. The faces (gymnasium vector, gymnasium single, Stable-
Baselines3) are in sim/faces.py and sim/sb3.py and add no behaviour.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from robot.config import ConfigError
from robot.observation import Observation
from sim.model import Model, RobotConfig
from sim.plant import Plant
from sim.randomization import Randomization
from sim.sensor import JointSensors
from sim.tasks import Task

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.intp]
Inputs = dict[str, npt.NDArray[np.float32]]
Start = Literal["explore", "evaluate"]


@dataclass(frozen=True, slots=True)
class Step:
    """What one control step did to n simulations; arrays of shape (n,) and inputs of shape (n, ...)."""

    inputs: Inputs
    """The policy's next inputs; of a simulation that ended, those of its next episode (with autoreset)."""
    reward: Array
    terminated: Flags
    """Ended in failure: there is no state to bootstrap from."""
    truncated: Flags
    """Ended by the time limit: bootstrap from `final_inputs`."""
    final_inputs: Inputs | None
    """The inputs at the end of those that ended, in full batch shape; None when none did."""
    success: Flags
    """Of those that ended: whether the task was done. False elsewhere."""
    episode_return: Array
    """Sum of rewards of the episode so far, this step included."""
    episode_steps: npt.NDArray[np.int64]
    """Steps of the episode so far, this one included."""

    @property
    def done(self) -> Flags:
        return self.terminated | self.truncated


class BatchedEnv:
    """num_envs simulations of one task under one randomization; deterministic by seed at any thread count."""

    def __init__(
        self,
        task: Task,
        robot: RobotConfig,
        randomization: Randomization,
        num_envs: int,
        *,
        history: int | None = None,
        seed: int = 0,
        start: Start = "explore",
        autoreset: bool = True,
        stagger: bool = False,
        nthread: int = 0,
    ) -> None:
        """`history` overrides the task's; without `autoreset` ended simulations run on until reset() is called.

        `stagger` is for training: episodes last the task's `explore_s`, and the first ones are cut at random lengths,
        so that a batch of data holds every phase of an episode instead of one.
        ConfigError when task, robot and randomization do not belong together.
        """
        if task.robot != robot.spec.name:
            raise ConfigError(f"task '{task.name}' is for robot '{task.robot}'; it was given '{robot.spec.name}'.")
        self.task, self.robot, self.spec, self.num_envs = task, robot, robot.spec, num_envs
        self.start, self.autoreset, self.stagger, self.randomization = start, autoreset, stagger, randomization
        self._steps = task.explore_steps if stagger else task.steps
        self.model = Model(robot)
        randomization.check(self.model)
        config = task.observation if history is None else dataclasses.replace(task.observation, history=history)
        self.observation = Observation(self.spec, config, task.action, num_envs)
        self.plant = Plant(self.model, num_envs, period_s=task.control_period_s, nthread=nthread)
        self._sensors = JointSensors(self.spec, num_envs, self.plant.timestep)
        self._all = np.arange(num_envs, dtype=np.intp)
        self._speed_limit = np.array([j.velocity_limit for j in self.spec.joints])
        self._wanted = self.observation.signals
        self._signals: dict[str, Array] = {s: np.zeros((num_envs, len(self.spec.joints))) for s in self._wanted}
        self._effort = np.zeros((num_envs, len(self.spec.joints)))
        self._return, self._age = np.zeros(num_envs), np.zeros(num_envs, dtype=np.int64)
        self._held, self._length = np.zeros(num_envs, dtype=np.int64), np.full(num_envs, self._steps)
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Start every random stream anew, so that the next reset() begins the same run again."""
        starts, noise = np.random.SeedSequence(seed).spawn(2)
        # two streams: the noise along the way does not change which start states and parameters are drawn
        self._rng, self._noise_rng = np.random.default_rng(starts), np.random.default_rng(noise)
        self._drawn = False

    @property
    def parameters(self) -> tuple[tuple[str, ...], Array]:
        """Randomized targets and their values in force, (num_envs, n_targets): labels, never an input of a policy."""
        names = self.randomization.targets
        values = [self.plant.values[n] for n in names]
        return names, np.stack(values, axis=1) if names else np.zeros((self.num_envs, 0))

    def reset(self, ids: Ids | None = None) -> Inputs:
        """Begin a new episode in some simulations (default: all); returns the inputs of all."""
        self._restart(self._all if ids is None else np.asarray(ids, dtype=np.intp))
        if ids is None and self.stagger:
            self._length = self._rng.integers(1, self._steps, self.num_envs, endpoint=True)
        return self.observation.encode(self._signals)

    def step(self, action: npt.NDArray[np.floating[Any]]) -> Step:
        """Advance one control period under actions (num_envs, n_actions) in [-1, 1]."""
        effort = self.observation.decode(action)
        position, velocity = self._advance(effort)
        reward = self.task.reward(position, velocity, effort, self._effort)
        self._effort = effort
        self._age += 1
        self._return += reward
        self._held = (self._held + 1) * self.task.inside(position, velocity)
        # the runtime latches a fault above the velocity limit, so training ends there too
        too_fast = (np.abs(velocity) > self._speed_limit).any(axis=1)
        terminated = self.task.terminated(position, velocity) | too_fast
        truncated = (self._age >= self._length) & ~terminated
        done = terminated | truncated
        success = truncated & (self._held >= self.task.hold_samples)
        self._signals = self._read(slice(None))
        inputs, final = self.observation.encode(self._signals), None
        returns, steps = self._return.copy(), self._age.copy()
        if done.any():
            final = inputs
            if self.autoreset:
                inputs = self.reset(np.flatnonzero(done))
        return Step(inputs, reward, terminated, truncated, final, success, returns, steps)

    def _advance(self, effort: Array) -> tuple[Array, Array]:
        """One control period of physics, shown to the sensors; returns position and velocity, (n, n_joints)."""
        plant = self.plant
        trace = plant.step(effort, record=self._sensors.delayed)
        position, velocity = plant.position, plant.velocity
        if trace is None:
            self._sensors.push(_state(position, velocity, plant.effort))
        else:
            for j in range(plant.substeps):
                self._sensors.push(_state(trace[0][:, j], trace[1][:, j], plant.effort))
        return position, velocity

    def _read(self, ids: Ids | slice) -> dict[str, Array]:
        return self._sensors.read(self.plant.offset, self.plant.noise, self._noise_rng, self._wanted, ids)

    def _restart(self, ids: Ids) -> None:
        if not (self.randomization.fixed and self._drawn):
            self.plant.set(self.randomization.draw(self.model, self._rng, len(ids)), ids)
            self._drawn |= len(ids) == self.num_envs
        begin = self.task.explore if self.start == "explore" else self.task.start
        position, velocity = begin(self._rng, len(ids))
        self.plant.reset(position, velocity, ids)
        self.observation.reset(ids)
        self._sensors.reset(_state(position, velocity, self.plant.effort[ids]), ids)
        for name, value in self._read(ids).items():
            self._signals[name][ids] = value
        self._effort[ids] = 0.0
        self._return[ids], self._age[ids], self._held[ids], self._length[ids] = 0.0, 0, 0, self._steps

    @property
    def observation_space(self) -> spaces.Box | spaces.Dict:
        """Of one simulation: a Box of the observation, or with history a Dict of all inputs."""
        box = spaces.Box(-np.inf, np.inf, (self.observation.size,), np.float32)
        length = self.observation.config.history
        if not length:
            return box
        history = spaces.Box(-np.inf, np.inf, (length, self.observation.history_size), np.float32)
        mask = spaces.Box(0.0, 1.0, (length,), np.float32)
        return spaces.Dict({"observation": box, "history": history, "history_mask": mask})

    @property
    def action_space(self) -> spaces.Box:
        """Of one simulation: each output in [-1, 1]."""
        return spaces.Box(-1.0, 1.0, (self.observation.action_size,), np.float32)


def _state(position: Array, velocity: Array, effort: Array) -> dict[str, Array]:
    return {"joint.position": position, "joint.velocity": velocity, "joint.effort": effort}

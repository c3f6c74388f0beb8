"""BatchedEnv: many simulations of one task, stepped together; the core under every environment face.

One Plant holds the physics; everything else is batched numpy. At each reset the parameters of the simulations
that restart are drawn anew, always from the nominal. The faces (gymnasium vector, gymnasium single, Stable-
Baselines3) are in sim/faces.py and sim/sb3.py and add no behaviour.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from robot.config import ConfigError
from robot.observation import Observation
from robot.spec import RobotSpec
from sim import curriculum as curricula
from sim import drive
from sim.actuator import units_per_effort
from sim.costs import Costs
from sim.engine import Backend
from sim.frames import Frames
from sim.model import Model, RobotConfig
from sim.plant import Plant
from sim.randomization import Randomization
from sim.sensor import WIDTH, Sensors
from sim.sight import Sight, SightErrors
from sim.state import Start, State
from sim.tasks import Task

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.intp]
Inputs = dict[str, npt.NDArray[Any]]
"""Input of a policy -> (n, ...): float32, of images `image_<camera>` uint8."""
Starts = Literal["explore", "evaluate"]


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
    episode_terms: Mapping[str, Array]
    """Reward term -> its sum over the episode so far; empty while no simulation has ended."""

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
        start: Starts = "explore",
        autoreset: bool = True,
        stagger: bool = False,
        privileged: bool = False,
        redraw: bool = True,
        sight: SightErrors | None = None,
        nthread: int = 0,
        backend: Backend = "cpu",
    ) -> None:
        """`history` overrides the task's; without `autoreset` ended simulations run on until reset() is called.

        Without `redraw` a simulation keeps the parameters of its first episode.
        `stagger` is for training: episodes last the task's `explore_s`, and the first ones are cut at random lengths,
        so that a batch of data holds every phase of an episode instead of one. `privileged` adds the task's
        privileged signals to the inputs, under that name. `sight` gives, in place of pictures, what a vision encoder
        with these errors would tell of them. `backend` is where the physics runs; everything else is numpy.
        ConfigError when task, robot and randomization do not belong together.
        """
        check_fit(task, robot.spec)
        self.task, self.robot, self.spec, self.num_envs = task, robot, robot.spec, num_envs
        self.start, self.autoreset, self.stagger, self.randomization = start, autoreset, stagger, randomization
        self._steps = task.explore_steps if stagger else task.steps
        self.model = Model(drive.as_driven(robot, task.action))
        randomization.check(self.model)
        self.curriculum = curricula.of(randomization, num_envs, training=start == "explore")
        """Draws the parameters of each new episode, and is told how it ended."""
        config = task.observation if history is None else dataclasses.replace(task.observation, history=history)
        self.observation = Observation(self.spec, config, task.action, num_envs)
        self.plant = Plant(
            self.model, num_envs, period_s=task.control_period_s, nthread=nthread, fields=task.fields, backend=backend
        )
        self._sensors = Sensors(self.model, self.plant.outer, num_envs, self.plant.timestep)
        self._frames = (
            Frames(self.model, config.cameras, num_envs, task.control_period_s, nthread)
            if sight is None
            else Sight(self.model, sight, num_envs, task.control_period_s)
        )
        self._all = np.arange(num_envs, dtype=np.intp)
        self._units, self._redraw = units_per_effort(self.model), redraw and not randomization.fixed
        self._units[drive.idle(task.action, robot.spec)] = 0.0
        self._costs = Costs(task.costs, robot.spec, task.action)
        self._speed_limit = np.array([j.velocity_limit for j in self.spec.joints])
        self._wanted = tuple(s for s in self.observation.signals if s != "goal")
        self._privileged = privileged
        self.unstable = 0
        """Simulations that MuJoCo reported as unstable so far; each was ended alone, with reward 0."""
        self._state, self._signals = self._blank(config.goal)
        self._return, self._error, self._age = np.zeros(num_envs), np.zeros(num_envs), self._state.age
        self._terms: dict[str, Array] = {}
        self._held, self._length = np.zeros(num_envs, dtype=np.int64), np.full(num_envs, self._steps)
        self.seed(seed)

    def _blank(self, goal: tuple[str, ...]) -> tuple[State, dict[str, Array]]:
        n, joints, plant = self.num_envs, len(self.spec.joints), self.plant
        state = State(
            position=np.zeros((n, joints)),
            velocity=np.zeros((n, joints)),
            command=np.zeros((n, joints)),
            previous_command=np.zeros((n, joints)),
            action=np.zeros((n, self.observation.action_size)),
            previous_action=np.zeros((n, self.observation.action_size)),
            earlier_action=np.zeros((n, self.observation.action_size)),
            goal=np.zeros((n, len(goal))),
            effort=plant.effort,
            qpos=plant.qpos,
            qvel=plant.qvel,
            fields=plant.fields,
            fields_before={name: np.array(values) for name, values in plant.fields.items()},
            age=np.zeros(n, dtype=np.int64),
            model=self.model,
        )
        signals = {s: np.zeros((n, WIDTH.get(s, joints))) for s in self._wanted}
        return state, signals | {"goal": state.goal}

    def seed(self, seed: int) -> None:
        """Start every random stream anew, so that the next reset() begins the same run again."""
        starts, noise = np.random.SeedSequence(seed).spawn(2)
        # two streams: the noise along the way does not change which start states and parameters are drawn
        self._rng, self._noise_rng = np.random.default_rng(starts), np.random.default_rng(noise)
        self.plant.seed(seed)
        self._drawn = False

    @property
    def state(self) -> State:
        """What the task is shown: the simulator's truth, live."""
        return self._state

    @property
    def signals(self) -> Mapping[str, Array]:
        """What the sensors read now, as Observation.encode() takes it."""
        return self._signals

    @property
    def pictures(self) -> Inputs:
        """`image_<camera>` -> (num_envs, 3, h, w) uint8, as they are in the inputs now; or `sight`."""
        return self._frames.inputs

    @property
    def pictured(self) -> Mapping[str, Array]:
        """Camera -> (num_envs, nq) the states that its visible pictures show: labels, no input of a policy."""
        return self._frames.pictured

    @property
    def believed(self) -> npt.NDArray[np.float32]:
        """(num_envs, S) the state that an encoder without latency would tell now; only where `sight` was given."""
        assert isinstance(self._frames, Sight)
        return self._frames.believed

    @property
    def believed_privileged(self) -> npt.NDArray[np.float32]:
        """(num_envs, P) the privileged signals of the state as such an encoder would tell it."""
        state = self._state
        if isinstance(self._frames, Sight):
            state = dataclasses.replace(state, qpos=self._frames.believed_qpos(self.plant.qpos))
        return self.task.privileged(state).astype(np.float32)

    @property
    def parameters(self) -> tuple[tuple[str, ...], Array]:
        """Randomized targets and their values in force, (num_envs, n_targets): labels, never an input of a policy."""
        names = self.randomization.targets
        values = [self.plant.values[n] for n in names]
        return names, np.stack(values, axis=1) if names else np.zeros((self.num_envs, 0))

    def reset(self, ids: Ids | None = None, start: Start | None = None) -> Inputs:
        """Begin a new episode in some simulations (default: all); returns the inputs of all.

        `start` says where each of them begins, instead of a draw.
        """
        self._restart(self._all if ids is None else np.asarray(ids, dtype=np.intp), start)
        if ids is None and self.stagger:
            self._length = self._rng.integers(1, self._steps, self.num_envs, endpoint=True)
        return self._inputs()

    def step(self, action: npt.NDArray[np.floating[Any]]) -> Step:
        """Advance one control period under actions (num_envs, n_actions) in [-1, 1]."""
        state, task = self._state, self.task
        state.earlier_action = state.previous_action
        state.previous_command, state.previous_action = state.command, state.action
        state.command = self.observation.decode(action)
        state.action = self.observation.previous_action
        if task.keeps_before:
            for name, before in state.fields_before.items():
                before[...] = state.fields[name]
        self._advance(state.command)
        reward = self._reward()
        # the runtime latches a fault above the velocity limit, so training ends there too
        too_fast = (np.abs(state.velocity) > self._speed_limit).any(axis=1)
        terminated = task.terminated(state) | too_fast | self.plant.unstable
        truncated = (self._age >= self._length) & ~terminated
        done = terminated | truncated
        self.curriculum.advance(self.num_envs)
        success = truncated & (self._held >= task.hold_samples)
        success &= self._error <= task.error_limit * self._age
        self._read_all()
        inputs, final, terms = self._inputs(), None, {}
        returns, steps = self._return.copy(), self._age.copy()
        if done.any():
            final, terms = inputs, {name: total.copy() for name, total in self._terms.items()}
            ended = np.flatnonzero(done)
            self.curriculum.report(ended, returns[ended], success[ended])
            if self.autoreset:
                inputs = self.reset(ended)
        return Step(inputs, reward, terminated, truncated, final, success, returns, steps, terms)

    def _advance(self, command: Array) -> None:
        """One control period of physics, shown to the sensors and to the task's state."""
        plant, state = self.plant, self._state
        plant.step(command * self._units, record="truth" if self._sensors.delayed else False)
        state.position, state.velocity = plant.position, plant.velocity
        self._frames.push(plant.qpos)
        if self._sensors.delayed:
            for j in range(plant.substeps):
                self._sensors.push({signal: values[:, j] for signal, values in plant.trace.items()})
        else:
            self._sensors.push(plant.truth())

    def _reward(self) -> Array:
        """(n,) reward of the step; also counts age, return, terms, error, and steps inside the success region."""
        state, task, unstable = self._state, self.task, self.plant.unstable
        terms, reward = task.reward(state) | self._costs.terms(state), np.zeros(self.num_envs)
        if task.near is not None and task.near.bonus:
            terms["near_hold"] = task.near.reward(state)
        error, inside = task.error(state), task.inside(state)
        if unstable.any():  # MuJoCo has put the state back to its default: nothing about it was earned
            self.unstable += int(unstable.sum())
            terms = {name: np.where(unstable, 0.0, value) for name, value in terms.items()}
        for name, value in terms.items():
            reward += value
            if name not in self._terms:
                self._terms[name] = np.zeros(self.num_envs)
            self._terms[name] += value
        self._age += 1
        self._return += reward
        self._error += error
        self._held += 1
        self._held *= inside
        return reward

    def _inputs(self) -> Inputs:
        inputs: Inputs = dict(self.observation.encode(self._signals))
        self._frames.update(self._age, self.plant.outer, self._noise_rng)
        inputs |= self._frames.inputs
        if self._privileged:
            inputs["privileged"] = self.task.privileged(self._state).astype(np.float32)
        return inputs

    def _read_all(self) -> None:
        self._signals |= self._sensors.read(self._noise_rng, self._wanted, slice(None), self.task.control_period_s)

    def _restart(self, ids: Ids, start: Start | None = None) -> None:
        if self._redraw or not self._drawn:
            self.plant.set(self.curriculum.draw(self.model, self._rng, ids), ids)
            self._drawn |= len(ids) == self.num_envs
            self._sensors.refresh()
        state = self._state
        if start is None:
            start = (self.task.explore if self.start == "explore" else self.task.start)(self._rng, len(ids))
            if self.start == "explore" and self.task.near is not None:
                start = self.task.near.mix(start, self._rng)
        self.plant.reset(start.position, start.velocity, ids, start.poses, start.twists)
        self.observation.reset(ids)
        self._sensors.reset(self.plant.truth(ids), ids)
        for name, value in self._sensors.read(self._noise_rng, self._wanted, ids).items():
            self._signals[name][ids] = value
        if start.goal is not None:
            state.goal[ids] = start.goal
        state.position[ids], state.velocity[ids] = start.position, start.velocity
        state.command[ids], state.action[ids] = self.plant.rest_command(start.position), 0.0
        state.previous_action[ids] = 0.0
        self._return[ids], self._error[ids] = 0.0, 0.0
        self._age[ids], self._held[ids], self._length[ids] = 0, 0, self._steps
        self._frames.reset(self.plant.qpos[ids], ids)
        for total in self._terms.values():
            total[ids] = 0.0

    @property
    def observation_space(self) -> spaces.Box | spaces.Dict:
        """Of one simulation: a Box of the observation, or with history or privileged signals a Dict of all inputs."""
        box = spaces.Box(-np.inf, np.inf, (self.observation.size,), np.float32)
        length = self.observation.config.history
        parts: dict[str, spaces.Space[Any]] = {"observation": box}
        if length:
            parts["history"] = spaces.Box(-np.inf, np.inf, (length, self.observation.history_size), np.float32)
            parts["history_mask"] = spaces.Box(0.0, 1.0, (length,), np.float32)
        for name, seen in self._frames.inputs.items():
            low, high = (0, 255) if seen.dtype == np.uint8 else (-np.inf, np.inf)
            parts[name] = spaces.Box(low, high, seen.shape[1:], seen.dtype.type)
        if self._privileged:
            parts["privileged"] = spaces.Box(-np.inf, np.inf, (len(self.task.privileged_names),), np.float32)
        return spaces.Dict(parts) if len(parts) > 1 else box

    @property
    def action_space(self) -> spaces.Box:
        """Of one simulation: each output in [-1, 1]."""
        return spaces.Box(-1.0, 1.0, (self.observation.action_size,), np.float32)


def check_fit(task: Task, spec: RobotSpec) -> None:
    """ConfigError when a task is for another robot, or drives an actuator in a way that it does not understand."""
    if task.robot != spec.name:
        raise ConfigError(f"task '{task.name}' is for robot '{task.robot}'; it was given '{spec.name}'.")
    drive.check_action(task.action, spec, task.name)

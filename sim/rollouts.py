"""Rollouts of randomized robots under mixed excitation: what encoders are pretrained on.

Each simulation keeps one draw of the parameters for its whole rollout, so every window of it has one set of labels;
its episodes begin anew, each with an excitation of its own, wherever the task's training does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sim.model import RobotConfig, unit_of
from sim.randomization import Randomization
from sim.tasks import Task
from sim.vecenv import BatchedEnv, Inputs

Array = npt.NDArray[np.float64]
Act = Callable[[Inputs], npt.NDArray[np.floating]]
Watch = Callable[[BatchedEnv], npt.NDArray[np.floating]]

KINDS = ("ornstein_uhlenbeck", "chirp", "prbs", "pump", "quiet")
SHARES = (0.25, 0.2, 0.15, 0.35, 0.05)

LEAST_SHARE = 0.2
"""Of the highest speed, at which an episode's pump brakes at the earliest."""
EPISODE_S = 6.0
"""Mean time after which a simulation begins anew [s]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollouts:
    """n simulations over T control steps, as the policy would see them."""

    observation: npt.NDArray[np.float32]
    """(n, T, D)"""
    action: npt.NDArray[np.float32]
    """(n, T, A) in [-1, 1], what followed each observation."""
    start: npt.NDArray[np.bool_]
    """(n, T) where an episode begins."""
    parameters: Array
    """(n, P) the randomized targets, as labels() chooses them."""
    names: tuple[str, ...]
    units: tuple[str, ...]
    watched: npt.NDArray[np.float32] | None = None
    """(n, T, k) what `watch` told of the simulator's truth at each observation; None without it."""


class Excitation:
    """Actions that move the robots in many ways; each episode has its own kind, size and speed."""

    def __init__(
        self, n: int, width: int, period_s: float, rng: np.random.Generator, fast: npt.ArrayLike = np.inf
    ) -> None:
        """Joints faster than a share of `fast`, (width,) [rad/s], are braked where they would be pumped up.

        Each episode has its own share.
        """
        self._rng, self._period, self._limit = rng, period_s, np.asarray(fast)
        self.kind, self._t = np.zeros(n, dtype=np.intp), np.zeros((n, 1))
        self._size, self._state, self._low, self._high, self._phase, self._sweep_s, self._level = np.zeros(
            (7, n, width)
        )
        self._pull, self._hold_s, self._pump, self._share = np.zeros((4, n, 1))
        self.redraw(np.arange(n, dtype=np.intp))

    def redraw(self, ids: npt.NDArray[np.intp]) -> None:
        """Another excitation for some simulations."""
        rng, each, one = self._rng, (len(ids), self._size.shape[1]), (len(ids), 1)
        self.kind[ids], self._t[ids] = rng.choice(len(KINDS), len(ids), p=SHARES), 0.0
        self._size[ids] = np.exp(rng.uniform(np.log(0.1), 0.0, each))
        self._pull[ids] = self._period / np.exp(
            rng.uniform(np.log(0.05), np.log(0.8), one)
        )  # step over correlation time
        self._state[ids] = rng.standard_normal(each)
        self._low[ids] = rng.uniform(0.1, 0.5, each)  # chirp [Hz], swept up and down
        self._high[ids] = rng.uniform(1.0, 5.0, each)
        self._phase[ids] = rng.uniform(0.0, 2.0 * np.pi, each)
        self._sweep_s[ids] = rng.uniform(2.0, 6.0, each)
        self._hold_s[ids] = np.exp(rng.uniform(np.log(0.05), np.log(0.6), one))  # mean time between PRBS switches
        self._level[ids] = rng.choice([-1.0, 1.0], each)
        self._pump[ids] = rng.choice([-1.0, 1.0], one, p=[0.2, 0.8])
        self._share[ids] = rng.uniform(LEAST_SHARE, 1.0, one)

    def next(self, velocity: Array) -> Array:
        """(n, width) actions in [-1, 1] for the next control step; `velocity` (n, width) of the driven joints."""
        noise = self._rng.standard_normal(self._state.shape)
        self._state += -self._pull * self._state + np.sqrt(2.0 * self._pull) * noise
        place = 0.5 - 0.5 * np.cos(np.pi * self._t / self._sweep_s)
        self._phase += 2.0 * np.pi * self._period * (self._low + (self._high - self._low) * place)
        flip = self._rng.random(self._level.shape) < self._period / self._hold_s
        self._level = np.where(flip, -self._level, self._level)
        self._t += self._period
        # with the motion it pumps energy in, against it it brakes: weak motors get everywhere
        turn = self._rng.random(self._pump.shape) < self._period / np.where(self._pump > 0, 2.0, 0.5)
        self._pump = np.where(turn, -self._pump, self._pump)
        pump = (
            np.where(np.abs(velocity) > self._share * self._limit, -1.0, self._pump) * np.tanh(velocity / 0.2)
            + 0.2 * noise
        )
        made = np.stack([self._state, np.sin(self._phase), self._level, pump, 0.05 * noise])
        chosen = np.take_along_axis(made, self.kind[None, :, None], axis=0)[0]
        return np.clip(self._size * chosen, -1.0, 1.0)


def roll_out(
    task: Task,
    robot: RobotConfig,
    randomization: Randomization,
    *,
    simulations: int,
    seconds: float,
    seed: int,
    act: Act | None = None,
    act_share: float = 0.5,
    history: int = 0,
    watch: Watch | None = None,
    nthread: int = 0,
) -> Rollouts:
    """Roll out `simulations` randomized robots for `seconds` each, from the task's training starts.

    With `act` (inputs -> actions, reading `history` past steps) that share of the simulations runs it, with some
    excitation on top. `watch` (env -> (n, k)) is asked at each observation for what only the simulator knows.
    """
    steps = round(seconds / task.control_period_s)
    # episodes end where the robot fails or by chance, not where the task's time is up
    longer = replace(task, episode_s=seconds + task.control_period_s)
    if randomization.curriculum is not None:  # nothing is trained here that it could follow
        randomization = replace(randomization, curriculum=None)
    env = BatchedEnv(
        longer,
        robot,
        randomization,
        simulations,
        history=history,
        seed=seed,
        autoreset=False,
        redraw=False,
        nthread=nthread,
    )
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(3)[2])
    driven = [env.spec.joint_names.index(a.joint) for a in env.spec.actuators if a.name in task.action.actuators]
    fast = 0.4 * np.array([env.spec.joints[i].velocity_limit for i in driven])
    excitation = Excitation(simulations, len(driven), task.control_period_s, rng, fast)
    acting = np.arange(simulations) < round(act_share * simulations)
    observation = np.empty((simulations, steps, env.observation.size), np.float32)
    action = np.empty((simulations, steps, env.observation.action_size), np.float32)
    start = np.zeros((simulations, steps), dtype=bool)
    start[:, 0] = True
    inputs = env.reset()
    watched: list[npt.NDArray[np.floating]] = []
    for t in range(steps):
        command = excitation.next(env.plant.velocity[:, driven])
        if act is not None:
            command[acting] = np.clip(act(inputs) + 0.3 * command, -1.0, 1.0)[acting]
        observation[:, t], action[:, t] = inputs["observation"], command
        if watch is not None:
            watched.append(np.array(watch(env), dtype=np.float32))
        step = env.step(command)
        over = np.flatnonzero(step.terminated | (rng.random(simulations) < task.control_period_s / EPISODE_S))
        inputs = env.reset(over) if len(over) else step.inputs
        excitation.redraw(over)
        start[over, t + 1 : t + 2] = True
    names, parameters = labels(*env.parameters)
    return Rollouts(
        observation=observation,
        action=action,
        start=start,
        parameters=parameters,
        names=names,
        units=tuple(unit_of(n) for n in names),
        watched=np.stack(watched, axis=1) if watched else None,
    )


def labels(names: tuple[str, ...], values: Array) -> tuple[tuple[str, ...], Array]:
    """Of targets with their values (n, P), those that vary; of targets that vary as one, the first."""
    kept: list[int] = []
    shares = values / np.maximum(np.abs(values).max(axis=0, initial=0.0), 1e-300)
    for i in range(len(names)):
        tied = any(np.allclose(shares[:, i], shares[:, k], rtol=0.0, atol=1e-9) for k in kept)
        if len(values) == 1 or (np.ptp(values[:, i]) > 0.0 and not tied):
            kept.append(i)
    return tuple(names[i] for i in kept), values[:, kept]

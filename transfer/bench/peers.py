"""Other ways of simulating many environments, as contestants; each is a dependency of the benchmark alone.

To add one: a class with `play` and `close`, and a line in PEERS with the set-ups that are tried for it. A peer that
is not installed raises Unavailable with its pip line.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from sim.tasks.ant import ANT
from transfer.bench.measure import Make, Unavailable
from transfer.bench.ours import ACTIONS, random_actions

FEW = 27
"""Numbers of Ant-v5's observation that are never constant: positions and velocities, whatever touches the floor."""
CONTEXT = "forkserver"
"""How processes are started: a fork of a process with threads may hang."""


def require(module: str, pip: str) -> Any:
    """The module; Unavailable with the pip line where it is not installed."""
    try:
        return importlib.import_module(module)
    except (ImportError, FileNotFoundError) as error:  # EnvPool without its assets fails with the latter
        raise Unavailable(f"{module} cannot be imported ({error})", f"pip install {pip}") from error


def single(task: str) -> Any:
    """One environment, in this or in a worker process: gymnasium's Ant-v5, or a task's plain face."""
    if task == ANT.name:
        gym = require("gymnasium", "gymnasium[mujoco]")
        require("gymnasium.envs.mujoco.ant_v5", "'gymnasium[mujoco]'")
        return gym.make("Ant-v5", disable_env_checker=True)
    from sim.faces import SingleEnv

    return SingleEnv(task, start="explore")


class Gymnasium:
    """SyncVectorEnv or AsyncVectorEnv."""

    def __init__(self, task: str, simulations: int, kind: str, seed: int) -> None:
        from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

        self.simulations, self.setting = simulations, f"{simulations} environments"
        makers = [partial(single, task)] * simulations
        one = makers[0]()  # an environment that is not there shows here, not in a worker
        width = one.action_space.shape[0]
        one.close()
        self._env: Any = AsyncVectorEnv(makers, context=CONTEXT) if kind == "async" else SyncVectorEnv(makers)
        self._actions = random_actions(simulations, width, seed)
        self._env.reset(seed=seed)
        self._k = 0

    def play(self, steps: int) -> None:
        for _ in range(steps):
            self._env.step(self._actions[self._k % ACTIONS])
            self._k += 1

    def close(self) -> None:
        self._env.close()


class StableBaselines:
    """DummyVecEnv or SubprocVecEnv."""

    def __init__(self, task: str, simulations: int, kind: str, seed: int) -> None:
        vec_env = require("stable_baselines3.common.vec_env", "stable-baselines3")
        self.simulations, self.setting = simulations, f"{simulations} environments"
        makers = [partial(single, task)] * simulations
        makers[0]().close()
        self._env: Any = (
            vec_env.SubprocVecEnv(makers, start_method=CONTEXT) if kind == "subproc" else vec_env.DummyVecEnv(makers)
        )
        self._actions = random_actions(simulations, self._env.action_space.shape[0], seed)
        self._env.seed(seed)
        self._env.reset()
        self._k = 0

    def play(self, steps: int) -> None:
        for _ in range(steps):
            self._env.step(self._actions[self._k % ACTIONS])
            self._k += 1

    def close(self) -> None:
        self._env.close()


class EnvPool:
    """EnvPool's Ant-v5; with fewer in a batch than simulations it is asynchronous, the fastest come first.

    All it was sent in its turn it also answers in its turn: else its threads would work in those of the others.
    """

    def __init__(self, simulations: int, batch: int, threads: int, seed: int) -> None:
        """`simulations` must be a multiple of `batch`."""
        envpool = require("envpool", "envpool")
        self.turnover = simulations // batch
        self.simulations, self.setting = batch, f"{simulations} simulations, batches of {batch}, {threads} threads"
        self._env = envpool.make(
            "Ant-v5", env_type="gymnasium", num_envs=simulations, batch_size=batch, num_threads=threads, seed=seed
        )
        self._actions = random_actions(simulations, 8, seed).astype(np.float64)
        self._env.async_reset()
        self._idle = [self._receive()[1] for _ in range(simulations // batch)]
        self._k = 0
        seen = []
        for _ in range(20):
            self._send()
            observation, ids = self._receive()
            self._idle.append(ids)
            seen.append(observation)
        _check(self._env.spec.config, np.concatenate(seen))

    def play(self, steps: int) -> None:
        flying = min(steps, len(self._idle))
        for _ in range(flying):
            self._send()
        for k in range(steps):
            self._idle.append(self._receive()[1])
            if k + flying < steps:
                self._send()

    def _send(self) -> None:
        """Actions for the batch that has waited longest."""
        ids = self._idle.pop(0)
        self._env.send(self._actions[self._k % ACTIONS, ids], ids)
        self._k += 1

    def _receive(self) -> tuple[Any, Any]:
        """Observations and who they are of."""
        out = self._env.recv()
        return out[0], out[-1]["env_id"]

    def close(self) -> None:
        self._env.close()


def _check(config: Any, observations: Any) -> None:
    """Unavailable unless it simulates what the others do, and says so in its observations (envpool#312)."""
    moving = int((np.ptp(observations, axis=0) > 0.0).sum())
    if moving < FEW:
        raise Unavailable(
            f"with numpy {np.__version__} only {moving} of EnvPool's {observations.shape[1]} observations ever change",
            "use an EnvPool that knows this numpy: pip install -U envpool",
        )
    expected = {
        "frame_skip": 5,
        "post_constraint": True,
        "use_contact_force": True,
        "terminate_when_unhealthy": True,
        "max_episode_steps": 1000,
    }
    other = {k: getattr(config, k, None) for k, v in expected.items() if getattr(config, k, None) != v}
    if other or observations.shape[1] != len(ANT.privileged_names):
        raise Unavailable(f"EnvPool's Ant-v5 is another task: {other or observations.shape}", "pip install -U envpool")


def _gymnasium(kind: str, sizes: Sequence[int], task: str, seed: int) -> list[Make]:
    return [partial(Gymnasium, task, n, kind, seed) for n in sizes]


def _stable_baselines(kind: str, sizes: Sequence[int], task: str, seed: int) -> list[Make]:
    return [partial(StableBaselines, task, n, kind, seed) for n in sizes]


def _envpool(task: str, seed: int, cores: int, quick: bool) -> list[Make]:
    if task != ANT.name:
        raise Unavailable(f"EnvPool has no task like {task}", "measure it on tasks=[ant]")
    threads = (cores,) if quick else tuple(dict.fromkeys((max(1, cores - 1), cores, 2 * cores)))
    shapes = ((2 * cores, 2 * cores),) if quick else ((64, 64), (256, 256), (8 * cores, 2 * cores), (128, 64))
    return [partial(EnvPool, n, batch, k, seed) for k in threads for n, batch in shapes]


PEERS: dict[str, Callable[[str, int, int, bool], list[Make]]] = {
    "envpool": _envpool,
    "sync": lambda task, seed, cores, quick: _gymnasium("sync", (2,) if quick else (4, 16), task, seed),
    "async": lambda task, seed, cores, quick: _gymnasium(
        "async", (cores,) if quick else (cores, 4 * cores), task, seed
    ),
    "dummy": lambda task, seed, cores, quick: _stable_baselines("dummy", (2,) if quick else (4, 16), task, seed),
    "subproc": lambda task, seed, cores, quick: _stable_baselines(
        "subproc", (cores,) if quick else (cores, 4 * cores), task, seed
    ),
}
"""name -> (task, seed, cores, quick) -> the set-ups of which the fastest takes part."""

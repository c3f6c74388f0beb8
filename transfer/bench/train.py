"""`bench what=train`: where the wall time of a training goes, for our PPO and for Stable-Baselines3's as it stands.

Both learn the same task with the same network, one rollout and its update a round, in turns. The parts, which do not
overlap: `physics` (MuJoCo, with the way of commands to the motors), `environment` (observations, rewards, resets,
scaling), `network` (forward, backward, optimizer), `learner` (what is left: buffers, losses, conversions, calls).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from robot import config
from robot.result import Run
from sim import tasks
from sim.sb3 import SB3VecEnv
from sim.vecenv import BatchedEnv
from transfer.bench.measure import Array, row, spread
from transfer.bench.ours import Arena
from transfer.training import card_of

if TYPE_CHECKING:
    from transfer.stages.bench import Config

TASKS, QUICK_TASKS = ("pendulum_swingup", "quadruped_velocity"), ("pendulum_swingup",)
PARTS = ("physics", "environment", "network", "learner")
ROUNDS, QUICK_ROUNDS = 7, 5
OURS, PEER = "ours", "stable_baselines3"


class Stopwatch:
    """Seconds of each part, of which the innermost that is running counts."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._running = ["learner"]
        self._since = time.perf_counter()

    def _switch(self) -> None:
        now = time.perf_counter()
        self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def watched(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time counts for a part."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._switch()
            self._running.append(part)
            try:
                return function(*args, **kwargs)
            finally:
                self._switch()
                self._running.pop()

        return timed

    def lap(self) -> dict[str, float]:
        """Seconds since the last lap."""
        self._switch()
        told, self.seconds = self.seconds, dict.fromkeys(PARTS, 0.0)
        return told


class Training:
    """One learner on one task, a rollout and an update at a time."""

    def __init__(self, task: str, stock: bool, seed: int, quick: bool, num_envs: int = 0) -> None:
        """`num_envs` in place of the recipe's, where it is not 0."""
        import torch

        from policies.context_env import ContextVecEnv
        from policies.network import NetworkConfig
        from policies.ppo import PPOLearner, TrainConfig, make_ppo, quiet
        from policies.statistics import RunningStatistics

        torch.set_num_threads(1)
        arena = Arena.of(task)
        shipped = config.shipped()
        found = shipped / "network" / f"{task}.yaml"
        network = config.load(NetworkConfig, found if found.exists() else shipped / "network" / "default.yaml")
        recipe = replace(config.load(TrainConfig, shipped / "recipe" / f"{task}.yaml"), segment_rollouts=1)
        if quick:
            recipe = replace(recipe, num_envs=16, rollout_steps=16, batch=64, epochs=2)
        recipe = replace(recipe, num_envs=num_envs or recipe.num_envs)
        self.steps = recipe.segment_steps
        privileged = bool(arena.task.privileged_names)
        core = BatchedEnv(
            arena.task, arena.robot, arena.law, recipe.num_envs, seed=seed, stagger=True, privileged=privileged
        )
        card = card_of(arena.task, arena.robot, network)
        critic = RunningStatistics(len(arena.task.privileged_names)) if privileged else None
        env = ContextVecEnv(SB3VecEnv(core), card, RunningStatistics(card.shown), critic=critic)
        algorithm = make_ppo(env, network, recipe, seed)
        if stock:
            algorithm.__class__ = algorithm.__class__.__mro__[1]  # the same networks, buffer and settings, SB3's loops
            quiet(algorithm)
        self._learner, self._watch = PPOLearner(env, recipe, algorithm), Stopwatch()
        self._wire(core, env, algorithm)
        self._done = 0

    def _wire(self, core: BatchedEnv, env: Any, algorithm: Any) -> None:
        watch = self._watch.watched
        core.plant.step = watch("physics", core.plant.step)  # type: ignore[method-assign]
        env.step_wait, env.reset = watch("environment", env.step_wait), watch("environment", env.reset)
        policy = algorithm.policy
        for name in ("assess", "predict_values"):
            setattr(policy, name, watch("network", getattr(policy, name)))
        policy.optimizer.step = watch("network", policy.optimizer.step)

    def round(self) -> dict[str, float]:
        """Seconds of each part in one rollout and its update."""
        with _watched_backward(self._watch):
            self._watch.lap()
            self._learner.segment(self._done)
            self._done += 1
            return self._watch.lap()


@contextmanager
def _watched_backward(watch: Stopwatch) -> Iterator[None]:
    import torch

    plain = torch.Tensor.backward
    torch.Tensor.backward = watch.watched("network", plain)  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.backward = plain  # type: ignore[method-assign]


def measure(cfg: Config, run: Run) -> dict[str, Any]:
    """A row for each task, learner and part, as a share of the wall time, and the rate; `ratio` is of the rates."""
    known = tasks.names()
    rows: list[dict[str, Any]] = []
    ratios: dict[str, dict[str, dict[str, float]]] = {}
    for name in cfg.tasks or (QUICK_TASKS if cfg.quick else TASKS):
        if name not in known:
            raise config.ConfigError(f"tasks names '{name}'. {config.nearest(name, known)}")
        print(f"bench: {name}", file=sys.stderr, flush=True)
        trainings = {who: Training(name, who == PEER, cfg.seed, cfg.quick) for who in (OURS, PEER)}
        told: dict[str, list[dict[str, float]]] = {who: [] for who in trainings}
        for k in range(1 + (QUICK_ROUNDS if cfg.quick else ROUNDS)):
            for who in sorted(trainings, reverse=k % 2 == 1):
                lap = trainings[who].round()
                if k:  # the first warms up
                    told[who].append(lap)
        rates = {}
        for who, laps in told.items():
            total = np.array([sum(lap.values()) for lap in laps])
            rates[who] = trainings[who].steps / total
            rows.append(row(f"{name}/{who}/rate", "env steps/s", rates[who]))
            shares = {part: np.array([lap[part] for lap in laps]) / total for part in PARTS}
            rows += [row(f"{name}/{who}/{part}", "share of wall time", values) for part, values in shares.items()]
            useful: Array = shares["physics"] + shares["network"]
            rows.append(row(f"{name}/{who}/physics_and_network", "share of wall time", useful))
        ratios[name] = {PEER: spread(rates[OURS] / rates[PEER])}
    first = next(iter(ratios))
    for r in rows:
        value = f"{r['median']:.1%}" if r["unit"].startswith("share") else f"{r['median']:,.0f} {r['unit']}"
        print(f"{r['name']:60}{value:>20}")
    return {"rows": rows, "ratios": ratios, "ratio": {PEER: ratios[first][PEER]["median"]}}

"""What training is handed: environments, a policy card, and a score on seeds that nothing else uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sim.evaluate import Act, rollout_success
from sim.model import RobotConfig
from sim.randomization import Randomization
from sim.tasks import Task
from sim.vecenv import BatchedEnv

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

    from policies.network import NetworkConfig
    from policies.policy import Policy, PolicyCard

EVALUATION_SEED = 900_001
"""Start states and draws by which training picks its best policy; final figures use other seeds."""
ROBOTS, RECORDED = 16, 1000
"""Simulated robots whose inputs are recorded for golden vectors and the monitor, and rows that are kept."""


def card_of(task: Task, robot: RobotConfig, network: NetworkConfig) -> PolicyCard:
    """The card of a policy for a task; training adds the encoder's history."""
    from policies.policy import PolicyCard

    return PolicyCard(
        task=task.name,
        control_period_s=task.control_period_s,
        spec=robot.spec,
        observation=task.observation,
        action=task.action,
        network=network,
    )


def environments(
    task: Task, robot: RobotConfig, law: Randomization, history: int, seed: int
) -> Callable[[int], VecEnv]:
    """Number of simulations -> training environments whose parameters are drawn from `law`."""

    def make(num_envs: int) -> VecEnv:
        from sim.sb3 import SB3VecEnv

        return SB3VecEnv(BatchedEnv(task, robot, law, num_envs, history=history, seed=seed, stagger=True))

    return make


def scorer(
    task: Task, robot: RobotConfig, law: Randomization, n: int, seed: int = EVALUATION_SEED
) -> Callable[[Policy], tuple[float, float]]:
    """Policy -> success rate and mean return over `n` episodes from the task's evaluation starts."""

    def score(policy: Any) -> tuple[float, float]:
        stats = rollout_success(policy.act, task, robot, law, n, seed, history=policy.observation.history)
        return float(stats.success.mean()), float(stats.returns.mean())

    return score


def recorded_inputs(
    act: Act, task: Task, robot: RobotConfig, law: Randomization, history: int, seed: int
) -> dict[str, npt.NDArray[np.float32]]:
    """What a policy saw in simulation: `RECORDED` rows from all along the episodes of a few robots, by input name."""
    env = BatchedEnv(task, robot, law, ROBOTS, history=history, seed=seed, start="evaluate", autoreset=False)
    inputs, rows = env.reset(), []
    for _ in range(task.steps):
        rows.append({name: value.copy() for name, value in inputs.items()})
        inputs = env.step(act(inputs)).inputs
    together = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    count = len(together["observation"])
    kept = np.sort(np.random.default_rng(seed).permutation(count)[:RECORDED])
    return {name: value[kept] for name, value in together.items()}

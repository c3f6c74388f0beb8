"""What training is handed: environments, a policy card, and a score on seeds that nothing else uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sim.engine import Backend
from sim.evaluate import rollout_success
from sim.model import RobotConfig
from sim.randomization import Randomization
from sim.sight import SightErrors
from sim.tasks import Task
from sim.vecenv import BatchedEnv, Inputs
from transfer.shaping import as_made
from transfer.stress import OVERALL, Suite, plan, score
from transfer.subjects import subject_of_policy
from transfer.suites import arena_of

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

    from policies.network import NetworkConfig
    from policies.policy import Policy, PolicyCard

EVALUATION_SEED = 900_001
"""Start states and draws by which training picks its best policy; final figures use other seeds."""
ROBOTS, SEEN_ROBOTS, RECORDED = 16, 4, 1000
"""Simulated robots whose inputs are recorded for golden vectors and the monitor, fewer where each has to be drawn, and
rows that are kept."""


COUNTED = {False: {"quick": 8, "demo": 100, "full": 100}, True: {"quick": 2, "demo": 20, "full": 100}}
"""Whether a policy sees -> budget -> episodes of a stage's final figure: pictures have to be drawn."""
RANKED = {False: 64, True: 8}
"""Whether quick=true was given -> episodes by which a training's checkpoints are ranked."""


def card_of(task: Task, robot: RobotConfig, network: NetworkConfig) -> PolicyCard:
    """The card of a policy for a task; training adds the encoders and the history."""
    from policies.policy import PolicyCard

    observation = task.observation
    if network.features:
        observation = replace(observation, features=network.features)
    return PolicyCard(
        task=task.name,
        control_period_s=task.control_period_s,
        spec=robot.spec,
        observation=observation,
        action=task.action,
        network=network,
    )


def environments(
    task: Task,
    robot: RobotConfig,
    law: Randomization,
    history: int,
    seed: int,
    sight: SightErrors | None = None,
    privileged: bool = False,
    *,
    nthread: int = 0,
    backend: Backend = "cpu",
) -> Callable[[int], VecEnv]:
    """Number of simulations -> training environments whose parameters are drawn from `law`.

    With `sight` they draw no pictures, and tell what an encoder with these errors would; with `privileged` they tell
    what only critics and teachers may see.
    """

    def make(num_envs: int) -> VecEnv:
        from sim.sb3 import SB3VecEnv

        core = BatchedEnv(
            task,
            robot,
            law,
            num_envs,
            history=history,
            seed=seed,
            stagger=True,
            sight=sight,
            privileged=privileged,
            nthread=nthread,
            backend=backend,
        )
        return SB3VecEnv(core)

    return make


def scorer(
    task: Task,
    robot: RobotConfig,
    law: Randomization,
    n: int,
    seed: int = EVALUATION_SEED,
    sight: SightErrors | None = None,
) -> Callable[[Policy], tuple[float, float]]:
    """Policy -> success rate and mean return over `n` episodes from the task's evaluation starts."""

    def score(policy: Any) -> tuple[float, float]:
        told = bool(policy.card.privileged)
        made = as_made(task, policy)
        stats = rollout_success(policy.episode(), made, robot, law, n, seed, sight=sight, privileged=told)
        return float(stats.success.mean()), float(stats.returns.mean())

    return score


def stress_scorer(task: Task, suite: Suite, seed: int = EVALUATION_SEED) -> Callable[[Policy], tuple[float, float]]:
    """Policy -> overall score of a stress suite, and the mean return of its runs."""
    arena = arena_of(suite.arena, task)
    made = plan(suite, arena, seed)

    def rank(policy: Any) -> tuple[float, float]:
        outcome = arena.run(subject_of_policy(policy), made.runs)
        return float(score(made, outcome.success, suite.counted)[OVERALL]), float(outcome.returns.mean())

    return rank


class Recording:
    """A policy as a controller that keeps what it was given, its memory included: `RECORDED` rows from all along the
    episodes of its first robots."""

    def __init__(self, policy: Policy, steps: int, n: int, seed: int) -> None:
        """Of n robots in episodes of so many steps; sim.evaluate.rollout_success with whole=True gives all of them."""
        self._act, self._step = policy.episode(), 0
        self._robots = min(n, SEEN_ROBOTS if policy.observation.cameras else ROBOTS)
        self._kept = np.sort(np.random.default_rng(seed).permutation(self._robots * steps)[:RECORDED])
        self._rows: list[dict[str, npt.NDArray[Any]]] = []

    def __call__(self, inputs: Inputs) -> npt.NDArray[np.float32]:
        """Actions (n, A) in [-1, 1]."""
        action = self._act(inputs)
        mine = self._kept[self._kept // self._robots == self._step] % self._robots
        self._rows.append({name: value[mine] for name, value in self._act.inputs.items()})
        self._step += 1
        return action

    @property
    def inputs(self) -> dict[str, npt.NDArray[Any]]:
        """Input name -> (rows, ...)."""
        return {name: np.concatenate([row[name] for row in self._rows]) for name in self._rows[0]}


def recorded_inputs(
    policy: Policy, task: Task, robot: RobotConfig, law: Randomization, seed: int
) -> dict[str, npt.NDArray[Any]]:
    """What a policy was given in simulation, by input name, as Recording keeps it."""
    n = SEEN_ROBOTS if policy.observation.cameras else ROBOTS
    recording = Recording(policy, task.steps, n, seed)
    rollout_success(recording, as_made(task, policy), robot, law, n, seed, whole=True)
    return recording.inputs

"""Smaller or faster networks in a policy's place, and whether they may take it.

`int8` is the policy's own network with its large matrices in 8 bits (transfer/quantize.py). `student` is a smaller
network that was fitted to what the policy does in the states that come of the student's own actions and the policy's
(policies/distill.py). Each is measured beside the float32 network: bytes, time of one run (networks take turns), and
success, return and stress score in closed loop, on the same robots, starts and disturbances, so that the differences
are paired. One that is slower, gains nothing, or may be worse than the tolerance allows is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.distill import DistillConfig, distill
from policies.policy import Policy
from robot.config import ConfigError
from robot.result import mean_ci, wilson
from sim.arena import Arena, Subject
from sim.evaluate import EpisodeStats, rollout_success
from sim.model import RobotConfig
from sim.mujoco_arena import MujocoArena
from sim.randomization import Randomization
from sim.tasks import Task
from sim.vecenv import BatchedEnv
from transfer.export import controller_of, proved
from transfer.latency import figures, interleaved, ratio
from transfer.quantize import NothingToQuantize, to_int8
from transfer.stress import OVERALL, Plan, Suite, plan, score
from transfer.subjects import subject_of_network
from transfer.suites import arena_of

Inputs = Mapping[str, npt.NDArray[Any]]
FLOAT, INT8, STUDENT = "float32", "int8", "student"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tolerance:
    """By how much a variant may be worse than the float32 network: the far end of a 95 % interval must stay within."""

    success: float = 0.05
    """Share of episodes."""
    returns: float = 0.05
    """Share of the float32 network's mean return."""
    stress: float = 0.05
    """Of the overall score, which is a share of runs."""

    def __post_init__(self) -> None:
        for name in ("success", "returns", "stress"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"tolerance.{name} is {getattr(self, name)}; it is a share, 0 to 1.")


class NoVariant(Exception):
    """A variant cannot be made of this policy; the words say why."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network that may take the policy's place."""

    name: str
    policy: Policy
    """Whose outputs it stands for: the policy itself, or the student."""
    graph: bytes


def quantized(policy: Policy, graph: bytes, recorded: Inputs) -> Candidate:
    """The policy's network in int8, with the ranges of recorded inputs; NoVariant where nothing is large enough."""
    try:
        return Candidate(INT8, policy, to_int8(graph, {n: recorded[n] for n in policy.input_names}))
    except NothingToQuantize as error:
        raise NoVariant(str(error)) from error


def taught(
    policy: Policy,
    task: Task,
    robot: RobotConfig,
    law: Randomization,
    recorded: Inputs,
    *,
    hidden: tuple[int, ...],
    settings: DistillConfig,
    seed: int,
) -> Candidate:
    """A smaller network that does what the policy does; NoVariant for a policy that sees or remembers."""
    if policy.states or policy.observation.cameras:
        raise NoVariant("a policy with cameras or a memory teaches no student")
    env = BatchedEnv(task, robot, law, settings.num_envs, seed=seed)
    card = replace(policy.card, network=replace(policy.card.network, hidden=hidden))
    student = distill(env, policy, card, None, settings, seed=seed, encoder=policy.encoder).eval()
    graph, _ = proved(student, recorded, np.random.default_rng(seed))
    return Candidate(STUDENT, student, graph)


class Examination:
    """The float32 network's figures, and those of candidates beside it."""

    def __init__(
        self,
        policy: Policy,
        graph: bytes,
        recorded: Inputs,
        task: Task,
        robot: RobotConfig,
        law: Randomization,
        suite: Suite,
        n: int,
        seed: int,
    ) -> None:
        """`recorded` (rows, ...) are inputs to time the networks with; n episodes."""
        self.task, self.robot, self.law, self.n, self.seed = task, robot, law, n, seed
        self.base, self.recorded, self.suite = Candidate(FLOAT, policy, graph), recorded, suite
        self.arena: Arena = arena_of(suite.arena, task, law)
        varied = (law, self.arena.model) if isinstance(self.arena, MujocoArena) and not law.fixed else None
        self.plan: Plan = plan(suite, self.arena, seed, varied)
        self._stats, self._stress = self._loop(self.base)

    def _loop(self, candidate: Candidate) -> tuple[EpisodeStats, npt.NDArray[np.bool_]]:
        """Outcome of the episodes, and (runs,) success of the stress runs."""
        controller = controller_of(candidate.policy, candidate.graph)
        found = subject_of_network(controller, candidate.graph)
        subject = replace(found, task=candidate.policy.task)
        return self._episodes(subject), self.arena.run(subject, self.plan.runs).success

    def _episodes(self, subject: Subject) -> EpisodeStats:
        return rollout_success(subject.episode(), self.task, self.robot, self.law, self.n, self.seed)

    def float_row(self) -> dict[str, Any]:
        """The row of the float32 network itself."""
        times = interleaved({FLOAT: self.base.graph}, self.recorded)[FLOAT]
        return self._row(self.base, times, self._stats, self._stress) | {"accepted": True, "why": ""}

    def row(self, candidate: Candidate, tolerance: Tolerance) -> dict[str, Any]:
        """The row of a candidate, with its differences to the float32 network and the verdict."""
        times = interleaved({FLOAT: self.base.graph, candidate.name: candidate.graph}, self.recorded)
        stats, stress = self._loop(candidate)
        told = self._row(candidate, times[candidate.name], stats, stress) | {
            "latency_ratio": ratio(times[candidate.name], times[FLOAT]),
            "success_difference": mean_ci(stats.success.astype(float) - self._stats.success),
            "return_difference": mean_ci(stats.returns - self._stats.returns),
            "stress_difference": difference(self.plan, stress, self._stress),
        }
        base = {"bytes": len(self.base.graph), "return": float(self._stats.returns.mean())}
        why = faults(told, base, tolerance)
        return told | {"accepted": not why, "why": "; ".join(why)}

    def _row(
        self,
        candidate: Candidate,
        times: npt.NDArray[np.float64],
        stats: EpisodeStats,
        stress: npt.NDArray[np.bool_],
    ) -> dict[str, Any]:
        p50, p99, p999 = figures(times)
        return {
            "name": candidate.name,
            "bytes": len(candidate.graph),
            "latency_us_p50": p50,
            "latency_us_p99": p99,
            "latency_us_p999": p999,
            "return": mean_ci(stats.returns),
            "success": wilson(int(stats.success.sum()), self.n),
            "stress": score(self.plan, stress, self.suite.counted)["intervals"][OVERALL],
        }


def difference(made: Plan, variant: npt.NDArray[np.bool_], base: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Overall share of successful stress runs, variant minus base: the mean of the criteria's paired differences.

    The interval's half-width is made of the criteria's, which are independent: their squares add up.
    """
    change = variant.astype(float) - base
    criteria = np.array([row.criterion for row in made.rows])[made.row]
    parts = [mean_ci(change[criteria == c]) for c in dict.fromkeys(criteria)]
    mean = float(np.mean([p["mean"] for p in parts]))
    reach = math.sqrt(sum((p["ci95"][1] - p["mean"]) ** 2 for p in parts)) / len(parts)
    return {"mean": mean, "ci95": [mean - reach, mean + reach], "n": len(change)}


def faults(row: Mapping[str, Any], base: Mapping[str, Any], tolerance: Tolerance) -> list[str]:
    """Why a variant is refused, in words; empty when it may take the float32 network's place.

    `base`: bytes and mean return of the float32 network.
    """
    found, (low, high) = [], row["latency_ratio"]["ci95"]
    if low > 1.0:
        found.append(f"slower: a run takes {row['latency_ratio']['mean']:.2f} times as long [{low:.2f}, {high:.2f}]")
    if row["bytes"] >= base["bytes"] and high >= 1.0:
        found.append(f"neither smaller ({row['bytes']} bytes, float32 {base['bytes']}) nor faster")
    allowed = {
        "success": tolerance.success,
        "return": tolerance.returns * abs(base["return"]),
        "stress": tolerance.stress,
    }
    for name, least in allowed.items():
        change = row[f"{name}_difference"]
        mean, worst = change["mean"], -change["ci95"][0]
        if not worst <= least:
            found.append(f"{name} may be lower by {worst:.3g} (difference {mean:.3g}, allowed {least:.3g})")
    return found

"""How much a controller bears: a suite of perturbed runs, criterion by criterion, and the worst case of all:

    terrafirma stress policy=runs/train/policy task=pendubot_swingup
    terrafirma stress bundle=runs/export/bundle task=pendubot_swingup stress.min_overall=0.85 "stress.min={delay: 0.5}"
    terrafirma stress bundle=runs/export/bundle task=pendubot_swingup stress=default posterior=posterior.yaml
    terrafirma stress bundle=runs/export/bundle task=pendubot_swingup stress=mine.yaml search.runs=0
    terrafirma stress bundle=runs/export/bundle task=pendubot_swingup replay=runs/stress/worst.yaml
    terrafirma stress bundle=runs/export/bundle task=quadruped_velocity scale=ray   # by a cluster (docs/scale.md)

Reads   a policy or a bundle; a suite (configs/stress, or a YAML file of your own), by default that of the task; and
        what robots are drawn from: a posterior, or a prior (dr=NAME), for suites in MuJoCo.
Writes  result.json with the scores, heatmap.png, stress.html, and worst.yaml, the most harmful perturbation that was
        found, which replay= runs again.
Costs   the pendubot's suite of 344 runs a few seconds, its search half a minute; a quadruped's some minutes.
Refused (exit code 3), after everything was written, when a score is below stress.min_overall or stress.min.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from robot import config, files
from robot.config import ConfigError
from robot.result import Run
from sim.arena import Arena, Outcome, Subject
from sim.model import find_robot
from sim.mujoco_arena import MujocoArena, MujocoArenaConfig
from sim.published_arena import PublishedArena
from sim.randomization import Randomization
from sim.tasks import Task
from transfer.choices import TaskChoice, existing, parameters, same_task
from transfer.cli import Common, GateRefused
from transfer.scale.cluster import ScaleConfig
from transfer.scale.episodes import PIECE, InPieces, told
from transfer.scale.fan import at_hand
from transfer.stress import OVERALL, Plan, Suite, plan, refused, score
from transfer.subjects import subject_of
from transfer.suites import arena_of
from transfer.worst_case import SearchConfig, Space, WorstCase, search

VOLATILE = ("worst", "figures")


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    policy: Path | None = None
    bundle: Path | None = None
    task: TaskChoice
    stress: Suite
    posterior: Path | None = None
    dr: Randomization | None = None
    search: SearchConfig = field(default_factory=SearchConfig)
    replay: Path | None = None
    """A worst.yaml, which is run again instead of a suite."""
    piece: int = 0
    """Runs that are simulated as one batch; 0: all of them, and 64 with scale=ray. The result depends on it, not on
    who simulates."""
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    """Who simulates."""

    def __post_init__(self) -> None:
        if self.piece < 0:
            raise ConfigError(f"piece is {self.piece}; it must be at least 0, which is all runs in one batch.")


def run(cfg: Config, run: Run) -> dict[str, Any]:
    with at_hand(cfg.scale):
        return _stressed(cfg, run)


def _stressed(cfg: Config, run: Run) -> dict[str, Any]:
    task = cfg.task.load()
    subject, digest = subject_of(cfg.policy, cfg.bundle, task.name, run)
    if cfg.replay is not None:
        return replay(cfg, task, subject, run)
    suite = cfg.stress.shrunk() if cfg.quick else cfg.stress
    suite.check(task.name)
    law = law_of(cfg, task, run)
    arena = arena_of(suite.arena, task, law)
    made = plan(suite, arena, cfg.seed, (law, arena.model) if law and isinstance(arena, MujocoArena) else None)
    runner = in_pieces(cfg, arena, task, law)
    outcome = runner.run(subject, made.runs)
    keys = score(made, outcome.success, suite.counted)
    keys |= {"suite": suite.name, "runs": len(made.runs), "piece": piece_of(cfg), "policy_sha256": digest}
    keys["thresholds"] = {OVERALL: suite.min_overall, **suite.min}
    keys["refused"] = refused(suite, keys)
    found = worst_of(cfg, suite, arena, runner, subject, made, task)
    return keys | write(run.out, suite.name, keys, found, arena, subject)


def piece_of(cfg: Config) -> int:
    """Runs in a piece; 0: all."""
    return cfg.piece or (0 if cfg.scale.engine == "local" else PIECE)


def in_pieces(cfg: Config, arena: PublishedArena | MujocoArena, task: Task, law: Randomization | None) -> Arena:
    """The arena, its runs cut where they are to be."""
    piece = piece_of(cfg)
    if not piece:
        return arena
    shared = told(arena.config, task, find_robot(task.robot), law, cfg.policy, cfg.bundle)
    return InPieces(arena, piece, cfg.scale, shared)


def gate(cfg: Config, keys: dict[str, Any], path: Path) -> None:
    """GateRefused when a score is below its threshold."""
    if keys.get("refused"):
        raise GateRefused(f"stress: {'; '.join(keys['refused'])} ({path}).")


def law_of(cfg: Config, task: Task, run: Run) -> Randomization | None:
    """The posterior or prior whose targets are varied; None without one."""
    if cfg.posterior is None and cfg.dr is None:
        return None
    if not isinstance(cfg.stress.arena, MujocoArenaConfig):
        raise ConfigError(
            f"suite '{cfg.stress.name}' has its own parameters; with posterior= or dr= pass stress=default."
        )
    return parameters(find_robot(task.robot), cfg.posterior, cfg.dr, run)


def worst_of(
    cfg: Config,
    suite: Suite,
    arena: PublishedArena | MujocoArena,
    runner: Arena,
    subject: Subject,
    made: Plan,
    task: Task,
) -> tuple[WorstCase, Outcome, int] | None:
    """The worst case, its run with a trace, and how many runs the search took; None without a search.

    `runner` is the arena, with its runs in pieces perhaps.
    """
    settings = replace(cfg.search, runs=32, population=16) if cfg.quick and cfg.search.runs else cfg.search
    if not settings.runs:
        return None
    base = arena.base if isinstance(arena, MujocoArena) else {}
    space = Space(arena, made.rows, suite.pushes, base, cfg.seed)
    perturbation, size, _, runs = search(runner, subject, space, settings, np.random.default_rng(cfg.seed))
    outcome = arena.run(subject, [perturbation], trace=True)
    worst = WorstCase(
        task=task.name,
        suite=suite.name,
        robot=subject.spec.name,
        fingerprint=subject.spec.fingerprint(),
        arena=arena.config,
        perturbation=perturbation,
        size=size,
        success=bool(outcome.success[0]),
        returns=float(outcome.returns[0]),
        final=tuple(np.nan_to_num(outcome.final[0]).tolist()),
    )
    return worst, outcome, runs


def write(
    out: Path,
    suite: str,
    keys: dict[str, Any],
    found: tuple[WorstCase, Outcome, int] | None,
    arena: Arena,
    subject: Subject,
) -> dict[str, Any]:
    """Figures, the page and worst.yaml; the keys of result.json that tell of them."""
    from transfer.report.stress_figures import save_heat
    from transfer.report.stress_page import page

    save_heat(out / "heatmap.png", keys["rows"])
    told: dict[str, Any] = {"figures": [str(out / "heatmap.png"), str(out / "stress.html")]}
    worst, trace = None, None
    if found is not None:
        worst, outcome, runs = found
        trace = outcome.trace
        told["worst"] = str(worst.save(out / "worst.yaml"))
        told["worst_case"] = {"size": worst.size, "success": worst.success, "return": worst.returns, "runs": runs}
    joints = subject.spec.joint_names
    text = page(f"terrafirma: {suite}, {subject.task}", keys, worst, trace, tuple(arena.channels), joints)
    files.write_text(out / "stress.html", text)
    return told


def replay(cfg: Config, task: Task, subject: Subject, run: Run) -> dict[str, Any]:
    """Run a worst case again, alone, and say whether the same came of it."""
    from transfer.report.stress_page import page

    worst = config.load(WorstCase, run.input(existing(cfg.replay, "replay", "stress")))
    same_task(f"replay={cfg.replay}", worst.task, task.name)
    if worst.fingerprint != subject.spec.fingerprint():
        raise ConfigError(
            f"replay={cfg.replay}: it is of robot '{worst.robot}' with fingerprint {worst.fingerprint}; the controller "
            f"is for '{subject.spec.name}' with {subject.spec.fingerprint()}."
        )
    arena = arena_of(worst.arena, task)
    outcome = arena.run(subject, [worst.perturbation], trace=True)
    success, returns = bool(outcome.success[0]), float(outcome.returns[0])
    again = replace(worst, success=success, returns=returns, final=tuple(np.nan_to_num(outcome.final[0]).tolist()))
    assert outcome.trace is not None
    text = page(
        f"terrafirma: replay of {worst.suite}, {worst.task}", None, again, outcome.trace, tuple(arena.channels),
        subject.spec.joint_names,
    )  # fmt: skip
    files.write_text(run.out / "replay.html", text)
    recorded = {"success": worst.success, "return": worst.returns, "final": list(worst.final)}
    return {
        "success": success,
        "return": returns,
        "final": list(again.final),
        "size": worst.size,
        "recorded": recorded,
        "same": again == worst,
        "figures": [str(run.out / "replay.html")],
    }

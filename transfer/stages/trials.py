"""Many episodes of a controller bundle on a robot, through the onboard loop:

    terrafirma trials bundle=runs/export/bundle driver=surrogate task=pendulum_swingup n=100

Reads   a bundle; opens the driver once an episode.
Writes  result.json with the success rate, and with keep=true every episode as an MCAP log.
Costs   about 0.3 s an episode on a simulated driver, more than ten shared by the cores; real time on a robot.
Success is scored from what the robot itself recorded.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from robot.config import ConfigError
from robot.result import Run, wilson
from transfer.choices import TaskChoice, existing
from transfer.cli import Common
from transfer.trials import Outcome, Trial, run_trials

SHARE = 10
"""Episodes on a simulated driver that take as long as a process of its own takes to start."""


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    bundle: Path | None = None
    task: TaskChoice
    driver: str = "sim"
    posterior: Path | None = None
    """What a simulated driver draws its robots from."""
    truth: int | str | None = None
    """Which of the surrogate robots; default: the demo's."""
    n: int = 100
    keep: bool = False
    """Whether the episodes' logs are kept."""


def run(cfg: Config, run: Run) -> dict[str, Any]:
    bundle = run.input(existing(cfg.bundle, "bundle", "export"))
    if cfg.n < 1:
        raise ConfigError(f"n={cfg.n}: at least one episode is needed.")
    n = min(cfg.n, 6) if cfg.quick else cfg.n
    posterior = run.input(cfg.posterior) if cfg.posterior else None
    trials = [
        Trial(
            bundle=bundle,
            driver=cfg.driver,
            task=cfg.task.name,
            seed=cfg.seed * 100_000 + i,
            posterior=posterior,
            truth=cfg.truth,
            log=run.out / f"{i:03d}.mcap" if cfg.keep else None,
        )
        for i in range(n)
    ]
    workers = min(os.cpu_count() or 1, -(-n // SHARE)) if cfg.driver in ("sim", "surrogate") else 1
    outcomes = run_trials(trials) if workers == 1 else _side_by_side(trials, workers)
    faults = sum(bool(o.fault) for o in outcomes)
    return {"success": wilson(sum(o.success for o in outcomes), n), "faults": faults, "driver": cfg.driver}


def _side_by_side(trials: list[Trial], workers: int) -> list[Outcome]:
    parts = [trials[i::workers] for i in range(workers)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return [outcome for part in pool.map(run_trials, parts) for outcome in part]

"""Fit the simulator to recorded logs:

    terrafirma identify robot=double_pendulum_c1 logs=runs/logs
    terrafirma identify robot=double_pendulum_c1 logs=runs/logs test=runs/other_logs

Reads   a data set, and with test= a second one that the fit does not see.
Writes  posterior.yaml (a Randomization: train on it, or evaluate it) and result.json.
Costs   at most a minute on two cores for a minute of log.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot import config
from robot.result import Run
from sim.model import Model, RobotConfig
from transfer.choices import existing
from transfer.cli import Common
from transfer.progress import terminal

VOLATILE = ("posterior",)


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    robot: RobotConfig
    logs: Path | None = None
    test: Path | None = None


def run(cfg: Config, run: Run) -> dict[str, Any]:
    from transfer.dataset import load_dataset
    from transfer.identify import QUICK, identify
    from transfer.prediction import evaluate

    logs = load_dataset(run.input(existing(cfg.logs, "logs", "ingest")), cfg.robot.spec)
    model = Model(cfg.robot)
    fit = identify(logs, model, effort=QUICK if cfg.quick else None, report=terminal())
    posterior = run.out / "posterior.yaml"
    config.save(posterior, fit.posterior)
    scored = logs if cfg.test is None else load_dataset(run.input(existing(cfg.test, "test", "ingest")), cfg.robot.spec)
    # without test= the figures are of the fitted logs themselves, and say so
    prediction = evaluate(scored, Model(cfg.robot), fit.posterior).result(np.random.default_rng(cfg.seed))
    return {
        "posterior": str(posterior),
        "parameters": fit.parameters,
        "delay_ms": fit.delay_ms,
        "prediction": prediction["prediction"],
        "prediction_on": "test" if cfg.test is not None else "the fitted logs",
        "zeros": fit.zeros,
        "windows": fit.windows,
        "converged": fit.converged,
    }

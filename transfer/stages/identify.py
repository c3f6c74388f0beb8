"""Fit the simulator to recorded logs:

    terrafirma identify robot=double_pendulum_c1 logs=runs/logs
    terrafirma identify robot=double_pendulum_c1 logs=runs/logs test=runs/other_logs bootstrap=500
    terrafirma identify robot=servo_bench logs=runs/logs models=[M1,M3,M6+sag]
    terrafirma identify robot=so101 logs=runs/logs unknowns=[joint/*/damping,timing/command/delay]
    terrafirma identify robot=so101 logs=runs/logs residual=true
    terrafirma identify robot=simple_pendulum logs=runs/logs design=true design_s=10
    terrafirma identify robot=so101 logs=runs/logs starts=16 bootstrap=500 scale=ray   # by a cluster (docs/scale.md)

Reads   a data set, and with test= a second one that the fit does not see.
Writes  posterior.yaml (a Randomization: train on it, or evaluate it), identification.html and result.json; with design=
        excitation.csv too, which `record excitation=FILE` plays.
Costs   at most a minute on two cores for a minute of log; models= and residual= cost several fits.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robot import config, files
from robot.config import ConfigError
from robot.log import EpisodeLog
from robot.result import Run
from sim.model import Model, RobotConfig
from transfer.choices import existing
from transfer.cli import Common
from transfer.progress import terminal
from transfer.scale.cluster import ScaleConfig
from transfer.scale.fan import at_hand

if TYPE_CHECKING:
    from sim.randomization import Randomization
    from transfer.identify import Effort
    from transfer.model_selection import Selection
    from transfer.scale.fits import ByWorkers
    from transfer.unknowns import Unknown

VOLATILE = ("posterior", "page", "excitation")


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    robot: RobotConfig
    logs: Path | None = None
    test: Path | None = None
    unknowns: tuple[str, ...] | str = ()
    """Patterns of targets to estimate, instead of the robot's own rule."""
    models: tuple[str, ...] | str = ()
    """Friction and firmware models to choose from by held-out error: M1 to M6, with +sag, +play or +dead."""
    bootstrap: int = 0
    """Draws of episodes, for intervals beside Laplace's."""
    starts: int = 1
    """Points from which the search begins."""
    residual: bool = False
    """Whether a residual network of the actuators is tried on top."""
    design: bool = False
    """Whether the next excitation is proposed."""
    design_s: float = 10.0
    """Its length [s]."""
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    """Who follows the starts, solves the bootstrap and fits the candidates of models=."""


def run(cfg: Config, run: Run) -> dict[str, Any]:
    with at_hand(cfg.scale):
        return _identified(cfg, run)


def _identified(cfg: Config, run: Run) -> dict[str, Any]:
    from transfer.apart import refuse_shared
    from transfer.dataset import load_dataset
    from transfer.identify import identify
    from transfer.prediction import evaluate
    from transfer.report import identification_page

    logs = load_dataset(run.input(existing(cfg.logs, "logs", "ingest")), cfg.robot.spec)
    scored = logs
    if cfg.test is not None:
        scored = load_dataset(run.input(existing(cfg.test, "test", "ingest")), cfg.robot.spec)
        refuse_shared(logs, scored, cfg.robot.spec)
    effort, model = _effort(cfg), Model(cfg.robot)
    workers = _workers(cfg)
    selection = _selection(cfg, logs, workers) if cfg.models else None
    unknowns = _unknowns(cfg, logs, selection.chosen if selection is not None else "")
    fit = identify(logs, model, unknowns, effort=effort, report=terminal(), elsewhere=workers)
    law, more = fit.posterior, dict[str, Any]()
    if cfg.residual:
        law, more["residual"] = _residual(cfg, logs, law)
    posterior = run.out / "posterior.yaml"
    config.save(posterior, law)
    if cfg.design:
        more["excitation"], more["design"] = _design(cfg, run, law)
    # without test= the figures are of the fitted logs themselves, and say so
    prediction = evaluate(scored, Model(cfg.robot), law).result(np.random.default_rng(cfg.seed))
    keys = {
        "posterior": str(posterior),
        "parameters": fit.parameters,
        "delay_ms": fit.delay_ms,
        "prediction": prediction["prediction"],
        "prediction_on": "test" if cfg.test is not None else "the fitted logs",
        "files": prediction["files"],
        "zeros": fit.zeros,
        "settings": fit.settings,
        "windows": fit.windows,
        "converged": fit.converged,
        "correlation": fit.correlation,
        "bootstrap": fit.bootstrap,
        "profile": _plain(fit.profile),
        "selection": selection.rows() if selection is not None else [],
        **more,
    }
    page = run.out / "identification.html"
    files.write_text(page, identification_page.build(cfg.robot.spec.name, keys))
    return keys | {"page": str(page)}


def _effort(cfg: Config) -> Effort:
    from transfer.identify import QUICK, Effort

    effort = QUICK if cfg.quick else Effort()
    return replace(effort, starts=cfg.starts, bootstrap=cfg.bootstrap, profile=not cfg.quick)


def _workers(cfg: Config) -> ByWorkers | None:
    """None for this process."""
    from transfer.scale.fits import ByWorkers

    return None if cfg.scale.engine == "local" else ByWorkers(cfg.scale, terminal())


def _words(value: tuple[str, ...] | str) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _unknowns(cfg: Config, logs: list[EpisodeLog], chosen: str) -> tuple[Unknown, ...] | None:
    """What was asked for, or what the chosen model has; None for the robot's own rule."""
    from transfer.chosen_unknowns import chosen_unknowns
    from transfer.friction_models import unknowns_of
    from transfer.identify import stamped_by_row

    if cfg.unknowns and cfg.models:
        raise ConfigError("unknowns= and models= both say what is estimated; give one of them.")
    by_row = stamped_by_row(logs, cfg.robot.spec)
    if cfg.unknowns:
        return chosen_unknowns(Model(cfg.robot), _words(cfg.unknowns), by_row)
    return unknowns_of(Model(cfg.robot), chosen, by_row) if chosen else None


def _selection(cfg: Config, logs: list[EpisodeLog], workers: ByWorkers | None) -> Selection:
    from transfer.friction_models import unknowns_of
    from transfer.identify import identify, stamped_by_row
    from transfer.model_selection import select

    by_row = stamped_by_row(logs, cfg.robot.spec)
    for name in _words(cfg.models):
        unknowns_of(Model(cfg.robot), name, by_row)  # a wrong name is told before the first fit

    effort = replace(_effort(cfg), bootstrap=0, profile=False)

    def fit(some: Any, name: str) -> Randomization:
        unknowns = unknowns_of(Model(cfg.robot), name, by_row)
        return identify(some, Model(cfg.robot), unknowns, effort=effort).posterior

    fits = None if workers is None else functools.partial(workers.fits, logs, cfg.robot, effort)
    return select(logs, lambda: Model(cfg.robot), _words(cfg.models), fit, fits)


def _residual(cfg: Config, logs: list[EpisodeLog], law: Randomization) -> tuple[Randomization, dict[str, Any]]:
    from transfer.residual import fit_residual

    return fit_residual(logs, lambda: Model(cfg.robot), law, quick=cfg.quick, report=terminal())


def _design(cfg: Config, run: Run, law: Randomization) -> tuple[str, dict[str, Any]]:
    from transfer.design import propose

    path = run.out / "excitation.csv"
    proposal = propose(Model(cfg.robot), law, cfg.design_s, np.random.default_rng(cfg.seed), quick=cfg.quick)
    files.write_text(path, proposal.csv(cfg.robot.spec))
    return str(path), proposal.told()


def _plain(profile: Any) -> dict[str, Any] | None:
    if profile is None:
        return None
    return {"name": profile.name, "values": profile.values.tolist(), "costs": profile.costs.tolist()}

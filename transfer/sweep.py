"""`terrafirma train sweep=FILE.yaml`: trainings whose settings Optuna chooses, resumable, by one process or several.

    trials: 24
    metric: return
    seeds: 2
    space:
      recipe.learning_rate: {kind: float, low: 1e-4, high: 3e-3, log: true}
      recipe.epochs: {kind: int, low: 4, high: 12}
      network.hidden: {kind: choice, values: [[64, 64], [128, 128]]}

Each trial is a whole training in trials/<number>/seed-<k>, with checkpoints of its own; what was suggested and what
came of it stands in study.db (SQLite). A process claims the trial it works at (robot/claims.py), so one that was killed
leaves a trial that the next takes up where it was. Run the same command with resume=true in several shells, or on
several hosts whose file system SQLite can lock, and they share the work.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from robot import claims, config, files
from robot.config import ConfigError
from robot.result import Run
from transfer.choices import existing
from transfer.report import sweep_page

if TYPE_CHECKING:
    import optuna

    from transfer.stages.train import Config

STUDY, TABLE = "study.db", "sweep.html"
PATIENCE_S = 600.0
"""Longest wait for the others, who hold the study while they think about their next trial."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FloatRange:
    """A number between two ends."""

    kind: Literal["float"] = "float"
    low: float
    high: float
    log: bool = False
    """Whether its logarithm is what is searched evenly."""

    def suggest(self, trial: optuna.Trial, name: str) -> Any:
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True, kw_only=True, slots=True)
class IntRange:
    """A whole number between two ends, both included."""

    kind: Literal["int"] = "int"
    low: int
    high: int
    log: bool = False

    def suggest(self, trial: optuna.Trial, name: str) -> Any:
        return trial.suggest_int(name, self.low, self.high, log=self.log)


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One of some values, lists among them."""

    kind: Literal["choice"] = "choice"
    values: tuple[Any, ...]

    def suggest(self, trial: optuna.Trial, name: str) -> Any:
        """By their text, because Optuna's storage knows no lists."""
        return json.loads(trial.suggest_categorical(name, [json.dumps(v) for v in self.values]))


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepConfig:
    """The file that sweep= names."""

    space: dict[str, FloatRange | IntRange | Choice]
    """Dotted key of the stage's configuration -> what it may be."""
    trials: int = 20
    """All of them, of all processes."""
    metric: Literal["success", "return"] = "return"
    """Whose mean is to be high; `return` tells more of trainings that hardly ever succeed."""
    seeds: int = 1
    """Trainings of a trial, with seed, seed + 1, …, whose mean counts."""
    sampler: Literal["tpe", "random"] = "tpe"
    startup: int = 8
    """tpe: random trials before it begins to model."""

    def __post_init__(self) -> None:
        if not self.space or self.trials < 1 or self.seeds < 1:
            raise ConfigError("a sweep needs a space with at least one key, and trials and seeds of at least 1.")


def run_sweep(cfg: Config, run: Run) -> dict[str, Any]:
    """All trials that are left; keys of result.json, those of the best trial's policy among them."""
    settings = config.load(SweepConfig, run.input(existing(cfg.sweep, "sweep", "train --help")))
    for name in settings.space:
        if name.split(".")[0] in ("out", "sweep", "seed", "resume") or name.split(".")[0] not in config.to_plain(cfg):
            raise ConfigError(f"{cfg.sweep}: space names '{name}', which is no key of train that can be varied.")
    if (run.out / STUDY).exists() and not cfg.resume:
        raise ConfigError(f"{run.out} already holds a sweep; go on with resume=true, or give another out=.")
    study = _study(run.out)
    while (held := _take(study, settings, run.out, cfg.seed)) is not None:
        trial, lock = held
        with lock:
            _work(cfg, settings, study, trial, run.out)
        write_table(run.out, study, settings)
    return _result(run.out, study, settings)


def _study(out: Path) -> Any:
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise ConfigError("sweep= needs Optuna: pip install 'terrafirma[sweep]'.") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{(out / STUDY).resolve()}", engine_kwargs={"connect_args": {"timeout": 60}}
    )
    with claims.claim(out, "terrafirma train sweep=", PATIENCE_S):
        return optuna.create_study(storage=storage, study_name="sweep", direction="maximize", load_if_exists=True)


def _take(study: Any, settings: SweepConfig, out: Path, seed: int) -> tuple[Any, Any] | None:
    """A trial to work at, with its lock: one that a killed process left, else a new one; None when all are taken."""
    import optuna

    with claims.claim(out, "terrafirma train sweep=", PATIENCE_S):
        trials = study.get_trials(deepcopy=False)
        for frozen in trials:
            if frozen.state == optuna.trial.TrialState.RUNNING:
                lock = _try(out, frozen.number)
                if lock is not None:
                    return optuna.trial.Trial(study, frozen._trial_id), lock
        if len(trials) >= settings.trials:
            return None
        # seeded by the trial's number, so that a sweep that was cut suggests what an uninterrupted one would
        kinds = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}
        more = {"n_startup_trials": settings.startup} if settings.sampler == "tpe" else {}
        study.sampler = kinds[settings.sampler](seed=seed + len(trials), **more)
        trial = study.ask()
        for name, law in settings.space.items():
            law.suggest(trial, name)
        return trial, _try(out, trial.number)


def _work(cfg: Config, settings: SweepConfig, study: Any, trial: Any, out: Path) -> None:
    """Train what a trial suggests, and tell what came of it; a setting that cannot be trained is told as failed."""
    import optuna

    from transfer.cli import execute, load_stage

    values = {name: law.suggest(trial, name) for name, law in settings.space.items()}
    results = []
    try:
        for k in range(settings.seeds):
            folder = _folder(out, trial.number) / f"seed-{cfg.seed + k}"
            found = folder / "result.json"
            if not found.exists():
                data = with_values(cfg, values | {"out": str(folder), "seed": cfg.seed + k, "resume": True})
                execute("train", load_stage("train"), data)
            results.append(json.loads(found.read_text()))
    except ConfigError as error:
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return
    for key in ("success", "return"):
        trial.set_user_attr(key, float(np.mean([r[key]["mean"] for r in results])))
    trial.set_user_attr("seconds", float(sum(r["seconds"] for r in results)))
    trial.set_user_attr("policies", [r["policy"] for r in results])
    study.tell(trial, trial.user_attrs[settings.metric])


def with_values(cfg: Config, values: Mapping[str, Any]) -> Config:
    """A training's configuration with other values at some dotted keys, and without the sweep."""
    data = config.to_plain(cfg) | {"sweep": None}
    for name, value in values.items():
        *path, last = name.split(".")
        place = data
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return config.convert(type(cfg), data, "terrafirma train")


def _result(out: Path, study: Any, settings: SweepConfig) -> dict[str, Any]:
    done = [t for t in study.get_trials(deepcopy=False) if t.value is not None]
    table = write_table(out, study, settings)
    if not done:
        errors = [t.user_attrs.get("error", "") for t in study.get_trials(deepcopy=False)]
        raise ConfigError(f"no trial of the sweep could be trained; the first said: {next(filter(None, errors), '-')}")
    best = max(done, key=lambda t: t.value)
    folder = _folder(out, best.number)
    first = json.loads(next(iter(sorted(folder.glob("seed-*/result.json")))).read_text())
    kept = {key: first[key] for key in ("policy", "success", "return", "env_steps", "env_steps_per_s")}
    told = {"number": best.number, "value": best.value, "params": {k: _plain(v) for k, v in best.params.items()}}
    return kept | {"trials": len(done), "best": told, "table": str(table), "storage": str(out / STUDY)}


def write_table(out: Path, study: Any, settings: SweepConfig) -> Path:
    """sweep.html: a row a trial."""
    rows = []
    for trial in study.get_trials(deepcopy=False):
        told = {key: trial.user_attrs.get(key) for key in ("success", "return", "seconds")}
        row = {"trial": trial.number, "state": trial.state.name.lower(), **told}
        row |= {name: _plain(value) for name, value in trial.params.items()}
        row |= {"folder": f"trials/{trial.number:04d}", "error": trial.user_attrs.get("error", "")}
        rows.append(row)
    files.write_text(out / TABLE, sweep_page.page(f"sweep of {', '.join(settings.space)}", rows, settings.metric))
    return out / TABLE


def _plain(value: Any) -> Any:
    """A parameter as it was meant: choices are kept as JSON."""
    return json.loads(value) if isinstance(value, str) else value


def _folder(out: Path, number: int) -> Path:
    return out / "trials" / f"{number:04d}"


def _try(out: Path, number: int) -> claims.Claim | None:
    return claims.try_claim(_folder(out, number), f"trial {number}")

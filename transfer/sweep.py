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
several hosts whose file system SQLite can lock, and they share the work; with scale=ray the workers of a cluster do, on
hosts that see the run directory under the same path.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from policies.progress import Meter
from robot import claims, config, files
from robot.config import ConfigError
from robot.result import Run
from transfer.choices import existing
from transfer.progress import terminal
from transfer.report import sweep_page
from transfer.scale.cluster import ScaleConfig
from transfer.scale.fan import arriving, at_hand

if TYPE_CHECKING:
    import optuna

    from transfer.stages.train import Config

STUDY, TABLE, BUSY = "study.db", "sweep.html", "busy"
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
    known = config.to_plain(cfg).keys() - {"out", "sweep", "seed", "resume", "scale"}
    for name in settings.space:
        if name.split(".")[0] not in known:
            raise ConfigError(f"{cfg.sweep}: space names '{name}', which is no key of train that can be varied.")
    if (run.out / STUDY).exists() and not cfg.resume:
        raise ConfigError(f"{run.out} already holds a sweep; go on with resume=true, or give another out=.")
    study = _study(run.out)
    held: list[tuple[Any, Any]] = []

    def tasks() -> Iterator[dict[str, Any]]:
        while (taken := _take(study, settings, run.out, cfg.seed)) is not None:
            held.append(taken)
            yield _task(cfg, settings, taken[0], run.out)

    before = sum(t.state.is_finished() for t in study.get_trials(deepcopy=False))
    meter = Meter("sweep", settings.trials, "trials", terminal(), done=before)
    shared = {"folder": str(Path.cwd()), "study": str(run.out / STUDY)}
    with at_hand(cfg.scale):
        # no trial is suggested before there is somebody to train it: it would know less of the others
        for done, (i, found) in enumerate(arriving(train_trial, tasks(), cfg.scale, shared, queued=1), 1):
            trial, lock = held[i]
            with lock:
                _tell(study, trial, settings, found)
            write_table(run.out, study, settings)
            meter(before + done)
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


def _task(cfg: Config, settings: SweepConfig, trial: Any, out: Path) -> dict[str, Any]:
    """The trainings that a trial suggests, as plain data; a setting that cannot even be read is told as an error."""
    values = {name: law.suggest(trial, name) for name, law in settings.space.items()}
    folder = _folder(out, trial.number)
    task: dict[str, Any] = {"folder": str(folder), "trainings": []}
    try:
        for k in range(settings.seeds):
            own = {"out": str(folder / f"seed-{cfg.seed + k}"), "seed": cfg.seed + k, "resume": True}
            task["trainings"].append(config.to_plain(with_values(cfg, values | own)))
    except ConfigError as error:
        task["error"] = str(error)
    return task


def train_trial(shared: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    """A worker's task: all trainings of a trial, each from where another worker has left it; what came of them.

    ConfigError where the run directory is not seen; a setting that cannot be trained is an `error` of the result.
    """
    from transfer.cli import execute, load_stage

    if "error" in task:
        return {"error": task["error"]}
    with contextlib.suppress(OSError):  # of a host without the folder the next sentence tells
        os.chdir(shared["folder"])  # what paths of the command line are relative to
    if not Path(shared["study"]).is_file():
        raise ConfigError(
            f"host {socket.gethostname()} does not see {shared['study']}; start the sweep, with out=, in a folder that "
            "all hosts of the cluster share."
        )
    stage, results = load_stage("train"), []
    # a worker that was given up for dead may still be at it
    with claims.claim(Path(task["folder"]) / BUSY, "terrafirma train sweep=", math.inf):
        try:
            for data in task["trainings"]:
                found = Path(data["out"]) / "result.json"
                if not found.exists():
                    execute("train", stage, config.convert(stage.Config, data, "terrafirma train"))
                results.append(json.loads(found.read_text()))
        except ConfigError as error:
            return {"error": str(error)}
    means = {key: float(np.mean([r[key]["mean"] for r in results])) for key in ("success", "return")}
    return means | {"seconds": float(sum(r["seconds"] for r in results)), "policies": [r["policy"] for r in results]}


def _tell(study: Any, trial: Any, settings: SweepConfig, found: Mapping[str, Any]) -> None:
    """What came of a trial, to the study."""
    import optuna

    for key, value in found.items():
        trial.set_user_attr(key, value)
    if "error" in found:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    else:
        study.tell(trial, found[settings.metric])


def with_values(cfg: Config, values: Mapping[str, Any]) -> Config:
    """A training's configuration with other values at some dotted keys, without the sweep, and by one process."""
    alone = cfg.scale if cfg.scale.engine == "local" else ScaleConfig()
    data = config.to_plain(cfg) | {"sweep": None, "scale": config.to_plain(alone)}
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

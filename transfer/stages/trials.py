"""Episodes of a controller bundle on a robot, through the onboard loop; with against= of two, which are compared:

    terrafirma trials bundle=runs/export/bundle driver=surrogate task=pendulum_swingup n=100
    terrafirma trials bundle=NEW against=OLD driver=can options.interface=slcan options.channel=/tmp/can n=20 label=key

Reads   a bundle or two; opens the driver once an episode.
Writes  plan.yaml (what so many runs can tell, and the order, before the first of them), one MCAP log an episode with
        its label, and result.json with success, and of two controllers their difference with its interval.
Costs   about 0.3 s an episode on a simulated driver, more than ten shared by the cores; real time on a robot.
Success is scored from what the robot itself recorded, or with label=key by a person who is not told which controller
drove: y, n, s (does not count), a (abort). A series that was ended goes on with resume=true.
options.KEY=VALUE are keys of the driver, and on a robot those of `terrafirma run`, too (deadman, damp, video, ...).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from policies.progress import Meter
from robot import bundle as bundles
from robot import config
from robot.config import ConfigError, nearest
from robot.controller import Controller
from robot.driver import driver_options, on_simulated_clock
from robot.result import Run
from sim.tasks import Task
from transfer import progress, terminal, trial_plan
from transfer.attended import HALF, Series, options_of
from transfer.choices import TaskChoice, existing, same_task
from transfer.cli import Common
from transfer.trial_plan import Plan, Planned, Side
from transfer.trial_results import results, summary
from transfer.trials import Outcome, Trial, judged_by_joints, recorded, run_trial, told

SHARE = 10
"""Episodes on a simulated driver that take as long as a process of its own takes to start."""


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    bundle: Path | None = None
    against: Path | None = None
    """Another bundle for the same task and robot: both take turns, and are compared."""
    task: TaskChoice
    driver: str = "sim"
    options: dict[str, Any] = field(default_factory=dict)
    """Of the driver; on a robot, and with label=key, of `terrafirma run`, too."""
    posterior: Path | None = None
    """What a simulated driver draws its robots from."""
    truth: int | str | None = None
    """Which of the surrogate robots; default: the demo's."""
    n: int = 100
    """Episodes of each controller."""
    label: Literal["rule", "key"] = "rule"
    """Who says whether an episode succeeded: the task's rule, or a person at the terminal."""
    wait: bool | None = None
    """Whether a person says when an episode may begin; default: on a robot, not in simulation."""
    difference: float | None = None
    """A difference in success; how many runs would tell it is said beforehand."""
    rate: float | None = None
    """The success to be expected of `against`, for what is said beforehand; default: wherever it is hardest."""
    keep: bool | None = None
    """Whether the logs are kept; default: not those of simulated cameras. With label=key and on a robot all are."""

    @property
    def sides(self) -> dict[Side, Path | None]:
        """Side -> its bundle, as given."""
        found: dict[Side, Path | None] = {"bundle": self.bundle}
        return found if self.against is None else {**found, "against": self.against}

    @property
    def attended(self) -> bool:
        """Whether episodes are run one after the other, for a person or a robot is there."""
        return self.label == "key" or not on_simulated_clock(self.driver)


class Stopped(ConfigError):
    """A person ended the series; what was recorded is kept, and result.json counts it."""

    exit_code = 130


def run(cfg: Config, run: Run) -> dict[str, Any]:
    task, paths = cfg.task.load(), {side: existing(path, side, "export") for side, path in cfg.sides.items()}
    controllers = {side: bundles.load(path) for side, path in paths.items()}
    _check(cfg, task, controllers)
    for path in (*paths.values(), *([cfg.posterior] if cfg.posterior else [])):
        run.input(path)
    attended = cfg.attended
    wait = cfg.wait if cfg.wait is not None else not on_simulated_clock(cfg.driver)
    if cfg.label == "key":
        terminal.needed("label=key reads keys", "label=rule needs nobody")
    elif wait:
        why = "a key is read before each episode on a robot"
        terminal.needed(why, "pass wait=false where the robot returns to its start by itself")
    plan = _plan(cfg, controllers)
    if attended:
        options_of({"bundle": "", "driver": cfg.driver, "seconds": "1"} | plan.options)
    going_on = trial_plan.write(plan, run.out, cfg.resume)
    print("\n".join(trial_plan.sentences(plan)), flush=True)
    keep = attended or (cfg.keep if cfg.keep is not None else not any(c.cameras for c in controllers.values()))
    if attended:
        series = Series(
            plan=plan, folder=run.out, bundles=paths, task=task, spec=controllers["bundle"].spec, ask=terminal.press,
            wait=wait, progress=print,
        )  # fmt: skip
        outcomes, aborted = series.run()
    else:
        outcomes, aborted = _unattended(plan, run.out, paths, keep, going_on), False
    if not aborted:
        shutil.rmtree(run.out / HALF, ignore_errors=True)
    keys = results(plan, outcomes, keep)
    print("\n".join(summary(keys)), flush=True)
    return keys


def gate(cfg: Config, keys: Mapping[str, Any], path: Path) -> None:
    """A series that a person ended is none that has ended."""
    if not keys["completed"]:
        done, of = len(keys["episodes"]), keys["plan"]["episodes"]
        raise Stopped(f"aborted after {done} of {of} episodes; {path} counts them, and resume=true goes on.")


def _check(cfg: Config, task: Task, controllers: Mapping[Side, Controller]) -> None:
    """ConfigError where these bundles cannot be tried on this task, or cannot be compared."""
    if cfg.n < 1:
        raise ConfigError(f"n={cfg.n}: at least one episode is needed.")
    for side, controller in controllers.items():
        same_task(f"{side}={cfg.sides[side]}", controller.task, task.name)
    if cfg.label == "rule":
        judged_by_joints(task)
    robots = {side: (c.spec.name, c.spec.fingerprint()) for side, c in controllers.items()}
    if len(set(robots.values())) > 1:
        told = " and ".join(f"{side}= for '{name}' ({mark})" for side, (name, mark) in robots.items())
        raise ConfigError(f"two controllers are compared on one robot; these were made for others: {told}.")


def _plan(cfg: Config, controllers: Mapping[Side, Controller]) -> Plan:
    n, known = min(cfg.n, 6) if cfg.quick else cfg.n, driver_options(cfg.driver)
    options = {k: v if isinstance(v, str) else config.dump_yaml(v).split("\n")[0] for k, v in cfg.options.items()}
    wrong = next((k for k in options if k not in known), None)
    if wrong is not None and not cfg.attended:
        raise ConfigError(f"options.{wrong}: driver '{cfg.driver}' has no such option. {nearest(wrong, sorted(known))}")
    for name in ("posterior", "truth"):
        if (value := getattr(cfg, name)) is not None and name in known:
            options[name] = str(value)
    return Plan(
        task=cfg.task.name,
        driver=cfg.driver,
        options=options,
        bundles={side: c.digest for side, c in controllers.items()},
        n=n,
        seed=cfg.seed,
        label=cfg.label,
        paired=len(controllers) > 1 and "seed" in known,
        states=trial_plan.stated(n, len(controllers) > 1, cfg.difference, cfg.rate),
        order=trial_plan.orders(tuple(controllers), n, cfg.seed),
    )


def _unattended(plan: Plan, folder: Path, paths: Mapping[Side, Path], keep: bool, going_on: bool) -> dict[str, Outcome]:
    """File -> what came of it; simulated episodes, on all cores."""
    found: dict[str, Outcome] = {}
    if going_on:
        logs = {planned.file: recorded(folder / planned.file) for planned in plan.order}
        found = {file: outcome for file, log in logs.items() if log is not None and (outcome := told(log)) is not None}
    todo = [planned for planned in plan.order if planned.file not in found]
    trials = [_trial(plan, planned, paths, folder if keep else None) for planned in todo]
    meter = Meter("trials", len(plan.order), "episodes", progress.terminal(), done=len(found))
    workers = min(os.cpu_count() or 1, -(-len(todo) // SHARE))
    for planned, outcome in zip(todo, _ran(trials, workers), strict=True):
        found[planned.file] = outcome
        meter(len(found))
    return found


def _ran(trials: Sequence[Trial], workers: int) -> Iterator[Outcome]:
    if workers <= 1:
        yield from map(run_trial, trials)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(run_trial, trials)


def _trial(plan: Plan, planned: Planned, paths: Mapping[Side, Path], folder: Path | None) -> Trial:
    meta = {"bundle": plan.bundles[planned.controller], "controller": planned.controller, "trial": planned.file}
    return Trial(
        bundle=paths[planned.controller],
        driver=plan.driver,
        task=plan.task,
        seed=planned.seed,
        options=plan.options,
        log=folder / planned.file if folder is not None else None,
        meta={**meta, "task": plan.task, "driver": plan.driver, "seed": str(planned.seed)},
    )

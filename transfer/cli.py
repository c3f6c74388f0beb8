"""The command line of training and transfer: Hydra composes, robot/config.py converts, once.

A stage is a module in transfer/stages/ with a docstring (its --help), a frozen dataclass `Config`, and
`run(cfg, run) -> keys of result.json`; its defaults stand in configs/<stage>.yaml. To add one: those two
files and a row in STAGES. The onboard stages live in robot/cli.py, which hands everything else to main() here.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robot import config
from robot.config import ConfigError, nearest
from robot.result import Run
from transfer import hydra_front
from transfer import words as grammar
from transfer.composing import compose, defaults_of
from transfer.scale import one_folder, torchrun

STAGES = {
    "doctor": "with dr=NAME: what each term of a randomization does to a robot",
    "demo": "the whole chain on the simple pendulum, against a surrogate robot",
    "synthesize": "labelled images of a robot in simulation",
    "pretrain": "train an encoder in simulation",
    "train": "train a policy in simulation",
    "ingest": "import and screen recorded logs",
    "identify": "fit the simulator to logs",
    "evaluate": "prediction error on logs, or a policy's success in simulation",
    "finetune": "adapt encoder and policy to logs, or refuse",
    "stress": "how much a controller bears, and its worst case",
    "export": "write a controller bundle",
    "trials": "many episodes of a bundle on a robot",
    "report": "one offline HTML page of a run",
    "lineage": "what a run was made from",
    "view": "look at what a robot did, recorded or simulated",
    "bench": "measure speed, against others",
    "calibrate": "a camera's lens and place, from a chessboard",
}
"""name -> what it does, in one line."""


class GateRefused(ConfigError):
    """A result did not pass its gate; nothing was accepted (exit code 3)."""

    exit_code = 3


@dataclass(frozen=True, kw_only=True)
class Common:
    """Keys of every stage; each stage's Config derives from it."""

    out: Path | None = None
    """Run directory; default runs/<stage>/<timestamp>."""
    seed: int = 0
    quick: bool = False
    """Shrinks budgets for tests; never changes what is computed."""
    demo: bool = False
    """Shrinks budgets to those of `terrafirma demo`."""
    resume: bool = False
    """Go on from what an interrupted run left in `out`; stages of seconds simply start again."""

    @property
    def budget(self) -> Any:
        return "quick" if self.quick else "demo" if self.demo else "full"


def load_stage(stage: str) -> Any:
    """The module of a stage; ConfigError lists the stages."""
    if stage not in STAGES:
        raise ConfigError(f"stage '{stage}' is unknown. {nearest(stage, list(STAGES))}")
    return importlib.import_module(f"transfer.stages.{stage}")


def main(argv: list[str]) -> int:
    """Run `argv` = [stage, key=value, …]; returns 0. Errors are raised: robot.cli.main turns them into exit codes."""
    stage, *words = argv
    module = load_stage(stage)
    if "--help" in words or "-h" in words:
        print(module.__doc__.strip())
        print("\nKeys and their defaults (configs/" + stage + ".yaml):\n")
        print(config.dump_yaml(defaults_of(stage)).rstrip())
        return 0
    if not any(word.startswith("-") for word in words):
        path = execute(stage, module, _convert(stage, module, words))
        if not torchrun.follows():
            print(path)
        return 0
    asked = hydra_front.asked(stage, words)
    taken = _take_files(stage, asked.words)
    if asked.options.get("--cfg") == "job" and "--multirun" not in asked.options:
        print(hydra_front.shown(_data(stage, taken), asked.options.get("--package", "")))
        return 0
    run = functools.partial(_run_job, stage, taken.replaced)
    overrides = _overrides(stage, taken.words, sweep="--multirun" in asked.options)
    return hydra_front.hand_over(stage, overrides, asked.options, run)


@dataclass(frozen=True, slots=True)
class _Taken:
    """Words without the files that stand for a choice of a group, and what those files say."""

    words: list[str]
    replaced: dict[str, Any]
    """Key -> its data, in the place of what is composed."""


def _take_files(stage: str, words: Sequence[str]) -> _Taken:
    from transfer.adopt import take_robot_file
    from transfer.suites import take_suite_file

    rest, robot = take_robot_file(stage, words, defaults_of(stage))
    rest, suite = take_suite_file(rest) if stage == "stress" else (rest, None)
    replaced = {"robot": None if robot is None else config.to_plain(robot), "stress": suite}
    return _Taken(rest, {k: v for k, v in replaced.items() if v is not None})


def _overrides(stage: str, words: Sequence[str], sweep: bool = False) -> list[str]:
    return [to_override(word, stage, sweep) for word in words]


def _data(stage: str, taken: _Taken) -> dict[str, Any]:
    return compose(stage, _overrides(stage, taken.words)) | taken.replaced


def _convert(stage: str, module: Any, words: Sequence[str]) -> Any:
    """The stage's Config of the words on its command line."""
    data = _data(stage, _take_files(stage, words))
    return config.convert(module.Config, data, source=f"terrafirma {stage}")


def _run_job(stage: str, replaced: dict[str, Any], data: dict[str, Any], folder: Path) -> Path:
    """One job of a --multirun, in its folder."""
    module = load_stage(stage)
    cfg = config.convert(module.Config, data | replaced, source=f"terrafirma {stage}")
    cfg = cfg if cfg.out is not None else replace(cfg, out=folder)
    return one_folder.job(stage, cfg, functools.partial(execute, stage, module))


def execute(stage: str, module: Any, cfg: Any) -> Path:
    """Run one stage with a converted configuration; returns the path of its result.json.

    A stage's `gate(cfg, keys, path)` may raise GateRefused once all has been written.
    """
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    with torchrun.met(stage, cfg) as cfg:
        if torchrun.follows():
            module.run(cfg, Run(stage, cfg.out, seed=cfg.seed, budget=cfg.budget))
            return cfg.out
        with one_folder.held(stage, cfg) as claim:
            run = Run(stage, cfg.out, seed=cfg.seed, budget=cfg.budget, settings=cfg)
            keys = module.run(cfg, run)
            if claim is not None:
                claim.check()
            path = run.finish(keys, getattr(module, "VOLATILE", ()))
    if hasattr(module, "gate"):
        module.gate(cfg, keys, path)
    return path


def call(stage: str, words: list[str]) -> Path:
    """Run a stage in this process as the command line would; returns the path of its result.json."""
    module = load_stage(stage)
    return execute(stage, module, _convert(stage, module, words))


def to_override(word: str, stage: str, sweep: bool = False) -> str:
    """One word of a stage's command line in Hydra's grammar."""
    return grammar.to_override(word, stage, grammar.path_keys(stage, load_stage(stage).Config), sweep)

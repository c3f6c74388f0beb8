"""Hydra's habits in front of a stage: --multirun with any launcher, --cfg, --info.

What a job of a --multirun runs is what the stage would run alone, in a folder of its own.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import util
from pathlib import Path
from typing import Any

from robot import config
from robot.config import ConfigError, nearest
from transfer.composing import one_sentence, plain, prepare, with_matching

LONG = {"-m": "--multirun", "-c": "--cfg", "-p": "--package", "-i": "--info"}
VALUES: dict[str, tuple[str, ...]] = {
    "--multirun": (),
    "--resolve": (),
    "--package": (),
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}
"""Hydra's options that a stage takes -> their values, where these are from a list."""
LAUNCHERS = {
    "joblib": ("hydra_plugins.hydra_joblib_launcher", "hydra-joblib-launcher", "sweep"),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher", "hydra-submitit-launcher", "scale"),
    "submitit_slurm": ("hydra_plugins.hydra_submitit_launcher", "hydra-submitit-launcher", "scale"),
}
"""Launcher -> its module, package and extra."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Hydra's options of one command line, and the other words."""

    words: tuple[str, ...]
    options: dict[str, str] = field(default_factory=dict)
    """Long name -> value, empty where it takes none."""


def asked(stage: str, words: Sequence[str]) -> Asked:
    """Sort a command line; ConfigError when an option is unknown or lacks its value."""
    rest, options, queue = [], {}, list(words)
    while queue:
        word = queue.pop(0)
        if not word.startswith("-"):
            rest.append(word)
            continue
        name, equals, value = word.partition("=")
        name = LONG.get(name, name)
        if name not in VALUES:
            raise ConfigError(
                f"'{word}' is no option of `terrafirma {stage}`; write key=value, or --help for the keys."
            )
        allowed = VALUES[name]
        if not equals and queue and (name == "--package" or queue[0] in allowed):
            value = queue.pop(0)
        if name == "--info" and not value:
            value = "all"
        if (allowed and value not in allowed) or (name == "--package" and not value):
            raise ConfigError(f"{name} needs {' | '.join(allowed) or 'the dotted name of a part'}.")
        options[name] = value
    return Asked(tuple(rest), options)


def shown(data: Any, package: str) -> str:
    """What `--cfg job` prints: the stage's data, or the part of it that `package` names."""
    for key in package.split(".") if package else ():
        if not isinstance(data, dict) or key not in data:
            raise ConfigError(f"--package {package}: there is no '{key}'. {nearest(key, list(data or ()))}")
        data = data[key]
    return config.dump_yaml(data).rstrip()


def hand_over(
    stage: str, overrides: list[str], options: dict[str, str], run: Callable[[dict[str, Any], Path], Path]
) -> int:
    """Let Hydra's own main do it. `run` gets each job's data and its folder, and returns what to print."""
    import hydra
    from omegaconf import DictConfig, OmegaConf

    prepare(overrides)
    check_launcher(overrides)

    @hydra.main(config_path=str(config.shipped()), config_name=stage, version_base="1.3")
    def stage_main(composed: DictConfig) -> None:
        from hydra.core.hydra_config import HydraConfig

        running = HydraConfig.get().runtime
        chosen = OmegaConf.to_container(running.choices)
        print(run(plain(OmegaConf.to_container(composed, resolve=True), chosen), Path(running.output_dir)))

    known: Callable[[], None] = stage_main
    folder = None
    if not any(o.startswith("hydra.job.name=") for o in overrides):
        overrides = [*overrides, f"hydra.job.name={stage}"]  # of the log; else it is this file's
    if "--multirun" in options:
        overrides, folder = sweep_folder(stage, overrides)
    flags = [f"{name}={value}" if value else name for name, value in options.items()]
    with one_sentence(stage), _argv([f"terrafirma {stage}", *with_matching(stage, overrides), *flags]):
        try:
            known()
        finally:  # also when a job failed: the others have their rows
            if folder is not None and folder.is_dir():
                _tabulate(folder)
    return 0


def _tabulate(folder: Path) -> None:
    from transfer.report.sweep_page import of_multirun

    page = of_multirun(folder)
    if page is not None:
        print(page)


def check_launcher(overrides: Sequence[str]) -> None:
    """ConfigError when the launcher's package is missing, or the cluster that it is for."""
    for override in overrides:
        key, _, name = override.partition("=")
        if key == "hydra/launcher" and name in LAUNCHERS:
            module, package, extra = LAUNCHERS[name]
            if not _installed(module):
                raise ConfigError(
                    f"hydra/launcher={name} needs the package '{package}', which is not installed: "
                    f"pip install 'terrafirma[{extra}]'."
                )
            if name == "submitit_slurm" and shutil.which("srun") is None:
                raise ConfigError(
                    "hydra/launcher=submitit_slurm needs Slurm, and there is no `srun` here: start it where jobs are "
                    "submitted from, or take hydra/launcher=submitit_local."
                )


def _installed(module: str) -> bool:
    try:
        return util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@contextmanager
def _argv(words: list[str]) -> Iterator[None]:
    """Hydra reads sys.argv, and lets errors through, for us to tell, when HYDRA_FULL_ERROR is set."""
    before, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = words, "1"
    try:
        yield
    finally:
        sys.argv = before
        if full is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        else:
            os.environ["HYDRA_FULL_ERROR"] = full


def sweep_folder(stage: str, overrides: list[str]) -> tuple[list[str], Path]:
    """Where the jobs of a --multirun stand, one folder each: what out= says, not each job's own out."""
    given = next((o for o in overrides if o.startswith("++out=")), None)
    told = next((o for o in overrides if o.startswith("hydra.sweep.dir=")), None)
    if told is not None:
        return overrides, Path(told.partition("=")[2])
    stamp = datetime.now(timezone.utc).strftime("%Y-%m-%d_%Hh%Mm%S")
    folder = Path("multirun") / stage / stamp if given is None else Path(given.partition("=")[2].strip("'"))
    return [*(o for o in overrides if o is not given), f"hydra.sweep.dir='{folder}'"], folder

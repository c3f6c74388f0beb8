"""The command line of training and transfer: Hydra composes, robot/config.py converts, once.

A stage is a module in transfer/stages/ with a docstring (its --help), a frozen dataclass `Config`, and
`run(cfg, run) -> keys of result.json`; its defaults stand in configs/<stage>.yaml. To add one: those two
files and a row in STAGES. The onboard stages live in robot/cli.py, which hands everything else to main() here.
"""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from robot import config
from robot.config import ConfigError, nearest
from robot.result import Run

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

GROUPS = ("robot", "task", "network", "dr", "encoder", "recipe", "stress")
PATHS = (
    "policy",
    "encoder",
    "video",
    "labels",
    "physics",
    "vision",
    "posterior",
    "model",
    "logs",
    "test",
    "path",
    "map",
    "against",
    "bundle",
    "log",
    "key",
    "run",
    "out",
    "stress",
    "replay",
    "teacher",
    "start",
    "like",
    "sweep",
    "foreign",
    "card",
    "poses",
    "keep",
    "merge",
    "oracle",
    "remove",
)
ALIAS = {"model": "model_", "encoder": "encoder_", "stress": "stress_"}
"""configs/model/ holds files that a path points to, and configs/encoder/ and configs/stress/ are choices of one stage
each; Hydra would take `model=`, `encoder=` and `stress=` for a choice among them."""
CHOSEN_BY = {"encoder": ("pretrain",), "stress": ("stress",)}
"""Groups that are a choice in these stages only, and a path elsewhere."""
PRIORS = {"vision": ("handheld", "appearance")}
"""Encoder -> what the name of its prior ends in, of which the first that a robot has is taken; others: `default`."""
HYDRA_FLAGS = ("--multirun", "-m", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc", "--resolve", "--package")


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
    if any(word in HYDRA_FLAGS for word in words):
        keys = [w for w in words if "=" in w and not w.startswith("-")]
        return _by_hydra(stage, [to_override(w, stage) for w in keys], [w for w in words if w not in keys])
    unknown = next((w for w in words if w.startswith("-") and w != "--traceback"), None)
    if unknown:
        raise ConfigError(f"'{unknown}' is no option of `terrafirma {stage}`; write key=value, or --help for the keys.")
    print(execute(stage, module, _convert(stage, module, words)))
    return 0


def _convert(stage: str, module: Any, words: list[str]) -> Any:
    """The stage's Config of the words on its command line."""
    from transfer.adopt import take_robot_file
    from transfer.suites import take_suite_file

    rest, robot = take_robot_file(stage, [w for w in words if not w.startswith("-")], defaults_of(stage))
    rest, suite = take_suite_file(rest) if stage == "stress" else (rest, None)
    data = compose(stage, [to_override(word, stage) for word in rest])
    if robot is not None:
        data["robot"] = config.to_plain(robot)
    if suite is not None:
        data["stress"] = suite
    return config.convert(module.Config, data, source=f"terrafirma {stage}")


def execute(stage: str, module: Any, cfg: Any) -> Path:
    """Run one stage with a converted configuration; returns the path of its result.json.

    A stage's `gate(cfg, keys, path)` may raise GateRefused once all has been written.
    """
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    run = Run(stage, cfg.out, seed=cfg.seed, budget=cfg.budget, settings=cfg)
    keys = module.run(cfg, run)
    path = run.finish(keys, getattr(module, "VOLATILE", ()))
    if hasattr(module, "gate"):
        module.gate(cfg, keys, path)
    return path


def call(stage: str, words: list[str]) -> Path:
    """Run a stage in this process as the command line would; returns the path of its result.json."""
    module = load_stage(stage)
    return execute(stage, module, _convert(stage, module, words))


def to_override(word: str, stage: str = "<stage>") -> str:
    """One word of the command line in Hydra's grammar: groups as they are, keys forced, paths quoted.

    Keys are forced (`++`) because the dataclasses, not Hydra's struct mode, decide which exist: their error
    names the nearest one.
    """
    key, equals, value = word.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][\w.@/]*", key):
        raise ConfigError(f"'{word}' is not key=value; try `terrafirma {stage} --help`.")
    if key.startswith(("hydra.", "hydra/")) or (key in GROUPS and stage in CHOSEN_BY.get(key, (stage,))):
        return word
    if key in PATHS:
        value = _quote_paths(value)
    return f"++{ALIAS.get(key, key)}={value}"


def _quote_paths(value: str) -> str:
    if value in ("null", ""):
        return "null"
    if value in ("true", "false"):  # `keep` is a list of folders to fine-tuning and a choice to trials
        return value
    if value.startswith("[") and value.endswith("]"):
        items = re.findall(r"'(?:\\.|[^'])*'|\"(?:\\.|[^\"])*\"|[^,]+", value[1:-1])
        return "[" + ",".join(_quote(item.strip()) for item in items) + "]"
    return _quote(value)


def _quote(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    if text.startswith("~"):
        text = str(Path(text).expanduser())
    # in Hydra's quotes a backslash is itself, but before a quote; `${` would be an interpolation
    text = re.sub(r"(\\*)'", r"\1\1\'", text).replace("${", "\\${")
    return "'" + re.sub(r"(\\+)$", r"\1\1", text) + "'"


def compose(stage: str, overrides: list[str]) -> dict[str, Any]:
    """Hydra's composition of configs/<stage>.yaml and the overrides, as plain data."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    register_tasks()
    check_groups(overrides)
    GlobalHydra.instance().clear()
    with _one_sentence(stage), initialize_config_dir(str(config.shipped()), version_base="1.3"):
        composed = hydra_compose(stage, overrides=_with_matching(stage, overrides))
        return _plain(OmegaConf.to_container(composed, resolve=True))


def _plain(composed: Any) -> dict[str, Any]:
    """Composed data under the names that people wrote."""
    names = {alias: key for key, alias in ALIAS.items()}
    given = {names[k]: v for k, v in composed.items() if k in names}
    return {str(k): v for k, v in composed.items() if k not in names} | given


def defaults_of(stage: str) -> dict[str, Any]:
    """The stage's keys with their defaults; group choices by name, for --help."""
    data = config.load_yaml(config.shipped() / f"{stage}.yaml")
    choices: dict[str, Any] = {}
    for item in data.pop("defaults", []):
        if isinstance(item, dict):
            choices |= {k.removeprefix("optional ").removeprefix("override "): v for k, v in item.items()}
    return choices | config.load_yaml(config.shipped() / "common.yaml") | data


def register_tasks() -> None:
    """Make every task of sim/tasks a choice of the Hydra group `task`, so that a task is one Python file."""
    from hydra.core.config_store import ConfigStore

    from sim import tasks

    for name in tasks.names():
        ConfigStore.instance().store(group="task", name=name, node={"name": name})


def choices(group: str) -> list[str]:
    """The names that exist in a group."""
    if group == "task":
        from sim import tasks

        return sorted(tasks.names())
    return sorted(p.stem for p in (config.shipped() / group).glob("*.yaml"))


def check_groups(overrides: list[str]) -> None:
    """ConfigError with the nearest name when a group has no such choice."""
    for override in overrides:
        key, _, value = override.partition("=")
        if key in GROUPS and "," not in value and value not in (*choices(key), "null"):
            raise ConfigError(f"{key}={value}: there is no such {key}. {nearest(value, choices(key))}")


def _with_matching(stage: str, overrides: list[str]) -> list[str]:
    """Fill in the groups that follow from a choice: robot, recipe, network and suite from task, prior from robot.

    A recipe that is asked for by name brings the task and the prior of its name, where there are such.
    """
    chosen = dict(o.split("=", 1) for o in overrides if o.split("=", 1)[0] in GROUPS)
    defaults = defaults_of(stage)
    extra = [f"{group}={name}" for group, name in _of_recipe(chosen, defaults).items()]
    chosen |= dict(o.split("=", 1) for o in extra)
    task = chosen.get("task", defaults.get("task"))
    robot = chosen.get("robot", defaults.get("robot"))
    if task and "robot" in defaults and "robot" not in chosen:
        from sim import tasks

        robot = tasks.load_task(task).robot
        extra.append(f"robot={robot}")
    if defaults.get("dr") and "dr" not in chosen:
        names = [f"{robot}_{kind}" for kind in PRIORS.get(chosen.get("encoder", ""), ("default",))]
        extra.append(f"dr={next((name for name in names if name in choices('dr')), 'null')}")
    for group in ("recipe", "network"):
        if group in defaults and group not in chosen and task in choices(group):
            extra.append(f"{group}={task}")
    if stage in CHOSEN_BY["stress"] and "stress" not in chosen:
        from transfer.suites import suite_for

        extra.append(f"stress={suite_for(str(task))}")
    # Hydra has no word for "none of this group" but its deletion
    return [
        f"~{o.split('=')[0]}" if o.split("=")[0] in GROUPS and o.endswith("=null") else o for o in [*extra, *overrides]
    ]


def _of_recipe(chosen: Mapping[str, str], defaults: Mapping[str, Any]) -> dict[str, str]:
    """Group -> choice that a recipe on the command line brings with it; keys that are given have their way."""
    name = chosen.get("recipe", "")
    if name not in choices("task") or chosen.get("task", name) != name:
        return {}
    return {g: name for g in ("task", "dr") if g in defaults and g not in chosen and name in choices(g)}


class _one_sentence:
    """Hydra's and OmegaConf's errors as one sentence."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, (ConfigError, KeyboardInterrupt)):
            return
        if type(error).__module__.split(".")[0] in ("hydra", "omegaconf") or isinstance(error, ValueError):
            first = str(error).strip().splitlines()[0]
            raise ConfigError(f"terrafirma {self.stage}: {first}") from error


def _by_hydra(stage: str, overrides: list[str], flags: list[str]) -> int:
    """Hand the stage to Hydra's own main, for --multirun, --cfg, --info and completion."""
    import hydra
    from omegaconf import DictConfig, OmegaConf

    register_tasks()

    @hydra.main(config_path=str(config.shipped()), config_name=stage, version_base="1.3")
    def stage_main(composed: DictConfig) -> None:
        module = load_stage(stage)
        data = _plain(OmegaConf.to_container(composed, resolve=True))
        cfg = config.convert(module.Config, data, source=f"terrafirma {stage}")
        if cfg.out is None:
            from hydra.core.hydra_config import HydraConfig

            object.__setattr__(cfg, "out", Path(HydraConfig.get().runtime.output_dir))
        print(execute(stage, module, cfg))

    known: Callable[[], None] = stage_main
    folder = None
    if {"--multirun", "-m"} & set(flags):
        overrides, folder = _sweep_folder(stage, overrides)
    sys.argv = [f"terrafirma {stage}", *flags, *_with_matching(stage, overrides)]
    known()
    if folder is not None and folder.is_dir():
        from transfer.report.sweep_page import of_multirun

        print(of_multirun(folder))
    return 0


def _sweep_folder(stage: str, overrides: list[str]) -> tuple[list[str], Path]:
    """Where the jobs of a --multirun stand, one folder each: what out= says, not each job's own out."""
    given = next((o for o in overrides if o.startswith("++out=")), None)
    told = next((o for o in overrides if o.startswith("hydra.sweep.dir=")), None)
    if told is not None:
        return overrides, Path(told.partition("=")[2])
    stamp = datetime.now(timezone.utc).strftime("%Y-%m-%d_%Hh%Mm%S")
    folder = Path("multirun") / stage / stamp if given is None else Path(given.partition("=")[2].strip("'"))
    return [*(o for o in overrides if o is not given), f"hydra.sweep.dir='{folder}'"], folder

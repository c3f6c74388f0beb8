"""terrafirma <stage> key=value …: the console script.

The onboard stages (ONBOARD) are parsed here and need the edge dependencies alone; every other stage goes to
transfer/cli.py, imported only then. Every error a person can make is one sentence and an exit code:
0 ok, 2 usage, 3 gate refused, 4 data or bundle refused, 5 hardware fault.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from robot import completion, config, folders, run, stages
from robot.config import ConfigError, nearest
from robot.doctor import DoctorOptions, doctor
from robot.drive import Outcome
from robot.driver import DriverError
from robot.loop import CommanderLost

ONBOARD: dict[str, tuple[Any, Callable[[Any, dict[str, str]], Outcome], str]] = {
    "run": (run.RunOptions, run.run, "run a bundle on a robot"),
    "verify": (stages.VerifyOptions, stages.verify, "check a bundle"),
    "record": (stages.RecordOptions, stages.record, "move a robot with an excitation and record it"),
    "replay": (stages.ReplayOptions, stages.replay, "compare a bundle with a recorded run"),
    "doctor": (DoctorOptions, doctor, "say what is missing on this machine"),
}
"""stage -> its options, its function, what it does in one line. Stages with `driver` pass unknown keys on to it."""

SIMULATED = ("dr=", "posterior=", "robot=mjcf")
"""Words with which doctor looks at a randomization or a model file instead of the machine; that needs the simulator."""

HELP = """terrafirma: train in MuJoCo, correct it with minutes of real logs, ship one file that runs on the robot.

    terrafirma <stage> key=value …   [out=DIR] [seed=N] [quick=true]
    terrafirma <stage> --help        what it reads, writes and costs
    --config-dir DIR                 robots, priors, recipes, … of your own, in DIR/robot, DIR/dr, DIR/recipe
    --traceback                      show where an error came from

On the workstation also Hydra's --multirun, --cfg job, --info [searchpath]. Completion in the shell:

    eval "$(terrafirma -sc install=bash)"        or install=zsh, install=fish
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one stage; prints the path of its result.json last and returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("--help", "-h", "help"):
        print(top_help())
        return 0
    stage, rest = words[0], words[1:]
    if any(w.partition("=")[0] in completion.OPTIONS for w in words):
        return _completed(words)
    if "--traceback" in rest:
        rest.remove("--traceback")
        return _with_folders(stage, rest)
    try:
        return _with_folders(stage, rest)
    except ConfigError as error:
        return _fail(str(error), error.exit_code)
    except (DriverError, CommanderLost) as error:
        return _fail(str(error), 5)
    except OSError as error:
        return _fail(f"{error.filename or 'a file'}: {error.strerror or error}.", 2)
    except KeyboardInterrupt:
        return _fail("stopped by Ctrl-C.", 130)


def _completed(words: list[str]) -> int:
    """`-sc install=bash`, with or without a stage before it."""
    from transfer.cli import STAGES
    from transfer.composing import choices_of, defaults_of

    at = next(i for i, w in enumerate(words) if w.partition("=")[0] in completion.OPTIONS)
    value = words[at].partition("=")[2] or (words[at + 1] if at + 1 < len(words) else "")
    onboard = {name: options for name, (options, _, _) in ONBOARD.items()}
    try:
        print(completion.respond(value, completion.Stages(onboard, STAGES, defaults_of, choices_of)))
    except ConfigError as error:
        return _fail(str(error), error.exit_code)
    return 0


def call(stage: str, words: Sequence[str]) -> Path:
    """Run an onboard stage in this process as the command line would; returns the path of its result.json."""
    return _onboard(stage, list(words)).result


def top_help() -> str:
    """The stages, each in a line."""
    from transfer.cli import STAGES  # a table of text; imports nothing heavy

    lines = [f"    {name:<12}{text}" for name, text in STAGES.items()]
    onboard = [f"    {name:<12}{text}" for name, (_, _, text) in ONBOARD.items()]
    return "\n".join([HELP, "On the workstation (pip install 'terrafirma[train]'):", *lines, "", "Onboard:", *onboard])


def _with_folders(stage: str, words: list[str]) -> int:
    """Take each `--config-dir DIR` out of the words, and look there, too."""
    given, rest, queue = [], [], list(words)
    while queue:
        name, equals, value = queue.pop(0).partition("=")
        if name not in ("--config-dir", "-cd"):
            rest.append(name + equals + value)
            continue
        if not equals and not queue:
            raise ConfigError(f"{name} needs a folder: {name} DIR.")
        given.append(value if equals else queue.pop(0))
    with folders.added(given):
        return _dispatch(stage, rest)


def _dispatch(stage: str, words: list[str]) -> int:
    if stage not in ONBOARD or (stage == "doctor" and any(w.startswith(SIMULATED) for w in words)):
        return _transfer(stage, words)
    if "--help" in words or "-h" in words:
        _, function, _ = ONBOARD[stage]
        print(_dedent(function.__doc__ or ""))
        return 0
    outcome = _onboard(stage, words)
    print(outcome.summary)
    print(outcome.result)
    return outcome.exit_code


def _onboard(stage: str, words: list[str]) -> Outcome:
    cls, function, _ = ONBOARD[stage]
    options, extra = parse(cls, words, f"terrafirma {stage}")
    return function(options, extra)


def parse(cls: Any, words: Sequence[str], source: str) -> tuple[Any, dict[str, str]]:
    """`key=value` words as the options `cls`, and the keys left over for a driver where it has one."""
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise ConfigError(f"{source}: '{word}' is not key=value; --help lists the keys.")
        if key in given:
            raise ConfigError(f"{source}: '{key}' is given twice.")
        given[key] = value
    kinds = typing.get_type_hints(cls)
    known = {k: config.of_text(kinds[k], v, source, k) for k, v in given.items() if k in kinds}
    extra = {k: v for k, v in given.items() if k not in kinds}
    if extra and ("driver" not in kinds or "driver" not in given):
        key = next(iter(extra))
        raise ConfigError(f"{source}: unknown key '{key}'. {nearest(key, list(kinds))}")
    if extra:
        _check_driver_options(given["driver"], extra, list(kinds), source)
    return config.convert(cls, known, source), extra


def _check_driver_options(driver: str, extra: dict[str, str], kinds: list[str], source: str) -> None:
    from robot.driver import driver_options

    options = [o for o in driver_options(driver) if o not in kinds]
    for key in extra:
        if key not in options:
            hint = nearest(key, [*kinds, *options])
            raise ConfigError(f"{source}: unknown key '{key}', neither of the stage nor of driver '{driver}'. {hint}")


def _transfer(stage: str, words: list[str]) -> int:
    from transfer import cli

    if stage not in cli.STAGES:
        raise ConfigError(f"stage '{stage}' is unknown. {nearest(stage, [*cli.STAGES, *ONBOARD])}")
    try:
        return cli.main([stage, *words])
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"terrafirma {stage} needs the package '{error.name}', which is not installed: "
            "pip install 'terrafirma[train]'."
        ) from error


def _dedent(text: str) -> str:
    first, _, rest = text.partition("\n")
    return "\n".join([first, *(line.removeprefix("    ") for line in rest.splitlines())]).rstrip()


def _fail(sentence: str, code: int) -> int:
    print(sentence if sentence.startswith("terrafirma") else f"terrafirma: {sentence}", file=sys.stderr)
    return code

"""One folder, several hosts: a run's folder is written by one process, and the jobs of a sweep are each done once.

The same --multirun may be started on any number of hosts with one out= and resume=true: a job that is finished, or that
another process works at, is left to it; one whose process has died is taken over and goes on from its checkpoint.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robot import claims, config
from robot.config import ConfigError
from transfer.scale import torchrun

RESULT, SETTINGS = "result.json", "config.yaml"
FREE = ("out", "resume")
"""Keys of a stage's configuration that may differ between those who share its folder."""


@contextmanager
def held(stage: str, cfg: Any) -> Iterator[claims.Claim | None]:
    """The run's folder for this process alone; None where it is new anyway, or where processes share out its trials.

    claims.InUse tells who has it.
    """
    if cfg.out is None or getattr(cfg, "sweep", None) is not None:
        yield None
        return
    # rank 0 that died on another host cannot be seen from here, and torchrun has ended it before it started this one
    patience_s = claims.STALE_S + claims.BEAT_S if torchrun.started() and cfg.resume else 0.0
    with claims.claim(cfg.out, f"terrafirma {stage}", patience_s) as claim:
        yield claim


def job(stage: str, cfg: Any, run: Callable[[Any], Path]) -> Path:
    """run(cfg), the job of a sweep in its own folder cfg.out; with resume=true only if nobody else does or did it."""
    found = cfg.out / RESULT
    if not cfg.resume:
        return run(cfg)
    if found.is_file():
        check(cfg)
        return found
    try:
        return run(cfg)
    except claims.InUse as error:
        print(f"{error} It is left to that process.", file=sys.stderr, flush=True)
        return cfg.out


def check(cfg: Any) -> None:
    """ConfigError when a folder was made with other settings than these."""
    there, asked = config.load_yaml(cfg.out / SETTINGS), config.parse_yaml(config.dump_yaml(cfg), "this job")
    other = [key for key in asked if key not in FREE and there.get(key) != asked[key]]
    if other:
        raise ConfigError(f"{cfg.out} was made with another {', '.join(other)}: choose another out=.")

"""A stage in the processes that torchrun has started:

    torchrun --nproc-per-node=2 --no-python terrafirma pretrain encoder=physics robot=simple_pendulum out=runs/physics

torchrun tells each process who it is by the environment; what they do together is in policies/encoders/ranks.py.
Rank 0 alone writes, reports and prints. When a process ends, torchrun starts all of them again (--max-restarts), with
the same command: therefore it needs out=, and goes on there without being asked to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from robot.config import ConfigError

VARIABLE = "TORCHELASTIC_RUN_ID"
STAGES = ("pretrain",)


def started() -> bool:
    """Whether this process is one of torchrun's."""
    return VARIABLE in os.environ


def follows() -> bool:
    """Whether it is one of those that do not write."""
    return started() and os.environ.get("RANK", "0") != "0"


@contextmanager
def met(stage: str, cfg: Any) -> Iterator[Any]:
    """The configuration as the processes that work together run it; without torchrun, as it is.

    ConfigError for a stage whose work is not shared like this, and without out=.
    """
    if not started():
        yield cfg
        return
    if stage not in STAGES or cfg.study is not None:
        what = stage if stage not in STAGES else f"{stage} study="
        raise ConfigError(
            f"torchrun is for `terrafirma pretrain` of one encoder; start `terrafirma {what}` without it."
        )
    if cfg.out is None:
        raise ConfigError(
            "under torchrun pretrain needs out=DIR, one folder that all hosts see: there it goes on if a process ends."
        )
    from policies.encoders import ranks

    with ranks.joined() as team:
        yield replace(cfg, resume=team.any(cfg.resume or ranks.restarted()))

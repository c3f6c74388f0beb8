"""Measure speed, against others where there are any, in one run and in turns:

    terrafirma bench what=env                          # our environment, the bare Batch, EnvPool, gymnasium, SB3
    terrafirma bench what=env tasks=[ant] scaling=false
    terrafirma bench what=env backend=warp             # our environment on a GPU, beside the cores
    terrafirma bench what=tick                         # one tick of a controller onboard
    terrafirma bench what=render                       # labelled images, beside a bare renderer
    terrafirma bench what=identify                     # a minute of logs
    terrafirma bench what=train                        # where a training's time goes, beside Stable-Baselines3's PPO

Reads   nothing; peers that are not installed are named with their pip line (`pip install envpool`).
Writes  result.json with rows (median, least, greatest) and ratio (ours / peer), and a figure of the scaling.
Costs   what=env: about five minutes for the ant with all peers and the scaling, half a minute for each further task;
        the others a minute or two.
A quiet machine gives good rates; ratios are medians over rounds in which all took their turn, and bear more.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from robot.config import ConfigError
from robot.result import Run
from transfer.bench import WHAT
from transfer.cli import Common

VOLATILE = ("rows", "ratio", "ratios", "scaling", "missing", "figure", "threads", "device", "bundle")


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    what: Literal["env", "render", "tick", "identify", "train"] = "env"
    backend: Literal["cpu", "warp"] = "cpu"
    """env: where physics runs: MuJoCo on the cores, or MuJoCo Warp on a CUDA device (extra `gpu`)."""
    device: Literal["cuda", "cpu"] = "cuda"
    """backend=warp: `cpu` runs MuJoCo Warp's kernels on one core, a check and no measure of speed."""
    tasks: tuple[str, ...] | None = None
    """env: `ant`, or names of tasks; default: the ant, then every task. train: default pendulum and quadruped."""
    peers: tuple[str, ...] | None = None
    """env: envpool, sync, async (gymnasium), dummy, subproc (SB3); default: all on the ant, sync on the others."""
    simulations: int | None = None
    """env: of ours and the bare Batch; default: the fastest of 64, 256 and 1024."""
    threads: int | None = None
    """Default: all cores that this process may use."""
    bundle: Path | None = None
    """tick: whose; default: an untrained policy of 256 x 256."""
    scaling: bool = True
    """env: also 1 to 1024 simulations on 1 to all threads, of the first task."""


def run(cfg: Config, run: Run) -> dict[str, Any]:
    if cfg.backend == "warp" and cfg.what != "env":
        raise ConfigError(f"backend=warp is measured by what=env alone; what is '{cfg.what}'.")
    keys: dict[str, Any] = importlib.import_module(WHAT[cfg.what]).measure(cfg, run)
    return keys

"""`bench what=env backend=warp`: control steps a second of our environment on MuJoCo Warp.

Beside it, in turns and in one run: `bare`, the device's physics alone from the same states and parameters, with
nothing sent, fetched, observed or drawn; and `cpu`, our environment on all cores. What `ours / bare` falls short of 1
is what observations, rewards, resets and the copies of states cost.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from robot.config import ConfigError, nearest
from sim import tasks
from sim.engine import Backend
from sim.tasks.ant import ANT
from sim.warp import WarpBatch, cuda_device
from transfer.bench.measure import Contestant, Effort, cores, fastest, in_turns, row, spread, warm_up
from transfer.bench.ours import Arena, Ours

if TYPE_CHECKING:
    from transfer.stages.bench import Config

UNIT = "control steps/s"
TASKS = ("quadruped_velocity", "pendulum_swingup")
SIZES, CPU_SIZES, QUICK_SIZES = (1024, 4096, 16384), (256, 1024), (2,)
FULL, QUICK = Effort(rounds=7, seconds=1.0, warm_up_steps=20), Effort(rounds=5, seconds=0.01, warm_up_steps=1)
MOST_WARM_UP_S = 120.0
"""The first step on a device compiles its kernels."""


class Device:
    """The physics steps of `ours` alone, from where it stands and under the controls that it gave last."""

    def __init__(self, ours: Ours) -> None:
        batch = ours.core.plant.batch
        assert isinstance(batch, WarpBatch)
        self.simulations, self.setting = ours.simulations, ours.setting
        self._batch, self._substeps = batch, ours.core.plant.substeps

    def play(self, steps: int) -> None:
        self._batch.advance(steps * self._substeps)

    def close(self) -> None:
        """Nothing to end: the device's memory goes with the WarpBatch."""


def measure(cfg: Config) -> dict[str, Any]:
    """Keys of result.json; `ratio` is that of the first task."""
    names, known = cfg.tasks or TASKS, [ANT.name, *tasks.names()]
    for name in names:
        if name not in known:
            raise ConfigError(f"tasks names '{name}'. {nearest(name, known)}")
    backend: Backend = "warp" if cfg.device == "cuda" else "warp_on_cpu"
    device = cuda_device() if backend == "warp" else "cpu"
    rows: list[dict[str, Any]] = []
    ratios: dict[str, dict[str, dict[str, float]]] = {}
    for name in names:
        print(f"bench: {name} on {device}", file=sys.stderr, flush=True)
        rates, settings = _contest(name, cfg, backend)
        rows += [row(f"{name}/{k}", UNIT, values, setting=settings[k]) for k, values in rates.items()]
        ratios[name] = {k: spread(rates["ours"] / values) for k, values in rates.items() if k != "ours"}
    ratio = {peer: value["median"] for peer, value in ratios[names[0]].items()}
    return {"threads": cfg.threads or cores(), "device": device, "rows": rows, "ratios": ratios, "ratio": ratio,
            "missing": []}  # fmt: skip


def _contest(name: str, cfg: Config, backend: Backend) -> tuple[dict[str, Any], dict[str, str]]:
    """Rates and set-ups by contestant on one task."""
    arena, effort, threads = Arena.of(name), QUICK if cfg.quick else FULL, cfg.threads or cores()
    sizes = (cfg.simulations,) if cfg.simulations else QUICK_SIZES if cfg.quick else SIZES
    on_cpu = (cfg.simulations,) if cfg.simulations else QUICK_SIZES if cfg.quick else CPU_SIZES
    ours = fastest([partial(Ours, arena, n, threads, cfg.seed, backend) for n in sizes], effort)
    assert isinstance(ours, Ours)
    warm_up(ours, Effort(rounds=5, seconds=0.0, warm_up_steps=effort.warm_up_steps, warm_up_s=MOST_WARM_UP_S))
    cpu = fastest([partial(Ours, arena, n, threads, cfg.seed) for n in on_cpu], effort)
    field: dict[str, Contestant] = {"ours": ours, "bare": Device(ours), "cpu": cpu}
    return in_turns(field, effort), {k: c.setting for k, c in field.items()}

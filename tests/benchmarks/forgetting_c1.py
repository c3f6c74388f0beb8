"""Forgetting: what adapting an encoder to real recordings costs in simulation, guard by guard.

    TERRAFIRMA_REAL_LOGS=<recordings> python tests/benchmarks/forgetting_c1.py [out.json] [folder=DIR]

The encoder of encoder_c1.py's last fold, pretrained in simulation (made when `folder` does not hold it), is adapted to
real, unlabelled windows of the recordings that the fold knows, under each guard and with three seeds, and judged on the
recordings that it does not: held-out prediction error, and the probes on simulated robots (next_state, and the mean R
squared of the readable parameters, the joint zeros), before and after. Guards are compared after the same number of
updates, so nothing is stopped early here; that an adaptation would be rolled back is told, and it is probed all the
same. Intervals: Student's t over seeds. Costs about four minutes on two idle cores when the encoder is there.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from encoder_c1 import CONFIG, FOLDS, fitted, trained

from policies.encoders.adapt import AdaptConfig, adapt
from policies.encoders.guards import GUARDS, GuardConfig, Method
from policies.encoders.heads import Heads
from policies.encoders.physics import PhysicsEncoder
from policies.encoders.probes import probe
from policies.encoders.windows import WindowData, join
from robot.log import EpisodeLog
from robot.result import mean_ci
from sim.model import Model, find_robot
from transfer.formats import csv
from transfer.innovations import Foreteller, innovation_windows, window_rows

FOLD = 3
SEEDS = (0, 1, 2)
WINDOWS = 150
"""Of each recording."""
PROBED = 2000
"""Simulated windows that probes are fitted on, and as many that judge."""
READABLE = 0.3
"""Parameters whose probe is below this before adaptation are not in the mean: there is nothing to forget."""
UPDATES, BATCH = 150, 64


@dataclass(frozen=True)
class Bench:
    """One pretrained encoder and the data around it."""

    encoder: PhysicsEncoder
    heads: Heads
    replay: WindowData
    probed: tuple[WindowData, WindowData]
    """Simulated windows that probes are fitted on and judged by."""
    real: WindowData
    held_out: WindowData


def real_windows(
    logs: list[EpisodeLog], foreteller: Foreteller, rng: np.random.Generator
) -> tuple[WindowData, WindowData]:
    """Windows of recordings that the fold knows, in one group so that none is kept to stop by, and of the others."""
    size = replace(CONFIG, windows=WINDOWS)
    known: list[WindowData] = []
    other: list[WindowData] = []
    for number, log in enumerate(logs):
        rows = foreteller.rows(log)
        if len(rows.t) > size.horizon + 1:
            held_out = log.name in FOLDS[FOLD]
            (other if held_out else known).append(window_rows(rows, size, rng, number if held_out else 0))
    return join(known), join(other)


def fewer(data: WindowData) -> WindowData:
    """About PROBED of the windows."""
    return data.take(np.arange(0, len(data), max(len(data) // PROBED, 1)))


def scores(bench: Bench, encoder: PhysicsEncoder, heads: Heads) -> dict[str, float]:
    """Probe -> score."""
    return {name: p["score"] for name, p in probe(encoder, heads, *bench.probed).items()}


def one(bench: Bench, before: dict[str, float], method: Method, seed: int) -> dict[str, float]:
    """What one adaptation gains on recordings and loses in simulation."""
    config = AdaptConfig(guard=GuardConfig(method=method), updates=UPDATES, batch=BATCH)
    result = adapt(bench.encoder, bench.heads, bench.real, bench.held_out, bench.replay, config, seed=seed)
    after = scores(bench, *result.tried)
    read = [name for name, score in before.items() if name.startswith("parameter/") and score >= READABLE]
    was, now = (float(np.mean([s[name] for name in read])) for s in (before, after))
    return {
        "real_before": float(result.before.mean()),
        "real_after": float(result.after.mean()),
        "real_change_percent": 100.0 * float(result.after.mean() / result.before.mean() - 1.0),
        "kept": float(result.kept),
        "next_state_before": before["next_state"],
        "next_state_after": after["next_state"],
        "next_state_lost_percent": 100.0 * (1.0 - after["next_state"] / before["next_state"]),
        "parameters_before": was,
        "parameters_after": now,
        "parameters_lost_percent": 100.0 * (1.0 - now / was),
        "updates": float(result.tuned.best),
    }


def main(out: Path | None, folder: Path) -> dict[str, Any]:
    """Print the table, return (and write) its figures."""
    torch.set_num_threads(1)
    robot = find_robot("double_pendulum_c1")
    source = Path(os.environ["TERRAFIRMA_REAL_LOGS"]) / "double_pendulum" / "c1"
    found = [r.log for path in sorted(source.glob("*/*.csv.gz")) for r in csv.read(path, robot.spec)]
    logs = [log for log in found if log is not None]
    known = [log for log in logs if log.name not in FOLDS[FOLD]]
    law = fitted(folder, known, robot, FOLD, quick=False)
    encoder, heads = trained(folder, known, robot, law, FOLD, 0, quick=False)
    simulated = innovation_windows(known, Model(robot), law, CONFIG, seed=0, nthread=1)
    replay, test = simulated.split(CONFIG.held_out, np.random.default_rng(0))  # as pretraining split them
    foreteller = Foreteller(Model(robot), law, nthread=1)
    rows: dict[str, list[dict[str, float]]] = {method: [] for method in GUARDS}
    for seed in SEEDS:
        real, held_out = real_windows(logs, foreteller, np.random.default_rng(seed))
        bench = Bench(encoder, heads, replay, (fewer(replay), fewer(test)), real, held_out)
        before = scores(bench, encoder, heads)
        for method, done in rows.items():
            done.append(one(bench, before, method, seed))  # type: ignore[arg-type]
            print(seed, method, {k: round(v, 4) for k, v in done[-1].items()}, flush=True)
    result = {method: {key: mean_ci([r[key] for r in done]) for key in done[0]} for method, done in rows.items()}
    if out is not None:
        out.write_text(json.dumps(result, indent=1))
    return result


if __name__ == "__main__":
    named = dict(a.split("=", 1) for a in sys.argv[1:] if "=" in a)
    plain = [a for a in sys.argv[1:] if "=" not in a]
    main(Path(plain[0]) if plain else None, Path(named.get("folder", "runs/encoder_c1")))

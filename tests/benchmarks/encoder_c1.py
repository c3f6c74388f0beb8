"""Recordings of design C.1 predicted by the identified simulator, alone and with an encoder's context.

    TERRAFIRMA_REAL_LOGS=<recordings> python tests/benchmarks/encoder_c1.py [out.json] [folder=DIR] [seeds=N] [quick]

Four folds, so that each of the twelve recordings (excitations and closed loop) is held out once. In each fold the
simulator is identified on the other nine, and an encoder of innovations is trained around that estimate along the same
nine. On the held-out files the context before each window comes from the file's past alone, causally; simulator alone
and simulator with context are scored on the same windows, those with such a past. `from_2.5_s` is the strict variant:
the context comes from the first 2.5 s, and only later windows are scored, so no row is both read and scored.
Differences are paired by window; intervals by bootstrap over windows within files, and over whole files. `folder`
keeps fits and encoders for the next run. Costs about 12 minutes on two idle cores (`quick`: two).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from policies.encoders.heads import Heads
from policies.encoders.physics import EncoderConfig, PhysicsEncoder
from policies.encoders.pretrain import pretrain
from robot import config
from robot.log import EpisodeLog
from sim import randomization
from sim.model import Model, RobotConfig, find_robot
from sim.randomization import Randomization
from transfer.context_prediction import Contextual, evaluate_with_context, load
from transfer.formats import csv
from transfer.identify import QUICK, identify
from transfer.innovations import card_of, innovation_windows
from transfer.prediction import Prediction, difference, pooled

FOLDS = (
    ("143339", "143906", "pendubot-sac_lqr-01"),
    ("143524", "144003", "pendubot-sac_lqr-03"),
    ("143704", "154220", "pendubot-mcpilco-01"),
    ("143747", "acrobot-ilqr_tvlqr_lqr-01", "pendubot-ilqr_tvlqr_lqr-02"),
)
CONFIG = EncoderConfig(
    history=48, span=1, context=40, horizon=4, simulations=1500, windows=8, grounding=1000, updates=200,
    learning_rate=2e-3, base=False,
)  # fmt: skip
STRICT_S = 2.5
LONGEST_S = 1.5
"""What must follow for a window to be scored, and a little more."""
FILES = 2000
"""Bootstrap draws of whole files."""


@dataclass(frozen=True)
class Pair:
    """The same windows with the context and without it."""

    given: Prediction
    alone: Prediction

    def rows(self, rng: np.random.Generator) -> dict[str, Any]:
        """Figures of all windows at each horizon."""
        out = {}
        for h, seconds in enumerate(self.given.horizons_s):
            out[f"{seconds:.1f}"] = {
                "alone": self.alone.position_rmse(h),
                "with_context": self.given.position_rmse(h),
                "difference": difference(self.given, self.alone, seconds, rng),
                "by_file": by_file(self.given, self.alone, h, rng),
            }
        return out

    def of(self, files: Sequence[int]) -> Pair:
        """The windows of some files."""
        windows = np.flatnonzero(np.isin(self.given.file, files))
        return Pair(self.given.of(windows), self.alone.of(windows))


def by_file(a: Prediction, b: Prediction, h: int, rng: np.random.Generator) -> dict[str, Any]:
    """Pooled RMSE of `a` less that of `b` [rad]; bootstrap over files, each with all its windows."""
    files = np.unique(a.file)
    sums = np.array([[p.position[h, p.file == f].sum() for f in files] for p in (a, b)])
    rows = np.array([a.rows[h, a.file == f].sum() * len(a.joints) for f in files])

    def gap(chosen: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        first, second = np.sqrt(sums[:, chosen].sum(axis=-1) / rows[chosen].sum(axis=-1))
        return np.asarray(first - second)

    low, high = np.quantile(gap(rng.integers(len(files), size=(FILES, len(files)))), [0.025, 0.975])
    return {"mean": float(gap(np.arange(len(files)))), "ci95": [float(low), float(high)], "n": len(files)}


def fitted(folder: Path, logs: list[EpisodeLog], robot: RobotConfig, fold: int, quick: bool) -> Randomization:
    """The posterior of one fold, from `folder` where it is known."""
    path = folder / f"fit{fold}.yaml"
    if not path.exists():
        effort = QUICK if quick else None
        config.save(path, identify(logs, Model(robot), effort=effort, nthread=1).posterior)
    return randomization.load(path)


def trained(
    folder: Path, logs: list[EpisodeLog], robot: RobotConfig, law: Randomization, fold: int, seed: int, quick: bool
) -> tuple[PhysicsEncoder, Heads]:
    """The encoder of one fold and seed."""
    out = folder / f"encoder{fold}-{seed}"
    if not (out / "encoder.yaml").exists():
        size = replace(CONFIG, simulations=200, grounding=100, updates=30) if quick else CONFIG
        data = innovation_windows(logs, Model(robot), law, size, seed=seed, nthread=1)
        pretrain(data, card_of(robot.spec, size), size, out, seed=seed)
    return load(out)


def predictions(folder: Path, logs: list[EpisodeLog], robot: RobotConfig, seed: int, quick: bool) -> dict[str, Pair]:
    """Variant -> all held-out windows of all folds."""
    parts: dict[str, list[Pair]] = {"causal": [], f"from_{STRICT_S}_s": []}
    for fold, held_out in enumerate(FOLDS):
        known = [log for log in logs if log.name not in held_out]
        law = fitted(folder, known, robot, fold, quick)
        pair = trained(folder, known, robot, law, fold, seed, quick)
        for log in logs:
            if log.name not in held_out:
                continue
            for name, until in (("causal", None), (f"from_{STRICT_S}_s", STRICT_S)):
                if until is not None and log.seconds < until + LONGEST_S:
                    continue
                both = evaluate_with_context([log], Model(robot), law, *pair, until_s=until, nthread=1)
                parts[name] += scored(both)
                if parts[name] and name == "causal":
                    print(f"  {log.name}: {told(parts[name][-1])}", flush=True)
    return {
        name: Pair(pooled([p.given for p in pairs]), pooled([p.alone for p in pairs])) for name, pairs in parts.items()
    }


def scored(both: Contextual) -> list[Pair]:
    """The windows with a past; none where a recording is too short."""
    return [Pair(*both.scored())] if (both.told.rows > 0).any() else []


def told(pair: Pair) -> str:
    """Position RMSE [rad] at the horizons, alone and with the context."""
    figures = [" / ".join(f"{p.position_rmse(h):.4f}" for h in range(3)) for p in (pair.alone, pair.given)]
    return f"alone {figures[0]}   with context {figures[1]}   {len(pair.given.file)} windows"


def main(out: Path | None, folder: Path, seeds: int, quick: bool) -> dict[str, Any]:
    """Print the tables, return (and write) their figures."""
    torch.set_num_threads(1)
    robot = find_robot("double_pendulum_c1")
    source = Path(os.environ["TERRAFIRMA_REAL_LOGS"]) / "double_pendulum" / "c1"
    found = [r.log for path in sorted(source.glob("*/*.csv.gz")) for r in csv.read(path, robot.spec)]
    logs = [log for log in found if log is not None]
    folder.mkdir(parents=True, exist_ok=True)
    rng, result = np.random.default_rng(0), dict[str, Any]()
    for seed in range(seeds):
        for variant, pair in predictions(folder, logs, robot, seed, quick).items():
            excitations = [i for i, name in enumerate(pair.given.files) if name.isdigit()]
            others = [i for i in range(len(pair.given.files)) if i not in excitations]
            kinds = {"all": pair, "sysid": pair.of(excitations), "closed_loop": pair.of(others)}
            for kind, part in kinds.items():
                result[f"seed {seed}, {variant}, {kind}"] = part.rows(rng)
                print(f"seed {seed}, {variant}, {kind}: {told(part)}")
                for horizon, row in result[f"seed {seed}, {variant}, {kind}"].items():
                    for way in ("difference", "by_file"):
                        low, high = row[way]["ci95"]
                        print(f"   {horizon} s {way:10s} {row[way]['mean']:+.4f} [{low:+.4f}, {high:+.4f}]", flush=True)
            result[f"seed {seed}, {variant}, files"] = {
                name: pair.of([i]).rows(rng) for i, name in enumerate(pair.given.files)
            }
    if out is not None:
        out.write_text(json.dumps(result, indent=1))
    return result


if __name__ == "__main__":
    named = dict(a.split("=", 1) for a in sys.argv[1:] if "=" in a)
    plain = [a for a in sys.argv[1:] if "=" not in a and a != "quick"]
    main(
        Path(plain[0]) if plain else None,
        Path(named.get("folder", "runs/encoder_c1")),
        int(named.get("seeds", "1")),
        "quick" in sys.argv,
    )

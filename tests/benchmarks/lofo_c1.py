"""Leave-one-file-out on real logs: does the identified simulator predict a recording that it has not seen?

    TERRAFIRMA_REAL_LOGS=<recordings> python tests/benchmarks/lofo_c1.py [out.json] [quick]

Each of the six 10 s excitations of design C.1 is predicted by a simulator identified on the other recordings of
that folder (the 6 s swing-up 154220 always among them), and by the published models C.1 1.0 and 2.0. The held-out
file's joint zeros are not fitted: it is scored with zero 0; a row of its own tells what its first 2.5 s, which are
then not scored, say of them, where the rule of transfer/own.py takes it. Then one identification on all seven is scored
on the closed-loop recordings, in the same ways. Differences are paired by window, their intervals bootstrapped over
windows within files.
Costs about six minutes on two idle cores (`quick`: one).
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot.log import EpisodeLog
from sim.model import Model, RobotConfig, find_robot
from sim.randomization import Randomization, load
from transfer.formats import csv
from transfer.identify import QUICK, Effort, identify
from transfer.own import find_own
from transfer.prediction import Prediction, difference, evaluate, hold_still, pooled

SWINGUP = "154220"
PUBLISHED = ("1.0", "2.0")
HORIZONS = (0.1, 0.5, 1.0)
ADAPT_S = 2.5


def recordings(folder: Path, robot: RobotConfig) -> list[EpisodeLog]:
    """All episodes of a folder of CSV files."""
    logs = [r.log for path in sorted(folder.glob("*.csv.gz")) for r in csv.read(path, robot.spec)]
    return [log for log in logs if log is not None]


def published(model: str) -> Randomization:
    """A published parameter set of design C.1."""
    return load(Path(__file__).parents[2] / "configs" / "model" / f"published_c1_{model}.yaml")


@dataclass(frozen=True)
class HeldOut:
    """Predictions of files that the fit had not seen, pooled."""

    zero: Prediction
    """With zero 0."""
    late: Prediction
    """The same from 2.5 s on."""
    adapted: Prediction
    """The same with the zero that the first 2.5 s told, or zero 0 where that was refused."""
    refused: list[str]
    """Recordings whose zero was refused."""
    seconds: list[float]
    """CPU seconds of all threads that each fit took."""


def score(logs: list[EpisodeLog], robot: RobotConfig, law: Randomization, seconds: list[float]) -> HeldOut:
    """Predictions of recordings that `law` was not fitted to."""
    own = find_own(logs, Model(robot), law, ADAPT_S)
    zeros = {name: found.zero for name, found in own.items() if found.zero is not None}
    return HeldOut(
        zero=evaluate(logs, Model(robot), law),
        late=evaluate(logs, Model(robot), law, from_s=ADAPT_S),
        adapted=evaluate(logs, Model(robot), law, zeros=zeros, from_s=ADAPT_S),
        refused=[name for name in own if name not in zeros],
        seconds=seconds,
    )


def leave_one_file_out(logs: list[EpisodeLog], robot: RobotConfig, effort: Effort) -> HeldOut:
    """Predictions of each excitation by what the others told."""
    parts = []
    for held_out in logs:
        if held_out.name == SWINGUP:
            continue
        began = time.process_time()
        found = identify([log for log in logs if log is not held_out], Model(robot), effort=effort)
        parts.append(score([held_out], robot, found.posterior, [time.process_time() - began]))
        print(f"  {held_out.name}: {rows(parts[-1])}  fitted in {parts[-1].seconds[0]:.0f} CPU s", flush=True)
    return HeldOut(
        zero=pooled([p.zero for p in parts]),
        late=pooled([p.late for p in parts]),
        adapted=pooled([p.adapted for p in parts]),
        refused=[name for p in parts for name in p.refused],
        seconds=[s for p in parts for s in p.seconds],
    )


def rows(found: HeldOut) -> str:
    """Its three predictions in one line."""
    refused = f" (refused: {', '.join(found.refused)})" if found.refused else ""
    return f"{row(found.zero)}; from {ADAPT_S} s {row(found.late)}, own zero {row(found.adapted)}{refused}"


def row(prediction: Prediction) -> str:
    """Position RMSE [rad] at the three horizons."""
    return " / ".join(f"{prediction.position_rmse(h):.4f}" for h in range(len(HORIZONS)))


def figures(prediction: Prediction) -> dict[str, float]:
    return {f"{s:.1f}": prediction.position_rmse(h) for h, s in enumerate(HORIZONS)}


def told(found: HeldOut) -> dict[str, Any]:
    """Figures of what a recording's first seconds told."""
    return {
        "from_2.5_s": figures(found.late),
        "from_2.5_s_own_zero": figures(found.adapted),
        "zero_refused": found.refused,
    }


def main(out: Path | None, effort: Effort) -> dict[str, Any]:
    """Print the tables, return (and write) their figures."""
    folder = Path(os.environ["TERRAFIRMA_REAL_LOGS"]) / "double_pendulum" / "c1"
    robot = find_robot("double_pendulum_c1")
    rng = np.random.default_rng(0)
    logs = recordings(folder / "sysid", robot)
    six = [log for log in logs if log.name != SWINGUP]
    print("position RMSE [rad] at 0.1 / 0.5 / 1.0 s\nleave one file out:")
    held_out = leave_one_file_out(logs, robot, effort)
    ours = held_out.zero
    result: dict[str, Any] = {"identified": figures(ours), "fit_cpu_seconds": held_out.seconds}
    result |= told(held_out)
    print(f"identified      {rows(held_out)}\nhold still      {row(hold_still(six, robot.spec))}")
    for model in PUBLISHED:
        theirs = pooled([evaluate([log], Model(robot), published(model)) for log in six])
        gaps = {f"{s:.1f}": difference(ours, theirs, s, rng) for s in HORIZONS}
        result[f"published_{model}"] = {"position_rmse": figures(theirs), "difference": gaps}
        print(f"published {model}   {row(theirs)}")
        for horizon, gap in gaps.items():
            low, high = gap["ci95"]
            print(f"   identified - published at {horizon} s: {gap['mean']:+.4f} [{low:+.4f}, {high:+.4f}]")
    closed = recordings(folder / "closed_loop", robot)
    found = identify(logs, Model(robot), effort=effort)
    loop = score(closed, robot, found.posterior, [])
    result["closed_loop"] = {"identified": figures(loop.zero)} | told(loop)
    print(f"closed loop, identified on all seven excitations:\nidentified      {rows(loop)}")
    for model in PUBLISHED:
        theirs = pooled([evaluate([log], Model(robot), published(model)) for log in closed])
        gap = difference(loop.zero, theirs, 0.5, rng)
        result["closed_loop"][f"published_{model}"] = {"position_rmse": figures(theirs), "difference": gap}
        print(f"published {model}   {row(theirs)}; identified - published at 0.5 s: {gap['mean']:+.4f} {gap['ci95']}")
    if out is not None:
        out.write_text(json.dumps(result, indent=1))
    return result


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "quick"]
    main(Path(arguments[0]) if arguments else None, QUICK if "quick" in sys.argv else Effort())

"""How often the 95 % intervals of an identification hold the truth, over surrogate robots whose truth is known.

    python tests/benchmarks/coverage.py simple_pendulum out=runs/coverage count=40
    python tests/benchmarks/coverage.py double_pendulum_c1 out=runs/coverage count=20

Each surrogate (sim/truths.py) is recorded six times for ten seconds, as `record driver=surrogate` does, and identified
by the recipe that `identify` has. Pooled over the parameters that were called identified, the share of intervals that
hold the truth must be 95 % within its Wilson interval; delays must be right within a millisecond. A row a surrogate is
written as it is done, so that an interrupted run goes on.

Torque, mass and friction scale together, so estimates are in units of the first motor's gain: the truth is brought
there too. Effects that the recipe has no parameter for (jitter, lost commands, a torque that falls with speed) stay in.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from robot.result import wilson
from sim import truths
from sim.model import Model, RobotConfig, find_robot
from sim.surrogate import record_episode
from transfer.identify import identify

EPISODES, SECONDS = 6, 10.0
AMPLITUDE = {"simple_pendulum": 0.5, "double_pendulum_c1": 0.2}
"""Share of the full torque; with much more a double pendulum runs into its velocity limit, and the recording ends."""
KINDS = ("chirp", "prbs")
SCALED = ("mass", "inertia", "rotor_inertia", "damping", "frictionloss", "armature", "stribeck_friction")
"""Quantities that are estimated in units of the first motor's gain."""


def truth_of(robot: RobotConfig, number: int) -> dict[str, float]:
    """Target -> value of a surrogate, in the units of the estimates."""
    model = Model(robot)
    values = {t: float(v[0]) for t, v in truths.truth(model, number).center(model).items()}
    unit = values.get(f"actuator/{robot.spec.actuators[0].name}/gain", 1.0)
    out = {}
    for name in model.available():
        quantity = name.rsplit("/", 1)[1]
        value = values.get(name, model.nominal(name))
        out[name] = value / unit if quantity in SCALED or quantity == "gain" else value
    return out


def one(robot: RobotConfig, number: int) -> dict[str, Any]:
    """Record, identify and compare one surrogate."""
    logs = [
        record_episode(
            robot, KINDS[k % 2], SECONDS, truth=number, seed=100 * number + k, amplitude=AMPLITUDE[robot.spec.name]
        )
        for k in range(EPISODES)
    ]
    began = time.process_time()
    fit = identify(logs, Model(robot))
    truth = truth_of(robot, number)
    inside = {}
    for name, found in fit.parameters.items():
        if found["identified"] and name in truth:
            low, high = found["ci95"]
            inside[name] = [low, truth[name], high, found["estimate"]]
    late = sum(truth[f"timing/command/{q}"] for q in ("delay", "lag")) + 0.5 * truth["timing/command/jitter"]
    return {
        "truth": number,
        "cpu_seconds": time.process_time() - began,
        "parameters": inside,
        "delay_error_ms": fit.delay_ms["mean"] - 1e3 * late,
        "delay_ci95": fit.delay_ms["ci95"],
        "rms_rad": fit.rms_rad,
        "converged": fit.converged,
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Coverage pooled and by parameter, and the errors of the delay."""
    found = [(name, v[0] <= v[1] <= v[2]) for row in rows for name, v in row["parameters"].items()]
    names = sorted({name for name, _ in found})
    each = {n: wilson(sum(ok for m, ok in found if m == n), sum(m == n for m, _ in found)) for n in names}
    errors = np.abs([row["delay_error_ms"] for row in rows])
    return {
        "coverage": wilson(sum(ok for _, ok in found), len(found)),
        "by_parameter": each,
        "delay_error_ms": {"median": float(np.median(errors)), "max": float(errors.max())},
        "delays_within_1_ms": wilson(int((errors <= 1.0).sum()), len(errors)),
        "cpu_seconds": float(np.median([row["cpu_seconds"] for row in rows])),
    }


def main(name: str, out: Path, count: int) -> dict[str, Any]:
    """Go on with the rows that `out` has."""
    robot = find_robot(name)
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{name}.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    for number in range(len(rows), count):
        rows.append(one(robot, number))
        with file.open("a") as stream:
            stream.write(json.dumps(rows[-1]) + "\n")
        print(
            f"{name} {number}: {rows[-1]['cpu_seconds']:.0f} CPU s, delay {rows[-1]['delay_error_ms']:+.2f} ms",
            flush=True,
        )
    result = summary(rows)
    (out / f"{name}.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))
    return result


if __name__ == "__main__":
    options = dict(word.split("=", 1) for word in sys.argv[2:])
    main(sys.argv[1], Path(options.get("out", "runs/coverage")), int(options.get("count", "40")))

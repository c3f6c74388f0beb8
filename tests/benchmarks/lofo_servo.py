"""Leave-one-trajectory-out on the XL330 rig: friction models M1 to M6, supply that sags, delay; over whole recordings.

    TERRAFIRMA_REAL_LOGS=<recordings> python tests/benchmarks/lofo_servo.py [out.json] [models=M1,M3+sag]

Both recordings of a trajectory, at both P gains, are held out at once, so that no fit has seen the motion that it is
scored on. The published parameter set (M6) is scored beside. Mean absolute error over six seconds open loop, as
`mae_full` of `evaluate`, in rad.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from held_out import figures, folder, leave_one_out, published, recordings, save

from sim.model import Model, find_robot
from transfer.friction_models import unknowns_of
from transfer.identify import Effort
from transfer.prediction import evaluate, pooled, whole_episodes

MODELS = ("M1", "M2", "M3", "M4", "M5", "M6", "M1+sag", "M2+sag", "M3+sag", "M4+sag", "M5+sag", "M6+sag")


def main(out: str, models: tuple[str, ...], effort: Effort) -> dict[str, Any]:
    """Print the table, return (and write) its figures."""
    robot = find_robot("servo_bench")
    logs = recordings(sorted(folder("xl330").glob("*.json.gz")), robot.spec)
    result: dict[str, Any] = {"published_m6": whole_episodes(logs, Model(robot), published("servo_bench_m6"))}
    print("published M6", result["published_m6"]["mae_full"])
    for name in models:
        files, parts, late = {}, [], []
        found = leave_one_out(
            logs, robot, effort, lambda model, n=name: unknowns_of(model, n, False), lambda log: log.meta["trajectory"]
        )
        for log, fit, _ in found:
            files |= whole_episodes([log], Model(robot), fit.posterior)["mae_full_files"]
            parts.append(evaluate([log], Model(robot), fit.posterior))
            late.append(fit.delay_ms["mean"])
        errors = np.array(list(files.values()))
        rng = np.random.default_rng(0)
        low, high = np.quantile(
            errors[rng.integers(len(errors), size=(2000, len(errors)))].mean(axis=1), [0.025, 0.975]
        )
        result[name] = {
            "mae_full": {"mean": float(errors.mean()), "ci95": [float(low), float(high)], "n": len(errors)},
            "files": files, "prediction": figures(pooled(parts)), "delay_ms": float(np.median(late)),
        }  # fmt: skip
        print(name, result[name]["mae_full"], {k[-5:]: round(v, 3) for k, v in files.items()}, flush=True)
        save(out, result)
    return result


if __name__ == "__main__":
    options = [a for a in sys.argv[1:] if a.startswith("models=")]
    paths = [a for a in sys.argv[1:] if "=" not in a]
    chosen = tuple(options[0].removeprefix("models=").split(",")) if options else MODELS
    main(paths[0] if paths else "", chosen, Effort(windows=80))

"""The ODrive rig: steady speed at 0.25 V by a model identified on the other recordings, and its time constant.

    TERRAFIRMA_REAL_LOGS=<recordings> python tests/benchmarks/motor_bench.py [out.json]

The published fit is 4.506 turn/s; the recordings themselves stand at 4.52.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from held_out import figures, folder, leave_one_out, recordings, save

from sim.model import Model, find_robot
from sim.plant import Plant
from sim.randomization import Randomization
from transfer.identify import Effort
from transfer.prediction import evaluate, pooled

VOLTS = 0.25


def steady_speed(robot: str, law: Randomization) -> float:
    """[turn/s] after a second at VOLTS."""
    model = Model(find_robot(robot))
    plant = Plant(model, 1, timestep_s=0.001, period_s=0.01, nthread=1)
    plant.set({k: v for k, v in law.center(model).items() if not k.startswith("timing/")})
    plant.reset(np.zeros((1, 1)), np.zeros((1, 1)))
    for _ in range(100):
        plant.step(np.full((1, 1), VOLTS))
    return float(plant.velocity[0, 0] / (2 * np.pi))


def main(out: str) -> dict[str, Any]:
    """Print the table, return (and write) its figures."""
    robot = find_robot("motor_bench")
    logs = recordings(sorted(folder("odrive_bldc").glob("*.csv")), robot.spec)
    result: dict[str, Any] = {"files": {}}
    parts = []
    for log, fit, _ in leave_one_out(logs, robot, Effort()):
        constant = fit.parameters["motor/motor/time_constant"]
        parts.append(evaluate([log], Model(robot), fit.posterior))
        result["files"][log.name] = {
            "steady_turn_per_s": steady_speed("motor_bench", fit.posterior), "time_constant": constant,
            "prediction": figures(parts[-1]), "delay_ms": fit.delay_ms,
        }  # fmt: skip
        print(log.name, result["files"][log.name], flush=True)
    result["prediction"] = figures(pooled(parts))
    return save(out, result)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")

"""The simple pendulum's energy shaping: identified on its first half, does it foretell the second better than anybody?

    TERRAFIRMA_REAL_LOGS=<recordings> python tests/benchmarks/simple_pendulum.py [out.json]

Against every published parameter set, paired by window.
"""

from __future__ import annotations

import sys
from typing import Any

from held_out import MODELS, figures, folder, gaps, interval, part, published, recordings, row, save

from sim.model import Model, find_robot
from transfer.identify import Effort, identify
from transfer.prediction import evaluate


def main(out: str) -> dict[str, Any]:
    """Print the table, return (and write) its figures."""
    robot = find_robot("simple_pendulum")
    log = recordings([folder("simple_pendulum", "energy_shaping.csv.gz")], robot.spec)[0]
    half = log.seconds / 2.0
    first, second = part(log, 0.0, half, "first"), part(log, half, log.seconds + 1.0, "second")
    fit = identify([first], Model(robot), effort=Effort())
    ours = evaluate([second], Model(robot), fit.posterior)
    print(f"identified {row(ours)}; delay {fit.delay_ms}")
    result: dict[str, Any] = {"identified": figures(ours), "delay_ms": fit.delay_ms, "published": {}}
    for path in sorted(MODELS.glob("published_simple_pendulum_*.yaml")):
        name = path.stem.removeprefix("published_")
        theirs = evaluate([second], Model(robot), published(name))
        result["published"][name] = {"position_rmse": figures(theirs), "difference": gaps(ours, theirs)}
        print(f"{name} {row(theirs)}; ours less theirs at 0.5 s {interval(gaps(ours, theirs)['0.5'])}")
    return save(out, result)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")

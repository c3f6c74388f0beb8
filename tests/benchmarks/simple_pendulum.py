"""The simple pendulum's energy shaping: identified on its first half, does it foretell the second better than anybody?

    TERRAFIRMA_REAL_LOGS=<recordings> python tests/benchmarks/simple_pendulum.py [out.json]

Against every published parameter set, paired by window. In the second half a hand strikes the pendulum (to 13 rad/s
at 16.1 s, with 0.9 N m of motor): windows that no set foretells within UNFORESEEN_RAD are counted, and the figures are
given with and without them.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from held_out import MODELS, figures, folder, gaps, interval, part, published, recordings, row, save

from sim.model import Model, find_robot
from transfer.identify import Effort, identify
from transfer.prediction import Prediction, evaluate

UNFORESEEN_RAD = 0.5
"""Error at 0.5 s beyond which, if every set has it, something acted on the robot that no set knows of."""


def foreseen(predictions: list[Prediction]) -> npt.NDArray[np.intp]:
    """Windows that one of the predictions at least comes near."""
    each = [np.sqrt(p.position[1].sum(axis=1) / p.rows[1]) for p in predictions]
    return np.flatnonzero(np.min(each, axis=0) < UNFORESEEN_RAD)


def main(out: str) -> dict[str, Any]:
    """Print the table, return (and write) its figures."""
    robot = find_robot("simple_pendulum")
    log = recordings([folder("simple_pendulum", "energy_shaping.csv.gz")], robot.spec)[0]
    half = log.seconds / 2.0
    first, second = part(log, 0.0, half, "first"), part(log, half, log.seconds + 1.0, "second")
    fit = identify([first], Model(robot), effort=Effort())
    ours = evaluate([second], Model(robot), fit.posterior)
    print(f"identified {row(ours)}; delay {fit.delay_ms}")
    names = [p.stem.removeprefix("published_") for p in sorted(MODELS.glob("published_simple_pendulum_*.yaml"))]
    theirs = {name: evaluate([second], Model(robot), published(name)) for name in names}
    kept = foreseen([ours, *theirs.values()])
    result: dict[str, Any] = {
        "identified": figures(ours), "delay_ms": fit.delay_ms, "windows": len(ours.file), "foreseen": len(kept),
        "identified_foreseen": figures(ours.of(kept)), "published": {},
    }  # fmt: skip
    print(f"identified, {len(kept)} of {len(ours.file)} windows that some set foretells: {row(ours.of(kept))}")
    for name, their in theirs.items():
        every, some = gaps(ours, their), gaps(ours.of(kept), their.of(kept))
        result["published"][name] = {
            "position_rmse": figures(their), "difference": every,
            "foreseen_rmse": figures(their.of(kept)), "foreseen_difference": some,
        }  # fmt: skip
        print(
            f"{name} {row(their)}; ours less theirs {', '.join(f'{s} s {interval(g)}' for s, g in every.items())}; "
            f"without those {row(their.of(kept))}, {', '.join(f'{s} s {interval(g)}' for s, g in some.items())}"
        )
    return save(out, result)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")

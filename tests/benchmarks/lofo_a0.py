"""Leave-one-file-out on design A.0, by the recipe of lofo_c1.py unchanged: against the published A.0 1.0 and 2.0.

    TERRAFIRMA_REAL_LOGS=<recordings> python tests/benchmarks/lofo_a0.py [out.json] [quick]

Scored with zero 0 from the first window, and, from 2.5 s on, with what each recording's first seconds say of its zero.
"""

from __future__ import annotations

import sys
from typing import Any

from held_out import figures, folder, gaps, interval, leave_one_out, published, recordings, row, save

from sim.model import Model, find_robot
from transfer.identify import QUICK, Effort
from transfer.own import find_own
from transfer.prediction import evaluate, pooled

ADAPT_S = 2.5


def main(
    out: str, effort: Effort, design: str = "a0", models: tuple[str, ...] = ("a0_1.0", "a0_2.0")
) -> dict[str, Any]:
    """Print the tables, return (and write) their figures."""
    robot = find_robot(f"double_pendulum_{design}")
    logs = recordings(sorted(folder("double_pendulum", design, "sysid").glob("*.csv.gz")), robot.spec)
    ours, late, adapted, refused, seconds = [], [], [], [], []
    for log, fit, took in leave_one_out(logs, robot, effort):
        law = fit.posterior
        own = find_own([log], Model(robot), law, ADAPT_S)[log.name]
        zeros = {} if own.zero is None else {log.name: own.zero}
        refused += [] if zeros else [log.name]
        ours.append(evaluate([log], Model(robot), law))
        late.append(evaluate([log], Model(robot), law, from_s=ADAPT_S))
        adapted.append(evaluate([log], Model(robot), law, zeros=zeros, from_s=ADAPT_S))
        seconds.append(took)
        print(
            f"  {log.name}: {row(ours[-1])}; from {ADAPT_S} s {row(late[-1])}, "
            f"own zero {row(adapted[-1])} (ratio {own.ratio:.2f})"
        )
    whole = pooled(ours)
    result: dict[str, Any] = {
        "identified": figures(whole), "files": {p.files[0]: figures(p) for p in ours}, "fit_cpu_seconds": seconds,
        "from_2.5_s": figures(pooled(late)), "from_2.5_s_own_zero": figures(pooled(adapted)), "zero_refused": refused,
    }  # fmt: skip
    print(f"identified {row(whole)}\nfrom 2.5 s on {row(pooled(late))}\n with own zero {row(pooled(adapted))}")
    for name in models:
        theirs = pooled([evaluate([log], Model(robot), published(name)) for log in logs])
        difference = gaps(whole, theirs)
        result[name] = {"position_rmse": figures(theirs), "difference": difference}
        print(f"{name} {row(theirs)}; ours less theirs at 0.5 s {interval(difference['0.5'])}")
    return save(out, result)


if __name__ == "__main__":
    paths = [a for a in sys.argv[1:] if a != "quick"]
    main(paths[0] if paths else "", QUICK if "quick" in sys.argv else Effort())

"""Leave-one-motion-out on the SO-101's recordings: does an arm identified on five motions foretell the sixth?

    TERRAFIRMA_REAL_LOGS=<recordings> python tests/benchmarks/lofo_so101.py [out.json] [quick]

Each fit sees at most 120 windows of 1 s. The held-out motion is scored three times: by the posterior as it is, whose
law of the acceleration register each window's start weighs; with the register that its own first 60 s tell, from 60 s
on; and, to show what one plant can do, with the register that the whole motion tells. The five arm joints are pooled;
the jaw is apart.
"""

from __future__ import annotations

import sys
from typing import Any

from held_out import arm_only, figures, folder, leave_one_out, recordings, row, save

from sim.model import Model, find_robot
from transfer.identify import Effort
from transfer.own import find_own
from transfer.prediction import evaluate, pooled

TOLD_S = 60.0
MRAD = 1e3


def main(out: str, effort: Effort) -> dict[str, Any]:
    """Print the tables, return (and write) their figures."""
    robot = find_robot("so101")
    logs = recordings(sorted(p for p in folder("so101").iterdir() if p.is_dir()), robot.spec)
    plain, late, told, known, rows = [], [], [], [], {}
    for log, fit, took in leave_one_out(logs, robot, effort):
        law = fit.posterior
        first = {n: o.setting for n, o in find_own([log], Model(robot), law, min(TOLD_S, log.seconds / 2)).items()}
        whole = {n: o.setting for n, o in find_own([log], Model(robot), law, log.seconds).items()}
        from_s = min(TOLD_S, log.seconds / 2)
        both = evaluate([log], Model(robot), law)
        plain.append(arm_only(both))
        late.append(arm_only(evaluate([log], Model(robot), law, from_s=from_s)))
        told.append(arm_only(evaluate([log], Model(robot), law, from_s=from_s, settings=first)))
        known.append(arm_only(evaluate([log], Model(robot), law, settings=whole)))
        rows[log.name] = {
            "plain": figures(plain[-1], MRAD), "jaw": figures(both, MRAD, slice(5, 6)),
            "own_setting": figures(known[-1], MRAD),
            "late": figures(late[-1], MRAD), "late_first_seconds": figures(told[-1], MRAD),
            "register_254": bool(whole[log.name]), "fit_cpu_seconds": took,
        }  # fmt: skip
        print(
            f"  {log.name}: {row(plain[-1], MRAD)}; own register {row(known[-1], MRAD)} "
            f"({'254' if whole[log.name] else 'none'})"
        )
    result = {
        "files": rows, "pooled": figures(pooled(plain), MRAD), "own_setting": figures(pooled(known), MRAD),
        "late": figures(pooled(late), MRAD), "late_first_seconds": figures(pooled(told), MRAD),
    }  # fmt: skip
    for name, value in result.items():
        if name != "files":
            print(name, value)
    return save(out, result)


if __name__ == "__main__":
    paths = [a for a in sys.argv[1:] if a != "quick"]
    main(
        paths[0] if paths else "",
        Effort(windows=60, search=5, finish=1) if "quick" in sys.argv else Effort(windows=120),
    )

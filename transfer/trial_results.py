"""What came of a series of trials: success of each controller, and of two the difference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from robot.result import wilson
from transfer import ab_test
from transfer.trial_plan import Plan, Side
from transfer.trials import Outcome


def results(plan: Plan, outcomes: Mapping[str, Outcome], kept: bool = True) -> dict[str, Any]:
    """Keys of result.json, of the episodes that there are; `kept`: whether their logs are there, too."""
    rows = [(planned, outcomes[planned.file]) for planned in plan.order if planned.file in outcomes]
    sides = {side: _counted([o for p, o in rows if p.controller == side]) for side in plan.bundles}
    completed = len(rows) == len(plan.order)
    keys: dict[str, Any] = {
        **sides["bundle"],
        "driver": plan.driver,
        "completed": completed,
        "plan": {"episodes": len(plan.order), "n": plan.n, "paired": plan.paired, **plan.states},
        "episodes": [
            {"file": p.file if kept else "", "controller": p.controller, "pair": p.pair, "label": o.label,
             "labelled_by": o.by, "fault": o.fault}
            for p, o in rows
        ],
    }  # fmt: skip
    if "against" in sides:
        keys["against"] = sides["against"]
        keys["difference"] = difference(plan, outcomes) if completed else None
    return keys


def _counted(outcomes: list[Outcome]) -> dict[str, Any]:
    judged = [o for o in outcomes if o.label != "skipped"]
    return {
        "success": wilson(sum(o.success for o in judged), len(judged)),
        "faults": sum(bool(o.fault) for o in outcomes),
        "skipped": len(outcomes) - len(judged),
    }


def difference(plan: Plan, outcomes: Mapping[str, Outcome]) -> dict[str, Any] | None:
    """Of the two controllers, pair by pair where pairs began alike; None where one of them was never judged."""
    judged: dict[Side, dict[int, bool]] = {"bundle": {}, "against": {}}
    for planned in plan.order:
        outcome = outcomes[planned.file]
        if outcome.label != "skipped":
            judged[planned.controller][planned.pair] = outcome.success
    new, old = judged["bundle"], judged["against"]
    if plan.paired:
        common = sorted(new.keys() & old.keys())
        new, old = {k: new[k] for k in common}, {k: old[k] for k in common}
    if not new or not old:
        return None
    test = ab_test.pairs if plan.paired else ab_test.two_samples
    found = test(np.array(list(new.values()), np.bool_), np.array(list(old.values()), np.bool_))
    return {"paired": plan.paired, **found}


def summary(keys: Mapping[str, Any]) -> list[str]:
    """What is said after the last run; nothing before it, lest somebody stops where it looks well."""
    if not keys["completed"]:
        return []
    sides = {"bundle": keys, **({"against": keys["against"]} if "against" in keys else {})}
    lines = []
    for side, counted in sides.items():
        rate, (low, high) = counted["success"]["mean"], counted["success"]["ci95"]
        lines.append(f"{side}: success {rate:.0%} [{low:.0%}, {high:.0%}] of {counted['success']['n']}")
    if (found := keys.get("difference")) is not None:
        low, high = found["ci95"]
        verdict = {"better": "bundle is better", "worse": "against is better"}.get(found["verdict"], found["verdict"])
        lines.append(
            f"difference {found['mean']:+.2f} [{low:+.2f}, {high:+.2f}], p = {found['p_value']:.2g}: {verdict}"
        )
    return lines

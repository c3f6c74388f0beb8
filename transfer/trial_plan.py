"""The plan of a series of trials: which controller drives when, from which seed; written down before the first run.

Two controllers take turns in blocks of two pairs, each block in an order of its own, drawn from the series' seed: what
drifts over a day (a warm motor, a low battery) meets both alike, neither drives more than four times in a row, and
nobody who labels can count along.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from robot import config
from robot.config import ConfigError
from robot.driver import on_simulated_clock
from transfer import power

Side = Literal["bundle", "against"]

FILE = "plan.yaml"
BLOCK = 2
"""Pairs that are shuffled together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """One episode that is to be run."""

    file: str
    """Of its log, in the series' folder."""
    controller: Side
    pair: int
    """Episodes of one pair have the same number, and on a driver that takes a seed the same seed."""
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """plan.yaml."""

    task: str
    driver: str
    options: dict[str, str]
    """Of the driver and the loop, as given."""
    bundles: dict[str, str]
    """Side -> digest of its bundle."""
    n: int
    """Episodes of each controller."""
    seed: int
    label: Literal["rule", "key"]
    """Who says whether an episode succeeded: the task's rule, or a person."""
    paired: bool
    """Whether the episodes of a pair begin alike."""
    states: dict[str, Any]
    """What so many runs can tell (transfer/power.py)."""
    order: tuple[Planned, ...]


def orders(sides: tuple[Side, ...], n: int, seed: int) -> tuple[Planned, ...]:
    """n episodes of each side; of one side in the order of their seeds, of two in blocks."""
    rng, turns = np.random.default_rng(seed), []
    block = BLOCK if len(sides) > 1 else 1
    for first in range(0, n, block):
        turn = [(side, pair) for pair in range(first, min(first + block, n)) for side in sides]
        turns += [turn[i] for i in rng.permutation(len(turn))]
    return tuple(
        Planned(file=f"{i:03d}.mcap", controller=side, pair=pair, seed=seed * 100_000 + pair)
        for i, (side, pair) in enumerate(turns)
    )


def stated(n: int, two: bool, difference: float | None, rate: float | None) -> dict[str, Any]:
    """What n runs of each controller can tell, for plan.yaml and result.json; ConfigError for impossible wishes."""
    if not two:
        if difference is not None or rate is not None:
            raise ConfigError("difference= and rate= are about two controllers; pass the other one as against=.")
        return {"half_width": power.half_width(n)}
    if rate is not None and not 0.0 <= rate < 1.0:
        raise ConfigError(f"rate={rate}: the success to be expected of against= must be at least 0 and below 1.")
    if difference is not None and not 0.0 < difference <= (1.0 if rate is None else 1.0 - rate):
        most = 1.0 if rate is None else round(1.0 - rate, 6)
        raise ConfigError(f"difference={difference}: it must be above 0 and at most {most}.")
    found = {
        "power": power.POWER,
        "rate": rate,
        "smallest_difference": power.smallest_difference(n, rate),
        "false_alarms": power.false_alarms(n),
    }
    if difference is not None:
        found |= {"difference": difference, "runs_needed": power.runs_needed(difference, rate)}
        found["power_at_difference"] = power.chance(n, *power.rates(difference, rate))
    return found


def sentences(plan: Plan) -> list[str]:
    """What is said before the first run."""
    s, total = plan.states, len(plan.order)
    if len(plan.bundles) == 1:
        return [f"Episodes: {plan.n}. They tell the success to within ± {s['half_width']:.2f} at worst."]
    where = "wherever it lies" if s["rate"] is None else f"above {s['rate']:.0%}"
    least, alarms = s["smallest_difference"], s["false_alarms"]
    lines = [f"{total} episodes, {plan.n} of each controller, in random order; the order is in {FILE}."]
    lines.append(
        f"With {s['power']:.0%} power they tell "
        + (f"a difference in success of {least:.2f} or more, {where}." if least else f"no difference {where}.")
        + f" Equal controllers would be told apart in at most {alarms:.1%} of such series."
    )
    if "difference" in s:
        needed, chance = s["runs_needed"] or f"more than {power.MOST}", s["power_at_difference"]
        lines.append(
            f"A difference of {s['difference']:g} is told with a power of {chance:.0%}; {s['power']:.0%} take {needed} "
            "episodes of each."
        )
    if plan.paired:
        lines.append("Both begin each pair alike, which can only help where they succeed on the same starts.")
    return lines


def write(plan: Plan, folder: Path, resume: bool) -> bool:
    """Write the plan, or find that the series that stands there is this one; whether it is gone on with.

    A simulated series that nobody labelled is begun again, in its place. ConfigError where `resume` finds another one;
    and without `resume` where one stands that cannot be made again.
    """
    path = folder / FILE
    episodes = [p for p in folder.glob("*.mcap") if p.stem.isdecimal()]
    if path.is_file() and episodes:
        there = config.load_yaml(path)
        if resume:
            if (other := _differing(there, config.to_plain(plan))) is not None:
                raise ConfigError(f"{path}: another series was begun here, with another {other}; give another out=.")
            return True
        if not _repeatable(there):
            raise ConfigError(f"{path}: a series was begun here; resume=true goes on with it, another out= begins one.")
        for old in episodes:
            old.unlink()
    config.save(path, plan)
    return False


def _repeatable(there: Any) -> bool:
    """Whether a series can be run again as it was: by a simulated driver, and labelled by the rule."""
    try:
        return bool(there["label"] == "rule" and on_simulated_clock(there["driver"]))
    except (ConfigError, KeyError, TypeError):
        return False


def _differing(there: Any, wanted: Mapping[str, Any]) -> str | None:
    """The first key in which two plans differ."""
    if not isinstance(there, Mapping):
        return "content"
    return next((key for key in {**wanted, **there} if there.get(key) != wanted.get(key)), None)

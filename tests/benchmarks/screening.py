"""Screening on an adversarial set: faults put at random places of real recordings, and stretches left clean.

    TERRAFIRMA_REAL_LOGS=<recordings> python tests/benchmarks/screening.py [out.json] [seed=N] [draws=N] [clean=N]

For each fault of tests/transfer/faults.py, `draws` stretches of random recordings that can carry it; a fault is named
right if a finding of its kind blames its channel and, where it has a place, starts within 0.2 s of it. Clean stretches
are flagged if they yield any finding that the recording as a whole is not known to carry (KNOWN: the traps of its
README). Copies and contradicting episodes are judged in sets. Intervals are Wilson's, 95 %. About two minutes of CPU.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from robot.log import EpisodeLog
from robot.result import wilson
from robot.spec import RobotSpec
from sim.model import RobotConfig, find_robot
from tests.transfer.faults import FAULTS, Injected, stretch
from transfer.formats import format_of
from transfer.screen import notice
from transfer.screening import leakage
from transfer.screening.signals import Noticed, Signals

FOLDERS = {
    "double_pendulum/c1/sysid": "double_pendulum_c1",
    "double_pendulum/c1/closed_loop": "double_pendulum_c1",
    "double_pendulum/a0/sysid": "double_pendulum_a0",
    "simple_pendulum": "simple_pendulum",
    "so101": "so101",
    "xl330": "servo_bench",
    "odrive_bldc": "motor_bench",
}
KNOWN: dict[str, set[tuple[str, str]]] = {
    "simple_pendulum": {
        ("quantized", "joint.position"),
        ("quantized", "joint.velocity"),
        ("over_limit", "command.effort"),
    },
    "so101": {("quantized", "joint.velocity"), ("lag", "command.position")},
    "servo_bench": {("quantized", "joint.velocity"), ("lag", "joint.velocity"), ("lag", "command.position")},
}
"""Robot -> what its recordings carry without any injection, by their README and fact sheets."""
NEAR_S = 0.2
TRIES = 60


@dataclass(frozen=True, slots=True)
class Recorded:
    """A real recording."""

    log: EpisodeLog
    robot: RobotConfig

    @property
    def known(self) -> set[tuple[str, str]]:
        return KNOWN.get(self.robot.spec.name, set())


def recordings(folder: Path) -> list[Recorded]:
    """Every real recording but the one that hands moved, whose channels do not belong together by design."""
    out = []
    for part, name in FOLDERS.items():
        robot = find_robot(name)
        for path in sorted((folder / part).iterdir()):
            reader = None if "_command" in path.name else format_of(path)
            log = reader.read(path, robot.spec)[0].log if reader is not None else None
            if log is not None:
                out.append(Recorded(_with_limits(log, robot.spec), robot))
    return out


def _with_limits(log: EpisodeLog, spec: RobotSpec) -> EpisodeLog:
    """With what the faults need to know of the robot."""
    steps = [s.resolution for s in spec.sensors if s.signal == "joint.position"]
    meta = {"effort_limit": str(max(spec.effort_limits)), "resolution": str(max(steps, default=0.0))}
    meta["velocity_limit"] = str(max(j.velocity_limit for j in spec.joints))
    return replace(log, meta={**log.meta, **meta})


def part_of(recorded: Recorded, rng: np.random.Generator, low: float = 5.0, high: float = 10.0) -> EpisodeLog:
    """A random stretch of a recording."""
    whole = float(recorded.log["joint.position"].seconds()[-1])
    seconds = min(whole, float(rng.uniform(low, high)))
    return stretch(recorded.log, float(rng.uniform(0.0, whole - seconds)), seconds)


def named_right(found: list[Noticed], fault: Injected) -> bool:
    """Whether a finding has the fault's kind, blames its channel, and is where it is."""
    return any(
        n.kind == fault.kind
        and (not fault.channels or n.channel in fault.channels)
        and (fault.at is None or abs(place_of(n.where) - fault.at) < NEAR_S)
        for n in found
    )


def place_of(where: str) -> float:
    """[s] of `row 7 (t = 0.0123 s)`; far away where it is no place."""
    match = re.search(r"t = (-?[\d.]+) s", where)
    return float(match.group(1)) if match else 1e9


def draws_of(
    name: str, recorded: list[Recorded], rng: np.random.Generator, count: int
) -> Iterator[tuple[Recorded, Injected]]:
    """Random recordings with one fault in each; fewer than `count` where few recordings can carry it."""
    for _ in range(count):
        for _ in range(TRIES):
            one = recorded[int(rng.integers(len(recorded)))]
            fault = FAULTS[name](part_of(one, rng), rng)
            if fault is not None and (fault.kind, fault.channels[:1] and fault.channels[0]) not in one.known:
                yield one, fault
                break


def recall(recorded: list[Recorded], rng: np.random.Generator, count: int) -> tuple[dict[str, Any], list[str]]:
    """Per fault how many were named right, and a line for each miss."""
    rows, missed = {}, []
    for name in FAULTS:
        right = total = 0
        for one, fault in draws_of(name, recorded, rng, count):
            found = notice(fault.log, one.robot.spec)
            total += 1
            if named_right(found, fault):
                right += 1
            else:
                said = ", ".join(f"{n.kind} {n.channel} {n.where}" for n in found) or "nothing"
                missed.append(f"{name} in {one.robot.spec.name}/{one.log.name} at {fault.at}: {said}")
        rows[name] = wilson(right, total)
    return rows, missed


def false_flags(recorded: list[Recorded], rng: np.random.Generator, count: int) -> tuple[dict[str, Any], list[str]]:
    """How many clean stretches are flagged, and what was said of each."""
    flagged = []
    for _ in range(count):
        one = recorded[int(rng.integers(len(recorded)))]
        part = part_of(one, rng)
        odd = [n for n in notice(part, one.robot.spec) if n.kind != "short" and (n.kind, n.channel) not in one.known]
        if odd:
            said = ", ".join(f"{n.kind} {n.channel} {n.detail}" for n in odd)
            flagged.append(f"{one.robot.spec.name}/{one.log.name} {part.seconds:.1f} s: {said}")
    return wilson(len(flagged), count), flagged


def copies(recorded: list[Recorded], rng: np.random.Generator, count: int) -> dict[str, Any]:
    """Stretches of 0.7 to 4 s on another clock, with a moved zero, that are found; pairs taken for copies."""
    prints = [leakage.fingerprints_of(Signals(r.log, r.robot.spec)) for r in recorded]
    found = total = 0
    while total < count:
        k = int(rng.integers(len(recorded)))
        part = part_of(recorded[k], rng, 0.7, 4.0)
        if len(leakage.fingerprints_of(Signals(part, recorded[k].robot.spec)).hashes) < 8:
            continue  # a robot at rest for most of the time
        c = part["joint.position"]
        moved = replace(c, values=c.values + rng.uniform(-0.3, 0.3), t_ns=c.t_ns + round(float(rng.uniform(0.0, 1e10))))
        copy = replace(part, channels={**part.channels, c.name: moved})
        common = leakage.shared(prints[k], leakage.fingerprints_of(Signals(copy, recorded[k].robot.spec)))
        total += 1
        found += common is not None and common.seconds > 0.5
    pairs = [(a, b) for i, a in enumerate(prints) for b in prints[:i]]
    wrong = sum((s := leakage.shared(a, b)) is not None and s.seconds > 0.5 for a, b in pairs)
    return {"copies": wilson(found, total), "other_pairs": wilson(wrong, len(pairs))}


def main(words: list[str]) -> dict[str, Any]:
    """Run everything and print a table."""
    options = {k: int(v) for k, v in (w.split("=", 1) for w in words if "=" in w)}
    seed, draws, clean = options.get("seed", 1), options.get("draws", 20), options.get("clean", 400)
    recorded = recordings(Path(os.environ["TERRAFIRMA_REAL_LOGS"]))
    rows, missed = recall(recorded, np.random.default_rng([seed, 1]), draws)
    flags, flagged = false_flags(recorded, np.random.default_rng([seed, 2]), clean)
    total = wilson(round(sum(r["mean"] * r["n"] for r in rows.values())), sum(r["n"] for r in rows.values()))
    result = {
        "seed": seed,
        "faults": rows,
        "all_faults": total,
        "clean_flagged": flags,
        "missed": missed,
        "flagged": flagged,
    }
    result |= copies(recorded, np.random.default_rng([seed, 3]), 3 * draws)
    for name, row in (*rows.items(), ("all faults", total), ("clean stretches flagged", flags),
                      ("copies", result["copies"]), ("other pairs", result["other_pairs"])):  # fmt: skip
        low, high = row["ci95"]
        print(f"{name:<26}{row['mean']:>7.1%}  [{low:.1%}, {high:.1%}]  n = {row['n']}")
    print(*missed, *flagged, sep="\n")
    return result


if __name__ == "__main__":
    measured = main([w for w in sys.argv[1:] if not w.endswith(".json")])
    for word in sys.argv[1:]:
        if word.endswith(".json"):
            Path(word).write_text(json.dumps(measured, indent=1))

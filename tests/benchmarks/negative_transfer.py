"""Recordings that must not change a policy: another robot's under this one's name, and a fifth that is poisoned.

    python tests/benchmarks/negative_transfer.py OUT policy=DIR [seeds=0,1,...,9]

*Relabelled*: five recordings of a pendulum of another build (its length .4 to .6 or 1.5 to 1.8 times the nominal, its
mass likewise), which carry the fingerprint of `simple_pendulum`, are given as the robot's own, with two recordings of
the real one (surrogate number seed) to judge by. *Poisoned*: of ten recordings of the surrogate two were tampered with,
each in another way drawn by seed. Counted is in how many seeds `ingest` refused what is wrong, or `finetune` kept the
policy as it was. Every stage is the command line's, in a folder of its own, so a benchmark that was killed goes on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robot import files
from robot.log import Channel, EpisodeLog
from robot.result import wilson
from sim.model import Model, find_robot
from sim.randomization import Point, Randomization, Term
from sim.surrogate import record_episode
from transfer import cli
from transfer.dataset import DataRefused

ROBOT, SECONDS, AMPLITUDE = "simple_pendulum", 10.0, 0.5
KINDS = ("chirp", "prbs")
OWN, FOREIGN, HELD, POISONED = 10, 5, 2, 2
Array = npt.NDArray[np.float64]


def changed(log: EpisodeLog, channel: str, values: Callable[[Channel], Array]) -> EpisodeLog:
    found = log[channel]
    return replace(log, channels={**log.channels, channel: replace(found, values=values(found))})


def mirrored(log: EpisodeLog, rng: np.random.Generator) -> EpisodeLog:
    """The commands have the wrong sign."""
    return changed(log, "command.effort", lambda c: -c.values)


def louder(log: EpisodeLog, rng: np.random.Generator) -> EpisodeLog:
    """The commands are told 1.5 to 3 times as large."""
    return changed(log, "command.effort", lambda c: c.values * rng.uniform(1.5, 3.0))


def swung(log: EpisodeLog, rng: np.random.Generator) -> EpisodeLog:
    """The angles, and the speeds with them, are told 1.2 to 1.5 times as large."""
    by = rng.uniform(1.2, 1.5)
    for channel in ("joint.position", "joint.velocity"):
        log = changed(log, channel, lambda c: c.values * by)
    return log


def late(log: EpisodeLog, rng: np.random.Generator) -> EpisodeLog:
    """The commands are told .1 to .2 s early, so the robot seems to answer so much later."""
    return changed(log, "command.effort", lambda c: np.roll(c.values, -int(rng.integers(10, 20)), axis=0))


def shuffled(log: EpisodeLog, rng: np.random.Generator) -> EpisodeLog:
    """The commands are those of another moment."""
    return changed(log, "command.effort", lambda c: np.roll(c.values, int(rng.integers(100, 400)), axis=0))


POISONS = (mirrored, louder, swung, late, shuffled)


def another(seed: int) -> Randomization:
    """A pendulum of another build."""
    rng = np.random.default_rng([7, seed])
    ends = ((0.4, 0.6), (1.5, 1.8))[int(rng.integers(2))]
    model = Model(find_robot(ROBOT))
    values = {
        "body/pendulum/com": rng.uniform(*ends) * model.nominal("body/pendulum/com"),
        "body/pendulum/mass": rng.uniform(*ends) * model.nominal("body/pendulum/mass"),
        "joint/shoulder/damping": rng.uniform(0.01, 0.06),
        "joint/shoulder/frictionloss": rng.uniform(0.03, 0.15),
        "timing/command/delay": rng.uniform(0.004, 0.02),
    }
    terms = tuple(Term(targets=(name,), law=Point(values=(float(v),))) for name, v in values.items())
    return Randomization(name=f"another_{seed}", terms=terms, robot=ROBOT)


def own(seed: int, number: int) -> EpisodeLog:
    """A recording of the real robot."""
    return record_episode(
        find_robot(ROBOT), KINDS[number % 2], SECONDS, truth=seed, seed=100 * seed + number, amplitude=AMPLITUDE
    )


def foreign(out: Path, seed: int) -> list[EpisodeLog]:
    """Recordings of the other robot."""
    from robot import cli as onboard
    from robot import config
    from robot import log as logs

    law = out / "another.yaml"
    config.save(law, another(seed))
    found = []
    for number in range(FOREIGN):
        words = [f"robot={ROBOT}", "driver=sim", f"posterior={law}", f"excitation={KINDS[number % 2]}"]
        folder = out / f"record_{number}"
        onboard.call("record", [*words, f"seconds={SECONDS:g}", f"seed={100 * seed + number}", f"out={folder}"])
        found.append(logs.load(folder / "episode.mcap"))
    return found


def ingested(out: Path, logs: Sequence[EpisodeLog]) -> dict[str, Any]:
    """What `ingest` said of them; `dataset` is missing where it accepted none."""
    paths = [log.save(out / "raw" / f"{k:02d}.mcap") for k, log in enumerate(logs)]
    try:
        path = cli.call("ingest", [f"robot={ROBOT}", f"path=[{','.join(map(str, paths))}]", f"out={out / 'data'}"])
    except DataRefused:
        path = out / "data" / "result.json"
        return {k: v for k, v in json.loads(path.read_text()).items() if k != "dataset"}
    return dict(json.loads(path.read_text()))


def finetuned(out: Path, policy: Path, logs: Path, test: Path) -> dict[str, Any]:
    path = out / "result.json"
    if not path.exists():
        path = cli.call("finetune", [f"policy={policy}", f"logs={logs}", f"test={test}", f"out={out}", "resume=true"])
    return dict(json.loads(path.read_text()))


def relabelled(out: Path, policy: Path, seed: int) -> dict[str, Any]:
    """Whether the other robot's recordings were refused, or the policy stayed as it was."""
    (out / "raw").mkdir(parents=True, exist_ok=True)
    said = ingested(out, foreign(out, seed))
    if "dataset" not in said:
        return {"seed": seed, "by": "ingest", "safe": True, "why": kinds(said)}
    held = ingested(folder(out / "held"), [own(seed, 50 + k) for k in range(HELD)])
    found = finetuned(out / "finetune", policy, Path(said["dataset"]), Path(held["dataset"]))
    why = [c["why"] for c in found["candidates"] if c["method"] != "nothing"]
    return {"seed": seed, "by": "finetune", "safe": found["selected"] == "nothing", "why": why}


def poisoned(out: Path, policy: Path, seed: int) -> dict[str, Any]:
    """Whether the tampered recordings were refused, or fine-tuning with them was rolled back."""
    rng = np.random.default_rng([8, seed])
    logs = [own(seed, k) for k in range(OWN)]
    bad = rng.permutation(OWN)[:POISONED]
    ways = [POISONS[i] for i in rng.permutation(len(POISONS))[:POISONED]]
    for k, way in zip(bad, ways, strict=True):
        logs[k] = way(logs[k], rng)
    said = ingested(folder(out), logs)
    passed = [w.__name__ for k, w in zip(bad, ways, strict=True) if said["episodes"][k]["accepted"]]
    clean = sum(e["accepted"] for e in said["episodes"]) - len(passed)
    told = {"seed": seed, "ways": [w.__name__ for w in ways], "clean_kept": clean, "of": OWN - POISONED}
    if not passed:
        return told | {"by": "ingest", "safe": True}
    held = ingested(folder(out / "held"), [own(seed, 50 + k) for k in range(HELD)])
    found = finetuned(out / "finetune", policy, Path(said["dataset"]), Path(held["dataset"]))
    return told | {"by": "finetune", "passed": passed, "safe": found["selected"] == "nothing"}


def folder(out: Path) -> Path:
    """`out`, with a place for recordings."""
    (out / "raw").mkdir(parents=True, exist_ok=True)
    return out


def kinds(said: dict[str, Any]) -> list[str]:
    return sorted({f["kind"] for e in said["episodes"] for f in e["findings"]})


def main(out: Path, policy: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Print and write a row a seed and kind."""
    rows: dict[str, list[dict[str, Any]]] = {"relabelled": [], "poisoned": []}
    for seed in seeds:
        for name, one in (("poisoned", poisoned), ("relabelled", relabelled)):
            file = out / f"{name}_{seed}.json"
            if not file.exists():
                files.write_json(file, one(out / f"{name}_{seed}", policy, seed))
            rows[name].append(json.loads(file.read_text()))
            print(name, json.dumps(rows[name][-1]), flush=True)
    safe = {name: wilson(sum(r["safe"] for r in found), len(found)) for name, found in rows.items()}
    files.write_json(out / "negative_transfer.json", {"rows": rows, "safe": safe})
    print(json.dumps(safe, indent=1))
    return {"rows": rows, "safe": safe}


if __name__ == "__main__":
    options = dict(word.split("=", 1) for word in sys.argv[2:])
    numbers = [int(s) for s in options.get("seeds", ",".join(map(str, range(10)))).split(",")]
    main(Path(sys.argv[1]), Path(options["policy"]), numbers)

"""Synthetic images by Ray's workers: each once, whoever dies; and how fast, against processes of this machine.

    python -m tests.benchmarks.scale_data OUT.json                     # 4 workers, 100,000 images of 32 x 32, 2 kills
    python -m tests.benchmarks.scale_data OUT.json n=4000 rounds=1     # a small one

First `workers` Ray workers make a set while two of them are killed at random moments, and an undisturbed local run
makes it again: the two manifests (a hash a shard) must be equal, and each shard be what its manifest says. Then the two
ways make `n / 4` images in turn, `rounds` times each, with as many processes as there are cores. Prints a markdown
table and writes OUT.json; exit code 1 when the sets differ or something is left behind. About 3 minutes on two cores.
"From the first shard to the last" leaves out the start of the workers; the processor time of all processes of a run
holds it, and tells more than the clock on a machine that does other things beside.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from robot import config, files
from sim import shards
from sim.model import find_robot
from sim.synthesize import Job, synthesize
from tests.transfer.scale.works import children_of, workers_of
from transfer.scale.cluster import ScaleConfig
from transfer.scale.fan import at_hand
from transfer.scale.images import by_workers

KILLS = 2
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """key=value on the command line."""

    n: int = 100_000
    side: int = 32
    shard: int = 128
    workers: int = 4
    rounds: int = 4
    seed: int = 0


@dataclass(slots=True)
class Watch:
    """Hears of progress: when shards came, and when a worker is to be killed."""

    kill_at: list[float] = field(default_factory=list)
    """Shares of the images."""
    killed: int = 0
    first: tuple[float, int] | None = None
    last: tuple[float, int] = (0.0, 0)

    def __call__(self, done: int, total: int) -> None:
        self.last = (time.monotonic(), done)
        if done and self.first is None:
            self.first = self.last
        if self.kill_at and done > self.kill_at[0] * total and (at_work := workers_of(os.getpid())):
            self.kill_at.pop(0)
            with contextlib.suppress(ProcessLookupError):
                os.kill(random.choice(at_work), signal.SIGKILL)
                self.killed += 1

    @property
    def steady(self) -> float:
        """Images a second between the first shard and the last."""
        assert self.first is not None
        return (self.last[1] - self.first[1]) / (self.last[0] - self.first[0])


def made(folder: Path, job: Job, scale: ScaleConfig, watch: Watch) -> dict[str, float]:
    """Make a set; what it took. The wall time holds the start of the cluster, or of the processes."""
    begin, cpu = time.monotonic(), _cpu_s()
    with at_hand(scale):
        elsewhere = None if scale.engine == "local" else by_workers(scale)
        synthesize(folder, job, CORES, report=watch, elsewhere=elsewhere)
        cpu = _cpu_s() - cpu  # while the workers are still there to be asked
    seconds = time.monotonic() - begin
    return {
        "seconds": seconds,
        "images_per_s": job.n / seconds,
        "steady_images_per_s": watch.steady,
        "cpu_s": cpu,
        "bytes": float(sum(p.stat().st_size for p in folder.glob("shard-*"))),
    }


def _cpu_s() -> float:
    """Processor time of this process, of what it has waited for, and of all descendants that run [s]."""
    found, ask = 0.0, [os.getpid()]
    while ask:
        pid = ask.pop()
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            found += sum(map(int, words[11:15])) / os.sysconf("SC_CLK_TCK")
            ask += children_of(pid)
    return found


def once(asked: Asked, job: Job, scratch: Path) -> dict[str, Any]:
    """The set with kills, and the same left in peace."""
    chance = random.Random(asked.seed)
    watch = Watch(sorted(chance.uniform(0.1, 0.9) for _ in range(KILLS)))
    moments = list(watch.kill_at)
    ray = made(scratch / "ray", job, ScaleConfig(engine="ray", address="local", workers=asked.workers), watch)
    local = made(scratch / "local", job, ScaleConfig(), Watch())
    same = (scratch / "ray" / shards.MANIFEST).read_bytes() == (scratch / "local" / shards.MANIFEST).read_bytes()
    found = {
        "images": job.n, "shards": job.shards, "workers": asked.workers, "killed": watch.killed, "killed_at": moments,
        "damaged": shards.damaged(scratch / "ray"), "same_manifest": same, "ray": ray, "local": local,
        "bytes_per_image": ray["bytes"] / job.n,
    }  # fmt: skip
    for name in ("ray", "local"):
        shutil.rmtree(scratch / name)
    return found


def in_turn(asked: Asked, job: Job, scratch: Path) -> dict[str, Any]:
    """Both ways with as many processes as cores, alternating."""
    part = replace(job, n=max(job.n // 4, 4 * job.shard * CORES))
    scales = {"local": ScaleConfig(), "ray": ScaleConfig(engine="ray", address="local", workers=CORES)}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in scales}
    for _ in range(asked.rounds):
        for name, scale in scales.items():
            rows[name].append(made(scratch / name, part, scale, Watch()))
            shutil.rmtree(scratch / name)
    keys = ("images_per_s", "steady_images_per_s", "cpu_s")
    ratios = {k: [r[k] / x[k] for x, r in zip(rows["local"], rows["ray"], strict=True)] for k in keys}
    return {"images": part.n, "processes": CORES, "rows": rows, "ratios": ratios}


def table(found: dict[str, Any]) -> str:
    kept, turn = found["once"], found["in_turn"]
    lines = [
        f"{kept['images']:,} images in {kept['shards']} shards by {kept['workers']} Ray workers, {kept['killed']} of "
        f"them killed: {'the same hashes as' if kept['same_manifest'] else 'OTHER HASHES THAN'} an undisturbed run; "
        f"{kept['bytes_per_image']:.0f} bytes an image came through the object store.",
        "",
        f"| {turn['images']:,} images, {turn['processes']} processes | images/s | from the first shard to the last | "
        "processor time [ms/image] |",
        "|---|---|---|---|",
    ]

    def cell(values: list[float], form: Callable[[float], str]) -> str:
        return f"{form(median(values))} ({form(min(values))} to {form(max(values))})"

    for name, label in (("local", "local"), ("ray", "Ray")):
        rows = turn["rows"][name]
        cells = [cell([r[k] for r in rows], "{:.0f}".format) for k in ("images_per_s", "steady_images_per_s")]
        cells.append(cell([1e3 * r["cpu_s"] / turn["images"] for r in rows], "{:.3f}".format))
        lines.append(f"| {label} | {' | '.join(cells)} |")
    cells = [cell(values, "{:.2f}".format) for values in turn["ratios"].values()]
    return "\n".join([*lines, f"| Ray / local, pairwise | {' | '.join(cells)} |"])


def main(words: list[str]) -> int:
    out = Path(words[0])
    given = dict(word.split("=", 1) for word in words[1:])
    asked = config.convert(Asked, {k: int(v) for k, v in given.items()}, "the command line")
    random.seed(asked.seed)
    job = Job(
        robot=find_robot("simple_pendulum"), camera="side", n=asked.n, width=asked.side, height=asked.side,
        renderer="ray", shard=asked.shard, seed=asked.seed,
    )  # fmt: skip
    before = _shared()
    with tempfile.TemporaryDirectory() as scratch:
        found: dict[str, Any] = {"once": once(asked, job, Path(scratch)), "in_turn": in_turn(asked, job, Path(scratch))}
    found["left_in_dev_shm"] = sorted(_shared() - before)
    found["left_running"] = _children()
    files.write_json(out, found)
    print(table(found))
    kept = found["once"]
    clean = not found["left_running"] and not any("plasma" in n or "ray" in n for n in found["left_in_dev_shm"])
    return 0 if kept["same_manifest"] and not kept["damaged"] and kept["killed"] == KILLS and clean else 1


def _shared() -> set[str]:
    return {path.name for path in Path("/dev/shm").iterdir()}


def _children() -> list[str]:
    """Processes that outlived their cluster, but for multiprocessing's own tracker."""
    paths = [Path(f"/proc/{pid}/cmdline") for pid in children_of(os.getpid())]
    commands = [path.read_text().replace("\0", " ") for path in paths if path.exists()]
    return [c for c in commands if c and "resource_tracker" not in c]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Encoder pretraining by one process and by two: the same losses, the time, and what a kill -9 costs.

    python tests/benchmarks/scale_ddp.py [OUT] [UPDATES] [REPEATS]        (as root also on two hosts, in namespaces)

Default: build/scale_ddp, 200 updates, 3 repeats; some fifteen minutes on two quiet cores. For a physics and a vision
encoder of the simple pendulum:

- plain: `pretrain()` as without torchrun; torchrun 1 and torchrun 2: the same by one and by two processes of torchrun,
  on the same global batches. Largest difference of any update's loss from the plain one, seconds of the training alone
  (median, least and most), what a step and its checkpoint cost, and private memory of each process.
- killed: two processes, of which a random one is killed with SIGKILL at a random update, twice. How many updates were
  done twice, and the largest difference of the losses.
- two hosts: network namespaces with an Ethernet pair between them, one torchrun in each (--nnodes=2); the worker of one
  is killed once.
- exchange: milliseconds of a step whose gradients are summed in one row (policies/encoders/ranks.py), and of one in
  torch's DistributedDataParallel, on networks and batches of the same size.

Prints a Markdown table; all figures are in OUT/scale_ddp.json. Ends with 1 when a loss differs by more than 1e-4.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
TOLERANCE = 1e-4
KINDS = ("physics", "vision")
HOSTS = ("terrafirma_a", "terrafirma_b")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
LINKS = ("tf_a", "tf_b")
KILLS = 2
HANG_S = 600.0


# --- what each process does -----------------------------------------------------------------------------------------


def work(kind: str, data: Path, out: Path, updates: int) -> None:
    """Pretrain; rank 0 leaves its losses, every process its memory and the updates that it did."""
    import torch

    from policies.encoders import ranks
    from transfer.scale import torchrun

    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    rank = int(os.environ.get("RANK", "0"))
    (out / f"pid-{rank}").write_text(str(os.getpid()))
    spent = {"train": 0.0, "save": 0.0, "saves": 0.0}
    _watch(kind, out / f"updates-{rank}", spent)
    with ranks.joined() if torchrun.started() else contextlib.nullcontext():
        result = _pretrain(kind, data, out, updates, ranks.restarted())
        if ranks.here().leads:
            (out / "losses.json").write_text(json.dumps(result.losses))
    (out / f"spent-{rank}.json").write_text(json.dumps(spent | memory()))


def _pretrain(kind: str, data: Path, out: Path, updates: int, resume: bool) -> Any:
    from policies.encoders import pretrain, vision_pretrain
    from policies.encoders.vision_data import ImageData
    from policies.encoders.windows import WindowData
    from transfer.scale import mapped

    config, card = settings(kind, updates)
    if kind == "physics":
        given = mapped.read(data, WindowData)
        return pretrain.pretrain(given, card, config, out, seed=1, resume=resume)
    pictures = mapped.read(data, ImageData)
    return vision_pretrain.pretrain_vision(pictures, card, config, out, seed=1, resume=resume)


def _watch(kind: str, path: Path, spent: dict[str, float]) -> None:
    """Time the training and its checkpoints, and write down each update that is begun."""
    from policies import tensors
    from policies.encoders import pretrain, vision_pretrain

    where: Any = pretrain._Training if kind == "physics" else vision_pretrain.Training
    name = "_update" if kind == "physics" else "update"
    run, update, save = where.run, getattr(where, name), tensors.save

    def timed_run(*given: Any, **more: Any) -> Any:
        start = time.perf_counter()
        done = run(*given, **more)
        spent["train"] += time.perf_counter() - start
        return done

    def noted(self: Any, *given: Any) -> Any:
        with path.open("a") as file:
            file.write(f"{self.done}\n")
        return update(self, *given)

    def timed_save(*given: Any, **more: Any) -> None:
        start = time.perf_counter()
        save(*given, **more)
        spent["save"], spent["saves"] = spent["save"] + time.perf_counter() - start, spent["saves"] + 1

    where.run, tensors.save = timed_run, timed_save
    setattr(where, name, noted)


def memory() -> dict[str, float]:
    """MB of this process: its own, and with its share of what it has in common with others."""
    rows = dict(line.split(":") for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    own = sum(int(rows[name].split()[0]) for name in ("Private_Clean", "Private_Dirty"))
    return {"private_mb": own / 1024.0, "pss_mb": int(rows["Pss"].split()[0]) / 1024.0}


def settings(kind: str, updates: int) -> tuple[Any, Any]:
    """Configuration and card of the encoder that is shipped for the simple pendulum, with so many updates."""
    from policies.encoders.physics import EncoderCard, EncoderConfig
    from policies.encoders.vision import VisionConfig
    from robot import config
    from robot.observation import Observation
    from sim.model import find_robot
    from sim.tasks import load_task
    from transfer.images import vision_card

    robot = find_robot("simple_pendulum")
    data = config.load_yaml(config.shipped() / "encoder" / f"{kind}.yaml")
    if kind == "vision":
        sight = replace(config.convert(VisionConfig, data, "encoder", ""), images=2048, updates=updates)
        return sight, vision_card(robot, sight)
    half = updates // 2
    size = replace(
        config.convert(EncoderConfig, data, "encoder", ""), simulations=96, grounding=half, updates=updates - half,
        patience=1000,
    )  # fmt: skip
    task = load_task("pendulum_swingup")
    layout = Observation(robot.spec, replace(task.observation, history=size.history), task.action)
    return size, EncoderCard.of(layout, size, task.control_period_s)


def make(kind: str, folder: Path) -> None:
    """The data of all trainings of a kind."""
    from robot import folders
    from sim import randomization
    from sim.model import find_robot
    from sim.tasks import load_task
    from transfer.images import simulated_images
    from transfer.scale import mapped
    from transfer.windows import simulated_windows

    config, card = settings(kind, 200)
    robot = find_robot("simple_pendulum")
    if kind == "physics":
        prior = randomization.load(folders.find("dr", "simple_pendulum_default"))
        data: Any = simulated_windows(load_task("pendulum_swingup"), robot, prior, config, seed=1, nthread=1)
    else:
        prior = randomization.load(folders.find("dr", "simple_pendulum_handheld"))
        data = simulated_images(folder.parent / "images", robot, prior, card, config, seed=1)
    mapped.write(folder, data, "benchmark")


def exchange(kind: str, updates: int, out: Path) -> None:
    """A step whose gradients are summed in one row, and one in DistributedDataParallel."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    from policies.encoders import ranks
    from policies.encoders.physics import PhysicsEncoder
    from policies.encoders.vision import VisionEncoder

    torch.set_num_threads(1)
    config, card = settings(kind, updates)
    told: dict[str, list[float]] = {}
    with ranks.joined() as team:
        if kind == "physics":
            network: torch.nn.Module = PhysicsEncoder(replace(card, weighing="votes", context=24, hidden=(64, 64)))
            given = (
                torch.randn(config.batch // 2, config.history, card.row),
                torch.ones(config.batch // 2, config.history),
            )
        else:
            network = VisionEncoder(card)
            given = (torch.randint(0, 256, (config.batch, 3, card.height, card.width), dtype=torch.uint8),)
        wrapped = DistributedDataParallel(network, broadcast_buffers=False)
        weights = list(network.parameters())
        for way in ("row", "ddp") * 2:
            times = told.setdefault(way, [])
            for _ in range(updates // 4):
                network.zero_grad(set_to_none=True)
                start = time.perf_counter()
                seen = (wrapped if way == "ddp" else network)(*given)
                sum(part.sum() for part in (seen if isinstance(seen, tuple) else (seen,))).backward()
                if way == "row":
                    team.add(weights, 0.0)
                times.append(1e3 * (time.perf_counter() - start))
        if team.leads:
            (out / f"exchange-{kind}.json").write_text(json.dumps(told))


# --- how they are started -------------------------------------------------------------------------------------------


@dataclass
class Trained:
    """What a training left."""

    losses: list[float]
    spent: list[dict[str, float]] = field(default_factory=list)
    """Of each process."""
    twice: int = 0
    """Updates that were begun more than once."""

    @classmethod
    def of(cls, out: Path) -> Trained:
        begun = (out / "updates-0").read_text().split()
        spent = [json.loads(p.read_text()) for p in sorted(out.glob("spent-*.json"))]
        return cls(json.loads((out / "losses.json").read_text()), spent, len(begun) - len(set(begun)))

    def difference(self, other: Trained) -> float:
        """The largest of any update's loss; infinite where one has more of them."""
        if len(self.losses) != len(other.losses):
            return float("inf")
        return max(abs(a - b) for a, b in zip(self.losses, other.losses, strict=True))


def command(processes: int, words: list[str], hosts: int = 1, host: int | None = None) -> list[str]:
    """Of a training without torchrun (0 processes) or with it."""
    mine = [str(Path(__file__).resolve()), *words]
    if not processes:
        return [sys.executable, *mine]
    start = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--max-restarts=5"]
    where = ["--standalone"]
    if host is not None:
        where = [f"--nnodes={hosts}", "--rdzv-backend=c10d", f"--rdzv-endpoint={ADDRESSES[0]}:29507", "--rdzv-id=bench"]
        # a namespace has no name of its own by which torchrun could tell that the address is its own
        where += [f"--local-addr={ADDRESSES[host]}", f"--rdzv-conf=is_host={int(host == 0)}"]
        start = ["ip", "netns", "exec", HOSTS[host], *start]
    return [*start, *where, *mine]


def begin(order: list[str], log: Path, **more: str) -> subprocess.Popen[bytes]:
    """Start it, in a session of its own, with its output in a file."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **more}
    with log.open("ab") as file:
        return subprocess.Popen(order, stdout=file, stderr=file, env=environment, start_new_session=True)


def end(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing of it behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(30.0)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def train(kind: str, data: Path, out: Path, updates: int, processes: int, kills: int = 0) -> Trained:
    """One training, of whose processes `kills` are killed on the way."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    words = ["work", kind, str(data), str(out), str(updates)]
    process = begin(command(processes, words), out / "log")
    try:
        for i in range(kills):
            kill(out, updates, i, kills, processes)
        if process.wait():
            raise SystemExit(f"{out}/log: the training ended with {process.returncode}")
    finally:
        end(process)
    return Trained.of(out)


def kill(out: Path, updates: int, number: int, kills: int, processes: int) -> None:
    """Kill a random process at a random update of the `number`-th part of the training;"""
    first = number * updates // kills
    at = random.randint(first + 2, first + updates // kills - 10)
    path, end_s = out / "updates-0", time.monotonic() + HANG_S
    while not path.exists() or int((path.read_text().split() or ["0"])[-1]) < at:
        time.sleep(0.005)
        if time.monotonic() > end_s:
            raise SystemExit(f"{out}: update {at} was not reached in {HANG_S:.0f} s")
    os.kill(int((out / f"pid-{random.randrange(processes)}").read_text()), signal.SIGKILL)


@contextlib.contextmanager
def namespaces() -> Iterator[None]:
    """Two hosts with a cable between them."""
    try:
        for host in HOSTS:
            subprocess.run(["ip", "netns", "del", host], check=False, capture_output=True)  # of a run that was killed
            _ip("netns", "add", host)
        _ip("link", "add", LINKS[0], "netns", HOSTS[0], "type", "veth", "peer", "name", LINKS[1], "netns", HOSTS[1])
        for host, link, address in zip(HOSTS, LINKS, ADDRESSES, strict=True):
            _ip("-n", host, "addr", "add", f"{address}/24", "dev", link)
            for name in (link, "lo"):
                _ip("-n", host, "link", "set", name, "up")
        yield
    finally:
        for host in HOSTS:
            subprocess.run(["ip", "netns", "del", host], check=False, capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def two_hosts(kind: str, data: Path, out: Path, updates: int) -> Trained:
    """One process on each of two hosts, of which the second one's is killed once."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    words = ["work", kind, str(data), str(out), str(updates)]
    processes = []
    with namespaces():
        try:
            for host, link in enumerate(LINKS):
                order = command(1, words, hosts=2, host=host)
                processes.append(begin(order, out / f"log-{host}", GLOO_SOCKET_IFNAME=link))
            kill(out, updates, 0, 1, 2)
            for process in processes:
                if process.wait():
                    raise SystemExit(f"{out}: a host ended with {process.returncode}")
        finally:
            for process in processes:
                end(process)
    return Trained.of(out)


# --- what is reported -----------------------------------------------------------------------------------------------


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def compared(kind: str, out: Path, updates: int, repeats: int) -> tuple[list[str], dict[str, Any]]:
    """Rows of the table, and the figures."""
    data = out / kind / "data"
    subprocess.run(command(0, ["make", kind, str(data)]), check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    runs: dict[str, list[Trained]] = {"plain": [], "torchrun 1": [], "torchrun 2": []}
    for i in range(repeats):  # in turns, so that whatever else the machine does meets all of them
        for processes, name in enumerate(runs):
            runs[name].append(train(kind, data, out / kind / f"{name}-{i}".replace(" ", "-"), updates, processes))
    runs["killed"] = [train(kind, data, out / kind / "killed", updates, 2, KILLS)]
    if os.geteuid() == 0 and shutil.which("ip"):
        runs["two hosts, killed"] = [two_hosts(kind, data, out / kind / "hosts", updates)]
    plain, rows, figures = runs["plain"][0], list[str](), dict[str, Any]()
    for name, made in runs.items():
        seconds = [t.spent[0]["train"] for t in made]
        saving = [1e3 * t.spent[0]["save"] / max(t.spent[0]["saves"], 1.0) for t in made]
        off, twice = max(t.difference(plain) for t in made), max(t.twice for t in made)
        own = "/".join(f"{s['private_mb']:.0f}" for s in made[0].spent)
        timed = "-" if "killed" in name else spread(seconds)
        rows.append(f"| {kind} | {name} | {off:.1e} | {timed} | {statistics.median(saving):.1f} | {twice} | {own} |")
        figures[name] = {"difference": off, "seconds": seconds, "save_ms": saving, "twice": twice}
        figures[name]["processes"] = [t.spent for t in made]
    order = command(2, ["exchange", kind, str(updates), str(out)])
    subprocess.run(order, check=True, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    figures["exchange_ms"] = json.loads((out / f"exchange-{kind}.json").read_text())
    return rows, figures


def main(words: list[str]) -> int:
    parts = {"work": work, "make": make, "exchange": exchange}
    if words and words[0] in parts:
        given = {"work": (str, Path, Path, int), "make": (str, Path), "exchange": (str, int, Path)}[words[0]]
        parts[words[0]](*(kind(word) for kind, word in zip(given, words[1:], strict=True)))  # type: ignore[operator]
        return 0
    out = Path(words[0] if words else "build/scale_ddp").resolve()
    updates, repeats = (int(word) for word in (words[1:] + ["200", "3"][len(words[1:]) :]))
    out.mkdir(parents=True, exist_ok=True)
    columns = ["encoder", "processes", "largest difference of a loss", "training [s]", "checkpoint [ms]"]
    columns += ["updates done twice", "own memory of each process [MB]"]
    rows = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    figures: dict[str, Any] = {"updates": updates, "repeats": repeats, "cores": os.cpu_count()}
    for kind in KINDS:
        more, figures[kind] = compared(kind, out, updates, repeats)
        rows += more
    rows += ["", "| encoder | one row [ms a step] | DistributedDataParallel [ms a step] |", "|---|---|---|"]
    for kind in KINDS:
        told = figures[kind]["exchange_ms"]
        rows.append(f"| {kind} | {spread(told['row'])} | {spread(told['ddp'])} |")
    (out / "scale_ddp.json").write_text(json.dumps(figures, indent=1))
    print("\n".join(rows))
    worst = max(f["difference"] for kind in KINDS for f in figures[kind].values() if "difference" in f)
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended, too
    sys.exit(main(sys.argv[1:]))

"""Rollouts over Ray between hosts that are network namespaces of this machine: speed, equality, faults.

    sudo python tests/benchmarks/scale_rollouts.py [out=FOLDER] [rollouts=6] [repeats=3] [workers=1,2,4] [delay_ms=0]
        [faults=worker,network,learner,own] [steps=128]

Needs root, `ip netns` and Ray. A bridge joins five namespaces; the first is the learner's host, with the head of the
cluster and no processors for others, the rest are hosts of one processor each, pinned to the cores in turn. The
pendubot recipe (64 simulations in 4 groups, rollouts of 128 steps) is trained for some rollouts with 1, 2 and 4 workers
of one thread, and by one process with the same groups. Then faults, each with two workers: kill -9 of a worker, the
network of a host cut for 10 s, kill -9 of the learner followed by resume=true, and kill -9 of a learner that has
started its own cluster. Prints a markdown table and what was lost, writes scale_rollouts.json beside; takes about 15
minutes on two quiet cores. All that it has made, namespaces, processes and files, it takes away again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

NET, HOSTS, PORT = "10.77.0", 5, 6379
GROUPS, TEMP = 4, Path("/tmp/tfr-hosts")
SEEN_AS = (Path("/tmp/tfray"), Path("/tmp/ray"))
"""Where a host has its own files of Ray."""
WORKER = "ray::Worker"
ROOT = Path(__file__).resolve().parents[2]
ALONE = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
"""Nobody else can reach these networks, so no token is asked for."""
CUT_S = 10.0
STEPS = "SCALE_ROLLOUTS_STEPS"
"""Variable by which the learners' processes are told of shorter rollouts."""
BIN = Path(sys.executable).parent


def sh(*words: str, check: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=180)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def address(host: int) -> str:
    return f"{NET}.{10 + host}"


@contextmanager
def network(delay_ms: float) -> Iterator[None]:
    """Five hosts on one bridge."""
    try:
        sh("ip", "link", "add", "tfbr", "type", "bridge")
        sh("ip", "link", "set", "tfbr", "up")
        for k in range(HOSTS):
            sh("ip", "netns", "add", f"tfr{k}")
            sh("ip", "link", "add", f"tfv{k}", "type", "veth", "peer", "name", "eth0", "netns", f"tfr{k}")
            sh("ip", "link", "set", f"tfv{k}", "master", "tfbr", "up")
            for words in (f"addr add {address(k)}/24 dev eth0", "link set eth0 up", "link set lo up"):
                sh("ip", "-n", f"tfr{k}", *words.split())
            sh("ip", "-n", f"tfr{k}", "route", "add", "default", "dev", "eth0")  # by which Ray finds its own address
            if delay_ms:
                sh("tc", "qdisc", "add", "dev", f"tfv{k}", "root", "netem", "delay", f"{delay_ms}ms")
        yield
    finally:
        for k in range(HOSTS):
            for pid in pids(k):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            sh("ip", "netns", "del", f"tfr{k}", check=False)
            sh("ip", "link", "del", f"tfv{k}", check=False)
        sh("ip", "link", "del", "tfbr", check=False)
        shutil.rmtree(TEMP, ignore_errors=True)
        for folder in SEEN_AS:
            with contextlib.suppress(OSError):
                folder.rmdir()  # where nobody else has files


def inside(host: int) -> list[str]:
    """What begins a command line on a host: its own network, core, and files of Ray, as on a machine of its own."""
    own = [TEMP / f"host{host}" / name for name in ("session", "ray")]
    for folder in (*own, *SEEN_AS):
        folder.mkdir(parents=True, exist_ok=True)
    mounts = " && ".join(f"mount --bind {a} {b}" for a, b in zip(own, SEEN_AS, strict=True))
    core = str(host % (os.cpu_count() or 1))
    return ["ip", "netns", "exec", f"tfr{host}", "sh", "-c", f'{mounts} && exec taskset -c {core} "$@"', "sh"]


def pids(host: int, named: str = "") -> list[int]:
    """Processes of a host whose command line begins so."""
    found = [int(p) for p in sh("ip", "netns", "pids", f"tfr{host}", check=False).split()]
    return [p for p in found if command(p).startswith(named)]


def command(pid: int) -> str:
    """Of a process that lives; empty for one that has ended, and waits for nobody to ask how."""
    try:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return ""
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


@contextmanager
def cluster_of(workers: int) -> Iterator[None]:
    """A head on the first host, and as many others with one processor."""
    start = [str(BIN / "ray"), "start", "--disable-usage-stats", "--object-store-memory=134217728"]
    env = {**os.environ, **ALONE}
    settings = json.dumps({"worker_niceness": 0, "prestart_worker_first_driver": False})

    def begin(host: int, *more: str) -> None:
        words = [*inside(host), *start, f"--node-ip-address={address(host)}", *more]
        done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=300)
        if done.returncode:
            raise RuntimeError(f"host {host}: {done.stdout[-1500:]} {done.stderr[-1500:]}")

    try:
        begin(
            0, "--head", f"--port={PORT}", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={SEEN_AS[0]}",
            f"--system-config={settings}",
        )  # fmt: skip
        for host in range(1, workers + 1):
            begin(host, f"--address={address(0)}:{PORT}", "--num-cpus=1")
        yield
    finally:
        for host in range(HOSTS):
            for pid in pids(host):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(TEMP, ignore_errors=True)


@dataclass
class Job:
    """A learner in a process of its own."""

    process: subprocess.Popen[str]
    log: Path

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def until(self, rollout: int, limit_s: float = 400.0) -> None:
        """Wait for so many rollouts."""
        end = time.monotonic() + limit_s
        while len(self.rows) < rollout and self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.2)

    def result(self, limit_s: float = 580.0) -> dict[str, Any]:
        out, err = self.process.communicate(timeout=limit_s)
        if self.process.returncode:
            raise RuntimeError(f"the learner ended with {self.process.returncode}: {err[-2000:]}")
        return {**json.loads(out.splitlines()[-1]), "rows": self.rows}


def learner(out: Path, rollouts: int, *, host: bool = True, resume: bool = False, **scale: Any) -> Job:
    """Start a training; `host` puts it on the learner's host."""
    log = out.with_suffix(".jsonl")
    if not resume:
        shutil.rmtree(out, ignore_errors=True)
        log.unlink(missing_ok=True)
    told = json.dumps({"out": str(out), "log": str(log), "rollouts": rollouts, "resume": resume, "scale": scale})
    words = inside(0) if host else ["taskset", "-c", "0"]
    words += [sys.executable, str(Path(__file__).resolve()), "learner", told]
    env = {**os.environ, **(ALONE if host else {}), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return Job(subprocess.Popen(words, text=True, env=env, **pipes), log)


def over(workers: int) -> dict[str, Any]:
    return {"engine": "ray", "address": f"{address(0)}:{PORT}", "workers": workers, "groups": GROUPS}


def learn(told: dict[str, Any]) -> None:
    """What the learner's process does."""
    import torch

    from policies.groups import Collector, GroupPlan, Groups
    from policies.learner import recipe_of
    from policies.train import train
    from robot.result import Run
    from transfer import cli
    from transfer.scale.cluster import ScaleConfig
    from transfer.scale.rollouts import grouping
    from transfer.scale.world import World
    from transfer.setting import prepare
    from transfer.training import environments

    torch.set_num_threads(1)
    out = Path(told["out"])
    cfg = cli._convert("train", cli.load_stage("train"), ["task=pendubot_swingup", f"out={out}"])
    setting = prepare(cfg, Run("train", out, seed=0, budget="quick", settings=cfg))
    recipe: Any = recipe_of(cfg.recipe, "benchmark")
    steps = int(os.environ.get(STEPS, recipe.rollout_steps))
    recipe = replace(
        recipe, segment_rollouts=3, rollout_steps=steps, env_steps=recipe.num_envs * steps * told["rollouts"]
    )
    told_all = bool(recipe.asymmetric and setting.task.privileged_names)
    world = World(task=setting.task, robot=cfg.robot, law=setting.law, history=0, privileged=told_all)
    make = environments(setting.task, cfg.robot, setting.law, 0, 0, privileged=told_all, nthread=1)

    class Timed:
        """Notes when each rollout began and ended."""

        def __init__(self, inner: Collector) -> None:
            self._inner = inner
            self.begin, self.told, self.close = inner.begin, inner.told, inner.close

        def collect(self, order: Any) -> Any:
            begin = time.monotonic()
            made = self._inner.collect(order)
            with Path(told["log"]).open("a") as file:
                row = {"begin": begin, "end": time.monotonic(), "stamps": [p["stamp"].tolist() for p in made]}
                file.write(json.dumps(row) + "\n")
            return made

    with grouping(ScaleConfig(**told["scale"]), world) as groups:
        assert groups is not None

        def timed(plan: GroupPlan) -> Any:
            return Timed(groups.make(plan))

        made = train(make, setting.card, recipe, out, seed=0, resume=told["resume"], groups=Groups(groups.count, timed))
    state = made.policy.state_dict()
    digest = hashlib.sha256(b"".join(state[k].numpy().tobytes() for k in sorted(state))).hexdigest()[:16]
    print(json.dumps({"digest": digest, "env_steps": made.env_steps, "scale": made.scale}))


def rates(result: dict[str, Any]) -> tuple[float, float]:
    """Environment steps/s of the rollouts alone, and with the learning between; without the first, a start."""
    rows, steps = result["rows"], result["env_steps"] / len(result["rows"])
    rollout = statistics.median(r["end"] - r["begin"] for r in rows[1:])
    return steps / rollout, steps * (len(rows) - 1) / (rows[-1]["end"] - rows[0]["end"])


def speed(out: Path, rollouts: int, repeats: int, counts: list[int]) -> dict[str, Any]:
    """Rows by number of workers; 0 is one process."""
    table: dict[int, list[dict[str, Any]]] = {}
    for _ in range(repeats):
        table.setdefault(0, []).append(learner(out / "local", rollouts, engine="local", groups=GROUPS).result())
        for workers in counts:
            with cluster_of(workers):
                made = learner(out / f"ray{workers}", rollouts, **over(workers)).result()
            table.setdefault(workers, []).append(made)
    rows: dict[str, Any] = {}
    for workers, found in table.items():
        pairs = [rates(r) for r in found]
        rows[str(workers)] = {
            "rollout_steps_per_s": statistics.median(p[0] for p in pairs),
            "training_steps_per_s": statistics.median(p[1] for p in pairs),
            "digests": sorted({r["digest"] for r in found}),
        }
    return rows


def of_worker(out: Path, rollouts: int, reference: str) -> dict[str, Any]:
    return disturbed("kill -9 of a worker", kill_worker, out, rollouts, reference)


def of_network(out: Path, rollouts: int, reference: str) -> dict[str, Any]:
    return disturbed(f"network cut for {CUT_S:g} s", cut, out, rollouts, reference)


def disturbed(name: str, harm: Callable[[], None], out: Path, rollouts: int, reference: str) -> dict[str, Any]:
    with cluster_of(2):
        job = learner(out, rollouts, **over(2))
        job.until(2)
        begin = time.monotonic()
        harm()
        told = verdict(name, job.result(), reference)
        return told | {"seconds_to_the_end": round(time.monotonic() - begin, 1)}


def of_learner(out: Path, rollouts: int, reference: str) -> dict[str, Any]:
    with cluster_of(2):
        job = learner(out, rollouts, **over(2))
        job.until(4)  # one segment of three rollouts is done
        job.process.kill()
        job.process.communicate()
        orphans = gone(lambda: [p for k in range(HOSTS) for p in pids(k, WORKER)])
        again = learner(out, rollouts, resume=True, **over(2)).result()
        return verdict("kill -9 of the learner, resumed", again, reference) | {"orphans": orphans}


def of_own_cluster(out: Path, rollouts: int, reference: str) -> dict[str, Any]:
    before = _shared()
    own = {**over(2), "address": "local", "object_store_mib": 128}
    job = learner(out, rollouts, host=False, **own)
    job.until(2)
    mine = family(job.process.pid)
    job.process.kill()
    job.process.communicate()
    left = gone(lambda: [p for p in mine if command(p)])
    shm = sorted(_shared() - before)
    return {"fault": "kill -9 of a learner with its own cluster", "had": len(mine), "orphans": left, "shm": shm}


FAULTS = {"worker": of_worker, "network": of_network, "learner": of_learner, "own": of_own_cluster}


def family(pid: int) -> list[int]:
    """All processes that descend from one."""
    found, queue = [], [pid]
    while queue:
        children = sh("ps", "-o", "pid=", "--ppid", str(queue.pop()), check=False).split()
        found += [int(c) for c in children]
        queue += [int(c) for c in children]
    return found


def kill_worker() -> None:
    os.kill(pids(1, WORKER)[0], signal.SIGKILL)


def cut() -> None:
    sh("ip", "link", "set", "tfv1", "down")
    time.sleep(CUT_S)
    sh("ip", "link", "set", "tfv1", "up")


def verdict(name: str, result: dict[str, Any], reference: str) -> dict[str, Any]:
    """Equality with the undisturbed run, and what was taken how often; of a resumed run, what the kill undid too."""
    stamps = [tuple(s) for row in result["rows"] for s in row["stamps"]]
    return {
        "fault": name,
        "equal": result["digest"] == reference,
        "env_steps": result["env_steps"],
        "taken_by_the_last_learner": result["scale"]["parts"],
        "collected_twice_over_both": len(stamps) - len(set(stamps)),
        "workers_replaced": result["scale"]["workers_replaced"],
        "parts_repeated": result["scale"]["parts_repeated"],
    }


def _shared() -> set[str]:
    """Files in shared memory; semaphores of other programs come and go."""
    return {p.name for p in Path("/dev/shm").iterdir() if not p.name.startswith("sem.")}


def gone(look: Any, limit_s: float = 90.0) -> int:
    """How many are still there once there was time to go, which Ray's agents take 62 s for."""
    end = time.monotonic() + limit_s
    while (left := look()) and time.monotonic() < end:
        time.sleep(0.5)
    return len(left)


def main(words: list[str]) -> None:
    given = {"out": "/tmp/scale_rollouts", "rollouts": "6", "repeats": "3", "workers": "1,2,4", "delay_ms": "0"}
    given |= {"faults": ",".join(FAULTS)}
    given |= dict(w.split("=", 1) for w in words)
    counts, wanted = ([w for w in given[key].split(",") if w] for key in ("workers", "faults"))
    out, rollouts = Path(given["out"]), int(given["rollouts"])
    out.mkdir(parents=True, exist_ok=True)
    if "steps" in given:
        os.environ[STEPS] = given["steps"]
    with network(float(given["delay_ms"])):
        rows = speed(out, rollouts, int(given["repeats"]), [int(w) for w in counts])
        base = rows["0"]["rollout_steps_per_s"]
        print("| workers | rollouts, env steps/s | of one process | per worker | training, env steps/s | equal |")
        print("|---|---|---|---|---|---|")
        for workers, row in rows.items():
            share = row["rollout_steps_per_s"] / base
            row["speedup"], row["efficiency"] = share, share / max(int(workers), 1)
            row["equal"] = row["digests"] == rows["0"]["digests"]
            print(
                f"| {'one process' if workers == '0' else workers} | {row['rollout_steps_per_s']:.0f} | {share:.2f} | "
                f"{row['efficiency']:.2f} | {row['training_steps_per_s']:.0f} | {row['equal']} |",
                flush=True,
            )
        told = []
        for name in wanted:
            told.append(FAULTS[name](out / "fault", rollouts, rows["0"]["digests"][0]))
            print(json.dumps(told[-1]), flush=True)
    text = json.dumps({"cores": os.cpu_count(), "delay_ms": given["delay_ms"], "rows": rows, "faults": told}, indent=1)
    (out / "scale_rollouts.json").write_text(text)
    print(out / "scale_rollouts.json")


if __name__ == "__main__":
    if sys.argv[1:2] == ["learner"]:
        learn(json.loads(sys.argv[2]))
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and all is taken away
        main(sys.argv[1:])

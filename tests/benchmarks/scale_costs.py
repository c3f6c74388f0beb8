"""What each stage costs: processor time, and the bytes and messages that a worker elsewhere would receive and send.

    python -m tests.benchmarks.scale_costs [out.json] [only=synthesize,train] [small=true]

Each stage runs in its real form, on one thread, at two amounts of work; the cost of a unit is the difference, and what
both have in common (starting Python, building models) stands apart. Processor time is that of the processes the stage
ran in (getrusage), so a busy machine changes it little. Bytes are the sizes of what a worker needs and of what it
leaves. Training is measured from within, by process time: simulation (MuJoCo), environment (observations, rewards,
draws), inference (the policy acting), buffer, and update, which is what a synchronous learner does alone. Prints a
markdown table, and writes JSON that scale_model.py reads; merge=true keeps what the JSON has of other stages, and with
only= alone prints its tables. About fifteen minutes of one core; small=true takes four, for
trying it.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RUN = "import sys; from robot.cli import main; sys.exit(main())"
WORKER = "import torch, sim.vecenv, policies.ppo"
"""What a worker process of a training imports."""
PARTS = ("simulation", "environment", "inference", "buffer", "update")
TASKS = ("pendulum_swingup", "pendubot_swingup", "quadruped_velocity")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One stage's cost."""

    stage: str
    unit: str
    cpu_s: float
    """Of a unit [CPU s]."""
    start_cpu_s: float
    """What every process pays before its first unit [CPU s]."""
    receives: int
    """Bytes that a worker needs before it can begin."""
    sends: int
    """Bytes that a unit leaves."""
    messages: float
    """Pieces of work in a unit, each one order and one answer."""
    tasks: str
    """What can run apart from each other."""


def run(code: list[str], where: Path) -> float:
    """CPU seconds of a child and its own children; a failure shows what it said."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", *code], cwd=where, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(code[1:])}\n{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def size(*paths: Path) -> int:
    """Bytes of files and of all that is below folders."""
    return sum(f.stat().st_size for p in paths for f in ([p] if p.is_file() else p.rglob("*")) if f.is_file())


class Bench:
    """Runs stages below one folder; what one leaves the next reads."""

    def __init__(self, folder: Path, small: bool) -> None:
        self.folder, self.small = folder, small
        self.rows: list[Row] = []

    def stage(self, name: str, out: str, *words: str) -> float:
        """CPU seconds of a stage."""
        start = time.perf_counter()
        spent = run([RUN, name, *words, f"out={self.folder / out}"], self.folder)
        print(f"{name} {' '.join(words)}: {spent:.1f} CPU s, {time.perf_counter() - start:.1f} s", file=sys.stderr)
        return spent

    def slope(self, name: str, key: str, few: float, many: float, per: float, *words: str) -> tuple[float, float, Path]:
        """CPU seconds of `per` units and of the start, from runs of `few` and `many`; and the folder of the latter."""
        a = self.stage(name, f"{name}_a", *words, f"{key}={few}")
        b = self.stage(name, f"{name}_b", *words, f"{key}={many}")
        unit = max(0.0, (b - a) / (many - few))
        return unit * per, a - unit * few, self.folder / f"{name}_b"

    def prepare(self) -> None:
        """A policy, recordings and a posterior for the stages that read them."""
        self.stage("train", "policy", "task=pendulum_swingup", "quick=true")
        for k, kind in enumerate(("chirp", "prbs", "chirp"), 1):
            words = ("robot=simple_pendulum", "driver=surrogate", f"excitation={kind}", "seconds=10", f"seed={k}")
            self.stage("record", f"log{k}", *words)
        self.stage("ingest", "logs", "robot=simple_pendulum", f"path=[{self.folder}/log?/episode.mcap]")


def synthesize(b: Bench) -> Row:
    few, many = (32, 96) if b.small else (128, 640)
    words = ("robot=so101", "camera=front", "dr=so101_appearance", "size=[64,64]", "workers=1")
    cpu, start, out = b.slope("synthesize", "n", few, many, 1000, *words)
    sends = size(out / "dataset") * 1000 // many
    return Row(stage="synthesize", unit="1000 images of 64 x 64", cpu_s=cpu, start_cpu_s=start,
               receives=size(out / "config.yaml"), sends=sends, messages=1000 / 128,
               tasks="shards of 128 images")  # fmt: skip


def pretrain(b: Bench) -> Row:
    few, many = (50, 150) if b.small else (200, 1200)
    words = ("encoder=physics", "robot=simple_pendulum", "encoder.simulations=128", "encoder.grounding=50")
    cpu, start, out = b.slope("pretrain", "encoder.updates", few, many, 1000, *words)
    weights = size(*(out / "encoder").glob("*.safetensors"))
    return Row(stage="pretrain", unit="1000 updates", cpu_s=cpu, start_cpu_s=start, receives=weights,
               sends=1000 * weights, messages=1000, tasks="parts of a batch, within each update")  # fmt: skip


def identify(b: Bench) -> Row:
    few, many = (1, 2) if b.small else (1, 4)
    words = ("robot=simple_pendulum", f"logs={b.folder / 'logs'}")
    cpu, start, out = b.slope("identify", "starts", few, many, 1, *words)
    return Row(stage="identify", unit="start", cpu_s=cpu, start_cpu_s=start, receives=size(b.folder / "logs"),
               sends=size(out / "posterior.yaml"), messages=1, tasks="starts, models, bootstrap draws")  # fmt: skip


def finetune(b: Bench) -> Row:
    words = [f"policy={b.folder / 'policy/policy'}", f"logs={b.folder / 'logs'}", *(["quick=true"] if b.small else [])]
    one = b.stage("finetune", "finetune_a", *words, "finetune.methods=[policy]")
    two = b.stage("finetune", "finetune_b", *words, "finetune.methods=[policy,scratch]")
    policy = size(b.folder / "policy/policy")
    return Row(stage="finetune", unit="candidate", cpu_s=max(0.0, two - one), start_cpu_s=max(0.0, 2 * one - two),
               receives=policy + size(b.folder / "logs"), sends=policy, messages=1, tasks="candidates")  # fmt: skip


def evaluate(b: Bench) -> Row:
    few, many = (100, 500) if b.small else (200, 4200)
    words = (f"policy={b.folder / 'policy/policy'}", "task=pendulum_swingup")
    cpu, start, out = b.slope("evaluate", "n", few, many, 1000, *words)
    return Row(stage="evaluate", unit="1000 episodes", cpu_s=cpu, start_cpu_s=start,
               receives=size(b.folder / "policy/policy"), sends=size(out / "result.json"), messages=1,
               tasks="groups of episodes")  # fmt: skip


def stress(b: Bench) -> Row:
    words = [f"policy={b.folder / 'policy/policy'}", "task=pendulum_swingup", *(["quick=true"] if b.small else [])]
    cpu, out = b.stage("stress", "stress", *words, "search.runs=0"), b.folder / "stress"
    start = run([WORKER], b.folder)
    return Row(stage="stress", unit="suite", cpu_s=max(0.0, cpu - start), start_cpu_s=start,
               receives=size(b.folder / "policy/policy"), sends=size(out / "result.json"), messages=7,
               tasks="criteria of a suite, suites of policies")  # fmt: skip


def export(b: Bench) -> Row:
    cpu = b.stage("export", "export", f"policy={b.folder / 'policy/policy'}", *(["quick=true"] if b.small else []))
    start = run([WORKER], b.folder)
    return Row(stage="export", unit="bundle", cpu_s=max(0.0, cpu - start), start_cpu_s=start,
               receives=size(b.folder / "policy/policy"), sends=size(b.folder / "export/bundle"), messages=1,
               tasks="policies")  # fmt: skip


STAGES: dict[str, Callable[[Bench], Row]] = {
    "synthesize": synthesize, "pretrain": pretrain, "identify": identify, "finetune": finetune, "evaluate": evaluate,
    "stress": stress, "export": export,
}  # fmt: skip


class Parts:
    """Process time of each part; of those that run inside each other the innermost counts."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._running, self._since = ["buffer"], time.process_time()

    def switch(self) -> None:
        now = time.process_time()
        self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def watch(self, owner: Any, name: str, part: str) -> None:
        """Count a method's time for a part; what runs within an update counts for the update."""
        plain = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self.switch()
            self._running.append("update" if "update" in self._running else part)
            try:
                return plain(*args, **kwargs)
            finally:
                self.switch()
                self._running.pop()

        setattr(owner, name, timed)


def train(task: str, small: bool) -> dict[str, Any]:
    """Per control step: CPU seconds of each part; bytes of a rollout and of the policy; steps of a rollout.

    A quarter of the simulations tells what acting costs however few of them there are (`us_per_call`).
    """
    made, seconds = learnt(task, small)
    buffer, steps = made._learner.algorithm.rollout_buffer, made.steps
    simulations = made._learner._env.num_envs
    _, fewer = learnt(task, small, simulations // 4)
    all_of, some_of = acting(seconds) * simulations, acting(fewer) * (simulations // 4)  # of one control step of all
    each = (all_of - some_of) / (simulations - simulations // 4)
    kept = [v for v in vars(buffer).values() if hasattr(v, "nbytes")]
    kept += [v for d in vars(buffer).values() if isinstance(d, dict) for v in d.values() if hasattr(v, "nbytes")]
    # what the learner works out by itself from the rest does not travel
    own = sum(getattr(buffer, name).nbytes for name in ("advantages", "returns"))
    weights = sum(p.numel() * p.element_size() for p in made._learner.algorithm.policy.parameters())
    return {
        "task": task, "steps_per_rollout": steps, "simulations": simulations,
        "us_per_step": {k: 1e6 * v for k, v in seconds.items()},
        "us_per_call": max(0.0, 1e6 * (all_of - simulations * each)),
        "bytes_per_step": (sum(v.nbytes for v in kept) - own) / steps, "policy_bytes": weights,
    }  # fmt: skip


def acting(seconds: dict[str, float]) -> float:
    """What workers do."""
    return seconds["simulation"] + seconds["environment"] + seconds["inference"]


def learnt(task: str, small: bool, num_envs: int = 0) -> tuple[Any, dict[str, float]]:
    """A training of some rollouts, and CPU seconds of its parts per control step of a simulation."""
    from transfer.bench.train import Training

    made = Training(task, stock=False, seed=0, quick=small, num_envs=num_envs)
    algorithm, env, parts = made._learner.algorithm, made._learner._env, Parts()
    core = env.venv.core  # type: ignore[attr-defined]  # of sim.sb3.SB3VecEnv
    for owner, name, part in (
        (core.plant, "step", "simulation"), (env, "step_wait", "environment"), (env, "reset", "environment"),
        (algorithm.policy, "assess", "inference"), (algorithm.policy, "predict_values", "inference"),
        (algorithm, "train", "update"),
    ):  # fmt: skip
        parts.watch(owner, name, part)
    rounds = 3 if small else 6
    for k in range(rounds + 1):
        if k == 1:  # the first warms up
            parts.switch()
            parts.seconds = dict.fromkeys(PARTS, 0.0)
        made._learner.segment(k)
    parts.switch()
    return made, {k: v / (rounds * made.steps) for k, v in parts.seconds.items()}


def table(result: dict[str, Any]) -> str:
    """Both tables in markdown."""
    lines = ["| stage | unit | CPU-s a unit | CPU-s to start | a worker receives | a unit sends | messages | apart |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for r in result["rows"]:
        lines.append(
            f"| `{r['stage']}` | {r['unit']} | {r['cpu_s']:.2f} | {r['start_cpu_s']:.1f} | {amount(r['receives'])} | "
            f"{amount(r['sends'])} | {r['messages']:.0f} | {r['tasks']} |"
        )
    lines += ["", "| `train` | " + " | ".join(PARTS) + " | CPU-s per 10^6 steps | sends a step | policy |",
              "|---|" + "---|" * (len(PARTS) + 3)]  # fmt: skip
    for t in result["train"]:
        total = sum(t["us_per_step"].values())
        shares = " | ".join(f"{t['us_per_step'][p] / total:.0%}" for p in PARTS)
        lines.append(
            f"| `{t['task']}` | {shares} | {total:.0f} | {amount(t['bytes_per_step'])} | {amount(t['policy_bytes'])} |"
        )
    return "\n".join(lines)


def fill(page: Path, **tables: str) -> None:
    """Put tables between their marks in a page: `<!-- NAME -->` and `<!-- /NAME -->`."""
    text = page.read_text()
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, found, rest = text.partition(begin)
        if not found or end not in rest:
            raise SystemExit(f"{page} has no {begin} with its {end}")
        text = f"{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}"
    page.write_text(text)


def amount(count: float) -> str:
    """Bytes as a reader says them."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} B"


def main(arguments: list[str]) -> int:
    given = dict(word.split("=", 1) for word in arguments if "=" in word)
    out = next((Path(word) for word in arguments if "=" not in word), Path("scale_costs.json"))
    small, only = given.get("small") == "true", given.get("only", ",".join([*STAGES, "train"])).split(",")
    result: dict[str, Any] = {"machine": platform.platform(), "small": small, "rows": [], "train": []}
    if given.get("merge") == "true" and out.exists():
        result = json.loads(out.read_text())
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), small)
        if only != [""]:
            result["worker_start_cpu_s"] = run([WORKER], bench.folder)
        if set(only) & {"identify", "finetune", "evaluate", "stress", "export"}:
            bench.prepare()
        for stage in (s for s in STAGES if s in only):
            kept = [r for r in result["rows"] if r["stage"] != stage]
            result["rows"] = sorted([*kept, asdict(STAGES[stage](bench))], key=lambda r: list(STAGES).index(r["stage"]))
            out.write_text(json.dumps(result, indent=1) + "\n")
    if "train" in only:
        result["train"] = [train(task, small) for task in TASKS]
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""PPO on the state, one recipe a task: the queue behind `make baselines`.

    .venv/bin/python tests/benchmarks/baselines.py                 # everything that has no result yet
    .venv/bin/python tests/benchmarks/baselines.py arm_reach       # some tasks only

Each training is `terrafirma train task=T seed=S dr=null resume=true`: on the nominal robot, and a killed queue goes on
where it stopped. What is kept is in docs/results/<task>-<seed>/ (result.json and the learning curve), and drawn in
docs/baselines.png and .svg. The double pendulum's recipes are judged by another suite: tests/benchmarks/results.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RUNS, KEPT, FIGURE = ROOT / "runs" / "baselines", ROOT / "docs" / "results", ROOT / "docs" / "baselines"
QUEUE = [
    *(("pendulum_swingup", seed) for seed in range(3)),
    ("arm_reach", 0),
    ("quadruped_velocity", 0),
]
LONGER = {"pendulum_swingup": ["recipe.env_steps=600000", "recipe.learning_rate_end=5e-5"]}
"""The pendulum's recipe is made for a robot with friction and a policy with a pretrained encoder."""
SOLVED = 0.95
"""Share of 64 evaluation episodes at which the clock is read."""


def train(task: str, seed: int) -> None:
    """One training from the command line, then its papers into docs/results/."""
    out, kept = RUNS / f"{task}-{seed}", KEPT / f"{task}-{seed}"
    if not (out / "result.json").exists():
        terrafirma = str(Path(sys.executable).parent / "terrafirma")
        call = [terrafirma, "train", f"task={task}", f"seed={seed}", f"out={out}", "dr=null", "resume=true"]
        call += LONGER.get(task, [])
        subprocess.run(call, cwd=ROOT, check=True)
    result = json.loads((out / "result.json").read_text())
    curve = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
    kept.mkdir(parents=True, exist_ok=True)
    short = {k: v for k, v in result.items() if k not in ("policy", "inputs")}
    (kept / "result.json").write_text(json.dumps(short, indent=1) + "\n")
    (kept / "curve.json").write_text(json.dumps(curve) + "\n")
    minutes = minutes_to_solve(curve)
    solved = f"solved after {minutes:.1f} min" if minutes is not None else f"never at {SOLVED:.0%}"
    print(f"{task} seed {seed}: success {result['success']['mean']:.2f}, {solved}, {curve[-1]['seconds'] / 60:.1f} min")


def minutes_to_solve(curve: list[dict[str, Any]]) -> float | None:
    """Minutes of training until the success rate first reached SOLVED; None when it never did."""
    return next((row["seconds"] / 60 for row in curve if row.get("success", 0.0) >= SOLVED), None)


def draw() -> None:
    """Success over minutes, and each reward term over minutes, one row a task."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    tasks = [t for t in dict.fromkeys(t for t, _ in QUEUE) if list(KEPT.glob(f"{t}-*/curve.json"))]
    figure, axes = plt.subplots(len(tasks), 2, figsize=(11, 2.6 * len(tasks)), squeeze=False, layout="constrained")
    for (left, right), task in zip(axes, tasks, strict=True):
        for path in sorted(KEPT.glob(f"{task}-*/curve.json")):
            curve = json.loads(path.read_text())
            rows = [row for row in curve if "success" in row]
            minutes = [row["seconds"] / 60 for row in rows]
            left.plot(minutes, [row["success"] for row in rows], ".-", label=f"seed {path.parent.name.split('-')[-1]}")
        left.set(title=task, xlabel="minutes", ylabel="success", ylim=(-0.02, 1.02))
        left.legend(loc="lower right")
        ended = [row for row in curve if "train_steps" in row]
        for term in [key for key in (ended or [{}])[-1] if key.startswith("term/")]:
            share = [row.get(term, 0.0) / max(row["train_steps"], 1.0) for row in ended]
            right.plot([row["seconds"] / 60 for row in ended], share, label=term.removeprefix("term/"))
        right.set(title="reward terms per step, in training (last seed)", xlabel="minutes")
        if ended:
            right.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    for suffix in ("png", "svg"):
        figure.savefig(FIGURE.with_suffix(f".{suffix}"), dpi=110, metadata={"Date": None} if suffix == "svg" else None)


def main(chosen: list[str]) -> None:
    known = {task for task, _ in QUEUE}
    for name in chosen:
        if name not in known:
            sys.exit(f"there is no baseline for '{name}'; there are: {', '.join(sorted(known))}")
    for task, seed in QUEUE:
        if not chosen or task in chosen:
            train(task, seed)
            draw()


if __name__ == "__main__":
    main(sys.argv[1:])

"""What is each ingredient of robust training worth? The pendubot, trained with more and more of them, under stress:

    python -m tests.benchmarks.ablation train OUT [length=short] [seeds=0,1] [posterior=FILE] [CONDITION ...]
    python -m tests.benchmarks.ablation table FOLDER                        # the rows' tables in docs/robustness.md
    python -m tests.benchmarks.ablation phases CURVE.json [CURVE.json ...]  # what whole trainings of the recipe tell

Every training has the recipe, the network, the hold, the steps and the way of choosing a checkpoint of
`recipe=pendubot_swingup`, with length=short in a third of its steps; what differs is what is randomized, what the
policy is shown and who teaches it (tests/benchmarks/ablation_conditions.py). Trainings of one seed that see the same
robots until something is randomized share that beginning, so that they differ by the ingredient alone. A row of
OUT/rows is written for each condition and seed as soon as it is done; what was killed goes on from its last checkpoint.
OUT/encoder is pretrained once. A short training costs six minutes of a quiet core, its judgement one; full ones three
times that.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policies import checkpoint
from policies.distill import DistillConfig, distill
from policies.policy import Policy
from policies.train import CURVE, train
from robot import files
from robot.result import wilson
from sim import randomization
from sim.evaluate import rollout_success
from tests.benchmarks import ablation_conditions as conditions
from tests.benchmarks.ablation_conditions import Scene, told_environments
from transfer.progress import terminal
from transfer.shaping import as_made
from transfer.stress import plan, score
from transfer.subjects import subject_of_policy
from transfer.suites import arena_of, load_suite
from transfer.training import environments, stress_scorer

SUITES = {"leaderboard": "pendubot_leaderboard", "default": "default"}
ROBOTS, SEED = 200, 0
"""Robots of the posterior, and the seed of every judgement."""
LESSONS = DistillConfig(num_envs=64, rounds=10, steps=300, updates=800)
CRITERIA = ("model", "velocity_noise", "torque_noise", "torque_response", "delay", "pushes", "overall")
Rank = Callable[[Policy], tuple[float, float]]


def trained(scene: Scene, condition: str, seed: int, out: Path) -> Policy:
    """The policy of a condition, by trial and error."""
    law = conditions.law_of(scene, condition)
    encoder = conditions.encoder_of(scene, out.parent / "encoder") if condition == "context" else None
    history = 0 if encoder is None else encoder.card.history
    rank = after_beginning(stress_scorer(scene.task, load_suite(scene.recipe.select)), scene)
    kept = out.parent / f"beginning-{seed}"
    if condition == "none":
        rank = keeping(rank, out / checkpoint.FOLDER / f"{scene.length.beginning:06d}", kept)
    elif condition in conditions.BRANCHES and checkpoint.latest(out) is None and kept.exists():
        with files.replacing_folder(out) as folder:
            shutil.copytree(kept, folder, dirs_exist_ok=True)
            if encoder is not None:
                conditions.widen(folder, scene, encoder)
    make = environments(scene.task, scene.robot, law, history, seed, nthread=1)
    return train(
        make, scene.card, scene.recipe, out, seed=seed, resume=True, encoder=encoder, evaluate=rank, report=terminal()
    ).policy


def after_beginning(rank: Rank, scene: Scene) -> Rank:
    """No score before all that a condition is made of has begun: what is chosen has seen it."""
    begins = scene.length.beginning * scene.recipe.segment_steps

    def ranked(policy: Policy) -> tuple[float, float]:
        steps = int(policy.card.lineage["env_steps"])
        return rank(policy) if steps > begins else (0.0, 0.0)

    return ranked


def keeping(rank: Rank, found: Path, kept: Path) -> Rank:
    """The same, and a copy of a run's checkpoint at the end of its beginning, which the next segment finds whole."""

    def ranked(policy: Policy) -> tuple[float, float]:
        if found.exists() and not kept.exists():
            with files.replacing_folder(kept) as folder:
                shutil.copytree(found, folder / checkpoint.FOLDER / found.name)
                shutil.copy(found.parents[1] / CURVE, folder / CURVE)
        return rank(policy)

    return ranked


def teacher(scene: Scene, seed: int, out: Path) -> Policy:
    """A policy that is told the parameters of its robot, ranked by how many of those it then masters."""
    if (out / "policy").exists():
        return Policy.load(out / "policy")
    law, task = conditions.law_of(scene, "dynamics"), conditions.told(scene)
    make = told_environments(task, scene.robot, law, seed)
    rank = after_beginning(conditions.told_scorer(scene, task), scene)
    card = conditions.teachers_card(scene, task)
    return train(make, card, scene.recipe, out, seed=seed, resume=True, evaluate=rank, report=terminal()).policy


def taught(scene: Scene, condition: str, seed: int, out: Path) -> tuple[Policy, dict[str, Any]]:
    """A student with what the robot measures, and memory; with `student_context` it has the physics encoder, too."""
    source = teacher(scene, seed, out.parent / f"teacher-{seed}")
    encoder = conditions.encoder_of(scene, out.parent / "encoder") if condition == "student_context" else None
    env = conditions.classroom(scene, LESSONS.num_envs, seed)
    begin = time.monotonic()
    student = distill(
        env, source, scene.card, None, LESSONS, seed=seed, encoder=encoder, out=out, resume=True, report=terminal()
    )
    student.save(out / "policy")
    rank = conditions.told_scorer(scene, conditions.told(scene))
    known = {"teacher_success": rank(source)[0], "student_success": rank(student)[0]}
    return student, known | {"lessons_seconds": round(time.monotonic() - begin, 1)}


def judged(scene: Scene, policy: Policy, posterior: Path | None) -> dict[str, Any]:
    """Scores of both suites, and success on robots of the posterior, where there is one."""
    found: dict[str, Any] = {}
    for name, suite_name in SUITES.items():
        suite = load_suite(suite_name)
        arena = arena_of(suite.arena, scene.task)
        made = plan(suite, arena, SEED)
        scores = score(made, arena.run(subject_of_policy(policy), made.runs).success, suite.counted)
        found[name] = {key: scores[key] for key in CRITERIA if key in scores} | {"runs": len(made.runs)}
    if posterior is not None:
        law, task = randomization.load(posterior), as_made(scene.task, policy)
        stats = rollout_success(policy.episode(), task, scene.robot, law, ROBOTS, SEED, nthread=1)
        found["posterior"] = wilson(int(stats.success.sum()), ROBOTS)
    return found


def one(scene: Scene, condition: str, seed: int, out: Path, posterior: Path | None) -> dict[str, Any]:
    """The row of a condition and seed."""
    run, begin, more = out / f"{condition}-{seed}", time.monotonic(), {}
    steps = scene.recipe.segments * scene.recipe.segment_steps
    if condition.startswith("student"):
        policy, more = taught(scene, condition, seed, run)
        steps += LESSONS.num_envs * LESSONS.rounds * LESSONS.steps
        curve = out / f"teacher-{seed}" / CURVE
    else:
        policy, curve = trained(scene, condition, seed, run), run / CURVE
    segments = [json.loads(line) for line in curve.read_text().splitlines()]
    row = {"condition": condition, "seed": seed, "env_steps": steps, **more}
    row |= {"training_seconds": segments[-1]["seconds"], "ranked": [round(s["success"], 4) for s in segments]}
    row |= judged(scene, policy, posterior)
    return row | {"row_seconds": round(time.monotonic() - begin, 1)}


def run_all(out: Path, length: str, seeds: list[int], posterior: Path | None, wanted: list[str]) -> None:
    """Every row that is not there yet, a seed of all conditions after the other."""
    torch.set_num_threads(1)
    scene = conditions.scene(conditions.LENGTHS[length])
    for seed in seeds:
        for condition in wanted:
            path = out / "rows" / f"{condition}-{seed}.json"
            if path.exists():
                continue
            row = one(scene, condition, seed, out, posterior)
            files.write_json(path, row)
            print(json.dumps(row), flush=True)


def table(folder: Path) -> str:
    """Markdown: of each condition the mean over seeds with each seed's figure, then the criteria's means."""
    rows = [json.loads(path.read_text()) for path in sorted(folder.glob("*-*.json"))]
    by = {c: [r for r in rows if r["condition"] == c] for c in conditions.CONDITIONS}
    columns: Mapping[str, Callable[[dict[str, Any]], float]] = {
        "leaderboard": lambda r: float(r["leaderboard"]["overall"]),
        "default suite": lambda r: float(r["default"]["overall"]),
        "posterior": lambda r: float(r["posterior"]["mean"]) if "posterior" in r else float("nan"),
    }
    lines = ["| training | seeds | " + " | ".join(columns) + " |", "|---|---|" + "---|" * len(columns)]
    for condition, found in by.items():
        if found:
            cells = [_cell([of(r) for r in found]) for of in columns.values()]
            lines.append(f"| {conditions.CONDITIONS[condition]} | {len(found)} | " + " | ".join(cells) + " |")
    lines += ["", "| training | " + " | ".join(CRITERIA) + " |", "|---|" + "---|" * len(CRITERIA)]
    for condition, found in by.items():
        if found:
            means = [f"{np.mean([r['leaderboard'][c] for r in found]):.2f}" for c in CRITERIA]
            lines.append(f"| {conditions.CONDITIONS[condition]} | " + " | ".join(means) + " |")
    return "\n".join(lines)


def phases(curves: list[Path]) -> str:
    """Markdown: of each training by the recipe the best score before, while and after its randomization grew."""
    lines = [
        "| training | nothing yet | growing | at full width | last | chosen in segment |",
        "|---|---|---|---|---|---|",
    ]
    for path in curves:
        rows = json.loads(path.read_text())
        share = [row["curriculum/share"] for row in rows]
        score = [row["success"] for row in rows]
        best = [
            max((s for s, c in zip(score, share, strict=True) if inside(c)), default=float("nan"))
            for inside in (lambda c: c == 0.0, lambda c: 0.0 < c < 1.0, lambda c: c == 1.0)
        ]
        cells = " | ".join(f"{value:.2f}" for value in (*best, score[-1]))
        chosen = rows[len(score) - 1 - int(np.argmax(score[::-1]))]["segment"]
        lines.append(f"| {path.parent.name} | {cells} | {chosen} of {len(rows)} |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    each = ", ".join(f"{v:.2f}" for v in values)
    return f"{np.mean(values):.2f} ({each})"


def main(words: list[str]) -> None:
    keys = dict(word.split("=", 1) for word in words if "=" in word)
    plain = [word for word in words if "=" not in word]
    if len(plain) < 2 or plain[0] not in ("train", "table", "phases"):
        sys.exit("give train OUT, table FOLDER or phases CURVE.json; the module's head tells the rest.")
    if plain[0] != "train":
        print(table(Path(plain[1])) if plain[0] == "table" else phases([Path(word) for word in plain[1:]]))
        return
    posterior = Path(keys["posterior"]) if "posterior" in keys else None
    seeds = [int(word) for word in keys.get("seeds", "0,1").split(",")]
    run_all(Path(plain[1]), keys.get("length", "short"), seeds, posterior, plain[2:] or list(conditions.CONDITIONS))


if __name__ == "__main__":
    main(sys.argv[1:])

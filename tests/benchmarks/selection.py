"""What tells in simulation which of several policies will do best on the robot: return or stress score?

    python tests/benchmarks/selection.py OUT.json POLICY CLOSED_LOOP [CLOSED_LOOP ...] [n=200]

CLOSED_LOOP are folders of tests/benchmarks/closed_loop.py, POLICY is what they started from. Of each surrogate all
policies are taken that were trained without its truth: the start, and the fine-tuned ones and those from scratch of
every folder. They are rated by three numbers that need no robot: mean return on the robot's prior, mean return on its
posterior, and the overall score of the stress suite `default` about the posterior; what they are to foretell is their
success in n episodes on the surrogate's truth. A rating's agreement is Kendall's tau-b over the pairs of policies of
one surrogate, with the interval of a bootstrap over surrogates: 1 is always right about which is better, 0 a coin.
Costs nearly a minute of one core a policy, most of it the stress suite.
"""

from __future__ import annotations

import json
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.policy import Policy
from robot import files
from sim import truths
from sim.model import Model, find_robot
from sim.randomization import load
from sim.tasks import load_task
from transfer.evidence import suite_for_posterior
from transfer.stages.export import default_prior
from transfer.stress import OVERALL, plan, score
from transfer.subjects import subject_of_policy
from transfer.training import scorer

Array = npt.NDArray[np.float64]
RATINGS = ("return on the prior", "return on the posterior", "stress score on the posterior")
TRAINED = ("finetune", "scratch")
DRAWS, SEED = 2000, 31


def rated(policies: list[Path], posterior: Path, truth: int, n: int) -> list[dict[str, Any]]:
    """Ratings of each policy, and its success on the surrogate's truth."""
    from sim.mujoco_arena import MujocoArena

    first = Policy.load(policies[0])
    task, robot, law = load_task(first.task), find_robot(first.spec.name), load(posterior)
    suite = suite_for_posterior("default", task)
    arena = MujocoArena(suite.arena, task, robot, law)
    made = plan(suite, arena, SEED, (law, arena.model))
    scores = [
        scorer(task, robot, domain, n, SEED)
        for domain in (default_prior(robot), law, truths.truth(Model(robot), truth))
    ]
    rows = []
    for folder in policies:
        policy = Policy.load(folder)
        (_, at_home), (_, here), (real, _) = (rate(policy) for rate in scores)
        stress = score(made, arena.run(subject_of_policy(policy), made.runs).success, suite.counted)[OVERALL]
        ratings = dict(zip(RATINGS, (at_home, here, float(stress)), strict=True))
        rows.append({"policy": str(folder), "truth": truth, "ratings": ratings, "success": real})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def agreement(rows: list[dict[str, Any]], rating: str) -> tuple[int, int, int, int]:
    """Pairs of one surrogate's policies: concordant, discordant, and those that differ in rating, in success."""
    pairs = [
        (np.sign(a["ratings"][rating] - b["ratings"][rating]), np.sign(a["success"] - b["success"]))
        for a, b in combinations(rows, 2)
    ]
    x, y = np.array(pairs).T
    return int((x * y > 0).sum()), int((x * y < 0).sum()), int((x != 0).sum()), int((y != 0).sum())


def tau(counts: Array) -> float:
    """Kendall's tau-b of pairs (surrogates, 4) as agreement() counts them."""
    right, wrong, differ, unlike = counts.sum(axis=0)
    return float((right - wrong) / np.sqrt(max(differ * unlike, 1)))


def main(out: Path, start: Path, folders: list[Path], n: int) -> None:
    numbers = sorted({int(p.name.split("_")[1]) for f in folders for p in f.glob("truth_*")})
    rows: dict[int, list[dict[str, Any]]] = {}
    for truth in numbers:
        homes = [f / f"truth_{truth}" for f in folders]
        policies = [
            start,
            *(h / way / "policy" for h in homes for way in TRAINED if (h / way / "result.json").exists()),
        ]
        posterior = next(
            h / "identify" / "posterior.yaml" for h in homes if (h / "identify" / "posterior.yaml").exists()
        )
        rows[truth] = rated(policies, posterior, truth, n)
    rng, found = np.random.default_rng(0), {}
    for rating in RATINGS:
        counts = np.array([agreement(rows[t], rating) for t in numbers], dtype=float)
        draws = [tau(counts[rng.integers(0, len(counts), len(counts))]) for _ in range(DRAWS)]
        low, high = np.quantile(draws, [0.025, 0.975])
        found[rating] = {"mean": tau(counts), "ci95": [float(low), float(high)], "n": len(counts)}
        print(f"| {rating} | {tau(counts):.2f} [{low:.2f}, {high:.2f}] |")
    files.write_json(out, {"tau": found, "rows": [row for t in numbers for row in rows[t]]})


if __name__ == "__main__":
    count = next((int(w[2:]) for w in sys.argv if w.startswith("n=")), 200)
    given = [Path(w) for w in sys.argv[1:] if "=" not in w]
    main(given[0], given[1], given[2:], count)

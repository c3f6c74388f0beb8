"""What a minute of logs is worth on the robot: zero-shot, fine-tuned, from scratch and oracle on surrogates.

    python tests/benchmarks/closed_loop.py OUT policy=DIR [truths=0,1,2,3,4] [n=100] [key=value for finetune ...]

`policy` was trained on the robot's prior. Of each surrogate (sim/truths.py) six excitations of 10 s are recorded: four
are fitted, two decide which candidate is kept. The oracle goes on from the same policy with the same recipe as the
fine-tuning, on the surrogate's truth itself, which nothing else here reads; from scratch has the network, the posterior
and the steps of the fine-tuning. Every stage is the command line's, in a folder of its own under OUT, so a benchmark
that was killed goes on where it was. OUT/closed_loop.json has the successes over n trials of each, the share of the gap
between zero-shot and oracle that fine-tuning closes, its interval by a bootstrap over trials within surrogates, and
what was forgotten on the prior. Costs about eight minutes of one core a surrogate for the pendulum.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.policy import Policy
from robot import config, files
from robot.result import wilson
from sim import truths
from sim.model import Model, find_robot
from transfer import cli
from transfer.finetune import ON_POSTERIOR

EXCITATIONS = {"train": (("chirp", 1), ("chirp", 2), ("prbs", 3), ("prbs", 4)), "judge": (("chirp", 11), ("prbs", 12))}
SECONDS = 10
WAYS = ("zero-shot", "fine-tuned", "scratch", "oracle")
DRAWS = 2000
RESUMED = ("train", "finetune")


def stage(folder: Path, name: str, *words: str) -> dict[str, Any]:
    """A stage's result, run into `folder` unless it is there."""
    path = folder / "result.json"
    if not path.exists():
        path = cli.call(
            name, [*words, f"out={folder}", "resume=true"] if name in RESUMED else [*words, f"out={folder}"]
        )
    return dict(json.loads(path.read_text()))


def recorded(out: Path, robot: str, truth: int) -> dict[str, Path]:
    """Part -> data set of that surrogate."""
    from robot import cli as onboard

    sets = {}
    for part, excitations in EXCITATIONS.items():
        logs = []
        for kind, seed in excitations:
            folder = out / f"record_{part}_{seed}"
            if not (folder / "result.json").exists():
                words = [f"robot={robot}", "driver=surrogate", f"truth={truth}", f"excitation={kind}"]
                onboard.call("record", [*words, f"seconds={SECONDS}", f"seed={100 * truth + seed}", f"out={folder}"])
            logs.append(json.loads((folder / "result.json").read_text())["log"])
        stage(out / f"ingest_{part}", "ingest", f"robot={robot}", f"path=[{','.join(logs)}]")
        sets[part] = out / f"ingest_{part}"
    return sets


def one(out: Path, source: Path, truth: int, n: int, words: list[str]) -> dict[str, Any]:
    """All ways on one surrogate: successes, and what fine-tuning said."""
    policy = Policy.load(source)
    robot, task = policy.spec.name, policy.task
    logs = recorded(out, robot, truth)
    fit = stage(out / "identify", "identify", f"robot={robot}", f"logs={logs['train']}")
    given = [f"policy={source}", f"logs={logs['train']}", f"test={logs['judge']}", f"posterior={fit['posterior']}"]
    fine = stage(out / "finetune", "finetune", *given, *words)
    law = out / "truth.yaml"
    config.save(law, truths.truth(Model(find_robot(robot)), truth))
    recipe = asdict(ON_POSTERIOR) | dict(
        w.removeprefix("finetune.recipe.").split("=", 1) for w in words if "recipe" in w
    )
    keys = [f"recipe.{k}={_word(v)}" for k, v in recipe.items()]
    scratch = stage(
        out / "scratch", "train", f"task={task}", f"posterior={fit['posterior']}", f"like={source}",
        f"recipe.env_steps={max(fine['env_steps'], 1)}",
    )  # fmt: skip
    oracle = stage(out / "oracle", "train", f"task={task}", f"posterior={law}", f"start={source}", *keys)
    folders = dict(zip(WAYS, (source, fine["policy"], scratch["policy"], oracle["policy"]), strict=True))
    rates = {}
    for way, folder in folders.items():
        bundle = stage(out / f"export_{way}", "export", f"policy={folder}")["bundle"]
        trial = [f"bundle={bundle}", "driver=surrogate", f"task={task}", f"truth={truth}", f"n={n}"]
        rates[way] = stage(out / f"trials_{way}", "trials", *trial)["success"]
    return {
        "truth": truth,
        "success": rates,
        "selected": fine["selected"],
        "forgetting": fine["forgetting"],
        "seconds": {"identify": fit["seconds"], "finetune": fine["seconds"]},
    }


def _word(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def closed(rows: list[dict[str, Any]], rng: np.random.Generator) -> dict[str, Any]:
    """Share of the gap between zero-shot and oracle that fine-tuning closes, pooled over surrogates: mean, ci95, n."""
    n = [row["success"]["zero-shot"]["n"] for row in rows]

    def share(rates: dict[str, npt.NDArray[np.float64]]) -> Any:
        return (rates["fine-tuned"] - rates["zero-shot"]) / (rates["oracle"] - rates["zero-shot"])

    means = {way: np.array([row["success"][way]["mean"] for row in rows]) for way in WAYS}
    draws = {w: np.mean(rng.binomial(n, p, (DRAWS, len(rows))) / n, axis=1) for w, p in means.items()}
    low, high = np.quantile(share(draws), [0.025, 0.975])
    middle = share({w: p.mean(keepdims=True) for w, p in means.items()})[0]
    return {"mean": float(middle), "ci95": [float(low), float(high)], "n": len(rows)}


def main(out: Path, options: dict[str, str], words: list[str]) -> dict[str, Any]:
    """Go on with what `out` has; print and write the table."""
    numbers, n = [int(t) for t in options.get("truths", "0,1,2,3,4").split(",")], int(options.get("n", "100"))
    rows = []
    for truth in numbers:
        rows.append(one(out / f"truth_{truth}", Path(options["policy"]), truth, n, words))
        print(json.dumps(rows[-1]), flush=True)
    pooled = {
        way: wilson(sum(round(r["success"][way]["mean"] * n) for r in rows), n * len(rows)) for way in WAYS
    }  # fmt: skip
    result = {"rows": rows, "pooled": pooled, "closed": closed(rows, np.random.default_rng(0))}
    files.write_json(out / "closed_loop.json", result)
    print(json.dumps({"pooled": pooled, "closed": result["closed"]}, indent=1))
    return result


if __name__ == "__main__":
    mine = ("policy", "truths", "n")
    given = [w for w in sys.argv[2:] if w.split("=", 1)[0] not in mine]
    main(Path(sys.argv[1]), dict(w.split("=", 1) for w in sys.argv[2:] if w not in given), given)

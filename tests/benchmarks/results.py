"""What the recipes reach: trains and judges one, keeps its papers in docs/results/, and makes docs/results.md of all.

    .venv/bin/python tests/benchmarks/results.py                        # the page alone
    .venv/bin/python tests/benchmarks/results.py pendubot_swingup 0     # train, export, stress, evaluate; then the page
    .venv/bin/python tests/benchmarks/results.py pendubot_swingup 0 DIR # the same of a training that is in DIR already

A training is `terrafirma train recipe=R seed=S`, and a killed one goes on where it stopped. The double pendulum's
policies are judged from their bundles: by the leaderboard's suite, which chose no checkpoint, and, where
TERRAFIRMA_POSTERIOR names a posterior.yaml that was identified from the real bench's recordings, by 200 robots of it.
Kept are copies of each stage's result.json: result (training), stress, posterior; and the learning curve.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RUNS, KEPT, PAGE = ROOT / "runs" / "results", ROOT / "docs" / "results", ROOT / "docs" / "results.md"
STRESSED = ("pendubot_swingup", "acrobot_swingup")
CRITERIA = ("model", "velocity_noise", "torque_noise", "torque_response", "delay", "pushes", "overall")
PUBLISHED = {
    "pendubot_swingup": ("AR-EAPO, published", (0.876, 0.810, 1.0, 1.0, 0.810, 0.980, 0.913)),
    "acrobot_swingup": ("history SAC, published", (0.581, 0.238, 1.0, 1.0, 0.905, 0.780, 0.751)),
}
"""The best of the public robustness leaderboard (version 2)."""
HEAD = """# Results

Made by `tests/benchmarks/results.py` from the files in `docs/results`, which are copies of what the stages wrote.
Intervals are of 95 %. Minutes are wall time on a machine of two cores that other programs shared. Success is that of
each training's own robots: the nominal one, and of the pendubot all that its randomization can reach, at full width.
The pendulum's rows are of an earlier recipe (`recipe.env_steps=600000 recipe.learning_rate_end=5e-5 dr=null`).

## Trainings

| recipe | seed | success | episodes | environment steps | minutes |
|---|---|---|---|---|---|
"""
STRESS = """
## Robustness of the double pendulum

The criteria of the public double-pendulum robustness leaderboard ([stress.md](stress.md)), from the exported ONNX
bundles; the checkpoints were chosen by another suite, of other values and pushes. `posterior` is success on robots
drawn from the posterior that was identified from recordings of the real bench.

"""
SEEN = """
## Robots seen through a camera

A student of `pendulum_swingup_pixels`, whose input is the camera alone; [policies.md](policies.md#teacher-and-student)
has the commands. `own` is success on rendered pictures of its own randomization; the rest on ten surrogates whose
camera, light and body are all moved, and to which nothing was adapted (`tests/benchmarks/pixels.py`).

| seed | own | surrogates | trials | successes on each of the ten |
|---|---|---|---|---|
"""


def main(words: list[str]) -> None:
    if len(words) not in (0, 2, 3):
        sys.exit("give nothing, or a recipe and a seed, and perhaps its folder: results.py pendubot_swingup 0")
    if words:
        name = f"{words[0]}-{int(words[1])}"
        keep(words[0], int(words[1]), Path(words[2]) if len(words) == 3 else RUNS / name, KEPT / name)
    PAGE.write_text(page(KEPT))


def keep(recipe: str, seed: int, out: Path, kept: Path) -> None:
    """Train and judge in `out`, as far as it has not been done, and copy the papers."""
    _stage("train", f"recipe={recipe}", f"seed={seed}", "resume=true", out=out)
    papers = {"result": out}
    if recipe in STRESSED:
        bundle = out / "export" / "bundle"
        _stage("export", f"policy={out / 'policy'}", out=out / "export")
        _stage("stress", f"bundle={bundle}", f"task={recipe}", "search.runs=0", out=out / "stress")
        papers["stress"] = out / "stress"
        if posterior := os.environ.get("TERRAFIRMA_POSTERIOR"):
            _stage("evaluate", f"bundle={bundle}", f"task={recipe}", f"posterior={posterior}", out=out / "posterior")
            papers["posterior"] = out / "posterior"
    kept.mkdir(parents=True, exist_ok=True)
    for name, folder in papers.items():
        result = json.loads((folder / "result.json").read_text())
        short = {k: v for k, v in result.items() if k not in ("policy", "bundle", "inputs", "figures")}
        (kept / f"{name}.json").write_text(json.dumps(short, indent=1) + "\n")
    curve = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
    (kept / "curve.json").write_text(json.dumps(curve) + "\n")


def _stage(stage: str, *words: str, out: Path) -> None:
    if not (out / "result.json").exists():
        terrafirma = str(Path(sys.executable).parent / "terrafirma")
        subprocess.run([terrafirma, stage, *words, f"out={out}"], cwd=ROOT, check=True)


def page(kept: Path) -> str:
    """docs/results.md."""
    runs = [(*folder.name.rsplit("-", 1), _papers(folder)) for folder in sorted(kept.glob("*-*"))]
    trained = [(recipe, seed, papers) for recipe, seed, papers in runs if "curve" in papers]
    text = HEAD + "".join(_training(recipe, seed, papers) for recipe, seed, papers in trained)
    stressed = [(recipe, seed, papers) for recipe, seed, papers in trained if "stress" in papers]
    if stressed:
        text += STRESS
        text += f"| policy | {' | '.join(c.replace('_', ' ') for c in CRITERIA)} | posterior |\n"
        text += "|---" * (len(CRITERIA) + 2) + "|\n"
    for recipe in dict.fromkeys(recipe for recipe, _, _ in stressed):
        text += _robustness(recipe, {seed: papers for name, seed, papers in stressed if name == recipe})
    seen = [(seed, papers) for _, seed, papers in runs if "surrogates" in papers]
    return text + (SEEN if seen else "") + "".join(_seen(seed, papers) for seed, papers in seen)


def _papers(folder: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def _training(recipe: str, seed: str, papers: dict[str, Any]) -> str:
    success, last = papers["result"]["success"], papers["curve"][-1]
    cells = (recipe, seed, _share(success), success["n"], f"{last['env_steps']:,}", f"{last['seconds'] / 60:.1f}")
    return _row(*cells)


def _seen(seed: str, papers: dict[str, Any]) -> str:
    """What pixels.py found, of one bundle."""
    (counts,), (pooled,) = (papers["surrogates"][k].values() for k in ("successes", "pooled"))
    each = ", ".join(str(count) for count in counts.values())
    return _row(seed, _share(papers["result"]["success"]), _share(pooled), pooled["n"], each)


def _robustness(recipe: str, papers: dict[str, Any]) -> str:
    """A row a seed, their mean, and the best that was published."""
    rows = [[paper["stress"][criterion] for criterion in CRITERIA] for paper in papers.values()]
    text = ""
    for (seed, paper), row in zip(papers.items(), rows, strict=True):
        posterior = _share(paper["posterior"]["success"]) if "posterior" in paper else ""
        text += _row(f"`{recipe}` seed {seed}", *(f"{x:.3f}" for x in row), posterior)
    if len(rows) > 1:
        means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        text += _row(f"**mean of {len(rows)} seeds**", *(f"**{x:.3f}**" for x in means), "")
    name, best = PUBLISHED[recipe]
    return text + _row(name, *(f"{x:.3f}" for x in best), "")


def _share(success: dict[str, Any]) -> str:
    low, high = success["ci95"]
    return f"{success['mean']:.2f} [{low:.2f}, {high:.2f}]"


def _row(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |\n"


if __name__ == "__main__":
    main(sys.argv[1:])

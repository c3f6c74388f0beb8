"""The whole chain on the simple pendulum, against a surrogate robot whose parameters nobody is told:

    terrafirma demo

Reads   nothing; the surrogate is reached only as a driver and through the logs recorded on it.
Writes  one folder a stage, result.json and report.html; with resume=true it goes on where it was stopped.
Costs   some minutes on two cores; the table that it ends with has the seconds of each stage.
Pretrain an encoder and train a policy in simulation, record logs, correct the simulation with them, fine-tune,
export, verify, and count successes on the surrogate: zero-shot, fine-tuned, and trained from scratch.
Beside this, in a process of its own: the same task with a camera in place of the joints' sensors, on a surrogate whose
camera was knocked askew and stands in little light. A vision encoder is pretrained on synthetic pictures, a policy
learns on it from the first one's policy; while the first policy drives the robot by its joints the camera watches,
and these logs adapt the encoder. One policy, with either encoder, is counted: the joints are labels, never its input.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from robot import cli as onboard
from robot.result import Run
from transfer import cli
from transfer.cli import Common

ROBOT, TASK, DRIVER = "simple_pendulum", "pendulum_swingup", "surrogate"
EXCITATIONS = {
    "train": (("chirp", 1), ("chirp", 2), ("prbs", 3), ("prbs", 4)),
    "judge": (("chirp", 11), ("prbs", 12)),
    "test": (("chirp", 21), ("prbs", 22)),
}
"""What is recorded on the robot: (excitation, seed). `train` is fitted, `judge` decides which fine-tuning is kept, and
`test` is seen by no fit and no choice: the gap is measured on it."""
TRIALS = 100
PIXELS, CAMERA, KNOCKED = "pendulum_swingup_pixels", "side", "truth=knocked"
WATCHED = {31: 0.0, 32: -2.4, 33: 2.4, 34: -1.2, 35: 1.2, 36: 3.0}
"""Seeds of the episodes that the camera watches, and the angle [rad] at which somebody lets the pendulum go."""
ADAPT = {"updates": 300, "batch": 32, "learning_rate": 6e-4, "validations": 6, "patience": 6}
"""More updates than the default, which is for a few labels: here every one of 1200 pictures has its joint's angle."""
VOLATILE = ("stages", "bundle", "report")


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    trials: int = TRIALS
    """Episodes on the surrogate for each policy; three tenths of them for those that see."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How long the robot is recorded, and what is said of the encoders' size."""

    record_s: float = 10.0
    """Of each excitation [s]."""
    thinned: int = 1
    """Of the excitations that are fitted every so-manieth is recorded."""
    watched: int = len(WATCHED)
    """Episodes before the camera ..."""
    watched_s: float = 4.0
    """... and the length of each [s]."""
    physics: tuple[str, ...] = ()
    """Words for `pretrain encoder=physics`."""
    vision: tuple[str, ...] = ()
    """Words for `pretrain encoder=vision`."""


SMALL = Size(
    record_s=5.0,
    thinned=2,
    watched=2,
    watched_s=2.0,
    physics=("encoder.history=48", "encoder.hidden=[16]", "encoder.predictor=[16]"),
    vision=("encoder.channels=[8,16,16]", "encoder.points=4", "encoder.features=8"),
)
"""Of quick=true. Later stages run the encoders at each step of their episodes: that is most of what they cost."""


@dataclass
class Chain:
    """Runs stages one after the other, each in its own folder, and keeps their times."""

    out: Path
    seed: int
    quick: bool
    resume: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def size(self) -> Size:
        return SMALL if self.quick else Size()

    def run(self, name: str, stage: str, *words: str, seed: int | None = None) -> dict[str, Any]:
        """Run a stage into `<out>/<name>` and return its result."""
        path = self.out / name / "result.json"
        if self.resume and path.exists():
            return self._keep(name, path)
        print(f"-- {name}: terrafirma {stage} {' '.join(words)}", file=sys.stderr, flush=True)
        call: Callable[[str, list[str]], Path] = cli.call if stage in cli.STAGES else onboard.call
        extra = [f"seed={self.seed if seed is None else seed}", f"out={self.out / name}"]
        if stage in cli.STAGES:
            extra += ["quick=true" if self.quick else "demo=true", f"resume={str(self.resume).lower()}"]
        return self._keep(name, call(stage, [*words, *extra]))

    def _keep(self, name: str, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(path.read_text())
        self.rows.append({"name": name, "seconds": result["seconds"], "result": str(path)})
        return result


def run(cfg: Config, run: Run) -> dict[str, Any]:
    chain = Chain(run.out, cfg.seed, cfg.quick, cfg.resume)
    trials = 2 if cfg.quick else cfg.trials
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as beside:
        looked = beside.submit(look, replace(chain, rows=[]))
        zero_shot = in_simulation(chain)
        seen = beside.submit(see, replace(chain, rows=[]), looked.result()[0], zero_shot, max(trials * 3 // 10, 1))
        summary, bundle = by_the_joints(chain, zero_shot, trials)
        pixels, rows = seen.result()
    chain.rows += looked.result()[1] + rows
    return finish(chain, run, summary | pixels, bundle)


def by_the_joints(chain: Chain, zero_shot: dict[str, str], trials: int) -> tuple[dict[str, Any], str]:
    """From the first logs to the fine-tuned controller: what the summary says, and the controller."""
    logs = on_the_robot(chain, zero_shot["bundle"])
    gap_before, gap_after, posterior = correct(chain, logs)
    fine, scratch = adapt(chain, zero_shot["policy"], logs, posterior)
    bundles = {"zero-shot": zero_shot["bundle"]}
    bundles |= {name: export(chain, name, policy) for name, policy in (("fine-tuned", fine), ("from-scratch", scratch))}
    rates = {name: trial(chain, name, bundle, trials) for name, bundle in bundles.items()}
    deploy(chain, bundles["fine-tuned"], posterior)
    return {
        "zero_shot_success": rates["zero-shot"],
        "finetuned_success": rates["fine-tuned"],
        "from_scratch_success": rates["from-scratch"],
        "gap_before_rad": gap_before,
        "gap_after_rad": gap_after,
    }, bundles["fine-tuned"]


def finish(chain: Chain, run: Run, summary: dict[str, Any], bundle: str) -> dict[str, Any]:
    """Report and table."""
    # the report shows this stage's summary too, so its result has to stand before the page is made
    run.finish({"stages": chain.rows, "summary": summary, "bundle": bundle, "report": ""}, VOLATILE)
    report = chain.run("report", "report", f"run={run.out}")["report"]
    print(table(chain.rows, summary), flush=True)
    return {"stages": chain.rows, "summary": summary, "bundle": bundle, "report": report}


def look(chain: Chain) -> tuple[str, list[dict[str, Any]]]:
    """Pretrain a vision encoder on synthetic pictures: its folder, and the stages' rows."""
    words = ("encoder=vision", f"robot={ROBOT}", f"dr={ROBOT}_appearance", *chain.size.vision)
    return chain.run("pretrain_vision", "pretrain", *words)["encoder"], chain.rows


def see(chain: Chain, encoder: str, driver: dict[str, str], trials: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A camera in place of the joints' sensors, before and after the encoder was adapted: successes, and the rows.

    `driver` is the policy with the joints' sensors, which teaches in simulation and drives while the camera watches.
    """
    given = (f"task={PIXELS}", f"vision={encoder}", f"teacher={driver['policy']}")
    policy = chain.run("train_pixels", "train", *given)["policy"]
    watched = watch(chain, driver["bundle"])
    words = (f"encoder={encoder}", f"logs={watched}", *(f"adapt.tune.{key}={value}" for key, value in ADAPT.items()))
    adapted = chain.run("finetune_vision", "finetune", *words)["encoder"]
    rates: dict[str, Any] = {}
    encoders: dict[str, list[str]] = {"zero-shot": [], "adapted": [f"vision={adapted}"]}
    for name, more in encoders.items():
        bundle = chain.run(f"export_pixels_{name}", "export", f"policy={policy}", *more)["bundle"]
        key = f"pixels_{name.replace('-', '_')}_success"
        rates[key] = trial(chain, f"pixels_{name}", bundle, trials, f"task={PIXELS}", KNOCKED)
    return rates, chain.rows


def watch(chain: Chain, bundle: str) -> Path:
    """Record pictures beside the joints while a controller that has the joints' sensors drives: the data set."""
    logs = []
    for number, angle in list(WATCHED.items())[: chain.size.watched]:
        words = (f"bundle={bundle}", f"driver={DRIVER}", KNOCKED, f"start=[{angle}]", f"cameras=[{CAMERA}]")
        name, seed = f"run_watched_{number}", 1000 * chain.seed + number
        logs.append(chain.run(name, "run", *words, f"seconds={chain.size.watched_s}", seed=seed)["log"])
    chain.run("ingest_watched", "ingest", f"robot={ROBOT}", f"path=[{','.join(logs)}]")
    return chain.out / "ingest_watched"


def in_simulation(chain: Chain) -> dict[str, str]:
    """Pretrain, train on the prior, export: what one has before touching the robot."""
    encoder = chain.run("pretrain", "pretrain", "encoder=physics", f"robot={ROBOT}", *chain.size.physics)
    trained = chain.run("train", "train", f"task={TASK}", f"physics={encoder['encoder']}")
    return {"policy": trained["policy"], "bundle": export(chain, "zero-shot", trained["policy"])}


def on_the_robot(chain: Chain, bundle: str) -> dict[str, str]:
    """Record excitations and one attempt of the zero-shot controller; import and screen them: part -> data set."""
    folders, seconds = {}, chain.size.record_s
    for part, excitations in EXCITATIONS.items():
        logs = []
        for excitation, number in excitations[:: chain.size.thinned if part == "train" else 1]:
            name = f"record_{part}_{number}"
            words = (f"robot={ROBOT}", f"driver={DRIVER}", f"excitation={excitation}", f"seconds={seconds}")
            logs.append(chain.run(name, "record", *words, seed=1000 * chain.seed + number)["log"])
        if part == "train":
            attempt = (f"bundle={bundle}", f"driver={DRIVER}", "seconds=6")
            logs.append(chain.run("run_zero-shot", "run", *attempt, seed=1000 * chain.seed + 5)["log"])
        folder = f"ingest_{part}"
        chain.run(folder, "ingest", f"robot={ROBOT}", f"path=[{','.join(logs)}]")
        folders[part] = str(chain.out / folder)
    return folders


def correct(chain: Chain, logs: dict[str, str]) -> tuple[Any, Any, str]:
    """Fit the simulator; its prediction error before and after, on recordings that the fit has not seen."""
    on_test = (f"robot={ROBOT}", f"logs={logs['test']}")
    before = chain.run("evaluate_before", "evaluate", *on_test, "model=nominal")
    posterior = chain.run("identify", "identify", f"robot={ROBOT}", f"logs={logs['train']}")["posterior"]
    after = chain.run("evaluate_after", "evaluate", *on_test, f"model={posterior}")
    return *(r["prediction"]["0.5"]["position_rmse"] for r in (before, after)), posterior


def adapt(chain: Chain, policy: str, logs: dict[str, str], posterior: str) -> tuple[str, str]:
    """Fine-tune; and, to know what the pretraining was worth, the same network from scratch with the same steps."""
    given = (f"policy={policy}", f"logs={logs['train']}", f"test={logs['judge']}", f"posterior={posterior}")
    fine = chain.run("finetune", "finetune", *given)
    steps = fine["env_steps"]
    words = (f"task={TASK}", f"posterior={posterior}", f"recipe.env_steps={steps}", f"like={policy}")
    return fine["policy"], chain.run("scratch", "train", *words)["policy"]


def export(chain: Chain, name: str, policy: str) -> str:
    """A controller bundle of a policy."""
    return str(chain.run(f"export_{name}", "export", f"policy={policy}")["bundle"])


def trial(chain: Chain, name: str, bundle: str, n: int, *words: str) -> Any:
    """Success of a bundle over n episodes on the surrogate."""
    given = (f"bundle={bundle}", f"driver={DRIVER}", f"n={n}", "keep=false", *(words or (f"task={TASK}",)))
    return chain.run(f"trials_{name}", "trials", *given)["success"]


def deploy(chain: Chain, bundle: str, posterior: str) -> None:
    """Verify the file, run it in the onboard loop, and take the recorded log back to the start of the chain."""
    chain.run("verify", "verify", f"bundle={bundle}")
    log = chain.run("run", "run", f"bundle={bundle}", "driver=sim", f"posterior={posterior}", "seconds=6")["log"]
    chain.run("ingest_run", "ingest", f"robot={ROBOT}", f"path={log}")


def table(rows: list[dict[str, Any]], summary: dict[str, Any]) -> str:
    """What the demo ends with on the terminal."""
    lines = ["", f"{'stage':<24}{'seconds':>9}", "-" * 33]
    lines += [f"{r['name']:<24}{r['seconds']:>9.1f}" for r in rows]
    lines += [f"{'total':<24}{sum(r['seconds'] for r in rows):>9.1f}", "", "on the surrogate robot", "-" * 33]
    for key, label in (
        ("zero_shot_success", "zero-shot"),
        ("finetuned_success", "fine-tuned"),
        ("from_scratch_success", "from scratch"),
        ("pixels_zero_shot_success", "camera only"),
        ("pixels_adapted_success", "camera, adapted"),
    ):
        rate = summary[key]
        lines.append(
            f"{label:<16}{rate['mean']:>5.0%}  [{rate['ci95'][0]:.0%}, {rate['ci95'][1]:.0%}]  n = {rate['n']}"
        )
    for key, label in (("gap_before_rad", "before"), ("gap_after_rad", "after")):
        gap = summary[key]
        lines.append(f"0.5 s error {label:<7} {gap['mean']:.4f} rad  [{gap['ci95'][0]:.4f}, {gap['ci95'][1]:.4f}]")
    return "\n".join(lines)

"""Write a controller bundle, the one folder that goes to the robot:

    terrafirma export policy=runs/train/policy
    terrafirma export policy=runs/finetune/policy posterior=runs/identify/posterior.yaml key=private.pem
    terrafirma export policy=runs/train/policy robot=my_robot.yaml
    terrafirma export policy=runs/train/policy vision=runs/finetune/encoder
    terrafirma export policy=runs/train/policy stress=runs/stress/result.json
    terrafirma export policy=runs/train/policy variants=[int8,student] logs=runs/logs
    terrafirma export policy=runs/train/policy variants=[student] student=[16,16] tolerance.success=0.02
    terrafirma export foreign=model.zip card=model.yaml
    terrafirma export foreign=model.onnx card=model.yaml key=private.pem

Reads   a policy; or one that Stable-Baselines3 saved, or a bare ONNX file, with a card that says for which robot,
        observation and actions it is (transfer/foreign.py shows one; nothing is unpickled). And what robots are drawn
        from to record golden vectors and to measure its return; for variants a stress suite (suite=NAME, default: the
        task's), and perhaps recordings (logs=) whose readings int8 is fitted to.
Writes  bundle/ (ONNX, manifest, golden vectors, monitor, model card, digests), variants/NAME/ for each variant that is
        accepted (keep_refused=true: for each), and result.json.
Costs   about ten seconds, most of them for the ONNX exporter; variants some minutes, most of them in simulation.
Refused (exit code 3) when the ONNX file does not compute what the policy computes, or when stress= tells of a score
that was below its threshold. A variant that is slower than the float32 network, neither smaller nor faster, or worse in
closed loop than tolerance.* allows is refused alone, and `why` says so. key= signs (ECDSA P-256).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from robot import config, files, folders
from robot.config import ConfigError
from robot.result import Run, mean_ci, wilson
from sim import tasks
from sim.evaluate import rollout_success
from sim.model import RobotConfig
from sim.randomization import Randomization
from transfer.choices import existing, parameters, robot_called, robot_of
from transfer.cli import Common, GateRefused
from transfer.shaping import as_made

if TYPE_CHECKING:
    from policies.policy import Policy

VOLATILE = ("bundle", "variants")


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    policy: Path | None = None
    robot: RobotConfig | None = None
    """The policy's robot, where it is no name that terrafirma knows but a YAML file."""
    vision: Path | None = None
    """A vision encoder that takes the place of the policy's own: one that was adapted to the robot's cameras."""
    posterior: Path | None = None
    dr: Randomization | None = None
    """Default: the prior of the policy's robot."""
    report: Path | None = None
    """An HTML report to put into the bundle."""
    key: Path | None = None
    stress: Path | None = None
    """result.json of a stress run of this policy, whose scores go into the manifest."""
    variants: tuple[Literal["int8", "student"], ...] = ()
    """What else is made of the policy, measured, and accepted or refused."""
    suite: str = ""
    """Stress suite by which variants are compared; default: the task's."""
    tolerance: dict[str, float] = field(default_factory=dict)
    """By how much a variant may be worse: fields of transfer.variants.Tolerance."""
    logs: Path | None = None
    """Recordings from whose readings int8 takes its ranges; default, and for a policy that sees or remembers:
    simulation."""
    student: tuple[int, ...] = (32, 32)
    """Widths of the student's hidden layers."""
    distill: dict[str, Any] = field(default_factory=dict)
    """Fields of policies.distill.DistillConfig."""
    keep_refused: bool = False
    """Whether refused variants leave a bundle, to look at; its manifest says why it was refused."""
    foreign: Path | None = None
    """In place of policy=: a .zip of Stable-Baselines3 or an .onnx file from elsewhere."""
    card: Path | None = None
    """YAML file that says what foreign= is: transfer.foreign.ForeignCard."""


def run(cfg: Config, run: Run) -> dict[str, Any]:
    from policies.encoders.vision import VisionEncoder
    from policies.policy import Policy
    from transfer.export import export
    from transfer.sight import with_appearance
    from transfer.training import COUNTED, Recording

    if cfg.foreign is not None:
        return of_foreign(cfg, run)
    source = run.input(existing(cfg.policy, "policy", "train"))
    stressed = stress_gate(cfg, source, run)
    policy = Policy.load(source)
    if cfg.vision is not None:
        policy = policy.with_vision(VisionEncoder.load(run.input(existing(cfg.vision, "vision", "pretrain"))))
    if policy.card.privileged:
        raise ConfigError(
            f"policy={cfg.policy}: it is a teacher, shown what no sensor of the robot measures "
            f"({', '.join(policy.card.privileged[:3])}, …); distil a student (train teacher=DIR) and export that."
        )
    task, robot = as_made(tasks.load_task(policy.task), policy), robot_of(policy.spec, cfg.robot)
    law = with_appearance(parameters(robot, cfg.posterior, cfg.dr or default_prior(robot), run), task)
    n = COUNTED[policy.vision is not None][cfg.budget]
    recording = Recording(policy, task.steps, n, cfg.seed)
    stats = rollout_success(recording, task, robot, law, n, cfg.seed, whole=True)
    success, value = wilson(int(stats.success.sum()), n), mean_ci(stats.returns)
    golden = recording.inputs
    gate = {"episodes_in_simulation": n, "success": success, "return": value, "drawn_from": law.name, **stressed}
    papers: dict[str, Any] = {
        "lineage": {"policy_sha256": files.sha256(source), "law": law.name, "seed": cfg.seed, **policy.card.lineage},
        "report_html": cfg.report.read_text() if cfg.report else None,
        "key": cfg.key,
    }
    rng = np.random.default_rng(cfg.seed)
    made = export(policy, run.out / "bundle", golden=golden, rng=rng, gate=gate, **papers)
    rows: list[dict[str, Any]] = [
        {
            "name": "float32",
            "bytes": made.bytes,
            "latency_us_p50": made.latency_us_p50,
            "latency_us_p99": made.latency_us_p99,
            "return": value,
            "success": success,
            "accepted": True,
        }
    ]
    if cfg.variants:
        rows = with_variants(cfg, run, policy, task, robot, law, n, golden, papers)
    return {"bundle": str(made.bundle), "parity_max_error": made.parity_max_error, "variants": rows}


def with_variants(
    cfg: Config,
    run: Run,
    policy: Policy,
    task: tasks.Task,
    robot: RobotConfig,
    law: Randomization,
    n: int,
    golden: dict[str, Any],
    papers: dict[str, Any],
) -> list[dict[str, Any]]:
    """Rows of the float32 network and of each variant; the bundles of those that are accepted."""
    from transfer.export import write
    from transfer.suites import load_suite, suite_for
    from transfer.variants import Examination, NoVariant, Tolerance

    tolerance = config.convert(Tolerance, cfg.tolerance, "terrafirma export", "tolerance")
    suite = load_suite(cfg.suite or suite_for(task.name))
    suite.check(task.name)
    graph = (run.out / "bundle" / "policy.onnx").read_bytes()
    suite = suite.shrunk() if cfg.quick else suite
    exam = Examination(policy, graph, golden, task, robot, law, suite, n, cfg.seed)
    rows = [exam.float_row()]
    for name in dict.fromkeys(cfg.variants):
        shutil.rmtree(run.out / "variants" / name, ignore_errors=True)  # of an earlier run
        try:
            candidate, told = _candidate(cfg, run, name, policy, graph, task, robot, law, golden)
        except NoVariant as error:
            measured = dict.fromkeys(("bytes", "latency_us_p50", "latency_us_p99", "return"))
            rows.append({"name": name, **measured, "accepted": False, "why": str(error)})
            continue
        row = exam.row(candidate, tolerance) | told
        if row["accepted"] or cfg.keep_refused:
            gate = {"suite": suite.name, "episodes_in_simulation": n, "drawn_from": law.name, "variant": row}
            folder = run.out / "variants" / name
            write(candidate.policy, folder, candidate.graph, golden, variant=name, gate=gate, **papers)
            row["bundle"] = str(folder)
        rows.append(row)
    return rows


def _candidate(
    cfg: Config,
    run: Run,
    name: str,
    policy: Policy,
    graph: bytes,
    task: tasks.Task,
    robot: RobotConfig,
    law: Randomization,
    golden: dict[str, Any],
) -> tuple[Any, dict[str, Any]]:
    """A variant, and what its row says of how it was made."""
    from policies.distill import DistillConfig
    from transfer.variants import quantized, taught

    if name == "int8":
        seen, source = _calibration(cfg, run, policy, golden)
        return quantized(policy, graph, seen), {"calibrated_on": source}
    settings = config.convert(DistillConfig, cfg.distill, "terrafirma export", "distill")
    if cfg.quick:
        settings = replace(settings, rounds=2, steps=40, updates=40)
    made = taught(policy, task, robot, law, golden, hidden=cfg.student, settings=settings, seed=cfg.seed)
    return made, {"hidden": list(cfg.student)}


def _calibration(cfg: Config, run: Run, policy: Policy, golden: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The inputs that int8 takes its ranges from, and where they are from.

    A recording holds no memory, and pictures not as the network takes them, so a policy that wants these is fitted to
    simulated ones.
    """
    from transfer.dataset import load_dataset
    from transfer.quantize import ROWS
    from transfer.windows import inputs_at, trajectory

    if cfg.logs is None or not set(policy.input_names) <= {"observation", "history", "history_mask"}:
        return golden, "simulation"
    logs = load_dataset(run.input(existing(cfg.logs, "logs", "ingest")), policy.spec)
    parts = []
    for log in logs:
        path = trajectory(log, policy.spec, policy.observation, policy.action, policy.control_period_s)
        rows = np.unique(np.linspace(0, max(len(path.start) - 1, 0), min(len(path.start), ROWS)).astype(np.intp))
        parts.append(inputs_at(path, policy.observation.history, rows))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, "recordings"


def of_foreign(cfg: Config, run: Run) -> dict[str, Any]:
    """The bundle of a policy from elsewhere; simulated first where its card names a task of terrafirma."""
    from transfer.foreign import ForeignCard, drawn, read, simulated
    from transfer.latency import percentiles

    if cfg.policy is not None or cfg.variants or cfg.vision is not None or cfg.stress is not None or cfg.card is None:
        raise ConfigError("export foreign=FILE needs card=FILE.yaml, and no policy=, vision=, variants= or stress=.")
    for key, path in (("foreign", cfg.foreign), ("card", cfg.card)):
        if path is None or not path.is_file():
            raise ConfigError(f"{key}={path}: there is no such file.")
    assert cfg.foreign is not None
    card = config.load(ForeignCard, run.input(cfg.card))
    robot = cfg.robot or robot_called(card.robot)
    foreign = read(run.input(cfg.foreign), card, robot.spec)
    figures: dict[str, Any] = {}
    if card.task in tasks.names():
        law = parameters(robot, cfg.posterior, cfg.dr or default_prior(robot), run)
        n = 20 if cfg.quick else 100
        seen, stats = simulated(foreign, tasks.load_task(card.task), robot, law, n, cfg.seed)
        figures = {"success": wilson(int(stats.success.sum()), n), "return": mean_ci(stats.returns)}
        gate = {"episodes_in_simulation": n, "drawn_from": law.name, **figures}
    else:
        seen, gate = drawn(foreign, np.random.default_rng(cfg.seed)), {}
    lineage = {"foreign": cfg.foreign.name, "foreign_sha256": files.sha256(cfg.foreign), "seed": cfg.seed}
    error = foreign.write(run.out / "bundle", seen, lineage, gate, cfg.key)
    p50, p99, p999 = percentiles({"foreign": foreign.graph}, {"observation": seen})["foreign"]
    row = {"name": "foreign", "bytes": len(foreign.graph), "latency_us_p50": p50, "latency_us_p99": p99}
    row |= {"latency_us_p999": p999, "accepted": True, **figures}
    return {"bundle": str(run.out / "bundle"), "parity_max_error": error, "variants": [row]}


def stress_gate(cfg: Config, source: Path, run: Run) -> dict[str, Any]:
    """What the manifest says of a stress run; nothing without one.

    GateRefused when a score was below its threshold; ConfigError when it is no stress run, or one of another policy.
    """
    if cfg.stress is None:
        return {}
    try:
        result = json.loads(run.input(existing(cfg.stress, "stress", "stress")).read_text(encoding="utf-8"))
    except ValueError:
        result = None
    if not isinstance(result, dict) or result.get("stage") != "stress" or "refused" not in result:
        raise ConfigError(f"stress={cfg.stress}: it is not the result.json of a stress suite.")
    if cfg.vision is not None or result["policy_sha256"] != files.sha256(source):
        raise ConfigError(f"stress={cfg.stress}: it is of another policy; run `terrafirma stress` on this one.")
    if result["refused"]:
        raise GateRefused(f"export: {'; '.join(result['refused'])} (stress={cfg.stress}).")
    told = {name: result[name] for name in ("suite", "runs", "budget", "thresholds")}
    return {"stress": {**told, "scores": result["intervals"]}}


def default_prior(robot: RobotConfig) -> Randomization | None:
    """configs/dr/<robot>_default.yaml where there is one."""
    from sim import randomization

    path = folders.look_up("dr", f"{robot.spec.name}_default")
    return None if path is None else randomization.load(path)

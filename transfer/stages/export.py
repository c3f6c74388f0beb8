"""Write a controller bundle, the one folder that goes to the robot:

    terrafirma export policy=runs/train/policy
    terrafirma export policy=runs/finetune/policy posterior=runs/identify/posterior.yaml key=private.pem
    terrafirma export policy=runs/train/policy vision=runs/finetune/encoder
    terrafirma export policy=runs/train/policy stress=runs/stress/result.json

Reads   a policy, and what robots are drawn from to record golden vectors and to measure its return.
Writes  bundle/ (ONNX, manifest, golden vectors, monitor, model card, digests) and result.json.
Costs   about ten seconds, most of them for the ONNX exporter.
Refused (exit code 3) when the ONNX file does not compute what the policy computes, or when stress= tells of a score
that was below its threshold. key= signs (ECDSA P-256).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot import config, files
from robot.config import ConfigError
from robot.result import Run, mean_ci, wilson
from sim import tasks
from sim.evaluate import rollout_success
from sim.model import RobotConfig, find_robot
from sim.randomization import Randomization
from transfer.choices import existing, parameters
from transfer.cli import Common, GateRefused
from transfer.shaping import as_made

VOLATILE = ("bundle", "variants")


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    policy: Path | None = None
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


def run(cfg: Config, run: Run) -> dict[str, Any]:
    from policies.encoders.vision import VisionEncoder
    from policies.policy import Policy
    from transfer.export import export
    from transfer.sight import with_appearance
    from transfer.training import COUNTED, recorded_inputs

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
    task, robot = as_made(tasks.load_task(policy.task), policy), robot_of(policy)
    law = with_appearance(parameters(robot, cfg.posterior, cfg.dr or default_prior(robot), run), task)
    n = COUNTED[policy.vision is not None][cfg.budget]
    stats = rollout_success(policy.episode(), task, robot, law, n, cfg.seed)
    success, value = wilson(int(stats.success.sum()), n), mean_ci(stats.returns)
    made = export(
        policy,
        run.out / "bundle",
        golden=recorded_inputs(policy, task, robot, law, cfg.seed),
        rng=np.random.default_rng(cfg.seed),
        lineage={"policy_sha256": files.sha256(source), "law": law.name, "seed": cfg.seed, **policy.card.lineage},
        gate={"episodes_in_simulation": n, "success": success, "return": value, "drawn_from": law.name, **stressed},
        report_html=cfg.report.read_text() if cfg.report else None,
        key=cfg.key,
    )
    variant = {
        "name": "float32",
        "bytes": made.bytes,
        "latency_us_p50": made.latency_us_p50,
        "latency_us_p99": made.latency_us_p99,
        "return": value,
        "success": success,
        "accepted": True,
    }
    return {"bundle": str(made.bundle), "parity_max_error": made.parity_max_error, "variants": [variant]}


def stress_gate(cfg: Config, source: Path, run: Run) -> dict[str, Any]:
    """What the manifest says of a stress run; nothing without one.

    GateRefused when a score was below its threshold; ConfigError when it is no stress run, or one of another policy.
    """
    if cfg.stress is None:
        return {}
    result = json.loads(run.input(existing(cfg.stress, "stress", "stress")).read_text())
    if result.get("stage") != "stress" or "refused" not in result:
        raise ConfigError(f"stress={cfg.stress}: it is not the result.json of a stress suite.")
    if cfg.vision is not None or result["policy_sha256"] != files.sha256(source):
        raise ConfigError(f"stress={cfg.stress}: it is of another policy; run `terrafirma stress` on this one.")
    if result["refused"]:
        raise GateRefused(f"export: {'; '.join(result['refused'])} (stress={cfg.stress}).")
    told = {name: result[name] for name in ("suite", "runs", "budget", "thresholds")}
    return {"stress": {**told, "scores": result["intervals"]}}


def robot_of(policy: Any) -> RobotConfig:
    """The simulated robot of a policy; ConfigError when its configuration is no longer the one it was trained for."""
    robot = find_robot(policy.spec.name)
    if robot.spec.fingerprint() != policy.spec.fingerprint():
        raise ConfigError(
            f"the policy was trained for robot '{policy.spec.name}' with fingerprint {policy.spec.fingerprint()}; "
            f"its configuration now has {robot.spec.fingerprint()}: restore it, or train again."
        )
    return robot


def default_prior(robot: RobotConfig) -> Randomization | None:
    """configs/dr/<robot>_default.yaml where there is one."""
    from sim import randomization

    path = config.shipped() / "dr" / f"{robot.spec.name}_default.yaml"
    return randomization.load(path) if path.exists() else None

"""How good is a model on logs, or a controller in simulation:

    terrafirma evaluate robot=double_pendulum_c1 logs=runs/logs model=posterior.yaml
    terrafirma evaluate robot=double_pendulum_c1 logs=runs/logs model=posterior.yaml own_s=2.5
    terrafirma evaluate robot=double_pendulum_c1 logs=runs/logs model=posterior.yaml budget=true
    terrafirma evaluate robot=double_pendulum_c1 logs=runs/logs model=posterior.yaml encoder=runs/pretrain/encoder
    terrafirma evaluate policy=runs/train/policy task=pendulum_swingup posterior=posterior.yaml n=200
    terrafirma evaluate encoder=runs/pretrain/encoder video=clip.mp4 labels=clip.csv

Reads   a data set and a parameter file (or `nominal`), and perhaps an encoder that reads each recording's past and
        says how it differs from the model; or a policy or bundle, a task and what to draw robots from; or
        a vision encoder, a video, and perhaps labels of its frames (CSV with the columns frame and angle_rad).
Writes  result.json: open-loop prediction errors with bootstrap intervals; or success and return; or errors of the
        angle in the picture, with frames.csv and a figure of the angle over time.
Costs   seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot.config import ConfigError
from robot.log import EpisodeLog
from robot.result import Run, mean_ci, wilson
from sim import randomization
from sim.evaluate import rollout_success
from sim.model import Model, RobotConfig
from sim.randomization import NOMINAL, Randomization
from transfer.choices import TaskChoice, existing, parameters
from transfer.cli import Common
from transfer.shaping import as_made
from transfer.sight import with_appearance


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    robot: RobotConfig
    logs: Path | None = None
    model: str = "nominal"
    """`nominal`, or a published, prior or posterior parameter file."""
    policy: Path | None = None
    bundle: Path | None = None
    task: TaskChoice
    posterior: Path | None = None
    dr: Randomization | None = None
    n: int = 200
    """Episodes."""
    own_s: float = 0.0
    """With logs=: so many first seconds of each recording tell its zeros and servo settings, and are not scored."""
    budget: bool = False
    """With logs= and model=: what each part of the model takes off the nominal's error, one after the other."""
    encoder: Path | None = None
    video: Path | None = None
    """What the vision encoder looks at: a pendulum of which pivot and end are in the picture."""
    labels: Path | None = None
    """CSV with the columns frame and angle_rad [rad]: 0 points down in the picture, + is counter-clockwise as seen."""
    crop: tuple[int, ...] = ()
    """Column, row, width and height [pixel] of what is looked at; default: the largest part about the middle."""


def run(cfg: Config, run: Run) -> dict[str, Any]:
    given = [k for k in ("logs", "policy", "bundle", "encoder") if getattr(cfg, k) is not None]
    if given == ["logs", "encoder"]:  # an encoder that reads the logs beside the model
        given = ["logs"]
    if len(given) != 1:
        raise ConfigError(
            f"evaluate needs one of logs=, policy=, bundle=, encoder=; found {', '.join(given) or 'none'}."
        )
    if cfg.logs is not None:
        return on_logs(cfg, run)
    return on_video(cfg, run) if cfg.encoder is not None else in_simulation(cfg, run)


def on_logs(cfg: Config, run: Run) -> dict[str, Any]:
    """Open-loop prediction errors of a model on a data set."""
    from transfer.dataset import load_dataset
    from transfer.prediction import evaluate, whole_episodes

    chosen = NOMINAL
    if cfg.model != "nominal":
        chosen = randomization.load(run.input(existing(Path(cfg.model), "model", "identify")))
    logs = load_dataset(run.input(existing(cfg.logs, "logs", "ingest")), cfg.robot.spec)
    if cfg.encoder is not None:
        from transfer.context_prediction import evaluate_with_context, load

        pair = load(run.input(existing(cfg.encoder, "encoder", "pretrain encoder=recordings")))
        both = evaluate_with_context(logs, Model(cfg.robot), chosen, *pair)
        return {"model": cfg.model, **both.result(np.random.default_rng(cfg.seed))}
    rng = np.random.default_rng(cfg.seed)
    keys = {"model": cfg.model, **evaluate(logs, Model(cfg.robot), chosen).result(rng)}
    if any(a.kind == "position_pd" for a in cfg.robot.spec.actuators):
        keys |= whole_episodes(logs, Model(cfg.robot), chosen)
    if cfg.budget:
        keys["gap_budget"] = _budget(cfg, logs, chosen, rng)
    return keys | (_with_own(cfg, logs, chosen, rng) if cfg.own_s > 0.0 else {})


def _budget(cfg: Config, logs: list[EpisodeLog], chosen: Randomization, rng: np.random.Generator) -> list[Any]:
    from transfer.gap import budget

    if chosen is NOMINAL:
        raise ConfigError(
            "budget=true tells what a model adds to the nominal, and model= is nominal: name a posterior."
        )
    return [step.row(rng) for step in budget(logs, lambda: Model(cfg.robot), chosen)]


def _with_own(cfg: Config, logs: list[EpisodeLog], chosen: Randomization, rng: np.random.Generator) -> dict[str, Any]:
    """The figures again from `own_s` on, without and with what each recording's first seconds say of itself."""
    from transfer.own import find_own
    from transfer.prediction import evaluate

    own = find_own(logs, Model(cfg.robot), chosen, cfg.own_s)
    zeros = {name: o.zero for name, o in own.items() if o.zero is not None}
    settings = {name: o.setting for name, o in own.items()}
    late = evaluate(logs, Model(cfg.robot), chosen, from_s=cfg.own_s)
    found = evaluate(logs, Model(cfg.robot), chosen, zeros=zeros, from_s=cfg.own_s, settings=settings)
    told = {
        name: {
            "zero": None if o.zero is None else dict(zip(cfg.robot.spec.joint_names, map(float, o.zero), strict=True)),
            "set": dict(o.setting),
            "error_ratio": o.ratio,
        }
        for name, o in own.items()
    }
    return {"late": late.result(rng)["prediction"], "own": found.result(rng)["prediction"], "own_found": told}


def on_video(cfg: Config, run: Run) -> dict[str, Any]:
    """The angle that a vision encoder sees in each frame, and how far it is off where frames are labelled."""
    from transfer import filmed
    from transfer.video import crop_of, existing_file

    encoder = filmed.one_camera(run.input(existing(cfg.encoder, "encoder", "pretrain encoder=vision")))
    video = run.input(existing_file(cfg.video, "video"))
    labels = None if cfg.labels is None else run.input(existing_file(cfg.labels, "labels"))
    clip, known = filmed.read(encoder, video, labels, crop_of(cfg.crop))
    return filmed.told(filmed.see(encoder, clip.images), clip, known, run.out, cfg.seed)


def in_simulation(cfg: Config, run: Run) -> dict[str, Any]:
    """Success and return of a policy or bundle over episodes with their own draws."""
    from transfer.subjects import subject_of

    task = cfg.task.load()
    subject, _ = subject_of(cfg.policy, cfg.bundle, task.name, run)
    task = as_made(task, subject)
    law = with_appearance(parameters(cfg.robot, cfg.posterior, cfg.dr, run), task)
    n = min(cfg.n, 20) if cfg.quick else cfg.n
    stats = rollout_success(subject.episode(), task, cfg.robot, law, n, cfg.seed, privileged=subject.privileged)
    return {"success": wilson(int(stats.success.sum()), n), "return": mean_ci(stats.returns)}

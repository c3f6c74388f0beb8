"""Pretrain an encoder on randomized simulation:

    terrafirma pretrain encoder=physics robot=simple_pendulum
    terrafirma pretrain encoder=vision robot=simple_pendulum
    terrafirma pretrain encoder=vision robot=simple_pendulum study=data_efficiency
    torchrun --nproc-per-node=2 --max-restarts=3 --no-python terrafirma pretrain encoder=physics out=runs/physics
    terrafirma pretrain encoder=recordings robot=double_pendulum_c1 logs=runs/logs posterior=posterior.yaml

Reads   nothing but configs: the robot, its prior (dr=NAME) and the encoder's size. What pictures vary in is by default
        <robot>_handheld or <robot>_appearance, where there is one; physics varies by <robot>_default. An encoder of
        recordings reads a data set and the simulator identified on it (evaluate logs= encoder= uses it).
Writes  encoder/ (safetensors, encoder.yaml, and card.html to look at), curve.jsonl, losses.jsonl with the loss of each
        update, and result.json with the scores.
Costs   for the pendulum two minutes of processor time for physics and five for pictures, on which two processes work.
        Killed at any moment, it goes on with resume=true. A study trains some forty encoders more. The processes of
        torchrun, on one host or several that share out=, train on the batches of one process, to the same result, and
        a process that is killed is started again at the step where it was (docs/scale.md).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from policies.progress import Meter, Report, silent
from robot import files
from robot.config import ConfigError
from robot.observation import Observation
from robot.result import Run
from sim import tasks
from sim.free_play import free_play
from sim.model import Model, RobotConfig, find_robot
from sim.randomization import Randomization
from transfer.choices import TaskChoice, existing, parameters
from transfer.cli import Common
from transfer.progress import terminal

VOLATILE = ("encoder",)
WINDOWS, IMAGES = ".windows", "images"
KINDS = ("physics", "vision", "recordings")
DEMO_IMAGES, DEMO_UPDATES = 6144, 600
DEMO: dict[str, Any] = {"simulations": 256, "grounding": 300, "updates": 1500}
QUICK: dict[str, Any] = {"simulations": 48, "seconds": 3.0, "windows": 16, "grounding": 60, "updates": 60}


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    encoder: dict[str, Any]
    robot: RobotConfig
    task: TaskChoice | None = None
    """Whose observations the physics encoder will see; default: the first task of the robot."""
    dr: Randomization | None = None
    logs: Path | None = None
    """Recordings of the kind that an encoder of recordings is to read; it wants posterior= too."""
    posterior: Path | None = None
    study: str | None = None
    """data_efficiency: what pretraining is worth, against training from scratch, on surrogates."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of a study: each is another encoder and another surrogate."""


def run(cfg: Config, run: Run) -> dict[str, Any]:
    from robot.config import nearest

    kind = cfg.encoder.get("kind")
    if kind not in KINDS:
        raise ConfigError(f"encoder.kind is '{kind}'. {nearest(str(kind), list(KINDS))}")
    given = [key for key in ("logs", "posterior") if getattr(cfg, key) is not None]
    if len(given) != (2 if kind == "recordings" else 0):
        got = " and ".join(f"{key}=" for key in given) or "neither logs= nor posterior="
        raise ConfigError(
            f"encoder={kind} with {got}: encoder=recordings needs logs= and posterior=, and the others read neither."
        )
    if cfg.study is not None:
        return _study(cfg, kind, run)
    from policies.encoders.ranks import here

    made_of: dict[str, Callable[[Config, Run], Any]]
    made_of = {"physics": _physics, "vision": _vision, "recordings": _recordings}
    result = made_of[kind](cfg, run)
    if here().leads:
        rows = ({"update": update, "loss": loss} for update, loss in enumerate(result.losses, 1))
        for name, lines in (("curve.jsonl", result.curve), ("losses.jsonl", rows)):
            files.write_text(run.out / name, "".join(json.dumps(row) + "\n" for row in lines))
        _clear(run.out)
    return {"encoder": str(run.out / "encoder"), "probes": result.probes}


def _clear(out: Path) -> None:
    """Remove what an interrupted run would go on from: the data, which the seed makes again, and checkpoints."""
    from policies.encoders import checkpoint, vision_pretrain

    for folder in (WINDOWS, IMAGES):
        shutil.rmtree(out / folder, ignore_errors=True)
    for name in (checkpoint.FILE, vision_pretrain.CHECKPOINT):
        (out / "encoder" / name).unlink(missing_ok=True)


def _report() -> Report:
    """Of the processes of torchrun the first one reports."""
    from policies.encoders.ranks import here

    return terminal() if here().leads else silent


def _physics(cfg: Config, run: Run, task: tasks.Task | None = None, examined: bool = True) -> Any:
    from policies.encoders.physics import EncoderCard, EncoderConfig
    from policies.encoders.pretrain import pretrain
    from policies.encoders.ranks import here
    from policies.encoders.windows import WindowData
    from robot import config
    from transfer import examine_physics
    from transfer.report import encoder_card
    from transfer.scale.mapped import shared
    from transfer.windows import simulated_windows

    encoder = config.convert(EncoderConfig, cfg.encoder, "terrafirma pretrain", "encoder")
    if cfg.quick:
        encoder = replace(encoder, **QUICK)
    if cfg.demo:
        encoder = replace(encoder, **DEMO)
    task = task or (cfg.task.load() if cfg.task else task_of(cfg.robot.spec.name))
    prior = parameters(cfg.robot, None, cfg.dr)
    kept = run.out / WINDOWS

    def made() -> WindowData:
        return simulated_windows(task, cfg.robot, prior, encoder, seed=cfg.seed)

    data = shared(kept, here(), cfg, WindowData, made)
    observation = Observation(cfg.robot.spec, replace(task.observation, history=encoder.history), task.action)
    card, out = EncoderCard.of(observation, encoder, task.control_period_s), run.out / "encoder"
    result = pretrain(data, card, encoder, out, seed=cfg.seed, resume=cfg.resume, report=_report())
    if not here().leads:
        return result
    if examined:
        subject, held_out = examine_physics.Subject(task, cfg.robot, prior), encoder.held_out
        found = examine_physics.examine(out, data, subject, held_out=held_out, seed=cfg.seed, budget=cfg.budget)
        encoder_card.write(out, found)
    return result


def _recordings(cfg: Config, run: Run) -> Any:
    """Windows along recordings around the simulator that was identified on them, and their encoder."""
    from policies.encoders.physics import EncoderConfig
    from policies.encoders.pretrain import pretrain
    from policies.encoders.ranks import here
    from policies.encoders.windows import WindowData
    from robot import config
    from sim import randomization
    from transfer.dataset import load_dataset
    from transfer.innovations import card_of, innovation_windows
    from transfer.scale.mapped import shared

    encoder = config.convert(EncoderConfig, cfg.encoder, "terrafirma pretrain", "encoder")
    if cfg.quick:
        encoder = replace(encoder, **QUICK)
    law = randomization.load(run.input(existing(cfg.posterior, "posterior", "identify")))
    logs = load_dataset(run.input(existing(cfg.logs, "logs", "ingest")), cfg.robot.spec)
    kept = run.out / WINDOWS

    def made() -> WindowData:
        return innovation_windows(logs, Model(cfg.robot), law, encoder, seed=cfg.seed)

    data = shared(kept, here(), cfg, WindowData, made)
    card, out = card_of(cfg.robot.spec, encoder), run.out / "encoder"
    return pretrain(data, card, encoder, out, seed=cfg.seed, resume=cfg.resume, report=_report())


def _vision(cfg: Config, run: Run, examined: bool = True) -> Any:
    from policies.encoders.ranks import here
    from policies.encoders.vision import VisionConfig
    from policies.encoders.vision_data import ImageData
    from policies.encoders.vision_pretrain import pretrain_vision
    from robot import config
    from transfer import examine_vision
    from transfer.images import simulated_images, vision_card
    from transfer.report import encoder_card
    from transfer.scale.mapped import shared

    encoder = config.convert(VisionConfig, cfg.encoder, "terrafirma pretrain", "encoder")
    if cfg.quick:  # of so little, another process would be most of the work
        encoder = replace(encoder, images=256, updates=10, batch=16, processes=here().count)
    if cfg.demo:
        encoder = replace(encoder, images=DEMO_IMAGES, updates=DEMO_UPDATES)
    prior, card = parameters(cfg.robot, None, cfg.dr), vision_card(cfg.robot, encoder)
    folder, meters = run.out / IMAGES, list[Meter]()

    def report(made: int, total: int) -> None:
        if not meters:  # the first report tells what an earlier run has left
            meters.append(Meter(f"images of {cfg.robot.spec.name}", total, "images", terminal(), done=made))
        meters[0](made)

    if not cfg.resume and here().leads:
        shutil.rmtree(folder, ignore_errors=True)
    workers = 1 if cfg.quick else 0

    def made() -> ImageData:
        return simulated_images(folder, cfg.robot, prior, card, encoder, seed=cfg.seed, workers=workers, report=report)

    data = shared(folder / "mapped", here(), cfg, ImageData, made)
    out = run.out / "encoder"
    card = replace(card, lineage={"randomization": prior.name, "images": str(encoder.images)})
    result = pretrain_vision(data, card, encoder, out, seed=cfg.seed, resume=cfg.resume, report=_report())
    if not here().leads:
        return result
    if examined:
        subject = examine_vision.Subject(cfg.robot, prior, encoder)
        encoder_card.write(out, examine_vision.examine(out, data, subject, seed=cfg.seed, budget=cfg.budget))
    return result


def _study(cfg: Config, kind: str, run: Run) -> dict[str, Any]:
    """Every seed's encoder is pretrained in a folder of its own, unless it is there from an interrupted run."""
    from transfer.studies import named
    from transfer.study_logs import all_motors

    task = cfg.task.load() if cfg.task else task_of(cfg.robot.spec.name)
    if kind == "physics":
        task = all_motors(task, cfg.robot)

    def pretrained(seed: int, out: Path) -> Path:
        if not (out / "encoder" / "encoder.yaml").is_file():
            own = replace(cfg, seed=seed, study=None, resume=True)
            if kind == "physics":
                _physics(own, Run("pretrain", out, seed=seed), task, examined=False)
            else:
                _vision(own, Run("pretrain", out, seed=seed), examined=False)
            _clear(out)
        return out / "encoder"

    prior = parameters(cfg.robot, None, cfg.dr)
    return named(cfg.study or "")(kind, cfg.robot, task, prior, cfg.seeds, pretrained, run, quick=cfg.quick)


def task_of(robot: str) -> tasks.Task:
    """The first task of a robot, whose observations an encoder is made for; one that asks nothing where it has none."""
    mine = tasks.tasks_of(robot)
    return mine[0] if mine else free_play(find_robot(robot).spec)

"""Adapt encoder and policy to recorded logs, and keep the result only if held-out evidence says it is better:

    terrafirma finetune policy=runs/train/policy logs=runs/logs posterior=runs/identify/posterior.yaml
    terrafirma finetune policy=runs/train/policy logs=runs/logs test=runs/other_logs
    terrafirma finetune policy=runs/train/policy logs=runs/logs robot=my_robot.yaml
    terrafirma finetune policy=runs/train/policy logs=runs/logs finetune.methods=[policy,lora,scratch,cloning]
    terrafirma finetune policy=runs/monday/policy logs=runs/tuesday_logs keep=[runs/monday]
    terrafirma finetune policy=runs/train/policy logs=runs/logs merge=[runs/monday/policy,runs/tuesday/policy]
    terrafirma finetune encoder=runs/pretrain/encoder video=clip.mp4 labels=clip.csv n_labels=20
    terrafirma finetune encoder=runs/pretrain/encoder logs=runs/logs

Reads   a policy, a data set, and the posterior to train in (identified from the logs when it is not given); or a vision
        encoder with a video, some or none of whose frames are labelled, or with logs that hold pictures.
Writes  policy/, the candidates' curves, and result.json: every candidate, why it was kept or rolled back, the KPIs; or
        encoder/, adapted, or as it was where held-out pictures say that it got no better.
Costs   1-2 minutes a candidate on two cores for the pendulum; as much for an encoder.
The evidence is a simulation identified from recordings that are held out: those of test=, or a third of the logs
(give no posterior then: one fitted to all of the logs has seen the evidence, and result.json says so).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robot import config
from robot.config import ConfigError
from robot.log import EpisodeLog
from robot.result import Run
from sim import randomization, tasks
from sim.model import Model, RobotConfig
from sim.randomization import NOMINAL, Randomization
from transfer.choices import existing, robot_of, same_task
from transfer.cli import Common
from transfer.dataset import load_dataset
from transfer.progress import terminal
from transfer.shaping import as_made
from transfer.stages.export import default_prior
from transfer.stages.train import shrunk

if TYPE_CHECKING:
    from policies.policy import Policy
    from transfer.finetune import Evidence, FinetuneConfig, FinetuneResult

VOLATILE = ("policy", "posterior", "encoder", "tasks", "continual")
EPISODES = 100


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    policy: Path | None = None
    robot: RobotConfig | None = None
    """The policy's robot, where it is no name that terrafirma knows but a YAML file."""
    logs: Path | None = None
    posterior: Path | None = None
    test: Path | None = None
    """Recordings that decide; default: a third of the logs."""
    finetune: dict[str, Any] = field(default_factory=dict)
    """Fields of transfer.finetune.FinetuneConfig: methods, recipe, adapt, guard, rank, cloning, stress, tolerance."""
    keep: tuple[Path, ...] = ()
    """Folders of earlier fine-tunings whose robots or days must not be lost."""
    merge: tuple[Path, ...] = ()
    """Two fine-tunes of policy= or more; what their weights make together are candidates."""
    oracle: Path | None = None
    """A policy trained on the robot's truth, where that is known (a surrogate's): for the KPIs that need it."""
    encoder: Path | None = None
    """A vision encoder to adapt, instead of a policy."""
    video: Path | None = None
    labels: Path | None = None
    """CSV with the columns frame and angle_rad [rad]: 0 points down in the picture, + is counter-clockwise as seen."""
    n_labels: int = 0
    """Only so many labels are used, from the first half of the motion, and the second half judges; 0: all are used."""
    crop: tuple[int, ...] = ()
    """Column, row, width and height [pixel] of what is looked at; default: the largest part about the middle."""
    adapt: dict[str, Any] = field(default_factory=dict)
    """Fields of policies.encoders.adapt_vision.VisionAdaptConfig, for an encoder."""


def run(cfg: Config, run: Run) -> dict[str, Any]:
    import torch

    from policies.policy import Policy
    from transfer.candidates import ADAPTED, WITH_ADAPTED
    from transfer.continual import RESERVED, Learned, learned
    from transfer.evidence import Domain, evidence_of, suite_for_posterior
    from transfer.finetune import FinetuneConfig, finetune
    from transfer.foretold import foretold
    from transfer.merge import merged

    torch.set_num_threads(1)
    if cfg.encoder is not None:
        from transfer import finetune_vision

        return finetune_vision.run(cfg, run)
    folder = run.input(existing(cfg.policy, "policy", "train"))
    source = Policy.load(folder)
    if source.observation.cameras:
        raise ConfigError(
            f"policy={folder}: it sees through cameras; adapt its vision encoder (terrafirma finetune encoder=DIR "
            "logs=DATASET), and export the policy with it (terrafirma export policy=DIR vision=DIR)."
        )
    robot = robot_of(source.spec, cfg.robot)
    settings = config.convert(FinetuneConfig, cfg.finetune, "terrafirma finetune", "finetune")
    if cfg.quick:
        settings = shrunk_settings(settings)
    task, others = as_made(tasks.load_task(source.task), source), _others(cfg, run, source)
    oracle = None if cfg.oracle is None else _alike(cfg.oracle, "oracle", source, run)
    suite = suite_for_posterior(settings.stress, task) if settings.stress else None
    earlier = learned([existing(before, "keep", "finetune") for before in cfg.keep])
    taught = {t.name: _alike(Path(t.policy), "keep", source, run) for t in earlier}
    laws = {t.name: (_law(t.posterior, robot, run), _law(t.evidence, robot, run)) for t in earlier}
    fit, held = _split(cfg, run, robot)
    posterior = _posterior(cfg, run, robot, fit)
    evidence = _identified(cfg, robot, held, "evidence")
    config.save(run.out / "evidence.yaml", evidence)
    domain = Domain(
        task=task,
        robot=robot,
        source=default_prior(robot) or NOMINAL,
        posterior=posterior,
        evidence=evidence,
        episodes=8 if cfg.quick else EPISODES,
        earlier=laws,
    )
    given = evidence_of(domain, settings, suite, source, folder, fit, held, seed=cfg.seed, quick=cfg.quick)
    told = foretold(held, robot, posterior)
    contradicted = told.why if told is not None and told.contradicted else ""
    given = replace(given, merged=merged(source, others) if others else {}, contradicted=contradicted)
    best = None if oracle is None else given.real(oracle)
    result = finetune(
        source, given, settings, run.out, seed=cfg.seed, oracle=best, resume=cfg.resume, report=terminal()
    )
    encoder = run.out / ADAPTED if result.selected in WITH_ADAPTED else folder / "encoder"
    if encoder.is_dir():  # beside the policy, so that it can be adapted again
        shutil.copytree(encoder, run.out / "policy" / "encoder", dirs_exist_ok=True)
    rows = result.rows(np.random.default_rng(cfg.seed))
    for method, trained in result.training.items():
        _curve(run.out / method.replace("+", "_"), run.out, method, len(trained.curve))
    evidence_file = str((run.out / "evidence.yaml").resolve())
    taken = {*RESERVED, *(task.name for task in earlier)}
    mine = Learned(
        name=run.out.name if run.out.name not in taken else evidence_file,
        posterior=str((cfg.posterior or run.out / "posterior.yaml").resolve()),
        evidence=evidence_file,
        policy=str((run.out / "policy").resolve()),
    )
    return {
        "candidates": rows,
        "selected": result.selected,
        "forgetting": result.forgetting,
        "kpis": result.kpis,
        "policy": str(run.out / "policy"),
        "posterior": str(cfg.posterior or run.out / "posterior.yaml"),
        "encoder": result.encoder,
        "env_steps": max((t.env_steps for t in result.training.values()), default=0),
        "evidence": {
            "held_out": [log.name for log in held],
            "foretold": None if told is None else told.row(),
            "seen_by_posterior": cfg.posterior is not None and cfg.test is None,
        },
        "tasks": [task.row() for task in (*earlier, mine)],
        "continual": _matrix(given, taught, result, mine.name, cfg.seed) if earlier else None,
    }


def shrunk_settings(settings: FinetuneConfig) -> FinetuneConfig:
    """Settings of seconds, for tests: the same computation, less of it."""
    few = replace(settings.cloning, updates=50)
    return replace(settings, recipe=shrunk(settings.recipe), adapt=replace(settings.adapt, updates=20), cloning=few)


def _alike(folder: Path, key: str, source: Policy, run: Run) -> Policy:
    """Another policy for the same task."""
    from policies.policy import Policy

    policy = Policy.load(run.input(existing(folder, key, "train")))
    same_task(f"{key}={folder}", policy.task, source.task)
    return policy


def _others(cfg: Config, run: Run, source: Policy) -> dict[str, Policy]:
    """The fine-tunes to be merged."""
    if len(cfg.merge) == 1:
        raise ConfigError(f"merge={cfg.merge[0]}: at least two policies are needed; give merge=[DIR,DIR].")
    return {str(folder): _alike(folder, "merge", source, run) for folder in cfg.merge}


def _law(path: str, robot: RobotConfig, run: Run) -> Randomization:
    law = randomization.load(run.input(Path(path)))
    law.check(Model(robot))
    return law


def _matrix(given: Evidence, taught: dict[str, Policy], result: FinetuneResult, name: str, seed: int) -> dict[str, Any]:
    """Tasks by time: the policies of earlier runs, and what this one has kept."""
    from transfer.continual import matrix

    kept = next(c for c in result.candidates if c.method == result.selected)
    judges = {"source": given.source, **given.kept, name: given.real}
    ran: dict[str, Any] = {time: {task: judge(p) for task, judge in judges.items()} for time, p in taught.items()}
    ran[name] = {"source": kept.source, **kept.kept, name: kept.real}
    return matrix(ran, np.random.default_rng(seed))


def _curve(folder: Path, out: Path, method: str, rows: int) -> None:
    """The report reads curve.jsonl beside result.json; each method has its own folder with its own."""
    if rows:
        shutil.copyfile(folder / "curve.jsonl", out / f"curve-{method}.jsonl")


def _split(cfg: Config, run: Run, robot: RobotConfig) -> tuple[list[EpisodeLog], list[EpisodeLog]]:
    """Recordings to fit and recordings that decide."""
    logs = load_dataset(run.input(existing(cfg.logs, "logs", "ingest")), robot.spec)
    if cfg.test is not None:
        from transfer.apart import refuse_shared

        judging = load_dataset(run.input(existing(cfg.test, "test", "ingest")), robot.spec)
        refuse_shared(logs, judging, robot.spec)
        return logs, judging
    if len(logs) < 2:
        from transfer.dataset import DataRefused

        raise DataRefused(
            f"logs={cfg.logs} has one accepted episode; fine-tuning needs a second one to judge by, in the data set "
            "or as test=."
        )
    order = np.random.default_rng(cfg.seed).permutation(len(logs))
    count = max(round(len(logs) / 3), 1)
    return [logs[i] for i in sorted(order[count:])], [logs[i] for i in sorted(order[:count])]


def _posterior(cfg: Config, run: Run, robot: RobotConfig, fit: list[EpisodeLog]) -> Randomization:
    if cfg.posterior is None:
        found = _identified(cfg, robot, fit, "posterior")
        config.save(run.out / "posterior.yaml", found)
        return found
    law = randomization.load(run.input(existing(cfg.posterior, "posterior", "identify")))
    law.check(Model(robot))
    return law


def _identified(cfg: Config, robot: RobotConfig, logs: list[EpisodeLog], name: str) -> Randomization:
    from transfer.identify import QUICK, identify

    effort = QUICK if cfg.quick or cfg.demo else None
    return identify(logs, Model(robot), effort=effort, name=name, report=terminal()).posterior

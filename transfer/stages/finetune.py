"""Adapt encoder and policy to recorded logs, and keep the result only if held-out evidence says it is better:

    terrafirma finetune policy=runs/train/policy logs=runs/logs posterior=runs/identify/posterior.yaml
    terrafirma finetune policy=runs/train/policy logs=runs/logs test=runs/other_logs
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
from sim.evaluate import EpisodeStats, rollout_success
from sim.model import Model, RobotConfig
from sim.randomization import NOMINAL, Randomization
from transfer.choices import existing
from transfer.cli import Common
from transfer.dataset import load_dataset
from transfer.progress import terminal
from transfer.shaping import as_made
from transfer.stages.export import default_prior, robot_of
from transfer.stages.train import shrunk

if TYPE_CHECKING:
    from policies.policy import Policy
    from transfer.finetune import Evidence, FinetuneConfig

VOLATILE = ("policy", "posterior", "encoder")
EPISODES = 100
JUDGE_SEED = 700_001
"""Of the episodes that decide; training and final figures use other seeds."""
WINDOWS = 400
"""Windows cut from each recording for the encoder."""


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    policy: Path | None = None
    logs: Path | None = None
    posterior: Path | None = None
    test: Path | None = None
    """Recordings that decide; default: a third of the logs."""
    finetune: dict[str, Any] = field(default_factory=dict)
    """Fields of transfer.finetune.FinetuneConfig: methods, recipe, adapt."""
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


@dataclass(frozen=True, slots=True)
class Domain:
    """The task, the robot, and the three simulations that fine-tuning moves between."""

    task: tasks.Task
    robot: RobotConfig
    source: Randomization
    """Where the policy comes from: the prior."""
    posterior: Randomization
    """Where it is fine-tuned."""
    evidence: Randomization
    """Where candidates are judged: identified from recordings that were held out."""
    episodes: int

    def judge(self, law: Randomization, policy: Policy) -> EpisodeStats:
        """Episodes that always begin alike."""
        task = as_made(self.task, policy)
        return rollout_success(policy.episode(), task, self.robot, law, self.episodes, JUDGE_SEED)


def run(cfg: Config, run: Run) -> dict[str, Any]:
    import torch

    from policies.policy import Policy
    from transfer.finetune import ADAPTED, FinetuneConfig, finetune

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
    robot = robot_of(source)
    settings = config.convert(FinetuneConfig, cfg.finetune, "terrafirma finetune", "finetune")
    if cfg.quick:
        settings = replace(settings, recipe=shrunk(settings.recipe), adapt=replace(settings.adapt, updates=20))
    fit, held = _split(cfg, run, robot)
    posterior = _posterior(cfg, run, robot, fit)
    evidence = _identified(cfg, robot, held, "evidence")
    config.save(run.out / "evidence.yaml", evidence)
    domain = Domain(
        as_made(tasks.load_task(source.task), source),
        robot,
        default_prior(robot) or NOMINAL,
        posterior,
        evidence,
        20 if cfg.quick else EPISODES,
    )
    given = _evidence(cfg, settings, domain, source, folder, fit, held)
    result = finetune(source, given, settings, run.out, seed=cfg.seed, resume=cfg.resume, report=terminal())
    encoder = run.out / ADAPTED if result.selected == "encoder+policy" else folder / "encoder"
    if encoder.is_dir():  # beside the policy, so that it can be adapted again
        shutil.copytree(encoder, run.out / "policy" / "encoder", dirs_exist_ok=True)
    rows = result.rows(np.random.default_rng(cfg.seed))
    for method, trained in result.training.items():
        _curve(run.out / method.replace("+", "_"), run.out, method, len(trained.curve))
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
            "seen_by_posterior": cfg.posterior is not None and cfg.test is None,
        },
    }


def _curve(folder: Path, out: Path, method: str, rows: int) -> None:
    """The report reads curve.jsonl beside result.json; each method has its own folder with its own."""
    if rows:
        shutil.copyfile(folder / "curve.jsonl", out / f"curve-{method}.jsonl")


def _split(cfg: Config, run: Run, robot: RobotConfig) -> tuple[list[EpisodeLog], list[EpisodeLog]]:
    """Recordings to fit and recordings that decide."""
    logs = load_dataset(run.input(existing(cfg.logs, "logs", "ingest")), robot.spec)
    if cfg.test is not None:
        return logs, load_dataset(run.input(existing(cfg.test, "test", "ingest")), robot.spec)
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


def _evidence(
    cfg: Config,
    settings: FinetuneConfig,
    domain: Domain,
    source: Policy,
    folder: Path,
    fit: list[EpisodeLog],
    held: list[EpisodeLog],
) -> Evidence:
    """What fine-tuning is handed: environments, judges, and windows where the encoder can be adapted."""
    from policies.sight import PRIVILEGED
    from policies.train import load_critic
    from transfer.finetune import Evidence
    from transfer.training import environments, scorer

    history, critic = source.observation.history, load_critic(folder)
    told = critic is not None and f"{PRIVILEGED}.mean" in critic
    adaptable = "encoder+policy" in settings.methods and source.encoder is not None and (folder / "encoder").is_dir()
    windows = _windows(cfg, domain, source, folder, fit, held) if adaptable else {}
    return Evidence(
        make_env=environments(domain.task, domain.robot, domain.posterior, history, cfg.seed, None, told),
        evaluate=scorer(domain.task, domain.robot, domain.posterior, 20 if cfg.quick else 64),
        real=lambda policy: domain.judge(domain.evidence, policy),
        source=lambda policy: domain.judge(domain.source, policy),
        critic=critic,
        **windows,
    )


def _windows(
    cfg: Config, domain: Domain, source: Policy, folder: Path, fit: list[EpisodeLog], held: list[EpisodeLog]
) -> dict[str, Any]:
    from policies.encoders.heads import STRIDE, Heads
    from policies.encoders.physics import EncoderConfig
    from transfer.windows import base_of, simulated_windows, windows_of

    assert source.encoder is not None
    card = source.encoder.card
    base = base_of(card, domain.robot, source.card.layout())
    heads = Heads.load(folder / "encoder", card)
    size = EncoderConfig(
        history=card.history,
        context=card.context,
        horizon=heads.predictor.spread.shape[0] * STRIDE,
        base=card.base is not None,
        simulations=32 if cfg.quick else 128,
        windows=16 if cfg.quick else 32,
    )
    rng = np.random.default_rng(cfg.seed)
    real, other = (
        windows_of(
            part,
            source.spec,
            source.observation,
            source.action,
            source.control_period_s,
            history=card.history,
            horizon=size.horizon,
            count=WINDOWS // 4 if cfg.quick else WINDOWS,
            rng=rng,
            base=base,
        )
        for part in (fit, held)
    )
    replay = simulated_windows(domain.task, domain.robot, domain.source, size, seed=cfg.seed, base=base)
    return {"windows": real, "held_out": other, "replay": replay, "heads": heads}

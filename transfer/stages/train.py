"""Train a policy in simulation:

    terrafirma train task=pendulum_swingup physics=runs/pretrain/encoder
    terrafirma train task=pendubot_swingup posterior=runs/identify/posterior.yaml
    terrafirma train task=pendubot_swingup out=runs/mine resume=true
    terrafirma train task=pendulum_swingup_pixels vision=runs/pretrain/encoder
    terrafirma train task=pendulum_swingup_pixels vision=runs/pretrain/encoder teacher=runs/train/policy
    terrafirma train task=quadruped_velocity privileged=true            # a teacher, for teacher= of a student
    terrafirma train task=quadruped_velocity symmetry=equivariant reward={energy: 0.005}
    terrafirma train task=pendulum_swingup action={kind: velocity, kd: [0.5]} recipe=pendulum_swingup_sac
    terrafirma train task=pendulum_swingup sweep=sweep.yaml             # trials with Optuna (docs/policies.md)
    terrafirma train task=pendubot_swingup scale=ray scale.workers=4    # rollouts over a Ray cluster (docs/scale.md)

Reads   encoders (physics=, vision=), and what robots are drawn from: a posterior, or a prior (dr=NAME).
Writes  policy/ (safetensors and YAML), curve.jsonl, checkpoints/, tensorboard/ and result.json.
Costs   1-2 minutes on two cores for the pendulum, half an hour or more for the pendubot.
Through cameras a policy sees what a frozen vision encoder tells of each picture. Drawing pictures is slow, so it is
trained on the true state, off by errors that the encoder was measured to make on rendered episodes (sim/sight.py);
rendered=true draws every picture instead. Either way success is counted on rendered pictures. With teacher=, a policy
for the same actuators that is shown more, the student learns to do what that would (policies/distill.py), in half a
minute; with start= and recipe.kl_weight it then goes on by trial and error, near its teacher.
encoders=finetuned or scratch trains encoders along with the policy, history= shortens their window. The critic sees the
task's privileged signals (recipe.asymmetric), the policy never does.
Survives kill -9: with resume=true it goes on from the last checkpoint and gives the curve of the uninterrupted run.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from robot import config
from robot.config import ConfigError
from robot.result import Run, mean_ci, wilson
from sim.evaluate import rollout_success
from sim.model import RobotConfig
from sim.randomization import Randomization
from sim.vecenv import BatchedEnv
from transfer.choices import TaskChoice, existing
from transfer.cli import Common
from transfer.progress import terminal
from transfer.scale.cluster import ScaleConfig
from transfer.setting import Setting, prepare
from transfer.shaping import as_made

VOLATILE = ("policy", "env_steps_per_s", "scale", "trials", "best", "table", "storage")


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    task: TaskChoice
    robot: RobotConfig
    network: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    """Fields of policies.ppo.TrainConfig; of policies.off_policy.OffPolicyConfig where its algorithm is sac or tqc."""
    action: dict[str, Any] = field(default_factory=dict)
    """Fields of the task's robot.observation.ActionConfig that are to be others: kind, scale, kp, kd."""
    reward: dict[str, float] = field(default_factory=dict)
    """Weights of the costs in sim/costs.py: action_rate, smoothness, torque, energy."""
    physics: Path | None = None
    """Folder of a pretrained physics encoder; without one the policy sees the present alone."""
    vision: Path | None = None
    """Folder of a pretrained vision encoder; a task with cameras needs one, and to another it gives its cameras."""
    encoders: Literal["frozen", "finetuned", "scratch"] = "frozen"
    """Whether encoders stay as they are, are trained along with the policy, or that from random weights."""
    history: int = 0
    """Window of the physics encoder [control steps]; 0: as it was pretrained."""
    rendered: bool = False
    """Whether a policy with cameras is trained on rendered pictures."""
    privileged: bool = False
    """Whether the policy is a teacher, who is shown the task's privileged signals and cannot be exported."""
    teacher: Path | None = None
    """A policy that is shown more, from which a student learns."""
    distill: dict[str, Any] = field(default_factory=dict)
    """Fields of policies.distill.DistillConfig."""
    start: Path | None = None
    """A policy from which training goes on, with its network, scaling and encoders."""
    symmetry: Literal["none", "augment", "equivariant"] = "none"
    """What is made of the task's mirror symmetry: mirrored samples, or an actor that has it exactly."""
    posterior: Path | None = None
    dr: Randomization | None = None
    like: Path | None = None
    """A policy whose network, encoder included, is trained from a random start: the from-scratch baseline."""
    backend: Literal["cpu", "warp"] = "cpu"
    """Where the training's physics runs: on the cores, or by MuJoCo Warp on a GPU. Scores are always of the cores."""
    sweep: Path | None = None
    """A YAML file (transfer/sweep.py) that says which keys are varied: trials in place of one training."""
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    """What rollouts are spread over."""


def run(cfg: Config, run: Run) -> dict[str, Any]:
    import torch

    from transfer.training import COUNTED

    if cfg.sweep is not None:
        from transfer.sweep import run_sweep

        return run_sweep(cfg, run)
    torch.set_num_threads(1)  # networks this small are slower on two
    setting = prepare(cfg, run)
    by_teacher = cfg.teacher is not None and not cfg.recipe.get("kl_weight")
    policy, env_steps, rate, scale = (_taught if by_teacher else _trained)(cfg, run, setting)
    if cfg.encoders == "frozen":
        for name, folder in (("encoder", cfg.physics), ("vision", cfg.vision)):
            if folder is not None:  # with its heads, by which fine-tuning adapts it to recordings
                shutil.copytree(folder, run.out / "policy" / name, dirs_exist_ok=True)
    n = COUNTED[policy.vision is not None][cfg.budget]
    task, privileged = as_made(setting.task, policy), bool(policy.card.privileged)
    stats = rollout_success(policy.episode(), task, cfg.robot, setting.law, n, cfg.seed, privileged=privileged)
    return {
        "policy": str(run.out / "policy"),
        "success": wilson(int(stats.success.sum()), n),
        "return": mean_ci(stats.returns),
        "env_steps": env_steps,
        "env_steps_per_s": rate,
        **({"scale": scale} if scale else {}),
    }


def _trained(cfg: Config, run: Run, setting: Setting) -> tuple[Any, int, float, dict[str, Any]]:
    """A policy by trial and error, the environment steps it took, their rate [1/s], and what they were spread over."""
    from policies.advice import advisor
    from policies.learner import recipe_of
    from policies.policy import Policy
    from policies.train import load_critic, train
    from transfer.scale.rollouts import grouping
    from transfer.scale.world import World
    from transfer.training import environments

    recipe = recipe_of(cfg.recipe, "terrafirma train")
    teacher = None
    if cfg.teacher is not None:
        teacher = Policy.load(run.input(existing(cfg.teacher, "teacher", "train")))
    told = setting.card.privileged or (teacher is not None and teacher.card.privileged)
    asymmetric = recipe.asymmetric and recipe.algorithm != "recurrent_ppo" and setting.task.privileged_names
    privileged = bool(told or asymmetric)
    task = setting.task.exploring(recipe.episode_s)
    world = World(
        task=task, robot=cfg.robot, law=setting.law, history=setting.history, privileged=privileged, backend=cfg.backend
    )
    make = environments(
        task, cfg.robot, setting.law, setting.history, cfg.seed, setting.sight, privileged, backend=cfg.backend
    )
    with grouping(cfg.scale, world) as groups:
        result = train(
            make,
            setting.card,
            shrunk(recipe) if cfg.quick else recipe,
            run.out,
            seed=cfg.seed,
            resume=cfg.resume,
            encoder=setting.encoder,
            vision=setting.vision,
            encoders=cfg.encoders,
            start_from=setting.start,
            start_critic=None if cfg.start is None else load_critic(cfg.start),
            advise=None if teacher is None else advisor(teacher, setting.card),
            augment=setting.augment,
            groups=groups,
            evaluate=_ranking(cfg, recipe.select, setting),
            report=terminal(),
        )
    return result.policy, result.env_steps, result.env_steps_per_s, result.scale


def _ranking(cfg: Config, select: str, setting: Setting) -> Callable[[Any], tuple[float, float]]:
    """Policy -> what checkpoints are ranked by: a suite's overall score where one is named, or the success rate.

    A policy for an identified robot is ranked on that robot's posterior, not on what a public suite is about.
    """
    from transfer.suites import load_suite
    from transfer.training import RANKED, scorer, stress_scorer

    if not select or cfg.posterior is not None:
        return scorer(setting.task, cfg.robot, setting.law, RANKED[cfg.quick], sight=setting.sight)
    suite = load_suite(select)
    return stress_scorer(setting.task, suite.shrunk() if cfg.quick else suite)


def _taught(cfg: Config, run: Run, setting: Setting) -> tuple[Any, int, float, dict[str, Any]]:
    """A policy that learned from a teacher, the environment steps it took, and their rate [1/s]."""
    from policies.distill import DistillConfig, distill
    from policies.policy import Policy
    from sim import tasks

    teacher = Policy.load(run.input(existing(cfg.teacher, "teacher", "train")))
    if teacher.observation.cameras or (setting.vision is not None and setting.sight is None):
        raise ConfigError("teacher= needs a teacher without cameras, and a student that is trained without pictures.")
    if cfg.scale.engine != "local":
        raise ConfigError(f"scale={cfg.scale.engine}: a student learns from its teacher in one process; leave it out.")
    if cfg.start is not None:
        raise ConfigError("start= with teacher= goes on by trial and error: give recipe.kl_weight, or leave it out.")
    if cfg.encoders != "frozen" or setting.augment is not None:
        raise ConfigError("teacher= teaches on frozen encoders; encoders= and symmetry=augment are for recipes.")
    settings = config.convert(DistillConfig, cfg.distill, "terrafirma train", "distill")
    if cfg.quick:
        settings = replace(settings, rounds=2, steps=40, updates=40)
    lesson = as_made(tasks.load_task(teacher.task), teacher)
    env = BatchedEnv(
        lesson,
        cfg.robot,
        replace(setting.law, curriculum=None),  # a lesson would end before a ramp begins
        settings.num_envs,
        seed=cfg.seed,
        sight=setting.sight,
        privileged=bool(teacher.card.privileged),
        backend=cfg.backend,
    )
    begin = time.monotonic()
    policy = distill(
        env,
        teacher,
        setting.card,
        setting.vision,
        settings,
        seed=cfg.seed,
        encoder=setting.encoder,
        out=run.out,
        resume=cfg.resume,
        report=terminal(),
    )
    policy.save(run.out / "policy")
    repeat = round(setting.task.control_period_s / lesson.control_period_s)
    steps = settings.num_envs * settings.rounds * settings.steps * repeat
    return policy, steps, steps / (time.monotonic() - begin), {}


def shrunk(recipe: Any) -> Any:
    """A recipe of seconds, for tests: the same computation, less of it."""
    if recipe.algorithm in ("sac", "tqc"):
        return replace(recipe, env_steps=300, num_envs=4, segment_rollouts=10, learning_starts=100, evaluate_segments=1)
    return replace(
        recipe,
        env_steps=4_000,
        num_envs=16,
        rollout_steps=64,
        segment_rollouts=2,
        batch=256,
        epochs=4,
        evaluate_segments=2,
    )

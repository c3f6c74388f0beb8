"""What fine-tuning is handed, made of a robot's laws and recordings: environments, judges, windows, demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError
from robot.log import EpisodeLog
from sim.evaluate import EpisodeStats, rollout_success
from sim.mixture import Mixture
from sim.model import Model, RobotConfig
from sim.mujoco_arena import MujocoArena, MujocoArenaConfig
from sim.randomization import Randomization
from sim.tasks import Task
from transfer.shaping import as_made
from transfer.stress import Suite, plan
from transfer.subjects import subject_of_policy
from transfer.suites import load_suite

if TYPE_CHECKING:
    from policies.actor_guard import ActorGuardConfig
    from policies.policy import Policy
    from transfer.finetune import Evidence, FinetuneConfig

JUDGE_SEED = 700_001
"""Of the episodes that decide; training and final figures use other seeds."""
WINDOWS = 400
"""Windows cut from each recording for the encoder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Domain:
    """The task, the robot, and the simulations that fine-tuning moves between."""

    task: Task
    robot: RobotConfig
    source: Randomization
    """Where the policy comes from: the prior."""
    posterior: Randomization
    """Where it is fine-tuned."""
    evidence: Randomization
    """Where candidates are judged: identified from recordings that were held out."""
    episodes: int
    earlier: Mapping[str, tuple[Randomization, Randomization]] = field(default_factory=dict)
    """Robots or days that were learned before: name -> posterior and evidence."""

    def judge(self, law: Randomization, policy: Policy) -> EpisodeStats:
        """Episodes that always begin alike."""
        task = as_made(self.task, policy)
        return rollout_success(policy.episode(), task, self.robot, law, self.episodes, JUDGE_SEED)

    def judges(self) -> dict[str, Callable[[Policy], EpisodeStats]]:
        """Of what was learned before, by name."""
        return {name: self._judge(evidence) for name, (_, evidence) in self.earlier.items()}

    def _judge(self, law: Randomization) -> Callable[[Policy], EpisodeStats]:
        return lambda policy: self.judge(law, policy)

    def trained_in(self, guard: ActorGuardConfig) -> Randomization:
        """The posterior; a mixture of it, in equal parts, with those of earlier robots; and with a share of the source.

        ConfigError when one of them is for another robot.
        """
        parts = [self.posterior, *(posterior for posterior, _ in self.earlier.values())]
        share = guard.strength if guard.method == "replay" else 0.0
        if len(parts) == 1 and not share:
            return self.posterior
        weights = [(1.0 - share) / len(parts)] * len(parts)
        return Mixture.of(Model(self.robot), [*parts, self.source], [*weights, share])


def evidence_of(
    domain: Domain,
    settings: FinetuneConfig,
    suite: Suite | None,
    source: Policy,
    folder: Path,
    fit: Sequence[EpisodeLog],
    held: Sequence[EpisodeLog],
    *,
    seed: int,
    quick: bool,
) -> Evidence:
    """What fine-tuning is handed; windows where the encoder can be adapted, demonstrations where cloning is asked for.

    `folder` is where the policy was read from, its critic and its encoder's heads beside it.
    """
    from policies.sight import PRIVILEGED
    from policies.train import load_critic
    from transfer.candidates import WITH_ADAPTED
    from transfer.demonstrations import demonstrations
    from transfer.finetune import Evidence
    from transfer.training import RANKED, environments, scorer

    history, critic = source.observation.history, load_critic(folder)
    told = critic is not None and f"{PRIVILEGED}.mean" in critic
    wanted = any(method in WITH_ADAPTED for method in settings.methods)
    adaptable = wanted and source.encoder is not None and (folder / "encoder").is_dir()
    law, task = domain.trained_in(settings.actor_guard), domain.task.exploring(settings.recipe.episode_s)
    return Evidence(
        make_env=environments(task, domain.robot, law, history, seed, None, told),
        home=environments(task, domain.robot, domain.source, history, seed, None, told),
        evaluate=scorer(domain.task, domain.robot, law, RANKED[quick]),
        real=lambda policy: domain.judge(domain.evidence, policy),
        source=lambda policy: domain.judge(domain.source, policy),
        kept=domain.judges(),
        stress=None if suite is None else _stressed(domain, suite.shrunk() if quick else suite, seed),
        critic=critic,
        demonstrations=demonstrations(fit, source, domain.task) if "cloning" in settings.methods else None,
        **(_windows(domain, source, folder, fit, held, seed, quick) if adaptable else {}),
    )


def suite_for_posterior(name: str, task: Task) -> Suite:
    """A suite of configs/stress; ConfigError for one of another task, or with a robot of its own."""
    suite = load_suite(name)
    suite.check(task.name)
    if not isinstance(suite.arena, MujocoArenaConfig):
        raise ConfigError(
            f"finetune.stress={name} has a robot of its own; take one in MuJoCo: finetune.stress=default."
        )
    return suite


def _stressed(domain: Domain, suite: Suite, seed: int) -> Callable[[Policy], npt.NDArray[np.float64]]:
    """Policy -> its weighted successes in a suite about the posterior."""
    assert isinstance(suite.arena, MujocoArenaConfig)
    arena = MujocoArena(suite.arena, domain.task, domain.robot, domain.posterior)
    made = plan(suite, arena, seed, (domain.posterior, arena.model))
    criteria = np.array([row.criterion for row in made.rows])[made.row]
    counts = {criterion: int((criteria == criterion).sum()) for criterion in np.unique(criteria)}
    weights = np.array([len(criteria) / (len(counts) * counts[c]) for c in criteria])

    def run(policy: Policy) -> npt.NDArray[np.float64]:
        weighted: npt.NDArray[np.float64] = weights * arena.run(subject_of_policy(policy), made.runs).success
        return weighted

    return run


def _windows(
    domain: Domain,
    source: Policy,
    folder: Path,
    fit: Sequence[EpisodeLog],
    held: Sequence[EpisodeLog],
    seed: int,
    quick: bool,
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
        simulations=32 if quick else 128,
        windows=16 if quick else 32,
    )
    rng = np.random.default_rng(seed)
    real, other = (
        windows_of(
            part,
            source.spec,
            source.observation,
            source.action,
            source.control_period_s,
            history=card.history,
            horizon=size.horizon,
            count=WINDOWS // 4 if quick else WINDOWS,
            rng=rng,
            base=base,
        )
        for part in (fit, held)
    )
    replay = simulated_windows(domain.task, domain.robot, domain.source, size, seed=seed, base=base)
    return {"windows": real, "held_out": other, "replay": replay, "heads": heads}

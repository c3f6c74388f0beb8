"""Fine-tuning with little real data: try some ways, measure each on held-out evidence, keep what is proven better.

The ways are in transfer/candidates.py, the rule that decides in transfer/select.py. An encoder whose held-out
prediction does not improve is given up before a policy is trained on it. The caller provides environments and judges,
so this file knows no simulator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from policies.actor_guard import ActorGuardConfig
from policies.actor_guard import Method as GuardMethod
from policies.cloning import CloneConfig, Demonstrations
from policies.encoders.adapt import AdaptConfig
from policies.encoders.heads import Heads
from policies.encoders.windows import WindowData
from policies.policy import Policy
from policies.ppo import TrainConfig
from policies.progress import Report, silent
from policies.train import Evaluate, MakeEnv, TrainResult
from robot.config import ConfigError
from transfer import forgetting, kpi
from transfer.candidates import Method, Ways
from transfer.select import TOLERANCE, Candidate, Episodes, choose, judged

Judge = Callable[[Policy], Episodes]
"""Runs episodes that always begin alike, so that policies can be compared pair by pair."""

ON_POSTERIOR = TrainConfig(
    env_steps=150_000,
    learning_rate=6e-4,
    learning_rate_end=1e-4,
    std_start=1.0,
    critic_rollouts=1,
    evaluate_segments=2,
)
"""Settings for a policy that starts from another: full noise again, or it stays with what the old robot was best done
with, and a critic that adapts before the actor moves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneConfig:
    """How fine-tuning is done."""

    methods: tuple[Method, ...] = ("policy", "encoder+policy")
    """Ways to try beside `nothing`, which is always a candidate."""
    recipe: TrainConfig = field(default_factory=lambda: ON_POSTERIOR)
    adapt: AdaptConfig = field(default_factory=AdaptConfig)
    guard: GuardMethod = "rehearse"
    """What keeps `policy` and `encoder+policy` near the policy that they start from; see policies/actor_guard.py."""
    guard_weight: float | None = None
    """How strongly; default: the guard's own."""
    rank: int = 4
    """Of the changes that `lora` makes, as a way or as a guard."""
    cloning: CloneConfig = field(default_factory=CloneConfig)
    stress: str = ""
    """Suite of configs/stress, run on the posterior, whose score must not fall; empty: none."""
    tolerance: float = TOLERANCE
    """By how much the stress score, or success on a robot that was learned before, may fall: more, with an interval
    without 0, rolls a candidate back."""

    def __post_init__(self) -> None:
        if len(set(self.methods)) != len(self.methods):
            raise ConfigError(f"finetune.methods names a method twice: {list(self.methods)}.")
        if not 0.0 <= self.tolerance < 1.0:
            raise ConfigError(f"finetune.tolerance is {self.tolerance}; it is a share, at least 0 and below 1.")
        assert self.actor_guard

    @property
    def actor_guard(self) -> ActorGuardConfig:
        """The guard as training takes it; ConfigError when its numbers make no sense."""
        return ActorGuardConfig(method=self.guard, weight=self.guard_weight, rank=self.rank)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What is known of the real robot and of the source, as callables over policies and as windows."""

    make_env: MakeEnv
    """Number of simulations -> environment in the posterior, where policies are fine-tuned."""
    evaluate: Evaluate
    """Success and return in the posterior; it picks the best checkpoint, on seeds of its own."""
    contradicted: str = ""
    """Why nothing is to be trained in the posterior; empty where it may be."""
    real: Judge
    """Episodes on held-out evidence of the robot; it decides which candidate is kept."""
    source: Judge
    """Episodes on the domain that the policy was trained on; it measures forgetting."""
    kept: Mapping[str, Judge] = field(default_factory=dict)
    """Episodes on the evidence of robots or days that were learned before, and are not to be lost."""
    stress: Callable[[Policy], npt.NDArray[np.float64]] | None = None
    """Weighted successes in a stress suite, as transfer.select.Candidate.stress has them."""
    windows: WindowData | None = None
    """Real windows without labels."""
    held_out: WindowData | None = None
    """Real windows of other recordings."""
    home: MakeEnv | None = None
    """Number of simulations -> environment of the domain that the policy was trained on."""
    replay: WindowData | None = None
    """Simulated windows, with labels."""
    heads: Heads | None = None
    """The heads that the encoder was pretrained with."""
    critic: dict[str, Tensor] | None = None
    """The critic that the policy was trained with, by policies.train.load_critic."""
    demonstrations: Demonstrations | str | None = None
    """Successful recorded episodes, or why there are none."""
    merged: Mapping[str, Policy] = field(default_factory=dict)
    """Policies that were made of others, which are candidates as they stand, by the names of their methods."""

    def measured(self, method: str, policy: Policy) -> Candidate:
        """A candidate on all of the evidence."""
        return Candidate(
            method=method,
            real=self.real(policy),
            source=self.source(policy),
            kept={name: judge(policy) for name, judge in self.kept.items()},
            stress=None if self.stress is None else self.stress(policy),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneResult:
    """The policy that is kept, and why."""

    policy: Policy
    candidates: tuple[Candidate, ...]
    selected: str
    forgetting: dict[str, Any]
    kpis: dict[str, Any]
    training: dict[str, TrainResult]
    """Method -> how its policy was trained."""
    encoder: dict[str, Any] | None
    """Held-out prediction error of the encoder before and after adaptation, and what it forgot, when that was tried."""

    def rows(self, rng: np.random.Generator) -> list[dict[str, Any]]:
        """The candidates as result.json lists them."""
        return [c.row(rng) for c in self.candidates]


def finetune(
    source: Policy,
    evidence: Evidence,
    config: FinetuneConfig,
    out: Path,
    *,
    seed: int,
    scratch: Episodes | None = None,
    oracle: Episodes | None = None,
    resume: bool = False,
    report: Report = silent,
) -> FinetuneResult:
    """Try the methods, choose, and write the kept policy to `out`/policy.

    `scratch` and `oracle` are episodes, by the judge `real`, of policies trained from scratch and on the truth, for the
    KPIs that need them; a candidate `scratch` takes the place of the former.
    """
    ways = Ways(source, evidence, config, out, seed, resume, report)
    candidates, policies = [evidence.measured("nothing", source)], [source]
    for method in config.methods:
        if method == "nothing":
            continue
        made = ways.make(method)
        if made.policy is None:
            candidates.append(Candidate(method=method, real=None, source=None, why=made.why))
        else:
            candidates.append(evidence.measured(method, made.policy))
        policies.append(made.policy or source)
    for name, policy in evidence.merged.items():
        candidates.append(evidence.measured(name, policy))
        policies.append(policy)
    rng = np.random.default_rng(seed)
    verdicts = judged(candidates, rng, config.tolerance)
    chosen = choose(verdicts)
    kept, before = verdicts[chosen], verdicts[0]
    assert kept.real is not None and kept.source is not None and before.source is not None
    policies[chosen].save(Path(out) / "policy")
    tried = {c.method: c.real for c in verdicts}
    scores = {"scratch": tried.get("scratch") or scratch, "oracle": oracle}
    known = {name: None if e is None else e.success.astype(float) for name, e in scores.items()}
    return FinetuneResult(
        policy=policies[chosen],
        candidates=verdicts,
        selected=kept.method,
        forgetting=forgetting.of_policy(before.source, kept.source, rng),
        kpis=kpi.kpis(kept.real.success.astype(float), before.source.returns, kept.source.returns, rng, **known),
        training=ways.training,
        encoder=ways.told,
    )

"""Fine-tuning with little real data: try some ways, measure each on held-out evidence, keep what is proven better.

Ways: `nothing`; `policy` (in the posterior simulation, encoder frozen); `encoder+policy` (the encoder is first adapted
to unlabelled real windows, with replay from simulation). An encoder whose held-out prediction does not improve is given
up before a policy is trained on it. The caller provides environments and judges, so this file knows no simulator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from policies.encoders.adapt import AdaptConfig, adapt
from policies.encoders.heads import Heads
from policies.encoders.physics import PhysicsEncoder
from policies.encoders.windows import WindowData
from policies.policy import Policy
from policies.ppo import TrainConfig
from policies.progress import Report, silent
from policies.train import Evaluate, MakeEnv, TrainResult, train
from transfer import forgetting, kpi
from transfer.select import Candidate, Episodes, choose, judge

Method = Literal["nothing", "policy", "encoder+policy"]
Judge = Callable[[Policy], Episodes]
"""Runs episodes that always begin alike, so that policies can be compared pair by pair."""

ADAPTED = "adapted_encoder"
"""Folder of the adapted encoder and its heads."""

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What is known of the real robot and of the source, as callables over policies and as windows."""

    make_env: MakeEnv
    """Number of simulations -> environment in the posterior, where policies are fine-tuned."""
    evaluate: Evaluate
    """Success and return in the posterior; it picks the best checkpoint, on seeds of its own."""
    real: Judge
    """Episodes on held-out evidence of the robot; it decides which candidate is kept."""
    source: Judge
    """Episodes on the domain that the policy was trained on; it measures forgetting."""
    windows: WindowData | None = None
    """Real windows without labels."""
    held_out: WindowData | None = None
    """Real windows of other recordings."""
    replay: WindowData | None = None
    """Simulated windows, with labels."""
    heads: Heads | None = None
    """The heads that the encoder was pretrained with."""
    critic: dict[str, Tensor] | None = None
    """The critic that the policy was trained with, by policies.train.load_critic."""


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
    KPIs that need them.
    """
    rng = np.random.default_rng(seed)
    before = evidence.source(source)
    baseline = evidence.real(source)
    candidates = [Candidate(method="nothing", real=baseline, source=before, accepted=True, why="the baseline")]
    policies = [source]
    training: dict[str, TrainResult] = {}
    adapted: dict[str, Any] | None = None
    for method in config.methods:
        if method == "nothing":
            continue
        encoder = source.encoder
        if method == "encoder+policy":
            encoder, adapted, why = _adapted(source, evidence, config.adapt, Path(out) / ADAPTED, seed, rng, report)
            if encoder is None:
                candidates.append(Candidate(method=method, real=None, source=None, accepted=False, why=why))
                policies.append(source)
                continue
        training[method] = train(
            evidence.make_env,
            source.card,
            config.recipe,
            Path(out) / method.replace("+", "_"),
            seed=seed,
            resume=resume,
            encoder=encoder,
            start_from=source,
            start_critic=evidence.critic,
            evaluate=evidence.evaluate,
            report=report,
        )
        policy = training[method].policy
        real = evidence.real(policy)
        accepted, why = judge(real, baseline, rng)
        candidates.append(
            Candidate(method=method, real=real, source=evidence.source(policy), accepted=accepted, why=why)
        )
        policies.append(policy)
    chosen = choose(candidates)
    kept = candidates[chosen]
    assert kept.real is not None and kept.source is not None
    policies[chosen].save(Path(out) / "policy")
    scores = {n: None if e is None else e.success.astype(float) for n, e in (("scratch", scratch), ("oracle", oracle))}
    return FinetuneResult(
        policy=policies[chosen],
        candidates=tuple(candidates),
        selected=kept.method,
        forgetting=forgetting.of_policy(before, kept.source, rng),
        kpis=kpi.kpis(kept.real.success.astype(float), before.returns, kept.source.returns, rng, **scores),
        training=training,
        encoder=adapted,
    )


def _adapted(
    source: Policy,
    evidence: Evidence,
    config: AdaptConfig,
    out: Path,
    seed: int,
    rng: np.random.Generator,
    report: Report,
) -> tuple[PhysicsEncoder | None, dict[str, Any] | None, str]:
    """The adapted encoder, written to `out` with its heads; its held-out errors; why it was given up when it was."""
    heads, windows, held_out, replay = evidence.heads, evidence.windows, evidence.held_out, evidence.replay
    if source.encoder is None or heads is None:
        return None, None, "the policy has no physics encoder with heads to adapt"
    if windows is None or held_out is None or replay is None:
        return None, None, "no recording is long enough to adapt the encoder on and to hold another one out"
    result = adapt(source.encoder, heads, windows, held_out, replay, config, seed=seed, report=report)
    told = {"before": float(result.before.mean()), "after": float(result.after.mean()), "change": result.change}
    if not result.kept:
        low, high = result.change["ci95"]
        why = (
            "the encoder's held-out prediction error did not fall: it changed by "
            f"{result.change['mean']:+.4g} [{low:+.4g}, {high:+.4g}] over {result.change['n']} recordings"
        )
        return None, told, why
    told["forgetting"] = forgetting.of_encoder(source.encoder, heads, result, replay, rng)
    result.encoder.save(out)
    result.heads.save(out)
    return result.encoder, told, ""

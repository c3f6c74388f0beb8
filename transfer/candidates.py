"""The ways to fine-tune a policy, one method each: what is tried beside doing nothing.

A way ends in a policy, or says why it was given up; whether it is kept is decided in transfer/select.py. To add a
way: a name in Method, a method of Ways, and its row in Ways.make().
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from policies.actor_guard import ActorGuardConfig
from policies.cloning import clone
from policies.encoders.adapt import adapt
from policies.encoders.physics import PhysicsEncoder
from policies.policy import Policy
from policies.progress import Report
from policies.train import TrainResult, train
from transfer import forgetting
from transfer.setting import fresh

if TYPE_CHECKING:
    from transfer.finetune import Evidence, FinetuneConfig

Method = Literal["nothing", "policy", "encoder+policy", "encoder", "lora", "scratch", "cloning"]

ADAPTED = "adapted_encoder"
"""Folder of the adapted encoder and its heads."""
IN_POSTERIOR = ("policy", "encoder+policy", "lora", "scratch")
"""Ways that train in the simulation that was identified."""
WITH_ADAPTED = ("encoder", "encoder+policy")
"""Ways whose policy has the adapted encoder inside."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a way led to."""

    policy: Policy | None
    why: str = ""
    """Why there is no policy."""


class Ways:
    """All ways from one policy, on one body of evidence; the encoder is adapted once, by the first that needs it."""

    def __init__(
        self,
        source: Policy,
        evidence: Evidence,
        config: FinetuneConfig,
        out: Path,
        seed: int,
        resume: bool,
        report: Report,
    ) -> None:
        self.source, self.evidence, self.config = source, evidence, config
        self.out, self.seed, self.resume, self.report = Path(out), seed, resume, report
        self.training: dict[str, TrainResult] = {}
        """Method -> how its policy was trained."""
        self.told: dict[str, Any] | None = None
        """Held-out prediction error of the encoder before and after adaptation, and what it forgot."""
        self._adapted: tuple[PhysicsEncoder | None, str] | None = None

    def make(self, method: Method) -> Made:
        """Try one way; none that trains in a simulation that the held-out recordings contradict."""
        if method in IN_POSTERIOR and self.evidence.contradicted:
            return Made(None, self.evidence.contradicted)
        ways: dict[str, Callable[[], Made]] = {
            "policy": lambda: self._trained("policy", self.source.encoder),
            "encoder": self._encoder,
            "encoder+policy": self._both,
            "lora": self._lora,
            "scratch": self._scratch,
            "cloning": self._cloning,
        }
        return ways[method]()

    def _trained(self, method: str, encoder: PhysicsEncoder | None, guard: ActorGuardConfig | None = None) -> Made:
        """The policy in the posterior, from where it stood."""
        guard = guard or self.config.actor_guard
        begin = {
            "start_from": self.source,
            "start_critic": self.evidence.critic,
            "guard": guard,
            "home": self.evidence.home,
        }
        return self._train(method, encoder, self.config.recipe, begin)

    def _train(self, method: str, encoder: PhysicsEncoder | None, recipe: Any, begin: dict[str, Any]) -> Made:
        result = train(
            self.evidence.make_env,
            self.source.card,
            recipe,
            self.out / method.replace("+", "_"),
            seed=self.seed,
            resume=self.resume,
            encoder=encoder,
            evaluate=self.evidence.evaluate,
            report=self.report,
            **begin,
        )
        self.training[method] = result
        return Made(result.policy)

    def _encoder(self) -> Made:
        encoder, why = self._adapt()
        return Made(None, why) if encoder is None else Made(self.source.with_encoder(encoder))

    def _both(self) -> Made:
        encoder, why = self._adapt()
        return Made(None, why) if encoder is None else self._trained("encoder+policy", encoder)

    def _lora(self) -> Made:
        return self._trained("lora", self.source.encoder, ActorGuardConfig(method="lora", rank=self.config.rank))

    def _scratch(self) -> Made:
        """The same network from a random start, encoder included, on as many environment steps."""
        recipe = replace(self.config.recipe, critic_rollouts=0)
        return self._train("scratch", fresh(self.source.encoder, self.seed), recipe, {})

    def _cloning(self) -> Made:
        shown = self.evidence.demonstrations
        if shown is None or isinstance(shown, str):
            return Made(None, shown or "there are no recordings to learn actions from")
        return Made(clone(self.source, shown, self.config.cloning, seed=self.seed, report=self.report))

    def _adapt(self) -> tuple[PhysicsEncoder | None, str]:
        """The adapted encoder, or why it was given up."""
        if self._adapted is None:
            self._adapted = self._adapt_once()
        return self._adapted

    def _adapt_once(self) -> tuple[PhysicsEncoder | None, str]:
        source, given = self.source, self.evidence
        if source.encoder is None or given.heads is None:
            return None, "the policy has no physics encoder with heads to adapt"
        if given.windows is None or given.held_out is None or given.replay is None:
            return None, "no recording is long enough to adapt the encoder on and to hold another one out"
        result = adapt(
            source.encoder, given.heads, given.windows, given.held_out, given.replay, self.config.adapt,
            seed=self.seed, report=self.report,
        )  # fmt: skip
        self.told = {
            "before": float(result.before.mean()),
            "after": float(result.after.mean()),
            "change": result.change,
        }
        if not result.kept:
            low, high = result.change["ci95"]
            return None, (
                "the encoder's held-out prediction error did not fall: it changed by "
                f"{result.change['mean']:+.4g} [{low:+.4g}, {high:+.4g}] over {result.change['n']} recordings"
            )
        rng = np.random.default_rng(self.seed)
        self.told["forgetting"] = forgetting.of_encoder(source.encoder, given.heads, result, given.replay, rng)
        result.encoder.save(self.out / ADAPTED)
        result.heads.save(self.out / ADAPTED)
        return result.encoder, ""

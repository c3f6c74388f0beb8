"""Training of a policy, resumable bit for bit.

Training runs in segments. At the start of each the environments are reset and every random stream is seeded from
(seed, segment), in an uninterrupted run as well, so a run that was killed anywhere and resumed from its last
checkpoint gives the curve of the one that was not.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from policies import checkpoint, tensors
from policies.actor_guard import ActorGuardConfig, put_on
from policies.card import PolicyCard
from policies.checkpoint import TrainState
from policies.context_env import Advise, ContextVecEnv
from policies.encoders.physics import PhysicsEncoder
from policies.encoders.vision import VisionEncoder
from policies.gathering import Gathering, plan_of
from policies.given import Encoders, Given
from policies.groups import Groups
from policies.learner import Recipe, make_learner
from policies.off_policy import OffPolicyConfig
from policies.policy import Policy
from policies.progress import Meter, Report, silent
from policies.sight import PRIVILEGED, SIGHT
from policies.statistics import RunningStatistics
from policies.symmetry import Symmetry
from robot import config, files
from robot.config import ConfigError

CURVE = "curve.jsonl"
CRITIC = "critic.safetensors"
"""Beside the policy it was trained with: only further training needs it, and it is never exported."""
PRIMING_STEPS = 50
"""Random steps of each environment from which the first scaling of the observation is taken."""

MakeEnv = Callable[[int], VecEnv]
"""Number of simulations -> Stable-Baselines3 vector environment with the history that the encoder needs."""
Evaluate = Callable[[Policy], tuple[float, float]]
"""Policy -> success rate and mean return, on seeds that are used for nothing else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """A trained policy and its curve."""

    policy: Policy
    """The best by evaluation; the last one where there was no evaluation."""
    curve: tuple[dict[str, float], ...]
    """One row a segment: segment, env_steps, train_return, seconds; with an evaluation also success and return."""
    env_steps: int
    env_steps_per_s: float
    scale: dict[str, Any]
    """Where rollouts in groups were, and what was lost; empty without groups."""


def train(
    make_env: MakeEnv,
    card: PolicyCard,
    recipe: Recipe,
    out: Path,
    *,
    seed: int,
    resume: bool = False,
    encoder: PhysicsEncoder | None = None,
    vision: VisionEncoder | None = None,
    encoders: Encoders = "frozen",
    start_from: Policy | None = None,
    start_critic: dict[str, Tensor] | None = None,
    advise: Advise | None = None,
    augment: Symmetry | None = None,
    guard: ActorGuardConfig | None = None,
    home: MakeEnv | None = None,
    groups: Groups | None = None,
    evaluate: Evaluate | None = None,
    report: Report = silent,
) -> TrainResult:
    """Train a policy and write it to `out`/policy; checkpoints, curve.jsonl and TensorBoard scalars stand beside it.

    `start_from` gives weights, scaling and encoders (`encoder` and `vision` override those), `start_critic` what
    load_critic() reads beside it; `guard` keeps the actor near it, and may want the environments of its `home`. The
    environments give pictures, which `vision` then reads, or `sight`; where they give privileged signals, the
    critic sees them. `encoders` says whether copies of them are trained along; `advise` is what recipe.kl_weight
    pulls towards; with `augment` samples are mirrored; `groups` cuts rollouts into parts. ConfigError when its network
    differs from `card.network`, when `resume` finds a run with other settings, or when `out` holds a training that was
    not to be resumed. Ctrl-C and kill leave the last checkpoint whole.
    """
    if start_from is not None and encoder is None:
        encoder = start_from.encoder
    if start_from is not None and vision is None and start_from.vision is not None:
        vision = start_from.vision.encoder
    card = card.with_encoder(None if encoder is None else encoder.card)
    card = card.with_vision(None if vision is None else vision.card)
    given = Given(encoder, vision, encoders, start_from, start_critic, advise, augment, guard, home)
    run = _Run(make_env, card, recipe, Path(out), seed, given, groups)
    if resume:
        run.restore()
    elif checkpoint.latest(run.out) is not None:
        raise ConfigError(f"{out} already holds a training; continue it with resume=true, or give another out=.")
    meter = Meter("train", recipe.segments * recipe.segment_steps, "env steps", report, run.state.env_steps)
    writer = SummaryWriter(str(run.out / "tensorboard"), purge_step=run.state.env_steps)
    try:
        before = run.state.env_steps
        while run.state.segment < recipe.segments:
            row = run.segment(evaluate)
            for name, value in (row | run.losses()).items():
                writer.add_scalar(name, value, run.state.env_steps)
            meter(run.state.env_steps, **{k: row[k] for k in ("success", "return", "train_return") if k in row})
        rate = meter.rate(run.state.env_steps) if run.state.env_steps > before else 0.0
    finally:
        writer.close()
        run.close()
    policy = run.best_policy()
    policy.save(run.out / "policy")
    if critic := run.critic():
        tensors.save(run.out / "policy" / CRITIC, critic)
    told = {} if run.gathering is None else run.gathering.told()
    return TrainResult(
        policy=policy, curve=tuple(run.curve), env_steps=run.state.env_steps, env_steps_per_s=rate, scale=told
    )


def load_critic(folder: Path) -> dict[str, Tensor] | None:
    """The critic beside a trained policy, None where there is none."""
    path = Path(folder) / CRITIC
    return tensors.load(path) if path.exists() else None


class _Run:
    """One training: learner, environments, counters and curve."""

    def __init__(
        self,
        make_env: MakeEnv,
        card: PolicyCard,
        recipe: Recipe,
        out: Path,
        seed: int,
        given: Given,
        groups: Groups | None = None,
    ) -> None:
        self.card, self.recipe, self.out = card, recipe, out
        trained = given.encoders != "frozen"
        self.encoder = copy.deepcopy(given.encoder) if trained else given.encoder
        self.vision = copy.deepcopy(given.vision) if trained else given.vision
        mirror = card.symmetry or given.augment  # mirrored samples are scaled like those that they come from
        self.statistics = RunningStatistics(card.shown, None if mirror is None else mirror.shown)
        self.env = self._environments(make_env(recipe.num_envs), given)
        self.scales = {"statistics": self.statistics}
        if self.env.critic_statistics is not None:
            self.scales["privileged"] = self.env.critic_statistics
        self.curriculum = self.env.get_attr("curriculum", 0)[0] if self.env.has_attr("curriculum") else None
        """What the environments draw their parameters by, where that changes with what the policy can do."""
        collector = None if groups is None else groups.make(plan_of(groups, card, recipe, given, self.curriculum))
        self.learner = make_learner(self.env, card.network, recipe, seed, self.encoder, given.augment)
        self.gathering: Gathering | None = None
        if groups is not None and collector is not None:
            self.gathering = Gathering(collector, groups.count, self.env, self.learner.algorithm, self.curriculum)
        inputs = given.digests(card) | {"groups": "none" if groups is None else str(groups.count)}
        self.state = TrainState(
            segment=0, env_steps=0, seed=seed, recipe=config.to_plain(asdict(recipe)), inputs=inputs
        )
        self.curve: list[dict[str, float]] = []
        if given.start_from is not None:
            self._begin_from(given.start_from, given.start_critic)
        if given.guard is not None:
            unfit, home = self.env.trained or given.start_from is None, given.home
            make = None if home is None else lambda: self._environments(home(recipe.num_envs), given)
            put_on(self.learner.algorithm, given.guard, seed, unfit, make)
        self._prime()
        self.best: dict[str, Tensor] = {}

    def _environments(self, venv: VecEnv, given: Given) -> ContextVecEnv:
        space, card, trained = venv.observation_space, self.card, given.encoders != "frozen"
        told = dict(space.spaces) if isinstance(space, spaces.Dict) else {}
        if trained and card.privileged:
            raise ConfigError(f"encoders={given.encoders}: a teacher is shown the truth and needs no encoders.")
        if trained and self.encoder is None and (self.vision is None or SIGHT in told):
            raise ConfigError(
                f"encoders={given.encoders}: there is no encoder to train; give physics=DIR, or vision=DIR with "
                "rendered=true."
            )
        critic = None
        if PRIVILEGED in told and not card.privileged:
            mirror = card.symmetry or given.augment
            size = int(np.prod(told[PRIVILEGED].shape or ()))
            critic = RunningStatistics(size, None if mirror is None else mirror.privileged)
        return ContextVecEnv(
            venv, card, self.statistics, self.encoder, self.vision, critic=critic, advise=given.advise, trained=trained
        )

    def _begin_from(self, source: Policy, critic: dict[str, Tensor] | None) -> None:
        mine = self.card.network
        same = replace(source.card.network, hold=mine.hold, stiction=mine.stiction)  # a hold has no weights
        if same != mine or source.card.shown != self.card.shown:
            raise ConfigError(
                f"the policy to start from has the network {source.card.network.hidden} on {source.card.shown} inputs; "
                f"the one asked for is {self.card.network.hidden} on {self.card.shown}."
            )
        self.learner.begin_from(source)
        self.statistics.freeze(source.normalizer.mean.numpy(), source.normalizer.deviation.numpy())
        if critic is None:
            return
        named = dict(critic)
        scale = {key: named.pop(f"{PRIVILEGED}.{key}", None) for key in ("mean", "deviation")}
        if (self.env.critic_statistics is None) != (scale["mean"] is None):
            return  # the one critic saw privileged signals, and the other does not: it begins anew
        if self.env.critic_statistics is not None:
            self.env.critic_statistics.freeze(scale["mean"], scale["deviation"])  # type: ignore[arg-type]
        self.learner.take_critic(named)

    def _prime(self) -> None:
        """Scale the observation by what random actions show, so that the first update sees sane inputs."""
        if all(statistics.frozen for statistics in self.scales.values()):
            return
        rng = np.random.default_rng(self.state.seed)
        self.env.seed(self.state.seed)
        self.env.reset()
        for _ in range(PRIMING_STEPS):
            self.env.step(rng.uniform(-1.0, 1.0, (self.env.num_envs, *(self.env.action_space.shape or ()))))
        self.env.commit()
        for statistics in self.scales.values():
            statistics.frozen |= isinstance(self.recipe, OffPolicyConfig)

    def restore(self) -> None:
        """Continue from the last checkpoint; from the beginning when there is none."""
        folder = checkpoint.latest(self.out)
        if folder is None:
            return
        self.state = checkpoint.load_state(folder, self.state.recipe, self.state.seed, self.state.inputs)
        self.best, curriculum = checkpoint.restore(folder, self.state.segment, self.learner, self.scales)
        if self.curriculum is not None:
            self.curriculum.restore(curriculum)
        rows = [json.loads(line) for line in (self.out / CURVE).read_text().splitlines()]
        self.curve = [row for row in rows if row["segment"] <= self.state.segment]

    def segment(self, evaluate: Evaluate | None) -> dict[str, float]:
        """Train one segment, evaluate if it is time, write the curve and then the checkpoint."""
        start, done, algorithm = time.monotonic(), self.state.segment, self.learner.algorithm
        stream = int(np.random.SeedSequence([self.state.seed, done]).generate_state(1)[0])
        set_random_seed(stream)
        self.env.seed(stream % (2**31))
        algorithm.action_space.seed(stream % (2**31))
        algorithm._last_obs = None  # makes learn() reset the environments
        algorithm.num_timesteps = self.state.env_steps
        if self.gathering is not None:
            self.gathering.begin(done, stream)
        algorithm.ep_info_buffer = None
        self.learner.segment(done)
        self.env.commit()
        row: dict[str, float] = {"segment": done + 1, "env_steps": algorithm.num_timesteps}
        row |= self._mean_episode()
        if self.curriculum is not None:
            row |= {f"curriculum/{key}": value for key, value in self.curriculum.summary().items()}
        state = replace(self.state, segment=done + 1, env_steps=algorithm.num_timesteps)
        last = done + 1 == self.recipe.segments
        if evaluate is not None and (last or (done + 1) % self.recipe.evaluate_segments == 0):
            success, value = evaluate(self.policy())
            row |= {"success": success, "return": value}
            if (success, value) >= (state.best_success, state.best_return):
                state = replace(state, best_success=success, best_return=value)
                self.best = self._snapshot()
        state = replace(state, seconds=state.seconds + time.monotonic() - start)
        row["seconds"] = round(state.seconds, 3)
        self.curve.append(row)
        files.write_text(self.out / CURVE, "".join(json.dumps(r) + "\n" for r in self.curve))
        curriculum = {} if self.curriculum is None else self.curriculum.state()
        checkpoint.save(self.out, state, self.learner, self.scales, self.best, curriculum)
        self.state = state
        return row

    def close(self) -> None:
        """Let go of all simulations."""
        self.env.close()
        if self.gathering is not None:
            self.gathering.collector.close()

    def _mean_episode(self) -> dict[str, float]:
        """Means over the newest episodes that ended in the segment: return, steps, and each reward term's sum."""
        ended: Sequence[dict[str, Any]] = self.learner.algorithm.ep_info_buffer or ()
        if not ended:
            return {"train_return": 0.0}
        mean = {key: float(np.mean([e[key] for e in ended])) for key in ended[0] if key != "t"}
        return {"train_return": mean.pop("r"), "train_steps": mean.pop("l")} | mean

    def losses(self) -> dict[str, float]:
        """What the last update reported, for TensorBoard."""
        values = self.learner.algorithm.logger.name_to_value
        return {k: float(v) for k, v in values.items() if k.startswith("train/")}

    def critic(self) -> dict[str, Tensor]:
        """What further training reads beside the policy: the critic, and how its privileged signals are scaled."""
        named = self.learner.critic()
        if (scale := self.env.critic_statistics) is not None and named:
            for key in ("mean", "deviation"):
                named[f"{PRIVILEGED}.{key}"] = torch.from_numpy(getattr(scale, key))
        return named

    def policy(self) -> Policy:
        """The policy as it stands."""
        lineage = self.card.lineage | {"env_steps": str(self.learner.algorithm.num_timesteps)}
        if self.state.inputs["start_from"] != "none":
            lineage["start_from"] = self.state.inputs["start_from"]
        policy = Policy(replace(self.card, lineage=lineage))
        if self.encoder is not None and policy.encoder is not None:
            policy.encoder.load_state_dict(self.encoder.state_dict())
        if self.vision is not None and policy.vision is not None:
            policy.vision.encoder.load_state_dict(self.vision.state_dict())
        policy.normalizer.set(self.statistics.mean, self.statistics.deviation)
        self.learner.write_to(policy)
        return policy.eval()

    def _snapshot(self) -> dict[str, Tensor]:
        """Of the policy what training changes."""
        kept = ("encoder.", "vision.") if not self.env.trained else ()
        return {k: v.clone() for k, v in self.policy().state_dict().items() if not k.startswith(kept)}

    def best_policy(self) -> Policy:
        """The best evaluated policy; the last one when nothing was evaluated."""
        policy = self.policy()
        policy.load_state_dict(dict(policy.state_dict()) | self.best)
        return policy

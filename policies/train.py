"""Training of a policy with PPO, resumable bit for bit.

Training runs in segments. At the start of each the environments are reset and every random stream is seeded from
(seed, segment), in an uninterrupted run as well, so a run that was killed anywhere and resumed from its last
checkpoint gives the curve of the one that was not.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.utils import ConstantSchedule, set_random_seed
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from policies import checkpoint, tensors
from policies.checkpoint import TrainState
from policies.context_env import ContextVecEnv, RunningStatistics
from policies.encoders.physics import PhysicsEncoder
from policies.encoders.vision import VisionEncoder
from policies.policy import Policy, PolicyCard
from policies.ppo import Housekeeping, TrainConfig, make_ppo, read_actor, read_critic, write_actor, write_critic
from policies.progress import Meter, Report, silent
from robot import config, files
from robot.config import ConfigError

CURVE = "curve.jsonl"
CRITIC = "critic.safetensors"
"""Beside the policy it was trained with: only further training needs it, and it is never exported."""
PRIMING_STEPS = 50
"""Random steps of each environment from which the first scaling of the observation is taken."""

_NEVER = 10**9

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


def train(
    make_env: MakeEnv,
    card: PolicyCard,
    recipe: TrainConfig,
    out: Path,
    *,
    seed: int,
    resume: bool = False,
    encoder: PhysicsEncoder | None = None,
    vision: VisionEncoder | None = None,
    start_from: Policy | None = None,
    start_critic: dict[str, Tensor] | None = None,
    evaluate: Evaluate | None = None,
    report: Report = silent,
) -> TrainResult:
    """Train a policy and write it to `out`/policy; checkpoints, curve.jsonl and TensorBoard scalars stand beside it.

    `start_from` gives weights, scaling and encoders (`encoder` and `vision` override those), `start_critic` what
    load_critic() reads beside it. The environments give pictures, which `vision` then reads, or `sight`. ConfigError
    when its network differs from `card.network`, when `resume` finds a run with other settings, or when `out` holds a
    training that was not to be resumed. Ctrl-C and kill leave the last checkpoint whole.
    """
    if start_from is not None and encoder is None:
        encoder = start_from.encoder
    if start_from is not None and vision is None and start_from.vision is not None:
        vision = start_from.vision.encoder
    card = card.with_encoder(None if encoder is None else encoder.card)
    card = card.with_vision(None if vision is None else vision.card)
    run = _Run(make_env, card, recipe, Path(out), seed, encoder, vision, start_from, start_critic)
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
        run.env.close()
    policy = run.best_policy()
    policy.save(run.out / "policy")
    tensors.save(run.out / "policy" / CRITIC, read_critic(run.learner))
    return TrainResult(policy=policy, curve=tuple(run.curve), env_steps=run.state.env_steps, env_steps_per_s=rate)


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
        recipe: TrainConfig,
        out: Path,
        seed: int,
        encoder: PhysicsEncoder | None,
        vision: VisionEncoder | None,
        start_from: Policy | None,
        start_critic: dict[str, Tensor] | None,
    ) -> None:
        self.card, self.recipe, self.out, self.encoder, self.vision = card, recipe, out, encoder, vision
        self.statistics = RunningStatistics(card.shown)
        self.env = ContextVecEnv(make_env(recipe.num_envs), card, self.statistics, encoder, vision)
        self.env.hold_acts = recipe.hold_from == 0
        self.curriculum = self.env.get_attr("curriculum", 0)[0] if self.env.has_attr("curriculum") else None
        """What the environments draw their parameters by, where that changes with what the policy can do."""
        self.learner = make_ppo(self.env, card.network, recipe, seed)
        inputs = {"policy card": _digest(config.dump_yaml(replace(card, lineage={})).encode())}
        inputs["encoder"], inputs["vision"] = _digest_of(encoder), _digest_of(vision)
        inputs["start_from"] = _digest_of(start_from)
        self.state = TrainState(segment=0, env_steps=0, seed=seed, recipe=recipe, inputs=inputs)
        self.curve: list[dict[str, float]] = []
        if start_from is None:
            self._prime()
        else:
            self._begin_from(start_from, start_critic)
        self.best: dict[str, Tensor] = {}

    def _begin_from(self, source: Policy, critic: dict[str, Tensor] | None) -> None:
        if source.card.network != self.card.network:
            raise ConfigError(
                f"the policy to start from has the network {source.card.network.hidden}; "
                f"the one asked for is {self.card.network.hidden}."
            )
        write_actor(self.learner, source.actor)
        if critic is not None:
            write_critic(self.learner, critic)
        self.statistics.freeze(source.normalizer.mean.numpy(), source.normalizer.deviation.numpy())

    def _prime(self) -> None:
        """Scale the observation by what random actions show, so that the first update sees sane inputs."""
        rng = np.random.default_rng(self.state.seed)
        self.env.seed(self.state.seed)
        self.env.reset()
        for _ in range(PRIMING_STEPS):
            self.env.step(rng.uniform(-1.0, 1.0, (self.env.num_envs, *(self.env.action_space.shape or ()))))
        self.statistics.commit()

    def restore(self) -> None:
        """Continue from the last checkpoint; from the beginning when there is none."""
        folder = checkpoint.latest(self.out)
        if folder is None:
            return
        self.state = checkpoint.load_state(folder, self.recipe, self.state.seed, self.state.inputs)
        self.best, curriculum = checkpoint.restore(folder, self.learner, self.statistics)
        if self.curriculum is not None:
            self.curriculum.restore(curriculum)
        rows = [json.loads(line) for line in (self.out / CURVE).read_text().splitlines()]
        self.curve = [row for row in rows if row["segment"] <= self.state.segment]

    def segment(self, evaluate: Evaluate | None) -> dict[str, float]:
        """Train one segment, evaluate if it is time, write the curve and then the checkpoint."""
        start, done = time.monotonic(), self.state.segment
        stream = int(np.random.SeedSequence([self.state.seed, done]).generate_state(1)[0])
        set_random_seed(stream)
        self.env.seed(stream % (2**31))
        self.env.hold_acts = self.state.env_steps >= self.recipe.hold_from
        self.learner._last_obs = None  # makes learn() reset the environments
        rate = self.recipe.learning_rate_at(done)
        self.learner.lr_schedule = ConstantSchedule(rate)
        self.learner.num_timesteps = self.state.env_steps
        callback = Housekeeping(self.learner, self.env, self.recipe, done * self.recipe.segment_rollouts)
        self.learner.ep_info_buffer = None
        self.learner.learn(self.recipe.segment_steps, callback=callback, log_interval=_NEVER, reset_num_timesteps=False)
        self.statistics.commit()
        row: dict[str, float] = {"segment": done + 1, "env_steps": self.learner.num_timesteps}
        row |= self._mean_episode()
        if self.curriculum is not None:
            row |= {f"curriculum/{key}": value for key, value in self.curriculum.summary().items()}
        state = replace(self.state, segment=done + 1, env_steps=self.learner.num_timesteps)
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
        checkpoint.save(self.out, state, self.learner, self.statistics, self.best, curriculum)
        self.state = state
        return row

    def _mean_episode(self) -> dict[str, float]:
        """Means over the newest episodes that ended in the segment: return, steps, and each reward term's sum."""
        ended: Sequence[dict[str, Any]] = self.learner.ep_info_buffer or ()
        if not ended:
            return {"train_return": 0.0}
        mean = {key: float(np.mean([e[key] for e in ended])) for key in ended[0] if key != "t"}
        return {"train_return": mean.pop("r"), "train_steps": mean.pop("l")} | mean

    def losses(self) -> dict[str, float]:
        """What the last update reported, for TensorBoard."""
        return {k: float(v) for k, v in self.learner.logger.name_to_value.items() if k.startswith("train/")}

    def policy(self) -> Policy:
        """The policy as it stands."""
        lineage = self.card.lineage | {"env_steps": str(self.learner.num_timesteps)}
        if self.state.inputs["start_from"] != "none":
            lineage["start_from"] = self.state.inputs["start_from"]
        policy = Policy(replace(self.card, lineage=lineage))
        if self.encoder is not None and policy.encoder is not None:
            policy.encoder.load_state_dict(self.encoder.state_dict())
        if self.vision is not None and policy.vision is not None:
            policy.vision.encoder.load_state_dict(self.vision.state_dict())
        policy.normalizer.set(self.statistics.mean, self.statistics.deviation)
        read_actor(self.learner, policy.actor)
        return policy.eval()

    def _snapshot(self) -> dict[str, Tensor]:
        policy = self.policy()
        named = {f"actor.{k}": v for k, v in policy.actor.state_dict().items()}
        return named | {f"normalizer.{k}": v for k, v in policy.normalizer.state_dict().items()}

    def best_policy(self) -> Policy:
        """The best evaluated policy; the last one when nothing was evaluated."""
        policy = self.policy()
        policy.load_state_dict(dict(policy.state_dict()) | self.best)
        return policy


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _digest_of(module: nn.Module | None) -> str:
    if module is None:
        return "none"
    state = module.state_dict()
    return _digest(b"".join(name.encode() + state[name].numpy().tobytes() for name in sorted(state)))

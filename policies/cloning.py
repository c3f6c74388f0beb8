"""Behaviour cloning: a policy learns the actions of episodes that went well, from where it stands.

The network is fitted to what was done in the states that were seen, until episodes that were spared are no longer
foretold better; the scaling of its inputs and its encoders stay.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from policies.encoders.guards import GuardConfig, TuneConfig, tune
from policies.policy import Policy
from policies.progress import Report, silent
from policies.sight import shown
from robot.config import ConfigError


@dataclass(frozen=True, slots=True)
class Demonstrations:
    """N steps of episodes that went well."""

    inputs: Mapping[str, npt.NDArray[Any]]
    """What the policy would have been given, by the names of its inputs; (N, ...)."""
    action: npt.NDArray[np.float32]
    """(N, A) in [-1, 1] what was done."""
    group: npt.NDArray[np.intp]
    """(N,) the episode of each step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CloneConfig:
    """How actions are learned."""

    updates: int = 3000
    """Most gradient steps; training stops earlier where the spared episodes say so."""
    batch: int = 256
    """Steps in a batch."""
    learning_rate: float = 1e-3
    stop_share: float = 0.25
    """Share of the episodes that training is stopped by; of fewer than four none is spared."""

    def __post_init__(self) -> None:
        if self.updates < 1 or self.batch < 1 or not self.learning_rate > 0.0:
            raise ConfigError("cloning: updates and batch must be at least 1, and learning_rate above 0.")
        if not 0.0 <= self.stop_share < 1.0:
            raise ConfigError(f"cloning.stop_share is {self.stop_share}; it is a share below 1.")

    @property
    def tune(self) -> TuneConfig:
        """The same as policies/encoders/guards.py takes it: nothing holds the network back."""
        free = GuardConfig(method="none")
        return TuneConfig(guard=free, updates=self.updates, batch=self.batch, learning_rate=self.learning_rate)


def clone(
    source: Policy, demonstrations: Demonstrations, config: CloneConfig, *, seed: int, report: Report = silent
) -> Policy:
    """A copy of `source` that does what was done; ConfigError for an LSTM, whose states no recording tells."""
    if source.recurrent is not None:
        raise ConfigError("cloning: the policy has an LSTM, whose states no recording tells; use network.memory.")
    policy = copy.deepcopy(source)
    for weights in policy.parameters():
        weights.requires_grad_(False)
    for weights in policy.actor.parameters():
        weights.requires_grad_(True)
    parts, done = _read(policy, demonstrations.inputs), torch.from_numpy(demonstrations.action)
    rng = np.random.default_rng(seed)
    episodes = np.unique(demonstrations.group)
    spared = rng.permutation(episodes)[: round(config.stop_share * len(episodes)) if len(episodes) >= 4 else 0]
    held = torch.from_numpy(np.isin(demonstrations.group, spared))
    rows, stop = torch.nonzero(~held).flatten(), torch.nonzero(held).flatten()
    generator = torch.Generator().manual_seed(seed)

    def error(pick: Tensor) -> Tensor:
        row, context, memory = (None if part is None else part[pick] for part in parts)
        assert row is not None
        return functional.mse_loss(policy.decide(row, context, memory), done[pick])

    @torch.no_grad()
    def validate() -> float:
        return float(error(stop))

    tune(
        nn.ModuleList([policy.actor]),
        lambda: error(rows[torch.randint(len(rows), (config.batch,), generator=generator)]),
        lambda count: torch.zeros(()),
        config.tune,
        validate if len(stop) else None,
        seed=seed,
        report=report,
    )
    for weights in policy.parameters():
        weights.requires_grad_(True)
    return policy.eval()


@torch.no_grad()
def _read(policy: Policy, inputs: Mapping[str, npt.NDArray[Any]]) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """What Policy.decide() takes, of every step: shown, context and memory."""
    context = None
    if policy.encoder is not None:
        context = policy.encoder(torch.from_numpy(inputs["history"]), torch.from_numpy(inputs["history_mask"]))
    memory = torch.from_numpy(inputs["state_memory"]) if policy.memory.steps else None
    return torch.from_numpy(shown(inputs, policy.vision)), context, memory

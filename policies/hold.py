"""Hold: linear-quadratic feedback about an unstable pose, beside the network and inside the exported file.

Within its region the action is the feedback's, elsewhere the network's, which so has to learn the way there alone.
Gains and region are computed (transfer/hold.py), never set by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robot.config import ConfigError

Matrix = tuple[tuple[float, ...], ...]
ANGLES = ("cos", "sin")


@dataclass(frozen=True, kw_only=True, slots=True)
class HoldCard:
    """A hold for n joints and A actions; its state x is (angles from the pose [rad], velocities [rad/s])."""

    joints: tuple[str, ...]
    actuators: tuple[str, ...]
    rates: str
    """What it takes velocities from: `velocity` or `change` (with the previous action) of the observation."""
    pose: tuple[float, ...]
    """(n,) [rad]."""
    estimate: Matrix
    """(2 n, 2 n + A): x from angles, rates and previous actions."""
    gain: Matrix
    """(A, 2 n): the action is -gain x, clipped."""
    value: Matrix
    """(2 n, 2 n): x' value x is what it costs to come to rest."""
    within: tuple[float, ...]
    """(2 n,) how far off x may be for the feedback to take over."""
    region: float
    """The cost below which, within these bounds, every simulated start came to rest."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Components of the observation that it reads, in order."""
        parts = (*ANGLES, self.rates)
        return (*(f"{part}/{j}" for part in parts for j in self.joints), *self._previous)

    @property
    def _previous(self) -> tuple[str, ...]:
        return tuple(f"previous_action/{a}" for a in self.actuators)


class Hold(nn.Module):
    """What the feedback says; without weights."""

    columns: Tensor
    pose: Tensor
    estimate: Tensor
    within: Tensor
    gain: Tensor
    value: Tensor

    def __init__(self, card: HoldCard, components: Sequence[str]) -> None:
        """`components` of the observation. ConfigError names one that is missing."""
        super().__init__()
        missing = next((name for name in card.inputs if name not in components), None)
        if missing:
            raise ConfigError(f"the hold reads '{missing}', which the policy is not shown: {list(components)}.")
        self.region, self._n = card.region, len(card.joints)
        columns = torch.tensor([list(components).index(name) for name in card.inputs])
        self.register_buffer("columns", columns, persistent=False)
        for name in ("pose", "estimate", "gain", "value", "within"):
            self.register_buffer(name, torch.tensor(getattr(card, name), dtype=torch.float32), persistent=False)

    def state(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 2 n) x, and whether (B, 1) every joint is on the pose's side; of raw observations (B, >= D).

        Of an angle from the pose its sine is taken, which is the same where the hold acts.
        """
        seen, n = observation[:, self.columns], self._n
        cos, sin, rest = seen[:, :n], seen[:, n : 2 * n], seen[:, 2 * n :]
        angle = sin * torch.cos(self.pose) - cos * torch.sin(self.pose)
        near = (cos * torch.cos(self.pose) + sin * torch.sin(self.pose)).amin(dim=1, keepdim=True) > 0.0
        return torch.cat([angle, rest], dim=1) @ self.estimate.T, near

    def feedback(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """(B, A) what the feedback would do, and whether (B, 1) it does: within its region."""
        x, near = self.state(observation)
        cost = (x @ self.value * x).sum(dim=1, keepdim=True)
        inside = near & (x.abs() <= self.within).all(dim=1, keepdim=True) & (cost <= self.region)
        return (-(x @ self.gain.T)).clamp(-1.0, 1.0), inside

    def forward(self, observation: Tensor, said: Tensor) -> Tensor:
        """(B, A) the action, where the network has `said` (B, A): within the region the feedback's."""
        action, inside = self.feedback(observation)
        return torch.where(inside, action, said)

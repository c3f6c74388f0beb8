"""Hold: linear-quadratic feedback about an unstable pose, beside the network and inside the exported file.

Within its region the action is the feedback's, elsewhere the network's, which so has to learn the way there alone.
Gains and region are computed (transfer/hold.py), never set by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robot.config import ConfigError

Matrix = tuple[tuple[float, ...], ...]
ANGLES = ("cos", "sin")
TINY = 1e-30
"""What an empty region is taken for."""
SOFT = 0.01
"""Actions about 0 for which friction is not made up for in full: at rest nothing should jump from side to side."""


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
    """(2 n, 2 n): x' value x is how far off x is: what it costs to come to rest, or a fit to what came to rest."""
    within: tuple[float, ...]
    """(2 n,) how far off x may be for the feedback to take over."""
    region: float
    """That distance, below which, within these bounds, simulated starts came to rest."""
    friction: tuple[float, ...] = ()
    """(A,) what dry friction takes of each action, which is added to it; empty for none."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Components of the observation that it reads, in order."""
        parts = (*ANGLES, self.rates)
        return (*(f"{part}/{j}" for part in parts for j in self.joints), *self._previous)

    @property
    def _previous(self) -> tuple[str, ...]:
        return tuple(f"previous_action/{a}" for a in self.actuators)


class Hold(nn.Module):
    """What the feedback says; without weights.

    Everything it asks of an observation is linear in it: of an angle from the pose its sine is taken, which is the same
    where the hold acts and is sin cos(pose) - cos sin(pose). So all that is known beforehand is multiplied out here,
    and the exported file has few nodes, of which each costs a microsecond on board.
    """

    terms: Tensor
    offset: Tensor
    sums: Tensor
    gain: Tensor
    friction: Tensor | None

    def __init__(self, card: HoldCard, components: Sequence[str]) -> None:
        """`components` of the observation. ConfigError names one that is missing."""
        super().__init__()
        missing = next((name for name in card.inputs if name not in components), None)
        if missing:
            raise ConfigError(f"the hold reads '{missing}', which the policy is not shown: {list(components)}.")
        columns, n = [list(components).index(name) for name in card.inputs], len(card.joints)
        cos, sin = np.diag(np.cos(card.pose)), np.diag(np.sin(card.pose))
        read = np.zeros((len(components), len(columns) - n))
        read[columns[:n], :n], read[columns[n : 2 * n], :n] = -sin, cos
        read[columns[2 * n :], range(n, read.shape[1])] = 1.0
        side = np.zeros((len(components), n))
        side[columns[:n]], side[columns[n : 2 * n]] = cos, sin
        state = read @ np.array(card.estimate).T  # (D, 2 n): an observation times this is x
        root = state @ np.linalg.cholesky(np.array(card.value)) / np.sqrt(max(card.region, TINY))
        matrices = {
            # an observation times this, and squared: at most 1 within the bounds, on the pose's side, where its cosine
            # is positive, and, of the last 2 n together, within the region
            "terms": np.hstack([state / np.array(card.within), -side, root]),
            "offset": np.repeat([0.0, 1.0, 0.0], [2 * n, n, 2 * n]),
            "sums": np.vstack([np.eye(3 * n, 3 * n + 1), np.eye(3 * n + 1)[[-1] * (2 * n)]]),
            "gain": -state @ np.array(card.gain).T,
        }
        for name, matrix in matrices.items():
            self.register_buffer(name, torch.tensor(matrix, dtype=torch.float32), persistent=False)
        friction = torch.tensor(card.friction) if card.friction else None
        self.register_buffer("friction", friction, persistent=False)

    def feedback(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """(B, A) what the feedback would do, and whether (B, 1) it does, of raw observations (B, >= D)."""
        size = len(self.gain)
        observation = observation if observation.shape[1] == size else observation[:, :size]
        terms = torch.addmm(self.offset, observation, self.terms)
        inside = (terms * terms @ self.sums).amax(dim=1, keepdim=True) <= 1.0
        action = observation @ self.gain
        if self.friction is not None:
            action = action + self.friction * (action / SOFT).tanh()
        return action.clamp(-1.0, 1.0), inside

    def forward(self, observation: Tensor, said: Tensor) -> Tensor:
        """(B, A) the action, where the network has `said` (B, A): within the region the feedback's."""
        action, inside = self.feedback(observation)
        return torch.where(inside, action, said)

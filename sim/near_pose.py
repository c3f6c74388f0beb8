"""About an unstable pose that can be held: training starts there, and a reward for coming nearer.

Where a hold takes over is a thin sheet of states, long in the directions that come to rest by themselves and short in
the one that runs away. Starts that are spread evenly about the pose hardly ever lie near it, and a policy that passes
it at ten times its thickness learns nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sim.state import Start, State

Array = npt.NDArray[np.float64]

REACH = 3.0
"""As far as starts lie off the pose, in sizes of the region."""
ANGLE, SPEED = 0.6, 6.0
"""What keeps them where the pose's linearization means something [rad], [rad/s]."""


@dataclass(frozen=True, slots=True)
class NearPose:
    """A share of the training's starts, drawn from ellipsoids about a pose, and a reward by their size."""

    pose: tuple[float, ...]
    """(n,) [rad]."""
    axes: tuple[tuple[float, ...], ...]
    """(2 n, 2 n) the region's half axes, a row each, in (angles off the pose [rad], velocities [rad/s])."""
    share: float
    bonus: float = 0.0
    """Reward of a step in the region's middle, half of it at its edge."""

    def mix(self, start: Start, rng: np.random.Generator) -> Start:
        """The starts, some of which are exchanged for such."""
        count, n = start.position.shape
        direction = rng.standard_normal((count, 2 * n))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        off = REACH * rng.random((count, 1)) * direction @ np.array(self.axes)
        beyond = np.abs(off) / np.repeat([ANGLE, SPEED], n)
        off /= np.maximum(beyond.max(axis=1, keepdims=True), 1.0)
        chosen = rng.random((count, 1)) < self.share
        return replace(
            start,
            position=np.where(chosen, np.array(self.pose) + off[:, :n], start.position),
            velocity=np.where(chosen, off[:, n:], start.velocity),
        )

    def reward(self, state: State) -> Array:
        """(n,) bonus / (1 + distance off the pose in sizes of the region); none where that means nothing."""
        n = len(self.pose)
        angle = (state.position - np.array(self.pose) + np.pi) % (2.0 * np.pi) - np.pi
        off = np.hstack([angle, state.velocity])
        near = (np.abs(off) <= np.repeat([ANGLE, SPEED], n)).all(axis=1)
        distance = np.linalg.norm(off @ np.linalg.inv(np.array(self.axes)), axis=1)
        return np.where(near, self.bonus / (1.0 + distance), 0.0)

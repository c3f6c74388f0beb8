"""Targets of what pushes the robot from outside; all are outer: sim/disturbance.py applies them.

Constant and ever new random forces are the baseline that any other randomization must beat (Valassakis et al.,
IROS 2020: random force injection is often as good).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mujoco.batch import Batch

from sim.targets.felt import felt
from sim.targets.target import Array, Ids, Target, body_id, constant, joints, moving_bodies

if TYPE_CHECKING:
    from sim.model import Model

NONE = constant(0.0)
MOVING = "moving bodies that give way to it"


def _pushable(*axes: int) -> Callable[[Model], tuple[str, ...]]:
    """Moving bodies that give way to a force along these axes of the world, some of the time at least."""

    def write(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
        for axis in axes:
            batch.bind("xfrc_applied")[ids, body_id(model, name), axis] = values

    return felt(write, moving_bodies, lambda model, name: 1.0)


def _force(axis: int) -> Target:
    return Target("N", -1e4, 1e4, _pushable(axis), NONE, applies=MOVING, step=1.0)


ANY, LEVEL = _pushable(0, 1, 2), _pushable(0, 1)


ROWS: dict[tuple[str, str], Target] = {
    ("body", "force_x"): _force(0),  # at the centre of mass, in the world's axes, for the whole episode
    ("body", "force_y"): _force(1),
    ("body", "force_z"): _force(2),
    # standard deviation of each component of a force drawn anew at every control step
    ("body", "force_noise"): Target("N", 0.0, 1e4, ANY, NONE, applies=MOVING, step=1.0),
    # impulses in random horizontal directions at random times, and how many there are on average
    ("body", "push"): Target(
        "N s", 0.0, 1e3, LEVEL, NONE, applies=MOVING, step=0.5, needs=(("push_rate", 10.0),), rare=True
    ),
    ("body", "push_rate"): Target(
        "1/s", 0.0, 1e3, LEVEL, constant(0.2), applies=MOVING, step=10.0, needs=(("push", 0.5),), rare=True
    ),
    # torques on a joint, Gaussian in time and of either sign, at random times, and how many there are on average
    ("joint", "push"): Target("N m", 0.0, 1e3, joints, NONE, step=0.5, needs=(("push_rate", 10.0),), rare=True),
    ("joint", "push_rate"): Target(
        "1/s", 0.0, 1e3, joints, constant(0.2), step=10.0, needs=(("push", 0.5),), rare=True
    ),
}

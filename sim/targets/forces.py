"""Targets of what pushes the robot from outside; all are outer: sim/disturbance.py applies them.

Constant and ever new random forces are the baseline that any other randomization must beat (Valassakis et al.,
IROS 2020: random force injection is often as good).
"""

from __future__ import annotations

from sim.targets.target import Target, constant, moving_bodies

NONE = constant(0.0)
MOVING = "moving bodies with a mass"


def _force() -> Target:
    return Target("N", -1e4, 1e4, moving_bodies, NONE, applies=MOVING, step=1.0)


ROWS: dict[tuple[str, str], Target] = {
    ("body", "force_x"): _force(),  # at the centre of mass, in the world's axes, for the whole episode
    ("body", "force_y"): _force(),
    ("body", "force_z"): _force(),
    # standard deviation of each component of a force drawn anew at every control step
    ("body", "force_noise"): Target("N", 0.0, 1e4, moving_bodies, NONE, applies=MOVING, step=1.0),
    # impulses in random horizontal directions at random times, and how many there are on average
    ("body", "push"): Target(
        "N s", 0.0, 1e3, moving_bodies, NONE, applies=MOVING, step=0.5, needs=(("push_rate", 10.0),)
    ),
    ("body", "push_rate"): Target(
        "1/s", 0.0, 1e3, moving_bodies, constant(0.2), applies=MOVING, step=10.0, needs=(("push", 0.5),)
    ),
}

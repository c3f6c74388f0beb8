"""TARGETS: every physical quantity that can be changed per simulation, by name.

A target is a name such as `joint/elbow/damping`, kind/object/quantity: one number with a unit and a valid range,
which randomization draws, identification estimates and parameter files set. To add one: a row in the ROWS of the
file that fits. With a `write` it is a MuJoCo model field; without, it is *outer*: sim/parameters.py keeps its
values in an (nsim, n_objects) array, which the one who simulates the effect reads. A test asks each row what it does.
"""

from __future__ import annotations

import functools

import numpy as np

from robot.config import ConfigError, nearest
from sim.targets import (
    appearance,
    bodies,
    contact,
    forces,
    inertia,
    joints,
    links,
    motors,
    residual,
    sensing,
    terrain,
    timing,
    world,
)
from sim.targets.target import Array, Ids, Target

TARGETS: dict[tuple[str, str], Target] = {
    key: row
    for rows in (
        bodies.ROWS, inertia.ROWS, links.ROWS, bodies.PAYLOADS, motors.ROWS, residual.ROWS, joints.ROWS, contact.ROWS,
        terrain.ROWS, world.ROWS, forces.ROWS, timing.ROWS, sensing.ROWS, appearance.ROWS,
    )
    for key, row in rows.items()
}  # fmt: skip
"""(kind, quantity) -> row; the name in between is the object's. They are written in this order."""


@functools.cache
def split(name: str) -> tuple[tuple[str, str], str]:
    """`joint/elbow/damping` -> (("joint", "damping"), "elbow"); ConfigError lists the kinds that exist."""
    parts = name.split("/")
    if len(parts) != 3 or (parts[0], parts[2]) not in TARGETS:
        same = [(kind, quantity) for kind, quantity in TARGETS if kind == parts[0]]
        known = [f"{kind}/<name>/{quantity}" for kind, quantity in same or TARGETS]
        raise ConfigError(f"target '{name}' is unknown. {nearest(name, known)}")
    return (parts[0], parts[2]), parts[1]


def unit_of(name: str) -> str:
    """Unit of a target."""
    return TARGETS[split(name)[0]].unit


def check_range(name: str, values: Array) -> None:
    """ConfigError when a value lies outside the target's valid range, or is not finite."""
    target = TARGETS[split(name)[0]]
    if values.size and not (target.low <= values.min() and values.max() <= target.high):  # NaN compares as false
        bad = ~((values >= target.low) & (values <= target.high))
        raise ConfigError(
            f"target '{name}': {values[bad][0]:g} {target.unit} is outside its valid range "
            f"[{target.low:g}, {target.high:g}]."
        )


def check_ranges(names: tuple[str, ...], values: Array) -> None:
    """check_range() of many targets at once; values (n, len(names))."""
    low, high = _bounds(names)
    # NaN compares as false
    if values.size and not ((values.min(axis=0) >= low) & (values.max(axis=0) <= high)).all():
        for name, column in zip(names, values.T, strict=True):
            check_range(name, column)


@functools.cache
def _bounds(names: tuple[str, ...]) -> tuple[Array, Array]:
    rows = [TARGETS[split(name)[0]] for name in names]
    return np.array([r.low for r in rows]), np.array([r.high for r in rows])


__all__ = ["TARGETS", "Array", "Ids", "Target", "check_range", "check_ranges", "split", "unit_of"]

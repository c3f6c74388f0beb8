"""Targets of the world around the robot: gravity and its direction, the heightfield under its feet."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from mujoco.batch import Batch

from sim.targets.felt import felt
from sim.targets.target import Array, Ids, Target, Write, constant, only

if TYPE_CHECKING:
    from sim.model import Model


def _gravity(model: Model, name: str) -> float:
    return float(-model.mj.opt.gravity[2])


def _write_gravity(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
    batch.expand("opt.gravity")[ids, 2] = -values


def _tilt(axis: int) -> Write:
    """Turn gravity about the world's x (0) or y (1), as a bench that is not level does."""

    def write(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
        gravity = batch.expand("opt.gravity")
        across = 1 - axis
        sign = -1.0 if axis == 0 else 1.0
        a, z = gravity[ids, across].copy(), gravity[ids, 2].copy()
        gravity[ids, across] = np.cos(values) * a + sign * np.sin(values) * z
        gravity[ids, 2] = np.cos(values) * z - sign * np.sin(values) * a

    return write


def _gravity_row(
    unit: str, low: float, high: float, nominal: Callable[[Model, str], float], write: Write, step: float
) -> Target:
    objects = felt(write, only("gravity"), lambda model, name: nominal(model, name) + step)
    applies = "robots that feel gravity"
    return Target(unit, low, high, objects, nominal, write, ("opt.gravity",), applies=applies, step=step)


ROWS: dict[tuple[str, str], Target] = {
    ("world", "gravity"): _gravity_row("m/s^2", 0.0, 100.0, _gravity, _write_gravity, 1.0),  # downwards
    ("world", "tilt_x"): _gravity_row("rad", -np.pi, np.pi, constant(0.0), _tilt(0), 0.1),
    ("world", "tilt_y"): _gravity_row("rad", -np.pi, np.pi, constant(0.0), _tilt(1), 0.1),
}

"""Targets of the world around the robot: gravity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mujoco.batch import Batch

from sim.targets.target import Array, Ids, Target, only

if TYPE_CHECKING:
    from sim.model import Model


def _gravity(model: Model, name: str) -> float:
    return float(-model.mj.opt.gravity[2])


def _write_gravity(batch: Batch, model: Model, name: str, ids: Ids, values: Array) -> None:
    batch.expand("opt.gravity")[ids, 2] = -values


ROWS: dict[tuple[str, str], Target] = {
    ("world", "gravity"): Target(
        "m/s^2", 0.0, 100.0, only("gravity"), _gravity, _write_gravity, fields=("opt.gravity",)
    ),
}

"""Targets of what the robot reads; all are outer: sim/sensor.py reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.targets.target import Target, constant, joints

if TYPE_CHECKING:
    from sim.model import Model


def _signals(model: Model) -> tuple[str, ...]:
    return tuple(s.signal for s in model.spec.sensors)


def _noise(model: Model, name: str) -> float:
    return next(s.noise for s in model.spec.sensors if s.signal == name)


ROWS: dict[tuple[str, str], Target] = {
    ("sensor", "noise"): Target("", 0.0, 1e3, _signals, _noise),
    ("sensor", "offset"): Target("rad", -10.0, 10.0, joints, constant(0.0)),  # reading minus truth: the joint zero
}

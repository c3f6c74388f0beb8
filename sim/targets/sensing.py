"""Targets of what the robot reads; all are outer: sim/sensor.py reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sim.targets.target import Target, constant, joints

if TYPE_CHECKING:
    from sim.model import Model

MAX_DELAY_S = 0.1
"""The longest delay of a sensor beyond its latency that is simulated [s]."""
MAX_LATENCY_S = 0.3
"""The longest latency of a camera that is simulated [s]."""
SIZE = {"joint.position": 0.5, "joint.velocity": 5.0, "joint.effort": 2.0, "imu.gyro": 5.0, "imu.accel": 20.0}
"""How far off an outlier is at most, by default, in the signal's unit."""


def _signals(model: Model) -> tuple[str, ...]:
    return tuple(s.signal for s in model.spec.sensors)


def _of(*signals: str) -> Callable[[Model], tuple[str, ...]]:
    return lambda model: tuple(s for s in _signals(model) if s in signals)


def _resolution(model: Model, name: str) -> float:
    return next(s.resolution for s in model.spec.sensors if s.signal == name)


def _noise(model: Model, name: str) -> float:
    return next(s.noise for s in model.spec.sensors if s.signal == name)


def _cameras(model: Model) -> tuple[str, ...]:
    return tuple(c.name for c in model.spec.cameras)


def _latency(model: Model, name: str) -> float:
    return next(c.latency_s for c in model.spec.cameras if c.name == name)


NUMBERS = _of(*SIZE)
SIGNALS, PLAIN, INERTIAL = "signals that the robot measures", "signals but for the orientation", "imu.gyro, imu.accel"
BIASED = _of("joint.velocity", "joint.effort", "imu.gyro", "imu.accel")  # the joints' zeros have `offset`

ROWS: dict[tuple[str, str], Target] = {
    # standard deviation of each reading; of the orientation, of the angle about each axis [rad]
    ("sensor", "noise"): Target("", 0.0, 1e3, _signals, _noise, step=0.2, applies=SIGNALS),
    ("sensor", "offset"): Target("rad", -10.0, 10.0, joints, constant(0.0)),  # reading minus truth: the joint zero
    ("sensor", "delay"): Target(
        "s", 0.0, MAX_DELAY_S, _signals, constant(0.0), step=0.05, applies=SIGNALS
    ),  # beyond latency
    ("sensor", "bias"): Target("", -1e3, 1e3, BIASED, constant(0.0), step=0.1, applies="signals but for angles"),
    # the bias of an inertial sensor wanders by this much in the root of a second
    ("sensor", "bias_walk"): Target(
        "", 0.0, 1e3, _of("imu.gyro", "imu.accel"), constant(0.0), step=0.5, applies=INERTIAL
    ),
    ("sensor", "resolution"): Target("", 0.0, 1e3, NUMBERS, _resolution, step=0.05, applies=PLAIN),
    ("sensor", "outliers"): Target(
        "1", 0.0, 1.0, NUMBERS, constant(0.0), step=0.3, applies=PLAIN
    ),  # probability of one
    ("sensor", "outlier_size"): Target(
        "", 0.0, 1e3, NUMBERS, lambda model, name: SIZE[name], applies=PLAIN, needs=(("outliers", 0.3),)
    ),
    # of a picture, from its exposure until it can be read
    ("camera", "latency"): Target(
        "s", 0.0, MAX_LATENCY_S, _cameras, _latency, step=0.1, applies="cameras that the robot lists"
    ),
}

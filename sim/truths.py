"""The hidden truths of the surrogate robots: per robot a family of fifty, drawn by seed.

Nothing but sim/surrogate.py and tests may import this (tests/test_architecture.py): whoever identifies, adapts or gates
reaches a surrogate only as a Driver and through the logs it makes. A family has what priors have, moved, and effects of
its kind that no prior or fit knows of: stiction, backlash, a supply that sags, jitter, a payload, a camera that was
knocked. To give a robot a family: a row in FAMILIES.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal
from zlib import crc32

import numpy as np

from robot.config import ConfigError
from sim.model import Model
from sim.randomization import Point, Randomization, Term
from sim.servos import COUNT, FRICTION, SERVOS, friction

COUNT_OF_TRUTHS = 50
KNOCKED = "knocked"
"""Name of the truth whose cameras were knocked: else that of number 0."""


@dataclass(frozen=True, slots=True)
class Trait:
    """A quantity of which each object has a value of its own, uniform between two ends."""

    targets: str
    """Pattern of names: joint/*/damping."""
    how: Literal["set", "scale"]
    low: float
    high: float


def _set(targets: str, low: float, high: float) -> Trait:
    return Trait(targets, "set", low, high)


def _scale(targets: str, low: float, high: float) -> Trait:
    return Trait(targets, "scale", low, high)


EYES = (
    _set("camera/*/x", -0.02, 0.02), _set("camera/*/y", -0.02, 0.02), _set("camera/*/z", -0.02, 0.02),
    _set("camera/*/pitch", -0.05, 0.05), _set("camera/*/yaw", -0.05, 0.05), _set("camera/*/roll", -0.05, 0.05),
    _set("camera/*/exposure", -0.7, 0.7), _scale("light/*/intensity", 0.6, 1.4),
)  # fmt: skip
BLOW = (
    _set("camera/*/roll", 0.25, 0.25), _set("camera/*/yaw", 0.04, 0.04), _set("camera/*/exposure", -0.7, -0.7),
    _scale("light/*/intensity", 0.5, 0.5),
)  # fmt: skip
"""What befell the cameras of the knocked one: turned by 14 degrees, in half of the light."""
ANGLES = (_set("sensor/*/offset", -0.03, 0.03), _set("timing/command/drop", 0.0, 0.02))

PENDULUM = (
    *EYES, *ANGLES, _scale("body/*/mass", 0.85, 1.2), _scale("body/*/com", 0.95, 1.08),
    _scale("motor/*/rotor_inertia", 0.9, 1.2), _scale("actuator/*/gain", 0.8, 1.05),
    _set("joint/*/damping", 0.01, 0.06), _set("joint/*/frictionloss", 0.03, 0.15),
    _set("joint/*/stribeck_ratio", 1.2, 2.0), _set("joint/*/stribeck_velocity", 0.05, 0.3),
    _set("joint/*/motor_friction", 0.0, 0.06), _set("motor/*/no_load_speed", 20.0, 40.0),
    _set("timing/command/delay", 0.004, 0.02), _set("timing/command/jitter", 0.0, 0.006),
    _set("timing/command/lag", 0.0, 0.008),
)  # fmt: skip
SERVO_LOOP = (
    _set("actuator/*/encoder_step", COUNT, COUNT), _set("actuator/*/dead_zone", COUNT, 3 * COUNT),
    _scale("supply/bus/voltage", 0.9, 1.03), _scale("motor/*/torque_constant", 0.93, 1.07),
    _scale("motor/*/resistance", 0.93, 1.07),
)  # fmt: skip

FAMILIES: dict[str, tuple[Trait, ...]] = {
    "simple_pendulum": PENDULUM,
    "double_pendulum_a0": PENDULUM,
    "double_pendulum_c0": PENDULUM,
    "double_pendulum_c1": PENDULUM,
    "so101": (
        *EYES, *ANGLES, *SERVO_LOOP, _scale("actuator/*/kp", 0.45, 1.1), _set("actuator/*/backlash", 0.008, 0.02),
        _set("supply/bus/resistance", 0.1, 0.4), _scale("joint/*/damping", 0.8, 1.4),
        _scale("joint/*/frictionloss", 0.5, 2.0), _set("joint/*/stribeck_friction", 0.01, 0.04),
        _set("joint/*/stribeck_velocity", 0.1, 0.5), _set("joint/*/motor_friction", 0.02, 0.12),
        _set("joint/*/load_friction", 0.02, 0.12), _set("body/gripper/payload", 0.0, 0.08),
        _set("timing/command/delay", 0.02, 0.06), _set("timing/command/jitter", 0.0, 0.015),
        _scale("geom/cube/friction", 0.6, 1.4),
    ),
    "servo_bench": (
        *EYES, *ANGLES, *SERVO_LOOP, _scale("body/*/mass", 0.95, 1.06), _set("actuator/*/backlash", 0.003, 0.012),
        _set("supply/bus/resistance", 0.3, 1.5), _set("timing/command/delay", 0.002, 0.015),
        _set("timing/command/jitter", 0.0, 0.004),
    ),
    "motor_bench": (
        *EYES, *ANGLES, _scale("motor/*/torque_constant", 0.9, 1.1), _scale("motor/*/resistance", 0.85, 1.15),
        _scale("body/*/inertia", 0.8, 1.25), _scale("joint/*/frictionloss", 0.6, 1.6),
        _scale("joint/*/damping", 0.5, 3.0), _set("joint/*/stribeck_friction", 5e-5, 2e-4),
        _set("joint/*/stribeck_velocity", 0.5, 3.0), _set("supply/bus/resistance", 0.02, 0.2),
        _set("timing/command/delay", 0.001, 0.006), _set("timing/command/jitter", 0.0, 0.002),
    ),
    "quadruped": (
        *EYES, *ANGLES, _scale("actuator/*/kp", 0.8, 1.15), _scale("actuator/*/kd", 0.7, 1.4),
        _scale("actuator/*/torque_limit", 0.85, 1.0), _set("actuator/*/backlash", 0.002, 0.01),
        _scale("joint/*/frictionloss", 0.5, 1.8), _set("joint/*/motor_friction", 0.02, 0.08),
        _set("body/trunk/payload", 0.0, 2.0), _scale("geom/??_foot/friction", 0.6, 1.3),
        _set("sensor/imu.gyro/bias", -0.05, 0.05), _set("sensor/imu.gyro/bias_walk", 0.0, 0.01),
        _set("sensor/imu.accel/bias", -0.2, 0.2), _set("timing/command/delay", 0.004, 0.015),
        _set("timing/command/jitter", 0.0, 0.005),
    ),
}  # fmt: skip


# Milder truths (Coulomb 0.10 N m, gain 0.9, delay 12 ms) are no test: a policy with a pretrained encoder succeeded
# in every episode without a single log. A perfect pump is upright after 4.5 s here, with 5 s allowed.
DEMO = Randomization(
    name="surrogate_truth",
    robot="simple_pendulum",
    terms=(
        Term(targets=("body/pendulum/mass",), how="scale", law=Point(values=(1.2,))),
        Term(targets=("body/pendulum/com",), how="scale", law=Point(values=(1.1,))),
        Term(targets=("joint/shoulder/frictionloss",), law=Point(values=(0.14,))),
        Term(targets=("joint/shoulder/stribeck_ratio",), law=Point(values=(1.5,))),
        Term(targets=("joint/shoulder/damping",), law=Point(values=(3 * 0.015,))),  # 3 x the middle of the prior
        Term(targets=("actuator/shoulder/gain",), law=Point(values=(0.8,))),
        Term(targets=("timing/command/delay",), law=Point(values=(0.020,))),
    ),
)
"""The demo's: heavier, with more and other friction, a weaker motor and a longer way for commands than believed."""


def truth(model: Model, which: int | str | None) -> Randomization:
    """The truth of that number or name, a point law; without one the demo's, or number 0 of other robots.

    ConfigError for a robot without a family, or a wrong number or name.
    """
    robot = model.spec.name
    if which is None and robot == DEMO.robot:
        return DEMO
    knocked = which == KNOCKED
    seed = 0 if knocked or which is None else _number(which)
    if robot not in FAMILIES:
        raise ConfigError(f"driver 'surrogate' has no truths for robot '{robot}'; it has: {', '.join(FAMILIES)}.")
    rng = np.random.default_rng([crc32(robot.encode()), seed])
    values = dict(_drawn(model, FAMILIES[robot], rng))
    if robot == "servo_bench":
        values |= _gearbox(model, rng)
    if knocked:
        values |= dict(_drawn(model, BLOW, rng))
    terms = tuple(Term(targets=(name,), law=Point(values=(value,))) for name, value in values.items())
    return Randomization(name=f"surrogate_{KNOCKED if knocked else seed}", robot=robot, terms=terms)


def _number(which: int | str) -> int:
    if str(which).isdecimal() and int(which) < COUNT_OF_TRUTHS:
        return int(which)
    raise ConfigError(
        f"driver option truth={which}: the truths are numbered 0 to {COUNT_OF_TRUTHS - 1}; one more is named {KNOCKED}."
    )


def _drawn(model: Model, traits: tuple[Trait, ...], rng: np.random.Generator) -> Iterator[tuple[str, float]]:
    available = model.available()
    for trait in traits:
        names = [name for name in available if fnmatchcase(name, trait.targets)]
        for name, share in zip(names, rng.random(len(names)), strict=True):
            value = trait.low + share * (trait.high - trait.low)
            yield name, float(value * (model.nominal(name) if trait.how == "scale" else 1.0))


def _gearbox(model: Model, rng: np.random.Generator) -> dict[str, float]:
    """One of the published friction models M2 to M6 of the servo, each coefficient up to 15 % off."""
    servo = model.robot.model.servo
    number = int(rng.integers(2, len(FRICTION[servo]) + 1))
    values = friction(servo, number, model.spec.joint_names, SERVOS[servo].back_emf)
    return {name: v * math.exp(rng.uniform(-0.15, 0.15)) for name, v in values.items()}

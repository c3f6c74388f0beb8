"""What identification estimates, and what is believed before any log is seen.

Each unknown is one number, a coordinate in which it may take any real value: the logarithm of a positive
quantity, the logit of a bounded one. Its prior is a Gaussian there, wide, around the robot's nominal; what
the logs cannot tell stays at the prior, and is reported as not identified.

Torque, mass and friction scale together: doubling all of them changes no motion. So the first actuator's gain
is the unit (1, not estimated) and masses and friction take its place; the other actuators' gains are ratios
to it. A simulator fitted this way moves as the robot does, whatever the true split between gain and mass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from sim.model import Model, split
from sim.randomization import from_coordinates

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Unknown:
    """One number to estimate."""

    targets: tuple[str, ...]
    """Rows of sim.model.TARGETS that all have this value: both rotors of two equal motors, say."""
    transform: Literal["log", "logit", "none"]
    bounds: tuple[float, float] = (0.0, 1.0)
    """[low, high] of a `logit`."""
    mean: float
    """Of the prior, in the coordinate."""
    sd: float
    """Of the prior, in the coordinate; for a `log`, 0.3 is about 30 %."""
    joint: str = ""
    """The one joint that it acts on; empty where it acts on several."""

    @property
    def name(self) -> str:
        """The first target stands for all."""
        return self.targets[0]

    @property
    def kind(self) -> tuple[str, str]:
        """Kind and quantity of its targets."""
        return split(self.name)[0]


def physical(unknowns: Sequence[Unknown], x: Array) -> Array:
    """Coordinates (n, P) to values in the targets' units (n, P)."""
    return from_coordinates(x, tuple(u.transform for u in unknowns), tuple(u.bounds for u in unknowns))


def log_unknown(target: str | tuple[str, ...], middle: float, sd: float, joint: str = "") -> Unknown:
    """A positive quantity, about `middle`; `sd` of its logarithm."""
    targets = (target,) if isinstance(target, str) else target
    return Unknown(targets=targets, transform="log", mean=float(np.log(middle)), sd=sd, joint=joint)


def logit_unknown(
    target: str | tuple[str, ...], middle: float, high: float, sd: float, low: float = 0.0, joint: str = ""
) -> Unknown:
    """A quantity between `low` and `high`, about `middle`; `sd` of its logit."""
    targets = (target,) if isinstance(target, str) else target
    mean = float(np.log((middle - low) / (high - middle)))
    return Unknown(targets=targets, transform="logit", bounds=(low, high), mean=mean, sd=sd, joint=joint)


def plain_unknown(target: str, middle: float, sd: float, joint: str = "") -> Unknown:
    """A quantity of either sign."""
    return Unknown(targets=(target,), transform="none", mean=middle, sd=sd, joint=joint)


def default_unknowns(model: Model, by_row: bool) -> tuple[Unknown, ...]:
    """Everything about this robot's bodies, motors, joints and timing that logs of motion can tell.

    `by_row`: one stamp a cycle stands for reading and command alike, so that a delay shows as
    `timing/command/shift` (which is profiled apart) and a lag; else a pure delay is estimated too. Position servos
    answer so slowly that a delay is estimated of them in any case, and no lag.
    """
    kinds = {a.kind for a in model.spec.actuators}
    if "position_pd" in kinds:
        from transfer.servo_unknowns import servo_unknowns

        return servo_unknowns(model)
    found = [*_bodies(model), *_rotors(model), *_joints(model)]
    if "dcmotor" in kinds:
        found += _windings(model)
    else:
        found += [log_unknown(f"actuator/{a.name}/gain", 1.0, 0.1, a.joint) for a in model.spec.actuators[1:]]
    if not by_row:
        found.append(logit_unknown("timing/command/delay", 0.010, 0.060, 1.0))
    found.append(logit_unknown("timing/command/lag", 0.004, 0.030, 0.7))
    return tuple(found)


def _bodies(model: Model) -> Iterator[Unknown]:
    """Masses, centres and inertias; a balanced rotor has an inertia alone."""
    for body in model.objects(("body", "inertia")):
        inertia = model.nominal(f"body/{body}/inertia")
        if body not in model.objects(("body", "com")):
            if inertia > 0.0:
                yield log_unknown(f"body/{body}/inertia", inertia, 0.7)
            continue
        mass, com = model.nominal(f"body/{body}/mass"), model.nominal(f"body/{body}/com")
        yield log_unknown(f"body/{body}/mass", mass, 0.3)
        yield log_unknown(f"body/{body}/com", com, 0.3)
        if inertia > 0.02 * mass * com**2:
            yield log_unknown(f"body/{body}/inertia", inertia, 0.5)
        else:  # a nominal of point masses knows nothing of it: from next to nothing to beyond a uniform rod
            yield logit_unknown(f"body/{body}/inertia", 0.02 * mass * com**2, 0.4 * mass * com**2, 0.8)


def _rotors(model: Model) -> Iterator[Unknown]:
    for actuator in model.spec.actuators:
        target = f"motor/{actuator.name}/rotor_inertia"
        if (nominal := model.nominal(target)) > 0.0:
            yield log_unknown(target, nominal, 0.3, actuator.joint)


def _joints(model: Model) -> Iterator[Unknown]:
    for actuator in model.spec.actuators:
        joint, limit = actuator.joint, actuator.effort_limit
        yield log_unknown(f"joint/{joint}/damping", 0.002 * limit, 1.5, joint)
        yield log_unknown(f"joint/{joint}/frictionloss", 0.03 * limit, 1.0, joint)
        yield logit_unknown(f"joint/{joint}/stribeck_ratio", 1.3, 4.0, 1.0, low=1.0, joint=joint)
        yield log_unknown(f"joint/{joint}/stribeck_velocity", 0.15, 0.7, joint)
        if actuator.kind != "dcmotor":  # a motor that is commanded in volts is taken for a bare one, without gears
            yield log_unknown(f"joint/{joint}/motor_friction", 0.02, 1.0, joint)


def _windings(model: Model) -> Iterator[Unknown]:
    """A motor on voltage shows ratios only: its resistance is the unit, and stays as it is."""
    for actuator in model.spec.actuators:
        target = f"motor/{actuator.name}/torque_constant"
        yield log_unknown(target, model.nominal(target), 0.3, actuator.joint)

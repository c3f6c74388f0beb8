"""What identification estimates, and what is believed before any log is seen.

Each unknown is one number, a coordinate in which it may take any real value: the logarithm of a positive
quantity, the logit of a bounded one. Its prior is a Gaussian there, wide, around the robot's nominal; what
the logs cannot tell stays at the prior, and is reported as not identified.

Torque, mass and friction scale together: doubling all of them changes no motion. So the first actuator's gain
is the unit (1, not estimated) and masses and friction take its place; the other actuators' gains are ratios
to it. A simulator fitted this way moves as the robot does, whatever the true split between gain and mass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from sim.model import Model
from sim.randomization import from_coordinates

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Unknown:
    """One number to estimate."""

    targets: tuple[str, ...]
    """Rows of sim.model.TARGETS that all have this value: both rotors of two equal motors, say."""
    transform: Literal["log", "logit"]
    bounds: tuple[float, float] = (0.0, 1.0)
    """[low, high] of a `logit`."""
    mean: float
    """Of the prior, in the coordinate."""
    sd: float
    """Of the prior, in the coordinate; for a `log`, 0.3 is about 30 %."""

    @property
    def name(self) -> str:
        """The first target stands for all."""
        return self.targets[0]


def physical(unknowns: Sequence[Unknown], x: Array) -> Array:
    """Coordinates (n, P) to values in the targets' units (n, P)."""
    return from_coordinates(x, tuple(u.transform for u in unknowns), tuple(u.bounds for u in unknowns))


def _log(target: str | tuple[str, ...], middle: float, sd: float) -> Unknown:
    targets = (target,) if isinstance(target, str) else target
    return Unknown(targets=targets, transform="log", mean=float(np.log(middle)), sd=sd)


def _logit(target: str, middle: float, high: float, sd: float, low: float = 0.0) -> Unknown:
    mean = float(np.log((middle - low) / (high - middle)))
    return Unknown(targets=(target,), transform="logit", bounds=(low, high), mean=mean, sd=sd)


def default_unknowns(model: Model, by_row: bool) -> tuple[Unknown, ...]:
    """Everything about this robot's bodies, motors, joints and timing that logs of motion can tell.

    `by_row`: one stamp a cycle stands for reading and command alike, so that a delay shows as
    `timing/command/shift` (which is profiled apart) and a lag; else a pure delay is estimated too.
    """
    spec, found = model.spec, []
    for body in model.objects(("body", "com")):  # a rotor has none, nor does a loose object
        mass, com = model.nominal(f"body/{body}/mass"), model.nominal(f"body/{body}/com")
        found += [_log(f"body/{body}/mass", mass, 0.3), _log(f"body/{body}/com", com, 0.3)]
        inertia = model.nominal(f"body/{body}/inertia")
        if inertia > 0.02 * mass * com**2:
            found.append(_log(f"body/{body}/inertia", inertia, 0.5))
        else:  # a nominal of point masses knows nothing of it: anything from a point to beyond a uniform rod
            found.append(_logit(f"body/{body}/inertia", 0.04 * mass * com**2, 0.4 * mass * com**2, 0.7))
    for rotor, motors in _equal_motors(model).items():
        found.append(_log(tuple(f"motor/{m}/rotor_inertia" for m in motors), rotor, 0.3))
    for actuator in spec.actuators:
        joint, limit = actuator.joint, actuator.effort_limit
        found += [
            _log(f"joint/{joint}/damping", 0.002 * limit, 1.5),
            _log(f"joint/{joint}/frictionloss", 0.03 * limit, 1.0),
            _logit(f"joint/{joint}/stribeck_ratio", 1.3, 4.0, 1.0, low=1.0),
            _log(f"joint/{joint}/stribeck_velocity", 0.15, 0.7),
        ]
    found += [_log(f"actuator/{a.name}/gain", 1.0, 0.1) for a in spec.actuators[1:]]
    if not by_row:
        found.append(_logit("timing/command/delay", 0.010, 0.060, 1.0))
    found.append(_logit("timing/command/lag", 0.004, 0.030, 0.7))
    return tuple(found)


def _equal_motors(model: Model) -> dict[float, list[str]]:
    """Motors by their nominal rotor inertia: equal ones are of one type and share one unknown."""
    groups: dict[float, list[str]] = {}
    for actuator in model.spec.actuators:
        nominal = model.nominal(f"motor/{actuator.name}/rotor_inertia")
        if nominal > 0.0:
            groups.setdefault(nominal, []).append(actuator.name)
    return groups

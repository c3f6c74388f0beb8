"""Candidates of `identify models=[...]`: friction M1 to M6, each perhaps with effects of the firmware and the supply.

A name is a friction model and what is added to it: `M3`, `M6+sag`, `M2+play+dead`. To add an effect: a row in EFFECTS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from robot.config import ConfigError, nearest
from sim.model import Model
from transfer.servo_unknowns import friction_unknowns, servo_unknowns
from transfer.unknowns import Unknown, default_unknowns, log_unknown, logit_unknown

FRICTIONS = tuple(f"M{i}" for i in range(1, 7))


def _sag(model: Model) -> Iterator[Unknown]:
    """A supply that sags under the motors' current."""
    if model.objects(("supply", "voltage")):
        yield log_unknown("supply/bus/voltage", model.nominal("supply/bus/voltage"), 0.03)
        yield log_unknown("supply/bus/resistance", 0.5, 1.0)


def _servo_effect(quantity: str, middle: float, high: float) -> Callable[[Model], Iterator[Unknown]]:
    def unknowns(model: Model) -> Iterator[Unknown]:
        for actuator in model.spec.actuators:
            if actuator.kind == "position_pd":
                yield logit_unknown(f"actuator/{actuator.name}/{quantity}", middle, high, 0.7, joint=actuator.joint)

    return unknowns


EFFECTS: dict[str, Callable[[Model], Iterator[Unknown]]] = {
    "sag": _sag,
    "play": _servo_effect("backlash", 0.008, 0.05),
    "dead": _servo_effect("dead_zone", 0.003, 0.02),
}
"""name -> unknowns of the effect."""


def unknowns_of(model: Model, name: str, by_row: bool) -> tuple[Unknown, ...]:
    """The unknowns of a candidate; ConfigError for an unknown name."""
    friction, *effects = name.split("+")
    for word, known in [(friction, FRICTIONS), *((e, tuple(EFFECTS)) for e in effects)]:
        if word not in known:
            raise ConfigError(f"models names '{name}': '{word}' is unknown there. {nearest(word, list(known))}")
    number = FRICTIONS.index(friction) + 1
    if any(a.kind == "position_pd" for a in model.spec.actuators):
        found = list(servo_unknowns(model, number))
    else:
        found = [u for u in default_unknowns(model, by_row) if not _rubs(u)]
        for actuator in model.spec.actuators:
            found += friction_unknowns(model, actuator, number)
    for effect in effects:
        found += EFFECTS[effect](model)
    return tuple(found)


def _rubs(unknown: Unknown) -> bool:
    kind, quantity = unknown.kind
    return kind == "joint" and quantity in ("frictionloss", "stribeck_ratio", "stribeck_velocity")

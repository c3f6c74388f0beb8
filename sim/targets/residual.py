"""Targets of the actuators' residual networks: the weights of sim/residual_network.py; sim/actuator.py reads them."""

from __future__ import annotations

from sim.residual_network import UNITS
from sim.targets.motors import FORCED
from sim.targets.target import Target, constant

QUANTITIES = tuple(f"w{k}" for k in range(UNITS))

ROWS: dict[tuple[str, str], Target] = {
    ("residual", name): Target(
        "1", -50.0, 50.0, FORCED, constant(0.0), step=2.0, applies="driven actuators, but for dcmotor"
    )
    for name in QUANTITIES
}

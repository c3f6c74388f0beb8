"""Targets of the way a command takes; all are outer: the command line of sim/actuator.py reads them."""

from __future__ import annotations

from sim.targets.target import Target, constant, only

COMMAND = only("command")

ROWS: dict[tuple[str, str], Target] = {
    ("timing", "shift"): Target(
        "samples", 0.0, 10.0, COMMAND, constant(0.0), logs_only=True
    ),  # log rows a command comes late
    ("timing", "delay"): Target("s", 0.0, 0.5, COMMAND, constant(0.0)),
    ("timing", "lag"): Target("s", 0.0, 0.5, COMMAND, constant(0.0)),  # first-order
    # up to this much more delay, drawn for each command
    ("timing", "jitter"): Target("s", 0.0, 0.5, COMMAND, constant(0.0), step=0.02),
    ("timing", "drop"): Target("1", 0.0, 1.0, COMMAND, constant(0.0), step=0.3),  # probability that a command is lost
}

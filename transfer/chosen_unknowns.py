"""Unknowns by the names of targets, for `identify unknowns=[pattern,...]`: any row that logs of motion can tell.

What the robot's own rule has (transfer/unknowns.py) is taken as it stands there; of any other target the prior is wide
about the nominal, in a coordinate that keeps to the target's valid range.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from robot.config import ConfigError, nearest
from sim.model import TARGETS, Model, split
from transfer.unknowns import Unknown, default_unknowns, log_unknown, logit_unknown, plain_unknown

TOLD = ("body", "site", "motor", "supply", "actuator", "joint", "world", "timing")
"""Kinds of targets that the motion of joints can tell."""
SENSED = (("sensor", "offset"), ("sensor", "delay"))
RANDOM = ("jitter", "drop", "push", "push_rate", "force_noise", "shift")
"""Quantities that are drawn anew at each moment, which a deterministic rollout cannot show; the shift is profiled."""


def chosen_unknowns(model: Model, patterns: Sequence[str], by_row: bool) -> tuple[Unknown, ...]:
    """An unknown for every target that matches a pattern, in the order of the patterns.

    ConfigError for a pattern that matches nothing, or a target that logs of motion cannot tell, with the reason.
    """
    rule = {t: u for u in default_unknowns(model, by_row) for t in u.targets}
    available, found = model.available(), dict[str, Unknown]()
    for pattern in patterns:
        matching = [name for name in available if fnmatchcase(name, pattern)]
        if not matching:
            raise ConfigError(f"unknowns names '{pattern}', which is no target. {nearest(pattern, available)}")
        for name in matching:
            if any(name in u.targets for u in found.values()):
                continue
            reason = untold(name)
            if reason and name == pattern:
                raise ConfigError(f"unknowns names '{name}', which {reason}.")
            if not reason:
                found[name] = rule.get(name) or wide(model, name)
    if not found:
        raise ConfigError(f"unknowns={list(patterns)} names nothing that logs of motion can tell.")
    return tuple(found.values())


def untold(name: str) -> str:
    """Why logs of motion cannot tell a target, in words; empty when they can."""
    key = split(name)[0]
    if key[1] in RANDOM:
        return "is drawn anew at each moment, so that no rollout can be compared with a log"
    if key[0] not in TOLD and key not in SENSED:
        return "does not show in the joints' motion"
    if key == ("sensor", "delay") and split(name)[1] != "joint.position":
        return "belongs to a signal that is not compared; that of joint.position is"
    return ""


def wide(model: Model, name: str) -> Unknown:
    """A target with a wide prior about its nominal."""
    (kind, _), obj = split(name)
    row, nominal = TARGETS[split(name)[0]], model.nominal(name)
    joint = obj if kind in ("joint", "sensor") and obj in model.spec.joint_names else ""
    if kind in ("actuator", "motor"):
        joint = next((a.joint for a in model.spec.actuators if a.name == obj), "")
    size = max(row.step, 0.2 * abs(nominal), 0.01 * min(1.0, row.high))
    if row.low < 0.0:
        return plain_unknown(name, nominal, size, joint)
    if row.low < nominal < 0.1 * row.high:
        return log_unknown(name, nominal, 0.5, joint)
    if row.low < nominal < row.high:
        return logit_unknown(name, nominal, row.high, 1.0, low=row.low, joint=joint)
    # it stands at an end of its range: none of it, or a ceiling that is out of reach
    if nominal >= row.high:
        return log_unknown(name, max(row.low, row.high - row.step), 1.0, joint)
    top = min(row.high, row.low + 5.0 * size)
    return logit_unknown(name, row.low + 0.2 * (top - row.low), top, 1.0, low=row.low, joint=joint)

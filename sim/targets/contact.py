"""Targets of the contacts: friction and softness of the geoms that can touch something."""

from __future__ import annotations

from sim.targets.target import Target

ROWS: dict[tuple[str, str], Target] = {}

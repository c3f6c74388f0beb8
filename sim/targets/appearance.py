"""Targets of what the cameras see; all are outer: the renderer reads them."""

from __future__ import annotations

from sim.targets.target import Target

ROWS: dict[tuple[str, str], Target] = {}

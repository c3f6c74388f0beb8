"""CSV recordings, plain or gzipped, one row a control cycle; the header decides which layout a file has."""

from __future__ import annotations

from pathlib import Path

from robot.spec import RobotSpec
from transfer.formats import Recording, double_pendulum, simple_pendulum
from transfer.formats.layout import Layout, episode_of
from transfer.formats.tables import parse
from transfer.screen import finding

LAYOUTS: tuple[Layout, ...] = (double_pendulum.LAYOUT, simple_pendulum.LAYOUT)
"""To add one: a module of this package with its Layout. A layout of one's own needs no code: see column_map.py."""


def detect(path: Path) -> bool:
    """By the name: .csv or .csv.gz."""
    return path.is_file() and path.name.endswith((".csv", ".csv.gz"))


def companion_of(path: Path) -> Path | None:
    """The measured file that a command file belongs to; None for any other file."""
    for layout in LAYOUTS:
        stem, _, ending = path.name.partition(".")
        if layout.companion and stem.endswith(layout.companion):
            return path.with_name(f"{stem.removesuffix(layout.companion)}.{ending}")
    return None


def read(path: Path, spec: RobotSpec) -> list[Recording]:
    """The one episode of a CSV file of a known layout; `unknown_layout` says how to describe another."""
    table = parse(path)
    if not table.columns:
        return [Recording(log=None, findings=table.findings)]
    layout = max(LAYOUTS, key=lambda known: known.share(table))
    if layout.share(table) < 0.5:
        detail = f"no known layout has the columns {', '.join(table.columns)}; describe them with map=FILE."
        return [Recording(log=None, findings=(*table.findings, finding("unknown_layout", "", "line 1", detail)))]
    recording = episode_of(layout, table, path, spec)
    if layout.companion and recording.log is not None:
        recording = simple_pendulum.with_command(recording, recording.log, path)
    return [recording]

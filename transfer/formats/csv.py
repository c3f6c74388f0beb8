"""CSV recordings, plain or gzipped, one row a control cycle; the header decides which layout a file has."""

from __future__ import annotations

from pathlib import Path

from robot.spec import RobotSpec
from transfer.formats import Recording, double_pendulum, simple_pendulum
from transfer.formats.layout import Layout, episode_of
from transfer.formats.sources import Source
from transfer.formats.tables import Dialect, head_of, parse

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


def _unknown(path: Path, spec: RobotSpec) -> Recording:
    """A map of a table that no layout knows, for a person to confirm."""
    from transfer.formats.proposal import propose

    dialect = dialect_of(path)
    source = Source(name=path.name.split(".")[0], format="table of text", table=parse(path, dialect))
    return propose(source, spec, dialect)


def dialect_of(path: Path) -> Dialect:
    """The delimiter that the first rows have most of, and the sign of comments before them."""
    lines = [line for line in head_of(path).splitlines() if line.strip()]
    comment = next((c for c in ("#", "%") if lines and lines[0].startswith(c)), "")
    rows = [line for line in lines if not comment or not line.startswith(comment)][:3]
    counts = {d: min(row.count(d) for row in rows) if rows else 0 for d in (",", ";", "\t")}
    return Dialect(delimiter=max(counts, key=lambda d: counts[d]), comment=comment)


def read(path: Path, spec: RobotSpec) -> list[Recording]:
    """The one episode of a CSV file of a known layout; of another, a map to confirm."""
    table = parse(path)
    if not table.columns:
        return [Recording(log=None, findings=table.findings)]
    layout = max(LAYOUTS, key=lambda known: known.share(table))
    if layout.share(table) < 0.5:
        return [_unknown(path, spec)]
    recording = episode_of(layout, table, path, spec)
    if layout.companion and recording.log is not None:
        recording = simple_pendulum.with_command(recording, recording.log, path)
    return [recording]

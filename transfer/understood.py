"""What ingestion made of each file, in words: its format, its episodes, its channels with their units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robot.log import EpisodeLog
from transfer.formats import Recording

if TYPE_CHECKING:
    from transfer.ingest import Judged

LISTED = 20
"""Files that are told of on the terminal; result.json has all."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One channel of one recording."""

    name: str
    unit: str
    components: tuple[str, ...]
    """Of pictures: width x height."""
    rows: int
    rate_hz: float
    """By the median step; 0 where there is none."""


@dataclass(frozen=True, slots=True)
class Understood:
    """What one recording was taken for."""

    format: str
    name: str
    """Of the episode; empty where nothing could be read."""
    channels: tuple[Heard, ...] = ()


def understood(recording: Recording) -> Understood:
    """Of what a format read."""
    log = recording.log
    if log is None:
        return Understood(recording.format, "")
    return Understood(recording.format or log.meta.get("layout", ""), log.name, tuple(_heard(log)))


def _heard(log: EpisodeLog) -> Sequence[Heard]:
    out = []
    for name, channel in log.channels.items():
        steps = np.diff(channel.t_ns)
        median = float(np.median(steps)) if len(steps) else 0.0
        parts = channel.components
        if channel.values.dtype == np.uint8:
            parts = (f"{channel.values.shape[2]} x {channel.values.shape[1]}",)
        rate = round(1e9 / median, 3) if median > 0.0 else 0.0
        out.append(Heard(name, channel.unit, parts, len(channel.t_ns), rate))
    return out


def rows(judged: Sequence[Judged], accepted: Sequence[bool]) -> list[dict[str, Any]]:
    """One row a file, for result.json."""
    out = []
    for source in dict.fromkeys(j.source for j in judged):
        of_file = [(j, ok) for j, ok in zip(judged, accepted, strict=True) if j.source == source]
        first = next((j for j, _ in of_file if j.understood.channels), of_file[0][0])
        converted = {n.channel: n.detail for j, _ in of_file[:1] for n in reversed(j.noticed) if n.kind == "converted"}
        channels = [
            {"name": h.name, "unit": h.unit, "components": list(h.components), "rows": h.rows, "rate_hz": h.rate_hz}
            | ({"converted": converted[h.name]} if h.name in converted else {})
            for h in first.understood.channels
        ]
        episodes = {
            "episodes": sum(bool(j.understood.name) for j, _ in of_file),
            "accepted": sum(ok for _, ok in of_file),
        }
        out.append({"source": str(source), "format": first.understood.format, **episodes, "channels": channels})
    return out


def lines(told: Sequence[dict[str, Any]]) -> list[str]:
    """The rows for a terminal; a file like the one before it takes one line."""
    out, before = list[str](), None
    for row in told[:LISTED]:
        count = f"{row['accepted']} of {row['episodes']} episode(s) accepted" if row["episodes"] else "nothing was read"
        out.append(f"{Path(row['source']).name}: {row['format'] or 'of no known format'}, {count}")
        shape = [(c["name"], c["unit"], c["components"]) for c in row["channels"]]
        if shape and shape != before:
            out += [f"  {_line(c)}" for c in row["channels"]]
        before = shape or before
    return out + ([f"and {len(told) - LISTED} more files"] if len(told) > LISTED else [])


def _line(channel: dict[str, Any]) -> str:
    parts = channel["components"]
    listed = ", ".join(parts[:8]) + (f" and {len(parts) - 8} more" if len(parts) > 8 else "")
    rate = f" at {channel['rate_hz']:g} Hz" if channel["rate_hz"] else ""
    converted = f"; {channel['converted'].rstrip('.')}" if "converted" in channel else ""
    return f"{channel['name']} [{channel['unit']}]{rate}: {listed or 'text'}{converted}"

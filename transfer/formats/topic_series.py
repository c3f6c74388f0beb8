"""Columns of one topic over a whole recording, with the time stamps of its messages and of their reception."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from transfer.formats.topics import Array, Bag, Block, Times, Topic, root

STAMPS = tuple(
    (f"{place}.{seconds}", f"{place}.{rest}")
    for place in ("header.stamp", "stamp", "timestamp", "header.timestamp")
    for seconds, rest in (("sec", "nanosec"), ("secs", "nsecs"), ("sec", "nsec"), ("seconds", "nanos"))
)
"""Where messages carry their own time: seconds, and nanoseconds beside them."""
_BESIDE = frozenset({"header", "stamp", "timestamp", "name", "names", "joint_names"})
"""Fields that are read with any others: stamps, and the names of what an array holds."""


@dataclass(frozen=True, slots=True)
class Series:
    """Columns of one topic, in the order of reception."""

    topic: Topic
    received: Times
    """(n,) [ns]"""
    stamped: Times | None
    """(n,) the messages' own stamps [ns]; None where they have none, or some are not filled."""
    columns: dict[str, Array]
    """Path -> (n,); NaN where `there` is False."""
    there: dict[str, npt.NDArray[np.bool_]]
    """Path -> (n,) whether the message has it."""

    @property
    def late_s(self) -> Array:
        """(n,) by how much each message was received after its own stamp [s]; empty without stamps."""
        late = np.zeros(0) if self.stamped is None else (self.received - self.stamped) * 1e-9
        return np.asarray(late, np.float64)


def stamps_of(block: Block) -> Times | None:
    """(n,) the messages' own stamps [ns]; None where they carry none."""
    for seconds, rest in STAMPS:
        if seconds in block.numbers and rest in block.numbers:
            whole, part = (np.asarray(block.numbers[p]).astype(np.int64) for p in (seconds, rest))
            return whole * 1_000_000_000 + part if whole.ndim == 1 == part.ndim else None
    return None


def series_of(bag: Bag, topic: Topic, paths: Collection[str]) -> Series:
    """Read some columns of a topic; topics.SourceError where its messages cannot be decoded."""
    rows, received = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    stamped: list[Times] = [np.zeros(0, np.int64)]
    columns: dict[str, list[Array]] = {p: [np.zeros(0)] for p in paths}
    there: dict[str, list[npt.NDArray[np.bool_]]] = {p: [np.zeros(0, np.bool_)] for p in paths}
    for block in bag.blocks(topic, frozenset(map(root, paths)) | _BESIDE):
        count = len(block.rows)
        rows.append(block.rows)
        received.append(block.t_ns)
        own = stamps_of(block)
        stamped.append(np.zeros(count, np.int64) if own is None else own)
        for path in paths:
            values = block.column(path)
            columns[path].append(np.full(count, np.nan) if values is None else values)
            there[path].append(np.full(count, values is not None))
    times = np.concatenate(received)
    order = np.lexsort((np.concatenate(rows), times))
    own_times = np.concatenate(stamped)[order]
    return Series(
        topic,
        times[order],
        own_times if (own_times > 0).all() and len(own_times) else None,
        {p: np.concatenate(c)[order] for p, c in columns.items()},
        {p: np.concatenate(c)[order] for p, c in there.items()},
    )


def first_blocks(bag: Bag, topic: Topic, most: int = 32) -> list[Block]:
    """The first few messages of a topic: enough to see which fields and names they have."""
    return list(bag.blocks(topic, most=most))

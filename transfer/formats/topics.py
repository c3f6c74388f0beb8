"""Recordings that are many topics of messages (bags, MCAP, ULog), as columns of numbers.

A Bag lists its topics and reads one of them in blocks: messages of one layout, so that each field of all of them is
one array. A column of such a recording is named `TOPIC:PATH`, the path as the message writes it: `header.stamp.sec`,
`data[2]`, `points[0].positions[1]`; an array that stands beside a list of names is indexed by name as well:
`position[elbow]`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]

ROWS, BYTES = 8192, 1 << 25
"""Most messages, and about the most bytes of them, that are held undecoded."""
_INDEXED = re.compile(r"^(.*)\[([^\]\[]+)\]$")


class SourceError(Exception):
    """A recording cannot be read, or not on; the message is the rest of a sentence that begins with its name."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One stream of messages."""

    key: int
    """What the source knows it by."""
    name: str
    type: str
    count: int | None = None
    """None where only reading it all would tell."""

    def __str__(self) -> str:
        return f"{self.name} ({self.type})" if self.type else self.name


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive messages of one topic that have one layout."""

    rows: Times
    """(n,) which messages of the topic, counted from 0."""
    t_ns: Times
    """(n,) when each was received [ns]."""
    numbers: Mapping[str, npt.NDArray[Any]]
    """Path -> (n,), or (n, length) of an array; decoded when asked for."""
    texts: Mapping[str, tuple[str, ...]]
    """Path -> strings; those of a list are the same in all messages of the block."""

    def column(self, path: str) -> Array | None:
        """(n,) one number of each message; None where these messages do not have it."""
        if path in self.numbers:
            values = self.numbers[path]
            return np.asarray(values, np.float64) if values.ndim == 1 else None
        found = _INDEXED.match(path)
        values = self.numbers[found[1]] if found is not None and found[1] in self.numbers else np.zeros(0)
        if found is None or values.ndim != 2:
            return None
        at = _position(found[2], self.names_of(found[1]), values.shape[1])
        return None if at is None else np.asarray(values[:, at], np.float64)

    def names_of(self, path: str) -> tuple[str, ...]:
        """Names of an array's elements, from a list of as many strings beside it or above; empty where none is."""
        width = self.numbers[path].shape[1] if self.numbers[path].ndim == 2 else 0
        parent = path
        while parent:
            parent = parent.rpartition(".")[0]
            for other, names in self.texts.items():
                if other.rpartition(".")[0] == parent and len(names) == width and other.endswith(("name", "names")):
                    return names
        return ()


def _position(key: str, names: Sequence[str], width: int) -> int | None:
    if key in names:
        return list(names).index(key)
    return int(key) if key.isdecimal() and int(key) < width else None


class Bag(Protocol):
    """An open recording."""

    topics: tuple[Topic, ...]

    @property
    def damage(self) -> str:
        """What was noticed so far, such as a torn end; empty where nothing was."""
        ...

    @property
    def rejected(self) -> Mapping[str, Counter[str]]:
        """Topic -> why messages of it were left out, and how many."""
        ...

    def blocks(self, topic: Topic, roots: frozenset[str] | None = None, most: int | None = None) -> Iterator[Block]:
        """A topic's messages in the order of the file; of the fields at least those whose paths begin in `roots`.

        `most`: no more than so many of them are read.
        SourceError where its messages cannot be decoded at all.
        """
        ...

    def close(self) -> None: ...


def split(column: str) -> tuple[str, str]:
    """Topic and path of a column; the path is empty where the column names no topic."""
    topic, colon, path = column.rpartition(":")
    return (topic, path) if colon else (column, "")


def root(path: str) -> str:
    """The field of the message that a path begins with."""
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def batches(messages: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, list[int], list[bytes]]]:
    """(first row, stamps, messages) in portions that fit into memory."""
    first, stamps, raws, size = 0, list[int](), list[bytes](), 0
    for t_ns, raw in messages:
        if raws and (len(raws) >= ROWS or size + len(raw) > BYTES):
            yield first, stamps, raws
            first, stamps, raws, size = first + len(raws), [], [], 0
        stamps.append(t_ns)
        raws.append(raw)
        size += len(raw)
    if raws:
        yield first, stamps, raws


Flat = tuple[dict[str, Any], dict[str, tuple[str, ...]]]
"""Path -> number or list of numbers, path -> strings."""


def grouped(rows: Sequence[int], stamps: Sequence[int], flats: Sequence[Flat]) -> Iterator[Block]:
    """Blocks of messages that were decoded one by one."""
    groups: dict[Any, list[int]] = {}
    for i, (numbers, texts) in enumerate(flats):
        widths = tuple((p, len(v) if hasattr(v, "__len__") else -1) for p, v in numbers.items())
        lists = tuple((p, t) for p, t in texts.items() if p.endswith(("name", "names")) and len(t) != 1)
        groups.setdefault((widths, lists), []).append(i)
    for members in groups.values():
        first, texts = flats[members[0]]
        numbers = {path: np.array([flats[i][0][path] for i in members]) for path in first}
        at = np.array(members)
        yield Block(np.asarray(rows, np.int64)[at], np.asarray(stamps, np.int64)[at], numbers, texts)


def flatten(value: Any, path: str, numbers: dict[str, Any], texts: dict[str, tuple[str, ...]], left: int = 16) -> None:
    """Sort the leaves of nested mappings and lists into `numbers` and `texts`, without what lies deeper than `left`."""
    if isinstance(value, bool | int | float):
        numbers[path] = float(value) if isinstance(value, int) and abs(value) >= 1 << 63 else value
    elif isinstance(value, str):
        texts[path] = (value,)
    elif isinstance(value, dict) and left:
        for key, inner in value.items():
            flatten(inner, f"{path}.{key}" if path else str(key), numbers, texts, left - 1)
    elif isinstance(value, list) and left:
        if all(isinstance(x, int | float) for x in value):
            numbers[path] = [float(x) for x in value]
        elif all(isinstance(x, str) for x in value):
            texts[path] = tuple(value)
        else:
            for i, inner in enumerate(value):
                flatten(inner, f"{path}[{i}]", numbers, texts, left - 1)

"""ROS messages as columns, straight from their bytes: CDR of ROS 2 and the serialization of ROS 1.

Messages of one topic mostly have the same size and the same lengths inside. One of them is walked along its definition,
which tells where each field lies; in all others whose lengths and names are equal it lies there too, so that a field of
thousands of messages is one strided copy. How deep and how long a message is walked is bounded.

Source: OMG DDS-XTypes 1.3, 7.4.3 (plain CDR, version 1); wiki.ros.org/msg.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from transfer.formats.ros_definitions import Definition
from transfer.formats.topics import Block, SourceError, batches

PRIMITIVES = {
    "bool": "u1", "byte": "u1", "char": "u1", "uint8": "u1", "int8": "i1", "uint16": "u2", "int16": "i2",
    "uint32": "u4", "int32": "i4", "uint64": "u8", "int64": "i8", "float32": "f4", "float64": "f8",
}  # fmt: skip
DEEPEST, LONGEST, MOST = 24, 20_000, 5_000_000
"""Most types inside one another, most fields of one message, and most that are walked in one topic."""
SPARE = 8
"""Bytes that may follow the last field: some writers pad messages."""
_BASE, _NAME, _ARRAY = 1, 2, 3
"""rosbags' Nodetype; 4 is a sequence, whose length stands in the message."""


class Leaf(NamedTuple):
    """Where one field lies in a message."""

    offset: int
    dtype: str
    length: int
    """-1: it is no array."""


class Walk:
    """One message walked along its definition: where its numbers lie, and which of its bytes decide that."""

    def __init__(self, definition: Definition, raw: bytes, cdr: bool, budget: Iterator[int] | None = None) -> None:
        """SourceError where the message does not fit its definition, or that never ends, or `budget` is at its end."""
        self.numbers: dict[str, Leaf] = {}
        self.texts: dict[str, tuple[str, ...]] = {}
        self._definition, self._raw, self._cdr = definition, raw, cdr
        self._decisive: list[tuple[int, int]] = []
        self._budget = iter(range(LONGEST)) if budget is None else budget
        self._at, self._order, self._steps = 0, "<", 0
        if cdr:
            self._take(4)
            if raw[1] not in (0, 1):
                raise SourceError(f"its messages are in a serialization (0x{raw[1]:02x}) other than plain CDR")
            self._order = "<" if raw[1] else ">"
            self._decisive.append((0, 2))
        self._message(definition.name, "", 0)
        if len(raw) - self._at > SPARE:
            raise SourceError(f"a message of {len(raw)} bytes is longer than its definition '{definition.name[:80]}'")

    def decisive(self) -> npt.NDArray[np.intp]:
        """Bytes that are equal in all messages of this layout."""
        spans = [np.arange(a, b) for a, b in self._decisive]
        return np.concatenate(spans) if spans else np.zeros(0, np.intp)

    def _message(self, name: str, path: str, depth: int) -> None:
        if depth > DEEPEST:
            raise SourceError(f"the definition of '{self._definition.name[:80]}' contains itself")
        fields = self._definition.fields(name)
        if not fields and self._cdr:
            self._take(1)  # IDL knows no empty struct: ROS 2 writes one byte
        for field, kind in fields:
            self._field(f"{path}.{field}" if path else field, kind, depth)

    def _field(self, path: str, kind: Any, depth: int) -> None:
        self._steps += 1
        if self._steps > LONGEST:
            raise SourceError(f"a message of '{self._definition.name[:80]}' has more than {LONGEST} fields")
        if next(self._budget, None) is None:
            raise SourceError("so many of its messages differ in their layout that reading all would take too long")
        node, detail = kind
        if node == _NAME:
            self._message(detail, path, depth + 1)
        elif node == _BASE and detail[0] == "string":
            self.texts[path] = (self._text(False),)
        elif node == _BASE:
            self._numbers(path, detail[0], -1)
        else:
            inner, count = detail
            self._array(path, inner, count if node == _ARRAY else self._length(), depth)

    def _array(self, path: str, inner: Any, count: int, depth: int) -> None:
        if inner[0] == _BASE and inner[1][0] != "string":
            self._numbers(path, inner[1][0], count)
            return
        if count > LONGEST:
            raise SourceError(f"a message of '{self._definition.name[:80]}' lists {count} elements in '{path[:80]}'")
        if inner[0] == _BASE:
            self.texts[path] = tuple(self._text(True) for _ in range(count))
            return
        for i in range(count):
            self._field(f"{path}[{i}]", inner, depth)

    def _numbers(self, path: str, name: str, count: int) -> None:
        if name not in PRIMITIVES:
            raise SourceError(f"'{path[:80]}' is a {name}, which is not read")
        kind = PRIMITIVES[name]
        size = int(kind[1])
        if count:
            self._align(size)
        offset = self._take(size * abs(count))
        self.numbers[path] = Leaf(offset, self._order + kind, count)

    def _text(self, decisive: bool) -> str:
        size = self._length()
        start = self._take(size)
        if decisive:
            self._decisive.append((start, start + size))
        return self._raw[start : start + size].rstrip(b"\0").decode("utf-8", errors="replace")

    def _length(self) -> int:
        self._align(4)
        start = self._take(4)
        self._decisive.append((start, start + 4))
        return int(struct.unpack_from(self._order + "I", self._raw, start)[0])

    def _align(self, size: int) -> None:
        if self._cdr:  # alignment counts from behind the header of four bytes
            self._at += -(self._at - 4) % size

    def _take(self, size: int) -> int:
        start, self._at = self._at, self._at + size
        if self._at > len(self._raw):
            raise SourceError(
                f"a message of {len(self._raw)} bytes is shorter than its definition '{self._definition.name[:80]}'"
            )
        return start


class _Columns(Mapping[str, npt.NDArray[Any]]):
    """The numbers of messages of one layout, decoded when asked for."""

    def __init__(self, messages: npt.NDArray[np.uint8], leaves: Mapping[str, Leaf]) -> None:
        self._messages, self._leaves = messages, leaves

    def __getitem__(self, path: str) -> npt.NDArray[Any]:
        leaf = self._leaves[path]
        size = int(leaf.dtype[-1]) * abs(leaf.length)
        part = np.ascontiguousarray(self._messages[:, leaf.offset : leaf.offset + size])
        values = part.view(leaf.dtype) if size else np.zeros((len(part), 0))
        return values[:, 0] if leaf.length < 0 else values

    def __iter__(self) -> Iterator[str]:
        return iter(self._leaves)

    def __len__(self) -> int:
        return len(self._leaves)


def blocks(
    definition: Definition, messages: Iterable[tuple[int, bytes]], cdr: bool, rejected: Counter[str]
) -> Iterator[Block]:
    """Messages (stamp [ns], bytes) as blocks; why one does not fit the definition is counted in `rejected`."""
    budget = iter(range(MOST))
    for first, stamps, raws in batches(messages):
        t_ns = np.array(stamps, np.int64)
        sizes = np.array([len(raw) for raw in raws])
        for size in np.unique(sizes):
            at = np.flatnonzero(sizes == size)
            if not size:
                rejected["a message has no bytes"] += len(at)
                continue
            matrix = np.frombuffer(b"".join([raws[i] for i in at]), np.uint8).reshape(len(at), size)
            while len(at):
                try:
                    walk = Walk(definition, matrix[0].tobytes(), cdr, budget)
                except SourceError as error:
                    rejected[str(error)] += 1
                    at, matrix = at[1:], matrix[1:]
                    continue
                decisive = walk.decisive()
                same = (matrix[:, decisive] == matrix[0, decisive]).all(axis=1)
                whole = bool(same.all())
                mine = matrix if whole else matrix[same]
                yield Block(first + at[same], t_ns[at[same]], _Columns(mine, walk.numbers), walk.texts)
                at, matrix = at[~same], matrix[:0] if whole else matrix[~same]

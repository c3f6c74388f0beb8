"""What a parquet file declares of its sizes, read from its footer: rows, bytes and numbers of each row group.

pyarrow has this, too, but ends the whole process where a damaged footer contradicts itself, so it is not asked.
Source: parquet-format 2.11 (parquet.thrift), and Thrift's compact protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAGIC = b"PAR1"
FOOTER_BYTES = 64 << 20
"""Longest footer that is read."""
DEPTH = 20
"""Structs inside structs, at most; the format has six."""


@dataclass(frozen=True, slots=True)
class RowGroup:
    """One row group."""

    rows: int
    n_bytes: int
    """Of all its pages, unpacked."""
    values: Mapping[str, int]
    """Leaf column, its path joined by dots -> how many values it has."""


def row_groups(path: Path) -> list[RowGroup]:
    """The row groups of a file; ValueError where its footer cannot be read."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(size - 8, 0))
        tail = stream.read(8)
        length = int.from_bytes(tail[:4], "little")
        if len(tail) < 8 or tail[4:] != MAGIC or length > min(size - 8, FOOTER_BYTES):
            raise ValueError("its footer is missing")
        stream.seek(size - 8 - length)
        data = stream.read(length)
    try:
        return [_group(g) for g in _Compact(data).struct(DEPTH).get(4, [])]
    except (IndexError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError("its footer is damaged") from error


def _group(group: dict[int, Any]) -> RowGroup:
    values: dict[str, int] = {}
    for chunk in group[1]:
        meta = chunk[3]
        name = ".".join(part.decode() for part in meta[3])
        values[name] = values.get(name, 0) + max(int(meta[5]), 0)
    return RowGroup(max(int(group[3]), 0), max(int(group[2]), 0), values)


class _Compact:
    """Thrift's compact protocol: structs as {field: value}, everything else as Python has it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def struct(self, depth: int) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if depth == 0:
            raise ValueError("its footer is nested too deeply")
        if kind in (1, 2, 3):
            return self._byte()
        if kind in (4, 5, 6):
            return self._integer()
        if kind == 7:
            return self._bytes(8)
        if kind == 8:
            return self._bytes(self._varint())
        if kind in (9, 10):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._varint()
            return [self._value(head & 15, depth - 1) for _ in range(self._possible(count))]
        if kind == 11:
            count = self._varint()
            kinds = self._byte() if count else 0
            return [
                (self._value(kinds >> 4, depth - 1), self._value(kinds & 15, depth - 1))
                for _ in range(self._possible(count))
            ]
        if kind == 12:
            return self.struct(depth - 1)
        raise ValueError("its footer is damaged")

    def _possible(self, count: int) -> int:
        """Every element takes a byte at least."""
        if count > len(self.data) - self.place:
            raise ValueError("its footer is damaged")
        return count

    def _byte(self) -> int:
        value = self.data[self.place]
        self.place += 1
        return value

    def _bytes(self, count: int) -> bytes:
        value = self.data[self.place : self.place + self._possible(count)]
        self.place += count
        return value

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("its footer is damaged")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

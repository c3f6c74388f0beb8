"""ROS 1 bags, version 2.0: chunk by chunk, within bounds, also when they were never closed or are torn off.

Connections and the chunks that hold them come from the index at the end; where a recording has none (a `.bag.active`),
the file is gone through from the beginning. rosbags parses the definitions; its own reader wants the index, and unpacks
whatever a chunk holds.

Source: wiki.ros.org/Bags/Format/2.0.
"""

from __future__ import annotations

import bz2
import struct
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

import lz4.frame

from transfer.formats import ros_columns, ros_definitions
from transfer.formats.topics import Block, SourceError, Topic

MAGIC = b"#ROSBAG V2.0\n"
LARGEST = 1 << 28
"""Most bytes of one chunk unpacked, and of one record's header and data."""
_MESSAGE, _HEADER, _INDEX, _CHUNK, _CHUNK_INFO, _CONNECTION = 2, 3, 4, 5, 6, 7
_MESSAGE_OP = bytes([_MESSAGE])
Header = dict[bytes, bytes]


class Connection(NamedTuple):
    """One publisher of a topic."""

    topic: str
    type: str
    definition: str


class Chunk(NamedTuple):
    """Where a chunk's record begins, and how many messages of which connection it holds."""

    offset: int
    counts: dict[int, int]


class Bag1:
    """One file as topics.Bag; close() it."""

    def __init__(self, path: Path) -> None:
        """SourceError where it is no bag, or of another version, or encrypted."""
        self.rejected: dict[str, Counter[str]] = {}
        self.damage = ""
        self._connections: dict[int, Connection] = {}
        self._chunks: list[Chunk] = []
        self._size = path.stat().st_size
        self._stream: BinaryIO = path.open("rb")
        try:
            self._open()
        except BaseException:
            self._stream.close()
            raise
        counts = Counter[int]()
        for chunk in self._chunks:
            counts.update(chunk.counts)
        publishers: dict[Connection, list[int]] = {}  # a topic has a connection for each of them
        for number, connection in self._connections.items():
            publishers.setdefault(connection, []).append(number)
        self._publishers = list(publishers.values())
        self.topics = tuple(
            Topic(i, c.topic, c.type, sum(counts[n] for n in numbers))
            for i, (c, numbers) in enumerate(publishers.items())
        )

    def close(self) -> None:
        self._stream.close()

    def blocks(self, topic: Topic, roots: frozenset[str] | None = None, most: int | None = None) -> Iterator[Block]:
        """As topics.Bag says."""
        wanted = frozenset(self._publishers[topic.key])
        first = self._connections[min(wanted)]
        definition = ros_definitions.parse(first.type, first.definition)
        rejected = self.rejected[topic.name] = Counter()
        yield from ros_columns.blocks(definition, islice(self._messages(wanted), most), False, rejected)

    def _messages(self, wanted: frozenset[int]) -> Iterator[tuple[int, bytes]]:
        for chunk in self._chunks:
            if wanted & chunk.counts.keys():
                self._stream.seek(chunk.offset)
                header, data = self._record(self._stream, self._size)
                try:
                    yield from self._of_chunk(_unpacked(header, data), wanted)
                except SourceError as error:
                    self.damage = f"the chunk at byte {chunk.offset} is damaged and was left out ({error})"

    def _of_chunk(self, data: bytes, wanted: frozenset[int]) -> Iterator[tuple[int, bytes]]:
        for header, body in _inside(data):
            if header.get(b"op") == _MESSAGE_OP and _number(header, b"conn") in wanted:
                yield _time(header, b"time"), body

    def _open(self) -> None:
        first = self._stream.read(len(MAGIC))
        if first != MAGIC:
            if first.startswith(b"#ROSBAG V"):
                raise SourceError(f"it is a bag of version {first[9:12].decode('ascii', 'replace')}; 2.0 is read")
            raise SourceError("it is no ROS 1 bag (the first bytes are not a bag's)")
        header, _ = self._record(self._stream, self._size)
        if header.get(b"encryptor"):
            raise SourceError("it is encrypted")
        start, index = self._stream.tell(), _number(header, b"index_pos", 8)
        try:
            whole = start <= index < self._size and self._index(index)
        except SourceError:
            whole = False
        if not whole:
            self._connections, self._chunks = {}, []
            self._scan(start, "it has no index: it was not closed" if not index else "its index is damaged")

    def _index(self, position: int) -> bool:
        """Read connections and chunks from the end of the file; False where they contradict each other."""
        self._stream.seek(position)
        while self._stream.tell() < self._size:
            header, data = self._record(self._stream, self._size)
            if _op(header) == _CONNECTION:
                self._learn(header, data)
            elif _op(header) == _CHUNK_INFO:
                pairs = struct.iter_unpack("<II", data[: len(data) // 8 * 8])
                self._chunks.append(Chunk(_number(header, b"chunk_pos", 8), dict(pairs)))
        offsets = [c.offset for c in self._chunks]
        return len(set(offsets)) == len(offsets) and all(o < position for o in offsets)

    def _scan(self, start: int, why: str) -> None:
        """Go through the chunks from the first on, as far as they are whole."""
        self._stream.seek(start)
        at = start
        try:
            while (at := self._stream.tell()) < self._size:
                header, data = self._record(self._stream, self._size)
                if _op(header) == _CHUNK:
                    self._chunks.append(Chunk(at, self._look_into(_unpacked(header, data))))
        except SourceError as error:
            why += f", and it is torn at byte {at} ({error})"
        self.damage = f"{why}; what came before was recovered"

    def _look_into(self, data: bytes) -> dict[int, int]:
        counts = Counter[int]()
        for header, body in _inside(data):
            if _op(header) == _CONNECTION:
                self._learn(header, body)
            elif _op(header) == _MESSAGE:
                counts[_number(header, b"conn")] += 1
        return dict(counts)

    def _learn(self, header: Header, data: bytes) -> None:
        said = _fields(data)
        topic = header.get(b"topic", b"").decode("utf-8", errors="replace")
        kind, text = (said.get(n, b"").decode("utf-8", errors="replace") for n in (b"type", b"message_definition"))
        self._connections[_number(header, b"conn")] = Connection(topic, ros_definitions.normal(kind), text)

    def _record(self, stream: BinaryIO, end: int) -> tuple[Header, bytes]:
        """The record at the stream's position; SourceError where it reaches beyond `end`."""
        return _fields(self._sized(stream, end)), self._sized(stream, end)

    def _sized(self, stream: BinaryIO, end: int) -> bytes:
        head = stream.read(4)
        size = int.from_bytes(head, "little")
        if len(head) < 4 or size > min(end - stream.tell(), LARGEST):
            raise SourceError("a record is cut off, or longer than it may be")
        return stream.read(size)


def _inside(data: bytes) -> Iterator[tuple[Header, bytes]]:
    """Records that stand one after another; SourceError where one is cut off."""
    at, end = 0, len(data)
    while at < end:
        parts = []
        for _ in range(2):
            start = at + 4
            at = start + int.from_bytes(data[at:start], "little")
            if at > end or start > end:
                raise SourceError("a record is cut off")
            parts.append(data[start:at])
        yield _fields(parts[0]), parts[1]


def _fields(data: bytes) -> Header:
    """A header's fields."""
    out, at, end = Header(), 0, len(data)
    while at < end:
        start = at + 4
        at = start + int.from_bytes(data[at:start], "little")
        name, equals, value = data[start:at].partition(b"=")
        if at > end or not equals:
            raise SourceError("the header of a record is damaged")
        out[name] = value
    return out


def _op(header: Header) -> int:
    return _number(header, b"op", 1)


def _number(header: Header, name: bytes, size: int = 4) -> int:
    value = header.get(name, b"")
    if len(value) != size:
        raise SourceError(f"a record lacks its '{name.decode()}'")
    return int.from_bytes(value, "little")


def _time(header: Header, name: bytes) -> int:
    both = _number(header, name, 8)
    return (both & 0xFFFFFFFF) * 1_000_000_000 + (both >> 32)


def _unpacked(header: Header, data: bytes) -> bytes:
    """The records of a chunk; SourceError where they are more than it declares, too many, or damaged."""
    kind, size = header.get(b"compression", b""), _number(header, b"size")
    if size > LARGEST:
        raise SourceError(f"a chunk declares {size} bytes; at most {LARGEST} are unpacked")
    try:
        if kind == b"bz2":
            data = bz2.BZ2Decompressor().decompress(data, max_length=size + 1)
        elif kind == b"lz4":
            data = lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size + 1)
        elif kind != b"none":
            raise SourceError(
                f"a chunk is compressed by '{kind[:40].decode('ascii', 'replace')}'; bz2 and lz4 are read"
            )
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise SourceError("a chunk cannot be unpacked") from error
    if len(data) != size:
        raise SourceError("a chunk is not what it declares")
    return data

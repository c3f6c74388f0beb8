"""MCAP files as they come from anywhere: the chunks of the wanted channels, within bounds, as far as the file is whole.

Unlike the reader of the library, this one unpacks no chunk beyond the size that it declares, and goes on where a file
is torn off or a chunk is damaged; it is otherwise the same: without a usable index the file is read from end to end.

Source: mcap.dev/spec, version 0.
"""

from __future__ import annotations

import io
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, ChunkIndex, Footer, MetadataIndex, Schema, Statistics
from mcap.stream_reader import zstandard

from robot import chunks
from robot.chunks import LARGEST
from transfer.formats.topics import SourceError

MAGIC = b"\x89MCAP0\r\n"
_HEAD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")
_FOOTER = 8 + 8 + 4
_DAMAGE = (
    McapError,
    struct.error,
    EOFError,
    UnicodeDecodeError,
    ValueError,
    KeyError,
    zstandard.ZstdError,
    RuntimeError,
)


class Part(NamedTuple):
    """A chunk: where its record begins, and the channels in it (None: nobody knows)."""

    offset: int
    channels: frozenset[int] | None


class McapFile:
    """An open file and what it holds; close() it."""

    def __init__(self, path: Path) -> None:
        """SourceError where the file is no MCAP, or of another version."""
        self.schemas: dict[int, Schema] = {}
        self.channels: dict[int, Channel] = {}
        self.counts: Counter[int] | None = None
        """Messages of each channel; None where the file does not say."""
        self.metadata: set[str] = set()
        """Names of the metadata records that the index lists."""
        self.torn = ""
        """How the file ends where it is not whole."""
        self.damaged = 0
        """Chunks that were left out."""
        self._parts: list[Part] | None = None
        self._stream: BinaryIO = path.open("rb")
        try:
            self._size = path.stat().st_size
            self._check_magic()
            if not self._indexed():
                self._scan()
        except BaseException:
            self._stream.close()
            raise

    def close(self) -> None:
        self._stream.close()

    def messages(self, wanted: frozenset[int]) -> Iterator[tuple[int, int, bytes]]:
        """(channel, log time [ns], data) of the wanted channels, in the order of the file."""
        self.torn, self.damaged = "", 0
        if self._parts is None:
            for opcode, body in self._records(lambda opcode: opcode in (Opcode.MESSAGE, Opcode.CHUNK)):
                if opcode == Opcode.CHUNK:
                    yield from self._of_chunk(body, wanted)
                elif (found := _message(body, wanted)) is not None:
                    yield found
            return
        for part in self._parts:
            if part.channels is None or part.channels & wanted:
                self._stream.seek(part.offset)
                opcode, size = _HEAD.unpack(self._stream.read(_HEAD.size))
                yield from self._of_chunk(self._stream.read(size), wanted)

    def _of_chunk(self, body: bytes, wanted: frozenset[int]) -> Iterator[tuple[int, int, bytes]]:
        try:
            for opcode, inner in _inside(unpacked(_read(Chunk, body))):
                if opcode == Opcode.MESSAGE and (found := _message(inner, wanted)) is not None:
                    yield found
        except (SourceError, *_DAMAGE):
            self.damaged += 1

    def _check_magic(self) -> None:
        first = self._stream.read(len(MAGIC))
        if first != MAGIC:
            if first[:5] == MAGIC[:5] and len(first) == len(MAGIC):
                raise SourceError(f"it is an MCAP of version {chr(first[5])!r}; version '0' is read")
            raise SourceError("it is no MCAP file (the first bytes are not MCAP's)")

    def _indexed(self) -> bool:
        """Read the summary; False where there is none that can be relied on."""
        end = self._size - len(MAGIC) - _HEAD.size - _FOOTER
        try:
            self._stream.seek(max(end, 0))
            tail = self._stream.read()
            if end < len(MAGIC) or tail[-len(MAGIC) :] != MAGIC or tail[0] != Opcode.FOOTER:
                return False
            footer = _read(Footer, tail[_HEAD.size : _HEAD.size + _FOOTER])
            if not len(MAGIC) < footer.summary_start < end or end - footer.summary_start > LARGEST:
                return False
            self._stream.seek(footer.summary_start)
            return self._summarize(self._stream.read(end - footer.summary_start))
        except _DAMAGE:
            return False

    def _summarize(self, data: bytes) -> bool:
        chunks: list[ChunkIndex] = []
        for opcode, body in _inside(data):
            if opcode == Opcode.CHUNK_INDEX:
                chunks.append(_read(ChunkIndex, body))
            elif opcode == Opcode.STATISTICS:
                self.counts = Counter(_read(Statistics, body).channel_message_counts)
            elif opcode == Opcode.METADATA_INDEX:
                self.metadata.add(_read(MetadataIndex, body).name)
            else:
                self._learn(opcode, body)
        chunks.sort(key=lambda c: c.chunk_start_offset)
        ends = [len(MAGIC), *(c.chunk_start_offset + c.chunk_length for c in chunks)]
        apart = all(c.chunk_start_offset >= e for c, e in zip(chunks, ends, strict=False)) and ends[-1] <= self._size
        known = all(c.schema_id in self.schemas or not c.schema_id for c in self.channels.values())
        if not (chunks and apart and known and self.channels):
            return False
        self._parts = [
            Part(c.chunk_start_offset, frozenset(c.message_index_offsets) if c.message_index_offsets else None)
            for c in chunks
        ]
        return True

    def _scan(self) -> None:
        """Go through the whole file once, for what the missing summary would say."""
        counts: Counter[int] = Counter()
        loose, parts = False, list[Part]()
        for opcode, body in self._records(lambda opcode: opcode <= Opcode.CHUNK or opcode == Opcode.METADATA):
            if opcode == Opcode.MESSAGE:
                loose = True
                counts[struct.unpack_from("<H", body)[0]] += 1
            elif opcode == Opcode.METADATA and len(body) >= 4:
                (size,) = struct.unpack_from("<I", body)
                self.metadata.add(body[4 : 4 + min(size, 80)].decode("utf-8", errors="replace"))
            elif opcode == Opcode.CHUNK:
                inside = self._look_into(body)
                parts.append(Part(self._at, frozenset(inside)))
                counts += inside
            else:
                try:
                    self._learn(opcode, body)
                except _DAMAGE:
                    self.torn = "a record is damaged"
        self.counts = counts
        self._parts = None if loose or self.damaged or self.torn else parts

    def _look_into(self, body: bytes) -> Counter[int]:
        """Messages of each channel in a chunk, whose schemas and channels are learned."""
        inside: Counter[int] = Counter()
        try:
            for opcode, data in _inside(unpacked(_read(Chunk, body))):
                if opcode == Opcode.MESSAGE:
                    inside[struct.unpack_from("<H", data)[0]] += 1
                else:
                    self._learn(opcode, data)
        except (SourceError, *_DAMAGE):
            self.damaged += 1
        return inside

    def _learn(self, opcode: int, body: bytes) -> None:
        if opcode == Opcode.SCHEMA:
            schema = _read(Schema, body)
            self.schemas[schema.id] = schema
        elif opcode == Opcode.CHANNEL:
            channel = _read(Channel, body)
            self.channels[channel.id] = channel

    def _records(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, bytes]]:
        """Records from the first on; bodies that nobody wants are skipped. Ends where the file is torn, and says so."""
        self._stream.seek(len(MAGIC))
        while True:
            self._at = self._stream.tell()
            head = self._stream.read(_HEAD.size)
            if len(head) < _HEAD.size:
                self.torn = f"the file ends after {self._at} bytes without an end mark"
                return
            opcode, size = _HEAD.unpack(head)
            if size > self._size - self._at - _HEAD.size:
                self.torn = f"the file ends in the middle of the record at byte {self._at}"
                return
            if size > LARGEST and wanted(opcode):
                self.torn = f"the record at byte {self._at} has {size} bytes; at most {LARGEST} are read"
                return
            if opcode == Opcode.FOOTER or opcode == Opcode.DATA_END:
                return
            if wanted(opcode):
                yield opcode, self._stream.read(size)
            else:
                self._stream.seek(size, io.SEEK_CUR)


def unpacked(chunk: Chunk) -> bytes:
    """The records of a chunk; SourceError where they are more than it declares, too many, or damaged."""
    try:
        return chunks.unpacked(chunk)
    except chunks.ChunkError as error:
        raise SourceError(str(error)) from error


def _read(kind: Any, body: bytes) -> Any:
    return kind.read(ReadDataStream(io.BytesIO(body)))


def _inside(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Records that stand one after another; ValueError where one is cut off."""
    at, end = 0, len(data)
    while at < end:
        opcode, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if size > end - at:
            raise ValueError("a record is cut off")
        yield opcode, data[at : at + size]
        at += size


def _message(body: bytes, wanted: frozenset[int]) -> tuple[int, int, bytes] | None:
    """(channel, log time, data) of a message record, where it is of a wanted channel and whole."""
    if len(body) < _MESSAGE.size:
        return None
    channel, _, log_time, _ = _MESSAGE.unpack_from(body)
    return (channel, log_time, body[_MESSAGE.size :]) if channel in wanted else None

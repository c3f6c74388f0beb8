"""An MCAP's records one after another, with no chunk unpacked beyond what it declares, or beyond what memory is for.

The library unpacks a chunk to whatever its compressed frame says: a file of a few kilobytes may ask for gigabytes.

Source: mcap.dev/spec, version 0; the frames are zstandard's (RFC 8878) and LZ4's.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from mcap.records import Chunk, McapRecord
from mcap.stream_reader import StreamReader, breakup_chunk, lz4, zstandard

LARGEST = 1 << 28
"""Most bytes of one chunk unpacked, and of one record."""
WINDOW = 1 << 27
"""Most bytes that a frame may want to look back at."""


class ChunkError(ValueError):
    """A chunk is not what it declares, or compressed in a way that is not known."""


class TooLarge(ChunkError):
    """A chunk asks for more memory than any recording needs."""


def records(stream: BinaryIO) -> Iterator[McapRecord]:
    """All records of a file, those in chunks among them. ChunkError for a chunk that is damaged, TooLarge for a bomb;
    else what the library raises for a file that is torn or damaged.
    """
    for record in StreamReader(stream, emit_chunks=True, validate_crcs=True, record_size_limit=LARGEST).records:
        if isinstance(record, Chunk):
            yield from breakup_chunk(replace(record, compression="", data=unpacked(record)))
        else:
            yield record


def unpacked(chunk: Chunk) -> bytes:
    """The records of a chunk; TooLarge where they would be too many, ChunkError where they are not what it declares."""
    size = chunk.uncompressed_size
    if size > LARGEST:
        raise TooLarge(f"a chunk declares {size} bytes; at most {LARGEST} are unpacked")
    if chunk.compression == "zstd":
        data = _zstd(chunk.data, size)
    elif chunk.compression == "lz4":
        data = lz4.LZ4FrameDecompressor().decompress(chunk.data, max_length=size + 1)
    elif not chunk.compression:
        data = chunk.data
    else:
        raise ChunkError(f"a chunk is compressed by '{chunk.compression[:40]}'; zstd and lz4 are read")
    if len(data) != size or (chunk.uncompressed_crc and zlib.crc32(data) != chunk.uncompressed_crc):
        raise ChunkError("a chunk is not what it declares")
    return data


def _zstd(data: bytes, size: int) -> bytes:
    declared = zstandard.get_frame_parameters(data).content_size
    if declared == size:
        return bytes(zstandard.ZstdDecompressor().decompress(data, max_output_size=size)) if size else b""
    if declared not in (zstandard.CONTENTSIZE_UNKNOWN, 0):
        refusal = TooLarge if declared > LARGEST else ChunkError
        raise refusal(f"a chunk declares {size} bytes, and would unpack to {declared}")
    with zstandard.ZstdDecompressor(max_window_size=WINDOW).stream_reader(data) as reader:
        return bytes(reader.read(size + 1))

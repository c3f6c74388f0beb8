"""One MCAP file while it is recorded, and its rewriting once it is whole.

While recording, messages stand unchunked one after another, so that whatever was flushed can be read after a crash.
compact() copies them, as they are, into a chunked and compressed file under the same name.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from mcap.records import Channel as ChannelRecord
from mcap.records import Message, Metadata, Schema
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType, IndexType, Writer

from robot import files, message, pictures
from robot import log as logs
from robot.log import UNITS, Channel, EpisodeLog


class EpisodeFile:
    """An append-only episode. Every method raises OSError when the disk is full or gone."""

    def __init__(self, path: Path, head: EpisodeLog, compress: bool) -> None:
        """Create `path` (an existing file is replaced) for the episode of which `head` has name, robot and meta."""
        self.path, self._fingerprint, self._compress = path, head.fingerprint, compress
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream: BinaryIO = path.open("wb", buffering=1 << 20)
        self._writer = Writer(self._stream, use_chunking=False)
        self._writer.start(profile="ros2", library="terrafirma")
        logs.write_header(self._writer, head)
        self._stream.flush()
        self._channels: dict[str, int] = {}
        self._sequence = 0

    def row(self, name: str, components: tuple[str, ...], t_ns: int, value: Any) -> None:
        """Append one row to a channel, which its first row creates."""
        picture = not isinstance(value, str) and value.dtype == np.uint8
        if name not in self._channels:
            channel = channel_of(name, components, [t_ns], [value])
            self._channels[name] = logs.add_channel(
                self._writer, channel, self._fingerprint, compressed=picture and self._compress
            )
        data = pictures.encode_compressed(value, t_ns) if picture and self._compress else message.encode(value, t_ns)
        self._writer.add_message(self._channels[name], t_ns, data, t_ns, self._sequence)
        self._sequence += 1

    def flush(self) -> None:
        """Hand everything to the system: from here on a kill -9 loses nothing of it."""
        self._stream.flush()

    def sync(self) -> None:
        """Wait until the disk has it: from here on a power cut loses nothing of it."""
        os.fdatasync(self._stream.fileno())

    def size(self) -> int:
        """Bytes so far."""
        return self._stream.tell()

    def finish(self) -> None:
        """End the file."""
        self._writer.finish()
        self._stream.close()

    def abandon(self) -> None:
        """Close without another byte; what was flushed stays."""
        self._stream.raw.close()  # type: ignore[attr-defined]
        with contextlib.suppress(OSError, ValueError):
            self._stream.close()


def compact(path: Path, more: Mapping[str, str]) -> None:
    """Rewrite a finished file chunked and compressed, message by message, with `more` in its meta.

    OSError when there is no room for it; the file then stands as it was.
    """
    with files.replacing(path) as temporary, temporary.open("wb") as out, path.open("rb") as stream:
        writer = Writer(out, compression=CompressionType.ZSTD, index_types=IndexType.ALL)
        writer.start(profile="ros2", library="terrafirma")
        schemas: dict[int, int] = {}
        channels: dict[int, int] = {}
        for record in StreamReader(stream).records:
            if isinstance(record, Message):
                writer.add_message(
                    channels[record.channel_id], record.log_time, record.data, record.publish_time, record.sequence
                )
            elif isinstance(record, Schema) and record.id not in schemas:
                schemas[record.id] = writer.register_schema(record.name, record.encoding, record.data)
            elif isinstance(record, ChannelRecord) and record.id not in channels:
                channels[record.id] = writer.register_channel(
                    record.topic, record.message_encoding, schemas[record.schema_id], record.metadata
                )
            elif isinstance(record, Metadata) and record.name == "terrafirma":
                meta = json.dumps({**json.loads(record.metadata["meta"]), **more}, sort_keys=True)
                writer.add_metadata(record.name, {**record.metadata, "meta": meta})
        writer.finish()


def channel_of(name: str, components: tuple[str, ...], times: list[int], values: list[Any]) -> Channel:
    """Rows as a channel, with the standard unit of its name."""
    text = isinstance(values[0], str)
    unit = UNITS.get(name, "uint8" if name.startswith("camera.") else "1")
    array: npt.NDArray[Any] = np.array(values, dtype=object) if text else np.stack(values)
    return Channel(name, unit, components, np.array(times, np.int64), array)

"""EpisodeLog: what happened in one episode, as named channels that each keep their own clock.

One MCAP file an episode, one topic a channel. Numbers are CDR messages with a ros2msg schema, so NaN
survives and Foxglove opens the file; component names, unit and the robot's fingerprint stand in the
channel's metadata. The recorder writes the same messages unchunked (see robot/recorder.py), and pictures compressed;
`save` writes chunked and compressed files, with pictures as they are.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from mcap.exceptions import McapError
from mcap.records import Channel as ChannelRecord
from mcap.records import Message, Metadata, Schema
from mcap.stream_reader import CRCValidationError, zstandard
from mcap.writer import CompressionType, IndexType, Writer

from robot import chunks, files, pictures
from robot.config import ConfigError
from robot.message import PICTURES, TEXT, VALUES, decode, encode

Times = npt.NDArray[np.int64]

UNITS = {
    "joint.position": "rad",
    "joint.velocity": "rad/s",
    "joint.effort": "N m",
    "command.position": "rad",
    "command.velocity": "rad/s",
    "command.effort": "N m",
    "imu.gyro": "rad/s",
    "imu.accel": "m/s^2",
    "imu.orientation": "1",
    "action": "1",
    "shadow.effort": "N m",
    "event": "text",
}
"""Standard channel names and their units; `camera.<name>` (unit `uint8`) and private names may stand beside them."""

SCHEMA_VERSION = "1"
_DAMAGE = (
    McapError, CRCValidationError, zstandard.ZstdError, EOFError, struct.error, ValueError, KeyError, RuntimeError,
)  # fmt: skip
"""What a damaged file makes the library raise."""
LARGEST = 1 << 32
"""Most bytes of one episode in memory."""


class LogError(ConfigError):
    """A log cannot be read or is inconsistent; the message names the file, the channel and the reason."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class Channel:
    """One signal over time.

    `values` is float64 of shape (n, n_components), uint8 of shape (n, height, width, channels) for a camera,
    or an object array of str of shape (n,) for events.
    """

    name: str
    unit: str
    components: tuple[str, ...]
    t_ns: Times
    values: npt.NDArray[Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "t_ns", np.asarray(self.t_ns, dtype=np.int64))
        values = np.asarray(self.values)
        if values.dtype.kind == "U":
            values = values.astype(object)
        elif values.dtype.kind != "O" and not (values.dtype == np.uint8 and values.ndim == 4):
            values = np.asarray(values, dtype=np.float64)
        object.__setattr__(self, "values", values)
        if self.t_ns.ndim != 1 or len(self.t_ns) != len(values):
            raise LogError(f"channel '{self.name}': {len(self.t_ns)} time stamps for {len(values)} values")
        if values.dtype.kind == "f" and values.shape != (len(self.t_ns), len(self.components)):
            raise LogError(f"channel '{self.name}': values of shape {values.shape} for components {self.components}")
        if values.dtype == np.uint8 and len(values) and values.shape[3] not in pictures.ENCODINGS:
            raise LogError(f"channel '{self.name}': images have {values.shape[3]} channels; 1 and 3 are known")
        expected = UNITS.get(self.name)
        if expected is not None and self.unit != expected:
            raise LogError(f"channel '{self.name}' is in '{self.unit}'; the standard unit is '{expected}'")

    def component(self, name: str) -> npt.NDArray[Any]:
        """(n,) the values of one component; LogError lists those that exist."""
        if name not in self.components:
            raise LogError(f"channel '{self.name}' has no component '{name}'; it has {', '.join(self.components)}")
        return self.values[:, self.components.index(name)]

    def ordered(self, components: tuple[str, ...]) -> npt.NDArray[Any]:
        """(n, len(components)) the values in the given order of names."""
        if components == self.components:
            return self.values
        return np.stack([self.component(c) for c in components], axis=1)

    def seconds(self) -> npt.NDArray[np.float64]:
        """(n,) time since this channel's first stamp [s]."""
        first = self.t_ns[0] if len(self.t_ns) else 0
        return (self.t_ns - first) * 1e-9


@dataclass(frozen=True, slots=True)
class EpisodeLog:
    """One episode: a name, the robot it belongs to, and its channels. Carries nothing a robot could not record."""

    name: str
    robot: str
    fingerprint: str
    """RobotSpec.fingerprint() of the robot that made it."""
    channels: Mapping[str, Channel]
    meta: Mapping[str, str] = field(default_factory=dict)
    """Free text: where it came from, which bundle ran, how it was commanded."""

    def __getitem__(self, name: str) -> Channel:
        if name not in self.channels:
            raise LogError(f"log '{self.name}' has no channel '{name}'; it has {', '.join(self.channels)}")
        return self.channels[name]

    def __contains__(self, name: object) -> bool:
        return name in self.channels

    @property
    def seconds(self) -> float:
        """From the first to the last stamp of any channel [s]."""
        stamps = [c.t_ns for c in self.channels.values() if len(c.t_ns)]
        return (max(s[-1] for s in stamps) - min(s[0] for s in stamps)) * 1e-9 if stamps else 0.0

    def save(self, path: Path) -> Path:
        """Write one MCAP file, chunked and compressed, whole or not at all; the same log gives the same bytes."""
        with files.replacing(path) as temporary, temporary.open("wb") as stream:
            writer = Writer(stream, compression=CompressionType.ZSTD, index_types=IndexType.ALL)
            writer.start(profile="ros2", library="terrafirma")
            write_header(writer, self)
            ids = {name: add_channel(writer, c, self.fingerprint) for name, c in self.channels.items()}
            for sequence, (t, name, row) in enumerate(self._in_time_order()):
                if t < 0:
                    raise LogError(f"channel '{name}' has a time stamp before 0 ({t} ns), which MCAP cannot hold")
                writer.add_message(ids[name], t, encode(self.channels[name].values[row], t), t, sequence)
            writer.finish()
        return Path(path)

    def _in_time_order(self) -> Iterator[tuple[int, str, int]]:
        names = list(self.channels)
        stamps = [self.channels[n].t_ns for n in names]
        if not stamps:
            return
        which = np.repeat(np.arange(len(names)), [len(s) for s in stamps])
        rows = np.concatenate([np.arange(len(s)) for s in stamps])
        times = np.concatenate(stamps)
        for i in np.lexsort((which, times)):
            yield int(times[i]), names[which[i]], int(rows[i])


def write_header(writer: Writer, log: EpisodeLog) -> None:
    """The record that says whose log this is."""
    writer.add_metadata(
        "terrafirma",
        {
            "schema": SCHEMA_VERSION,
            "name": log.name,
            "robot": log.robot,
            "fingerprint": log.fingerprint,
            "meta": json.dumps(dict(log.meta), sort_keys=True),
        },
    )


def add_channel(writer: Writer, channel: Channel, fingerprint: str, compressed: bool = False) -> int:
    """Register a channel's schema and topic; returns the id that messages are written under.

    `compressed`: the pictures of a camera will come as robot.pictures.encode_compressed makes them.
    """
    camera = pictures.COMPRESSED if compressed else pictures.RAW
    schema_name, definition = {"u": camera, "O": TEXT}.get(channel.values.dtype.kind, VALUES)
    schema = writer.register_schema(schema_name, "ros2msg", definition)
    metadata = {"unit": channel.unit, "components": json.dumps(channel.components), "fingerprint": fingerprint}
    return writer.register_channel("/" + channel.name.replace(".", "/"), "cdr", schema, metadata)


class _Topic:
    """One MCAP channel while it is read."""

    def __init__(self, record: ChannelRecord, schema: str) -> None:
        self.name, self.schema, self.metadata = record.topic.strip("/").replace("/", "."), schema, record.metadata
        self.times: list[int] = []
        self.values: list[Any] = []
        self.damaged = 0
        """Pictures that cannot be decoded: a camera's fault costs one picture, not the rest of the episode."""

    def add(self, t_ns: int, data: bytes) -> int:
        """Append a message, and tell how many bytes it takes.

        A value that cannot be decoded raises ValueError or struct.error, except for a picture.
        """
        try:
            value = decode(self.schema, data)
        except (ValueError, struct.error, ZeroDivisionError):
            if self.schema not in PICTURES:
                raise
            self.damaged += 1
            return 0
        self.times.append(t_ns)
        self.values.append(value)
        return len(data) if isinstance(value, str) else int(value.nbytes)

    def channel(self) -> Channel:
        components = tuple(json.loads(self.metadata["components"]))
        if self.schema in PICTURES and len(sizes := {v.shape for v in self.values}) > 1:
            told = ", ".join(f"{w} x {h} x {c}" for h, w, c in sorted(sizes))
            raise LogError(f"channel '{self.name}': its pictures have different sizes ({told}); record it again.")
        values = _stack(self.schema, self.values, components)
        return Channel(self.name, self.metadata["unit"], components, np.array(self.times, np.int64), values)


def load(path: Path, cameras: bool = True) -> EpisodeLog:
    """Read an MCAP episode, complete or torn off by a crash: every whole message is recovered.

    Without `cameras` their channels are left out. `meta["torn"]` says so when the file was torn. LogError when it is
    missing, is no MCAP, was not written by this project, or would take more memory than a recording may.
    """
    path = Path(path)
    header: dict[str, str] = {}
    topics: dict[int, _Topic] = {}
    schemas: dict[int, str] = {}
    torn, size = False, 0
    try:
        with path.open("rb") as stream:
            for record in chunks.records(stream):
                if isinstance(record, Message):
                    if record.channel_id in topics or cameras:
                        size += topics[record.channel_id].add(record.log_time, record.data)
                        if size > LARGEST:
                            raise chunks.TooLarge(f"its messages are more than {LARGEST} bytes")
                elif isinstance(record, Schema):
                    schemas[record.id] = record.name
                elif isinstance(record, ChannelRecord):
                    if not cameras and schemas[record.schema_id] in PICTURES:
                        continue
                    topics.setdefault(record.id, _Topic(record, schemas[record.schema_id]))
                elif isinstance(record, Metadata) and record.name == "terrafirma":
                    header = record.metadata
    except OSError as error:
        raise LogError(f"{path}: cannot be read ({error.strerror}).") from error
    except ImportError as error:
        raise LogError(
            f"{path}: has compressed pictures; they need OpenCV: pip install 'terrafirma[camera]'."
        ) from error
    except chunks.TooLarge as error:
        raise LogError(f"{path}: {error}; it is not read. Record, or cut, a shorter one.") from error
    except _DAMAGE:
        torn = True  # the tail that a crash left unfinished, or a damaged record; everything before it is whole
    if "fingerprint" not in header:
        raise LogError(f"{path}: not a terrafirma episode (no header record); import it with `terrafirma ingest`.")
    if header.get("schema") != SCHEMA_VERSION:
        found = header.get("schema", "(none)")
        raise LogError(f"{path}: log schema {found} is unknown; this terrafirma reads {SCHEMA_VERSION}.")
    try:
        channels = {topic.name: topic.channel() for topic in topics.values()}
        meta, name, robot = dict(json.loads(header["meta"])), header["name"], header["robot"]
    except LogError as error:
        raise LogError(f"{path}: {error}") from error
    except (KeyError, ValueError, TypeError) as error:
        raise LogError(f"{path}: its header, or what it says of a channel, is damaged; restore the file.") from error
    if torn:
        meta["torn"] = "the file ends in the middle of a record; what came before was recovered"
    if damaged := {topic.name: topic.damaged for topic in topics.values() if topic.damaged}:
        meta["damaged"] = json.dumps(damaged)
    return EpisodeLog(name, robot, header["fingerprint"], channels, meta)


def _stack(schema: str, values: list[Any], components: tuple[str, ...]) -> npt.NDArray[Any]:
    if schema == TEXT[0]:
        return np.array(values, dtype=object)
    if values:
        return np.stack(values)
    return np.zeros((0, 0, 0, 3), np.uint8) if schema in PICTURES else np.zeros((0, len(components)))

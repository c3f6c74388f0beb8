"""ULogs of PX4: numbers of uORB topics on the autopilot's clock, by a map.

Nothing in a ULog names a robot's joints, so without map=FILE it is refused with what it holds. A column is
TOPIC:FIELD, `esc_status:esc[0].esc_rpm`; the second instance of a topic is `TOPIC#1`. pyulog decodes the topics that
are wanted, after a first pass that bounds what the file's own formats make of it.

Source: docs.px4.io, ULog file format, version 1.
"""

from __future__ import annotations

import contextlib
import io
import re
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from robot.spec import RobotSpec
from transfer.formats import Recording
from transfer.formats.topic_episode import recordings
from transfer.formats.topic_map import TopicMap
from transfer.formats.topics import Block, SourceError, Topic

MAGIC = b"ULog\x01\x12\x35"
NEWEST = 1
FIELDS = 4096
"""Most numbers of one message."""
_HEAD = struct.Struct("<HB")
_FIELD = re.compile(r"(\w+)(?:\[(\d+)\])? (\w+)")


def detect(path: Path) -> bool:
    """By the first bytes, or by the name where even those are missing."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC or path.suffix in (".ulg", ".ulog")


def read(path: Path, spec: RobotSpec, map: TopicMap | None = None, source: str = "") -> list[Recording]:
    """The one episode of a ULog by a map (of the file `source`); without one, what is in it."""
    return recordings(lambda: Ulog(path), path, spec, "PX4 ULog", map, source)


class Ulog:
    """One file as topics.Bag."""

    def __init__(self, path: Path) -> None:
        """SourceError where it is no ULog, of another version, or its formats have no end."""
        self.damage = ""
        self.rejected: dict[str, Counter[str]] = {}
        self._path = path
        self._formats: dict[str, list[tuple[str, int]]] = {}
        self._names: dict[int, tuple[str, int]] = {}
        self._counts: Counter[int] = Counter()
        with path.open("rb") as stream:
            self._scan(stream, path.stat().st_size)
        for name, _ in self._names.values():
            self._fields(name, ())
        self._instances = list(dict.fromkeys(self._names.values()))
        self.topics = tuple(
            Topic(
                i,
                f"{name}#{k}" if k else name,
                "uORB",
                sum(c for n, c in self._counts.items() if self._names.get(n) == (name, k)),
            )
            for i, (name, k) in enumerate(self._instances)
        )

    def close(self) -> None:
        """Nothing stays open."""

    def blocks(self, topic: Topic, roots: frozenset[str] | None = None, most: int | None = None) -> Iterator[Block]:
        """As topics.Bag says; one block."""
        from pyulog import ULog

        name, instance = self._instances[topic.key]
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # pyulog prints what it notices
                log = ULog(str(self._path), message_name_filter_list=[name])
                data = log.get_dataset(name, instance).data
        except IndexError:
            return
        except Exception as error:  # pyulog raises what its bytes make of it
            raise SourceError(f"it is damaged ({type(error).__name__})") from error
        if log.file_corruption:
            self.damage = self.damage or "parts of the file are damaged, and were left out"
        if "timestamp" not in data:
            raise SourceError(f"the topic '{topic.name[:80]}' has no time stamps")
        data = {path: values[:most] for path, values in data.items()}
        t_ns = data["timestamp"].astype(np.int64) * 1000
        yield Block(np.arange(len(t_ns)), t_ns, _arrays(data), {})

    def _scan(self, stream: BinaryIO, size: int) -> None:
        head = stream.read(16)
        if head[: len(MAGIC)] != MAGIC or len(head) < 16:
            raise SourceError("it is no ULog (the first bytes are not a ULog's)")
        if head[7] > NEWEST:
            raise SourceError(f"it is a ULog of version {head[7]}; versions up to {NEWEST} are read")
        at = 16
        while at < size:
            stream.seek(at)
            first = stream.read(_HEAD.size)
            if len(first) < _HEAD.size or at + _HEAD.size + (n := _HEAD.unpack(first)[0]) > size:
                self.damage = f"the file ends in the middle of the record at byte {at}; what came before was recovered"
                return
            kind = chr(first[2])
            if kind == "D" and n >= 2:
                self._counts[int.from_bytes(stream.read(2), "little")] += 1
            elif kind in "FAB":
                self._learn(kind, stream.read(n))
            at += _HEAD.size + n

    def _learn(self, kind: str, data: bytes) -> None:
        if kind == "F":
            name, _, fields = data.decode("utf-8", errors="replace").partition(":")
            found = [m for part in fields.split(";") if (m := _FIELD.fullmatch(part.strip()))]
            self._formats[name] = [(m[1], int(m[2][:9]) if m[2] else 1) for m in found]
        elif kind == "A" and len(data) > 3:
            name = data[3:].decode("utf-8", errors="replace")
            self._names[int.from_bytes(data[1:3], "little")] = (name, data[0])
        elif kind == "B" and (any(data[9:16]) or (len(data) > 8 and data[8] & ~1)):
            raise SourceError("it has features that are not known (incompatible flags)")

    def _fields(self, name: str, outer: tuple[str, ...]) -> int:
        """Numbers in one message of a format; SourceError where it contains itself, or there are too many."""
        if name in outer:
            raise SourceError(f"the format '{name[:80]}' contains itself")
        count = 0
        for kind, times in self._formats.get(name, []):
            count += times * (self._fields(kind, (*outer, name)) if kind in self._formats else 1)
            if count > FIELDS:
                raise SourceError(f"a message of the format '{name[:80]}' has more than {FIELDS} numbers")
        return count


def _arrays(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """pyulog's fields; `q[0]` to `q[3]` stay one by one, as they are asked for."""
    return {name: values for name, values in data.items() if name != "timestamp"}

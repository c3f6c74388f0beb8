"""ROS 2 bags: a folder with metadata.yaml and its storage files (MCAP or SQLite), or one storage file alone.

Everything is read from the storage files; metadata.yaml says which they are, and how they are compressed. Bags before
ROS 2 Iron in SQLite carry no definitions: types that ROS ships are known, others cannot be read.

Source: github.com/ros2/rosbag2: rosbag2_storage (metadata versions 1 to 9), rosbag2_storage_sqlite3 (schemas 1 to 4).
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

import yaml
from mcap.stream_reader import zstandard

from transfer.formats import ros_columns, ros_definitions
from transfer.formats.mcap_topics import McapTopics
from transfer.formats.topics import Bag, Block, SourceError, Topic

METADATA = "metadata.yaml"
INSIDE = "rosbag2_bagfile_information"
NEWEST = 9
LARGEST = 1 << 26
"""Most bytes of one value in SQLite, and of one message unpacked."""
RATIO = 64
"""Most bytes that one byte of a storage file compressed as a whole may become."""


class Sqlite:
    """One .db3 file as topics.Bag; close() it."""

    def __init__(self, path: Path, packed: bool = False) -> None:
        """`packed`: each message is compressed by itself. SourceError where it is no bag."""
        self.rejected: dict[str, Counter[str]] = {}
        log = path.with_name(f"{path.name}-wal")
        self.damage = f"'{log.name}' holds what was not merged into it" if log.is_file() and log.stat().st_size else ""
        self._packed = packed
        self._definitions: dict[str, tuple[str, str]] = {}
        if path.stat().st_size < 100:
            raise SourceError("it is too short for an SQLite file")
        address = f"file:{urllib.parse.quote(str(path.resolve()))}?mode=ro&immutable=1"
        self._base = sqlite3.connect(address, uri=True)
        try:
            self._base.execute("PRAGMA trusted_schema = OFF")
            if hasattr(self._base, "setlimit"):  # Python 3.11
                self._base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST)
            self._learn()
        except (sqlite3.Error, UnicodeError, ValueError, TypeError) as error:
            self._base.close()
            raise SourceError(f"it is no ROS 2 bag in SQLite ({_told(error)})") from error

    def close(self) -> None:
        self._base.close()

    def blocks(self, topic: Topic, roots: frozenset[str] | None = None, most: int | None = None) -> Iterator[Block]:
        """As topics.Bag says."""
        kind, text = self._definitions.get(topic.type, ("", ""))
        if text:
            definition = ros_definitions.parse(topic.type, text, idl=kind == "ros2idl")
        else:
            definition = ros_definitions.standard(topic.type)
        rejected = self.rejected[topic.name] = Counter()
        yield from ros_columns.blocks(definition, islice(self._messages(topic.key), most), True, rejected)

    def _messages(self, key: int) -> Iterator[tuple[int, bytes]]:
        try:
            for t_ns, raw in self._base.execute("SELECT timestamp, data FROM messages WHERE topic_id = ?", (key,)):
                if isinstance(t_ns, int) and isinstance(raw, bytes):
                    yield t_ns, _unpack(raw) if self._packed else raw
        except (sqlite3.Error, UnicodeError) as error:
            self.damage = f"the file is damaged, and was read as far as it can be ({_told(error)})"

    def _learn(self) -> None:
        tables = {n for (n,) in self._base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"topics", "messages"} <= tables:
            raise ValueError(f"its tables are {', '.join(sorted(tables)[:8]) or 'none'}")
        formats = {f for (f,) in self._base.execute("SELECT serialization_format FROM topics")}
        if formats - {"cdr"}:
            raise ValueError(f"its messages are serialized as {', '.join(sorted(map(str, formats)))}, not as cdr")
        rows = self._base.execute("SELECT id, name, type FROM topics").fetchall()
        if "message_definitions" in tables:
            query = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
            self._definitions = {str(n): (str(e), str(d)) for n, e, d in self._base.execute(query)}
        counts: dict[int, int] | None
        try:
            counts = dict(self._base.execute("SELECT topic_id, count(*) FROM messages GROUP BY topic_id").fetchall())
        except sqlite3.Error:  # a torn file: what can be read is read
            counts = None
        self.topics = tuple(
            Topic(int(i), str(n), str(k), None if counts is None else counts.get(i, 0)) for i, n, k in rows
        )


class Folder:
    """A bag's folder as topics.Bag: one file after the other; close() it."""

    def __init__(self, path: Path) -> None:
        """SourceError where metadata.yaml is damaged, names files that are not there, or is of a newer version."""
        said = _metadata(path)
        self._mode = str(said.get("compression_mode") or "").lower()
        if self._mode not in ("", "none") and said.get("compression_format") != "zstd":
            raise SourceError(f"it is compressed by '{said.get('compression_format')}'; zstd is read")
        names = said.get("relative_file_paths")
        if not isinstance(names, list) or not names:
            raise SourceError(f"{METADATA} names no storage files")
        self._files = [path / PurePath(str(n)).name for n in names]  # the name alone: nothing outside the folder
        if missing := next((f for f in self._files if not f.is_file() or f.is_symlink()), None):
            raise SourceError(f"{METADATA} names '{missing.name}', which is not there")
        self._scratch = tempfile.TemporaryDirectory(prefix="bag-")
        self._bags: list[Bag] = []
        try:
            for file in self._files:
                self._bags.append(self._storage(file))
        except BaseException:
            self.close()
            raise
        seen: dict[tuple[str, str], list[Topic]] = {}
        for bag in self._bags:
            for topic in bag.topics:
                seen.setdefault((topic.name, topic.type), []).append(topic)
        self.topics = tuple(
            Topic(key, name, kind, None if any(t.count is None for t in ts) else sum(t.count or 0 for t in ts))
            for key, ((name, kind), ts) in enumerate(seen.items())
        )

    def close(self) -> None:
        for bag in self._bags:
            bag.close()
        self._scratch.cleanup()

    @property
    def damage(self) -> str:
        told = [(f.name, b.damage) for f, b in zip(self._files, self._bags, strict=True) if b.damage]
        return "; ".join(f"{name}: {damage}" for name, damage in told)

    @property
    def rejected(self) -> dict[str, Counter[str]]:
        all_: dict[str, Counter[str]] = {}
        for bag in self._bags:
            for topic, reasons in bag.rejected.items():
                all_.setdefault(topic, Counter()).update(reasons)
        return all_

    def blocks(self, topic: Topic, roots: frozenset[str] | None = None, most: int | None = None) -> Iterator[Block]:
        """As topics.Bag says."""
        first = 0
        for bag in self._bags:
            last = -1
            for each in bag.topics:
                if (each.name, each.type) == (topic.name, topic.type):
                    for block in bag.blocks(each, roots, None if most is None else most - first):
                        last = max(last, int(block.rows.max(initial=-1)))
                        yield replace(block, rows=block.rows + first)
            first += last + 1
            if most is not None and first >= most:
                return

    def _storage(self, file: Path) -> Bag:
        name = file.name
        if self._mode == "file":
            name = name.removesuffix(".zstd")
            file = _unpacked(file, Path(self._scratch.name) / name)
        if name.endswith(".db3"):
            return Sqlite(file, packed=self._mode == "message")
        if name.endswith(".mcap"):
            return McapTopics(file)
        raise SourceError(f"its storage '{name}' is neither .mcap nor .db3")


def is_folder(path: Path) -> bool:
    """Whether a folder is a ROS 2 bag."""
    file = path / METADATA
    if not path.is_dir() or not file.is_file():
        return False
    with file.open("rb") as stream:
        return INSIDE.encode() in stream.read(4096)


def _metadata(path: Path) -> dict[str, Any]:
    file = path / METADATA
    if file.stat().st_size > 1 << 24:
        raise SourceError(f"{METADATA} has {file.stat().st_size} bytes, too many to be one")
    try:
        said = yaml.load(file.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))[INSIDE]
        version = int(said["version"])
    except (yaml.YAMLError, UnicodeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise SourceError(f"{METADATA} is damaged") from error
    if version > NEWEST:
        raise SourceError(f"it is a bag of version {version}; versions up to {NEWEST} are read")
    return dict(said)


def _unpacked(file: Path, to: Path) -> Path:
    """A storage file that was compressed as a whole, unpacked on disk within what the disk has room for."""
    room = min(shutil.disk_usage(to.parent).free // 2, max(1 << 30, RATIO * file.stat().st_size))
    try:
        with file.open("rb") as packed, to.open("wb") as out:
            reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(packed)
            while block := reader.read(1 << 20):
                if (room := room - len(block)) < 0:
                    raise SourceError(
                        f"'{file.name}' unpacks to far more than it should, or than the disk has room for"
                    )
                out.write(block)
    except (zstandard.ZstdError, OSError) as error:
        raise SourceError(f"'{file.name}' cannot be unpacked") from error
    return to


def _unpack(raw: bytes) -> bytes:
    """A message that was compressed by itself; empty, and so rejected, where it is damaged or too large."""
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(raw) as reader:
            data = bytes(reader.read(LARGEST))
    except zstandard.ZstdError:
        return b""
    return data if len(data) < LARGEST else b""


def _told(error: Exception) -> str:
    return str(error).strip().rstrip(".")[:200]

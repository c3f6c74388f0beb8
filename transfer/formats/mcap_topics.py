"""Foreign MCAP files as topics: messages in JSON, protobuf, and ROS 1 and 2, by the schemas that the file carries."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from transfer.formats import ros_columns, ros_definitions
from transfer.formats.mcap_file import McapFile
from transfer.formats.protobuf import Decoder
from transfer.formats.topics import Block, Flat, SourceError, Topic, batches, flatten, grouped


class McapTopics:
    """One file as topics.Bag; close() it."""

    def __init__(self, path: Path) -> None:
        """SourceError where it is no MCAP."""
        self.file = McapFile(path)
        self.rejected: dict[str, Counter[str]] = {}
        file = self.file
        publishers: dict[tuple[str, int, str], list[int]] = {}  # a topic has a channel for each of them
        for c in file.channels.values():
            publishers.setdefault((c.topic, c.schema_id, c.message_encoding), []).append(c.id)
        self._channels = list(publishers.values())
        self.topics = tuple(
            Topic(i, name, self._type(schema), None if file.counts is None else sum(file.counts[c] for c in channels))
            for i, ((name, schema, _), channels) in enumerate(publishers.items())
        )

    def close(self) -> None:
        self.file.close()

    @property
    def damage(self) -> str:
        parts = [self.file.torn] if self.file.torn else []
        parts += [f"{self.file.damaged} chunk(s) are damaged and were left out"] if self.file.damaged else []
        return "; ".join(parts)

    def blocks(self, topic: Topic, roots: frozenset[str] | None = None, most: int | None = None) -> Iterator[Block]:
        """As topics.Bag says."""
        wanted = frozenset(self._channels[topic.key])
        channel = self.file.channels[min(wanted)]
        schema = self.file.schemas.get(channel.schema_id)
        name, data = (schema.name, schema.data) if schema is not None else ("", b"")
        kind = (channel.message_encoding, schema.encoding if schema is not None else "")
        messages = islice(((t, raw) for _, t, raw in self.file.messages(wanted)), most)
        rejected = self.rejected[topic.name] = Counter()
        if kind[0] in ("cdr", "ros1"):
            text = data.decode("utf-8", errors="replace")
            definition = ros_definitions.parse(name, text, idl=kind[1] in ("ros2idl", "omgidl"))
            yield from ros_columns.blocks(definition, messages, kind[0] == "cdr", rejected)
        elif kind[0] == "json":
            yield from one_by_one(messages, partial(_json, roots=roots), rejected)
        elif kind == ("protobuf", "protobuf"):
            decoder = Decoder(name, data)
            yield from one_by_one(messages, partial(decoder, roots=roots), rejected)
        else:
            raise SourceError(
                f"its messages are encoded as '{kind[0][:40]}' with schemas in '{kind[1][:40]}'; cdr, ros1, json and "
                "protobuf are read"
            )

    def _type(self, schema_id: int) -> str:
        schema = self.file.schemas.get(schema_id)
        return ros_definitions.normal(schema.name) if schema is not None else ""


def one_by_one(
    messages: Iterator[tuple[int, bytes]], decode: Callable[[bytes], Flat], rejected: Counter[str]
) -> Iterator[Block]:
    """Messages that are decoded one after another, as blocks; why one cannot be is counted in `rejected`."""
    for first, stamps, raws in batches(messages):
        rows, times, flats = list[int](), list[int](), list[Flat]()
        for i, (t_ns, raw) in enumerate(zip(stamps, raws, strict=True)):
            try:
                flats.append(decode(raw))
            except SourceError as error:
                rejected[str(error)] += 1
                continue
            rows.append(first + i)
            times.append(t_ns)
        yield from grouped(rows, times, flats)


def _json(raw: bytes, roots: frozenset[str] | None) -> Flat:
    numbers: dict[str, Any] = {}
    texts: dict[str, tuple[str, ...]] = {}
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise SourceError("a message is no JSON") from error
    if not isinstance(value, dict):
        raise SourceError("a message is no JSON object")
    for key, inner in value.items():
        if roots is None or key in roots:
            flatten(inner, key, numbers, texts)
    return numbers, texts

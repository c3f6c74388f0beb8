"""Protobuf messages from the descriptors that a recording carries: no generated code, nothing but the wire format.

Source: protobuf.dev, descriptor.proto; mcap.dev/spec/registry (schema encoding `protobuf`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from transfer.formats.topics import Flat, SourceError, flatten

DEEPEST = 12
"""Most messages inside one another."""


class Decoder:
    """Messages of one type."""

    def __init__(self, name: str, descriptors: bytes) -> None:
        """`descriptors`: a FileDescriptorSet with all that `name` needs; SourceError where it has not."""
        from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

        self._errors = (message.DecodeError, RecursionError, ValueError)
        try:
            files = descriptor_pb2.FileDescriptorSet.FromString(descriptors)
            pool = descriptor_pool.DescriptorPool()
            left = {file.name: file for file in files.file}
            while left:
                ready = [n for n, f in left.items() if not any(d in left and d != n for d in f.dependency)]
                if not ready:
                    raise TypeError("they depend on each other in a circle")
                for each in ready:
                    pool.Add(left.pop(each))
            self._type = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
        except (TypeError, KeyError, ValueError, message.DecodeError, RecursionError) as error:
            raise SourceError(f"the protobuf descriptors of '{name[:80]}' are incomplete or damaged") from error

    def __call__(self, raw: bytes, roots: frozenset[str] | None) -> Flat:
        """The leaves of a message; SourceError where its bytes are none of this type."""
        numbers: dict[str, Any] = {}
        texts: dict[str, tuple[str, ...]] = {}
        try:
            self._walk(self._type.FromString(raw), "", numbers, texts, roots, DEEPEST)
        except self._errors as error:
            raise SourceError("a message is no protobuf of its type") from error
        return numbers, texts

    def _walk(
        self, message: Any, path: str, numbers: dict[str, Any], texts: Any, roots: frozenset[str] | None, left: int
    ) -> None:
        for field in message.DESCRIPTOR.fields:
            if roots is not None and field.name not in roots:
                continue
            where = f"{path}.{field.name}" if path else field.name
            value = getattr(message, field.name)
            if field.message_type is not None and not field.is_repeated:
                if left and message.HasField(field.name):
                    self._walk(value, where, numbers, texts, None, left - 1)
            elif field.message_type is not None:
                if left and not field.message_type.GetOptions().map_entry:
                    for i, inner in enumerate(value):
                        self._walk(inner, f"{where}[{i}]", numbers, texts, None, left - 1)
            elif isinstance(value, bytes):
                numbers[where] = np.frombuffer(value, np.uint8)
            elif not field.is_repeated or field.cpp_type == field.CPPTYPE_STRING:
                flatten(list(value) if field.is_repeated else value, where, numbers, texts)
            else:
                numbers[where] = [float(x) for x in value]

"""Definitions of ROS messages as recordings carry them, parsed by rosbags.

Only parsed: no code is made from a definition, which comes from the recording and may mean harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from transfer.formats.topics import SourceError

LARGEST = 1 << 18
"""Most characters of a definition."""
Fields = list[tuple[str, Any]]
"""(name, rosbags' description of a field's type)."""


class Definition:
    """A message type and all that it is made of."""

    def __init__(self, name: str, types: Mapping[str, Fields]) -> None:
        self.name, self.types = name, types

    def fields(self, name: str) -> Fields:
        """Of a type by name; SourceError when nothing defines it."""
        if name in self.types:
            return self.types[name]
        basic = _shipped().get(name, ([], [])) if name.startswith("builtin_interfaces/") else ([], [])
        if not basic[1]:
            raise SourceError(f"the definition of '{self.name[:80]}' lacks the type '{name[:80]}'")
        return basic[1]


def parse(name: str, text: str, idl: bool = False) -> Definition:
    """A definition in the .msg language, or in IDL; SourceError when it is none, or too long to be one."""
    from rosbags.typesys import TypesysError, get_types_from_idl, get_types_from_msg

    if len(text) > LARGEST:
        raise SourceError(f"the definition of '{name[:80]}' has {len(text)} characters; at most {LARGEST} are read")
    found: dict[str, Any] = {}
    try:
        if idl:
            for part in text.split("=" * 80 + "\n"):
                body = part.partition("\n")[2] if part.startswith("IDL: ") else part
                found |= get_types_from_idl(body) if body.strip() else {}
        else:
            found = dict(get_types_from_msg(text, name))
    except (TypesysError, ValueError, KeyError, AssertionError, IndexError, RecursionError) as error:
        raise SourceError(f"the definition of '{name[:80]}' cannot be parsed") from error
    return Definition(normal(name), {n: fields for n, (_, fields) in found.items()})


def standard(name: str) -> Definition:
    """A type that ROS 2 ships, for bags without definitions; SourceError when it is none."""
    types = _shipped()
    if normal(name) not in types:
        raise SourceError(f"nothing defines the type '{name[:80]}': the bag does not, and ROS does not ship it")
    return Definition(normal(name), {n: fields for n, (_, fields) in types.items()})


def normal(name: str) -> str:
    """A type's name as ROS 2 writes it: package/msg/Type."""
    package, _, last = name.rpartition("/")
    return f"{package}/msg/{last}" if package and "/" not in package else name


@lru_cache(maxsize=1)
def _shipped() -> dict[str, Any]:
    from rosbags.typesys import Stores, get_typestore

    return dict(get_typestore(Stores.LATEST).fielddefs)

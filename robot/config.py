"""The one converter from YAML to frozen dataclasses.

The onboard code reads manifests with it, and the command line feeds it with what Hydra composed; so one
place decides what a valid value is, and every error names the file, the dotted key, what was found and
what is allowed. Supported field types: bool, int, float, str, Path, Literal, Optional, tuple, dict[str, X],
nested dataclasses, and unions of dataclasses told apart by their `kind` field.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml

from robot import files

T = TypeVar("T")


class ConfigError(ValueError):
    """A value that a person wrote is wrong; the message is one sentence: what, where, what to do."""

    exit_code = 2
    """What the command line ends with; subclasses for refused gates, data and bundles have their own."""


_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$")


_SafeLoader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser where PyYAML was built with it: a tenth of the time, the same values."""


class _Loader(_SafeLoader):  # type: ignore[misc, valid-type]
    """SafeLoader that reads `1e-3` as a number (YAML 1.2), which PyYAML's YAML 1.1 takes for text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; a key written twice is an error, where PyYAML silently keeps the last."""
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' stands twice", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes what `_Loader` would take for a number."""


for _cls in (_Loader, _Dumper):
    _cls.yaml_implicit_resolvers = {
        first: [(tag, regexp) for tag, regexp in rules if tag != "tag:yaml.org,2002:float"]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _cls.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def shipped() -> Path:
    """The folder of shipped YAML files: inside `transfer` when installed, at the top of a checkout."""
    code = Path(__file__).resolve().parents[1]
    installed = code / "transfer" / "_configs"
    return installed if installed.is_dir() else code / "configs"


def load_yaml(path: Path) -> Any:
    """Parse a YAML file; ConfigError names the file and line when it is missing or malformed."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML text that came from `source`."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{source}{where}: not valid YAML ({getattr(error, 'problem', error)}).") from error


def dump_yaml(value: Any) -> str:
    """YAML text of a dataclass or plain value; floats keep full precision, keys keep their order."""
    return yaml.dump(
        to_plain(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None
    )


def load(cls: type[T], path: Path) -> T:
    """Read a YAML file into the dataclass `cls`."""
    return convert(cls, load_yaml(path), source=str(path))


def save(path: Path, value: Any) -> None:
    """Write a dataclass as YAML, whole or not at all."""
    files.write_text(path, dump_yaml(value))


def to_plain(value: Any) -> Any:
    """Dataclasses, tuples, paths and numpy values as dicts, lists, strings and numbers."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    if hasattr(value, "tolist"):
        return to_plain(value.tolist())
    if isinstance(value, Path):
        return str(value)
    return value


def nearest(wrong: str, valid: Sequence[str]) -> str:
    """The hint that ends an error about a name: the closest valid one, and what exists."""
    close = difflib.get_close_matches(wrong, valid, n=1, cutoff=0.5)
    known = ", ".join(valid) if valid else "none"
    return f"Known: {known}." + (f" Did you mean '{close[0]}'?" if close else "")


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def convert(cls: type[T], data: Any, source: str = "config", key: str = "") -> T:
    """Convert plain data to the dataclass `cls`.

    `source` and the dotted `key` name the place in errors. Raises ConfigError on an unknown, missing or
    badly typed key, and on whatever the dataclass's own `__post_init__` refuses.
    """
    if not isinstance(data, Mapping):
        raise _wrong(source, key, data, "a mapping")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for name in data:
        if name not in fields:
            raise ConfigError(f"{source}: unknown key '{_dot(key, str(name))}'. {nearest(str(name), list(fields))}")
    values, hints = {}, _hints(cls)  # type: ignore[arg-type]
    for name, field in fields.items():
        if name in data:
            values[name] = value_of(hints[name], data[name], source, _dot(key, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{source}: key '{_dot(key, name)}' is missing.")
    try:
        return cls(**values)
    except ConfigError as error:
        place = f"{source}: {key}: " if key else f"{source}: "
        text = str(error)
        raise ConfigError(text if text.startswith(source) else place + text) from error


def _dot(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _wrong(source: str, key: str, found: Any, wanted: str) -> ConfigError:
    return ConfigError(f"{source}: {key or 'the document'} is {found!r}; it must be {wanted}.")


def value_of(kind: Any, data: Any, source: str, key: str) -> Any:
    """Convert plain data to the type `kind`; ConfigError names `source` and `key`."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return data
    if origin in (Union, types.UnionType):
        return _union(args, data, source, key)
    if origin is Literal:
        if data not in args:
            raise ConfigError(f"{source}: {key} is {data!r}; it must be one of {', '.join(map(repr, args))}.")
        return data
    if origin in (list, Sequence):
        origin, args = tuple, (args[0], Ellipsis)
    if origin is tuple:
        if not isinstance(data, Sequence) or isinstance(data, str):
            raise _wrong(source, key, data, "a list")
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(value_of(args[0], item, source, f"{key}[{i}]") for i, item in enumerate(data))
        if len(data) != len(args):
            raise _wrong(source, key, list(data), f"a list of {len(args)} values")
        return tuple(
            value_of(a, item, source, f"{key}[{i}]") for i, (a, item) in enumerate(zip(args, data, strict=True))
        )
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        if not isinstance(data, Mapping):
            raise _wrong(source, key, data, "a mapping")
        return {str(k): value_of(args[1], v, source, _dot(key, str(k))) for k, v in data.items()}
    if dataclasses.is_dataclass(kind):
        return convert(kind, data, source, key)  # type: ignore[arg-type]
    return _scalar(kind, data, source, key)


def of_text(kind: Any, text: str, source: str, key: str) -> Any:
    """Convert one value of a command line: text and paths as they are, everything else read as YAML."""
    options = set(get_args(kind)) if get_origin(kind) in (Union, types.UnionType) else {kind}
    if options & {str, Path}:
        return None if text in ("null", "") and type(None) in options else Path(text) if Path in options else text
    return value_of(kind, parse_yaml(text, f"{source}: {key}={text}"), source, key)


def _union(args: tuple[Any, ...], data: Any, source: str, key: str) -> Any:
    if data is None and type(None) in args:
        return None
    options = [a for a in args if a is not type(None)]
    if len(options) == 1:
        return value_of(options[0], data, source, key)
    if all(dataclasses.is_dataclass(a) for a in options):
        kinds = {get_args(_hints(a)["kind"])[0]: a for a in options}
        found = data.get("kind") if isinstance(data, Mapping) else data
        if found not in kinds:
            raise ConfigError(f"{source}: {_dot(key, 'kind')} is {found!r}. {nearest(str(found), list(kinds))}")
        return convert(kinds[found], data, source, key)
    for option in options:
        try:
            return value_of(option, data, source, key)
        except ConfigError:
            continue
    raise _wrong(source, key, data, " or ".join(getattr(o, "__name__", str(o)) for o in options))


def _scalar(kind: Any, data: Any, source: str, key: str) -> Any:
    if kind is float and isinstance(data, (int, float)) and not isinstance(data, bool):
        if math.isnan(data):
            raise _wrong(source, key, data, "a number, not NaN")
        return float(data)
    if kind is int and isinstance(data, int) and not isinstance(data, bool):
        return data
    if kind is bool and isinstance(data, bool):
        return data
    if kind is str and isinstance(data, str):
        return data
    if kind is Path and isinstance(data, (str, Path)):
        return Path(data)
    words = {float: "a number", int: "a whole number", bool: "true or false", str: "text", Path: "a path"}
    raise _wrong(source, key, data, words.get(kind, str(kind)))

"""Which recordings a path means, and what is read of each: a file, a folder of them, or a pattern."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from robot.config import ConfigError
from robot.spec import RobotSpec
from transfer.dataset import INDEX
from transfer.formats import Format, Recording, format_of, lerobot, whole_of
from transfer.formats.csv import companion_of
from transfer.screen import finding


def sources_of(paths: Sequence[str | Path], reader: Format | None = None) -> list[Path]:
    """Recordings in the order given; a part of one stands for it. ConfigError where a path matches none."""
    found: dict[Path, None] = {}
    for path in paths:
        matches = _expand(Path(path), reader)
        if not matches:
            raise ConfigError(f"path {path} matches no file.")
        found |= dict.fromkeys(map(whole_of if reader is None else lambda p: lerobot.root_of(p) or p, matches))
    return list(found)


def _expand(path: Path, reader: Format | None) -> Sequence[Path]:
    if path.exists():
        return _inside(path, reader)
    matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - absolute globs
    return [p for match in matches for p in _inside(Path(match), reader)]


def _inside(path: Path, reader: Format | None) -> list[Path]:
    """A recording itself, or those in a folder and the folders below."""
    detect = reader.detect if reader is not None else lambda p: format_of(p) is not None
    if path.is_file() or detect(path):
        return [path]
    out: list[Path] = []
    for p in sorted(path.iterdir()):
        if lerobot.detect(p) and (path / INDEX).is_file():
            continue  # a copy of this data set, by write=lerobot
        if detect(p):
            out.append(p)
        elif p.is_dir() and not p.name.startswith("."):
            out += _inside(p, reader)
    return out


def recordings_in(path: Path, spec: RobotSpec, given: Format | None) -> Iterable[Recording]:
    """What a source holds, read as it is asked for; a file that no format reads is a finding."""
    if path.is_file() and path.stat().st_size == 0:
        return [Recording(log=None, findings=(finding("empty", "", "file", "the file has no bytes."),))]
    if given is None and (measured := companion_of(path)) is not None:
        detail = f"it is a command file, and {measured.name} is not beside it."
        return [Recording(log=None, findings=(finding("missing_measured", "", "file", detail),))]
    reader = given or format_of(path)
    if reader is None:
        return [Recording(log=None, findings=(finding("unknown_format", "", "file", "no format reads it."),))]
    return reader.read(path, spec)

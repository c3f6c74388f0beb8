"""Ingestion: recorded files of any format into a data set, screened, with nothing dropped silently."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from robot import files, log
from robot.config import ConfigError, nearest
from robot.log import EpisodeLog
from robot.spec import RobotSpec
from transfer.dataset import INDEX, DataRefused, Episode, Finding, load_index, save_dataset
from transfer.formats import Recording, csv, format_of
from transfer.screen import KINDS, finding, in_time_order, screen
from transfer.screen_images import reference_of

Progress = Callable[[str], None]
COMPARED = 5
"""Episodes already in a data set that the cameras of new ones are compared with."""


def ingest(
    paths: Sequence[str | Path],
    spec: RobotSpec,
    out: Path,
    accept: Sequence[str] = (),
    progress: Progress | None = None,
) -> list[Episode]:
    """Read, screen and add recordings to the data set in `out`; returns one Episode for each that was read.

    `paths` are files, folders or globs. `accept` names kinds of findings that a person has looked at and lets
    pass. Raises ConfigError for an unknown kind or a path that matches nothing, and DataRefused (which
    carries the episodes) when none is accepted: the data set is then as it was.
    """
    for kind in accept:
        if kind not in KINDS:
            raise ConfigError(f"accept names '{kind}', which is no finding. {nearest(kind, list(KINDS))}")
    read: list[tuple[Recording, Path, str]] = []
    for path in _sources(paths):
        if progress is not None:
            progress(str(path))
        digest = files.sha256(path)
        read += [(recording, path, digest) for recording in _read(path, spec)]
    seen = [r.log for r, _, _ in read if r.log is not None] + _there(out, spec)
    episodes = [
        _judge(recording, path, digest, spec, set(accept), _references(recording.log, seen))
        for recording, path, digest in read
    ]
    if not any(e.accepted for e, _ in episodes):
        reasons = "; ".join(f"{Path(e.source).name}: {_reason(e)}" for e, _ in episodes[:3])
        more = f" (and {len(episodes) - 3} more)" if len(episodes) > 3 else ""
        raise DataRefused(f"no episode was accepted. {reasons}{more}", tuple(e for e, _ in episodes))
    return list(save_dataset(out, spec, episodes))


def _sources(paths: Sequence[str | Path]) -> list[Path]:
    """Files in the order given; a command file whose measurement is read too belongs to that one."""
    found: dict[Path, None] = {}
    for path in paths:
        matches = _expand(str(path))
        if not matches:
            raise ConfigError(f"path {path} matches no file.")
        found |= dict.fromkeys(matches)
    return [p for p in found if not ((measured := csv.companion_of(p)) and measured.is_file())]


def _expand(path: str) -> Iterable[Path]:
    if Path(path).is_dir():
        return sorted(p for p in Path(path).iterdir() if p.is_file() and format_of(p) is not None)
    if Path(path).is_file():
        return [Path(path)]
    return [Path(p) for p in sorted(glob.glob(path, recursive=True)) if Path(p).is_file()]  # noqa: PTH207 - absolute globs


def _read(path: Path, spec: RobotSpec) -> list[Recording]:
    if path.stat().st_size == 0:
        return [Recording(log=None, findings=(finding("empty", "", "file", "the file has no bytes."),))]
    if (measured := csv.companion_of(path)) is not None:
        detail = f"it is a command file, and {measured.name} is not beside it."
        return [Recording(log=None, findings=(finding("missing_measured", "", "file", detail),))]
    reader = format_of(path)
    if reader is None:
        return [Recording(log=None, findings=(finding("unknown_format", "", "file", "no format reads it."),))]
    return reader.read(path, spec)


def _there(out: Path, spec: RobotSpec) -> list[EpisodeLog]:
    """Some accepted episodes of the data set as it was, for what is only odd beside others: cameras."""
    if not spec.cameras or not (out / INDEX).is_file():
        return []
    accepted = [e for e in load_index(out, spec).episodes if e.accepted and (out / e.file).is_file()]
    return [log.load(out / e.file) for e in accepted[:COMPARED]]


def _references(episode: EpisodeLog | None, others: list[EpisodeLog]) -> dict[str, Any]:
    """Camera channel of an episode -> colour map of that camera in other episodes, where there are any."""
    cameras = [name for name in episode.channels if name.startswith("camera.")] if episode is not None else []
    found = {n: reference_of([o[n] for o in others if o is not episode and n in o]) for n in cameras}
    return {name: reference for name, reference in found.items() if reference is not None}


def _judge(
    recording: Recording, path: Path, digest: str, spec: RobotSpec, accept: set[str], references: Mapping[str, Any]
) -> tuple[Episode, EpisodeLog | None]:
    """The episode's entry in the index, and its log when it is accepted."""
    found, findings = recording.log, list(recording.findings)
    if found is not None:
        seen = {(f.kind, f.channel) for f in findings}
        findings += [f for f in screen(found, spec, references) if (f.kind, f.channel) not in seen]
    accepted = found is not None and not any(f.blocking and f.kind not in accept for f in findings)
    if found is not None and accepted:
        found = replace(in_time_order(found), fingerprint=spec.fingerprint())
    episode = Episode(
        file="",
        source=str(path),
        sha256=digest,
        seconds=round(found.seconds, 6) if found is not None else 0.0,
        accepted=accepted,
        findings=tuple(findings),
    )
    return episode, found if accepted else None


def _reason(episode: Episode) -> str:
    first: Finding | None = next((f for f in episode.findings if f.blocking), None)
    return f"{first.kind} at {first.where}: {first.detail}" if first else "nothing was read."

"""Ingestion: recorded files of any format into a data set, screened, with nothing dropped silently."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from robot import files
from robot.config import ConfigError, nearest
from robot.log import EpisodeLog
from robot.spec import RobotSpec
from transfer.dataset import DataRefused, Episode, Finding, save_dataset
from transfer.formats import Recording, csv, format_of
from transfer.screen import KINDS, finding, in_time_order, screen

Progress = Callable[[str], None]


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
    episodes: list[tuple[Episode, EpisodeLog | None]] = []
    for path in _sources(paths):
        if progress is not None:
            progress(str(path))
        digest = files.sha256(path)
        episodes += [_judge(recording, path, digest, spec, set(accept)) for recording in _read(path, spec)]
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


def _judge(
    recording: Recording, path: Path, digest: str, spec: RobotSpec, accept: set[str]
) -> tuple[Episode, EpisodeLog | None]:
    """The episode's entry in the index, and its log when it is accepted."""
    log, findings = recording.log, list(recording.findings)
    if log is not None:
        seen = {(f.kind, f.channel) for f in findings}
        findings += [f for f in screen(log, spec) if (f.kind, f.channel) not in seen]
    accepted = log is not None and not any(f.blocking and f.kind not in accept for f in findings)
    if log is not None and accepted:
        log = replace(in_time_order(log), fingerprint=spec.fingerprint())
    episode = Episode(
        file="",
        source=str(path),
        sha256=digest,
        seconds=round(log.seconds, 6) if log is not None else 0.0,
        accepted=accepted,
        findings=tuple(findings),
    )
    return episode, log if accepted else None


def _reason(episode: Episode) -> str:
    first: Finding | None = next((f for f in episode.findings if f.blocking), None)
    return f"{first.kind} at {first.where}: {first.detail}" if first else "nothing was read."

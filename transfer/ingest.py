"""Ingestion: recorded files of any format into a data set, screened, with nothing dropped silently.

One recording is in memory at a time: it is read, screened, reduced to what comparisons need (screening/kept.py),
put into a folder of its own inside the data set, and forgotten. What only shows beside other recordings is judged
last, and then the accepted ones are moved into place and the index is written: until then the data set is as it was.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from robot import files, log
from robot.config import ConfigError, nearest
from robot.log import EpisodeLog, LogError
from robot.spec import RobotSpec
from sim.model import Model
from transfer import comparison, screen_images
from transfer.comparison import Known
from transfer.dataset import INDEX, DataRefused, Episode, Finding, load_index, save_dataset
from transfer.formats import Format, Recording
from transfer.recordings import recordings_in, sources_of
from transfer.screen import KINDS, in_time_order, notice
from transfer.screen_images import reference_of
from transfer.screening import kept
from transfer.screening.config import ScreenConfig
from transfer.screening.repair import REPAIRS, repair
from transfer.screening.signals import Array, Noticed, Signals
from transfer.understood import Understood, understood

Progress = Callable[[str], None]
COMPARED = 5
"""Episodes already in a data set that the cameras of new ones are compared with."""
STAGING = ".new-"
"""What folders of an ingestion that is under way begin with."""


@dataclass(slots=True)
class Judged:
    """One recording on its way into the data set."""

    source: Path
    sha256: str
    seconds: float
    noticed: list[Noticed]
    """Everything odd, with its evidence."""
    repaired: set[str] = field(default_factory=set)
    """Kinds that were put right, and so block no more."""
    label: str = ""
    file: Path | None = None
    """Where the episode waits; None when nothing was read, or it is blocked by what it shows alone."""
    kept: kept.Kept | None = None
    pictures: dict[str, Array] = field(default_factory=dict)
    """Camera -> colour map."""
    understood: Understood = field(default_factory=lambda: Understood("", ""))
    among: bool = False
    """Whether its file holds several episodes, which their own names tell apart."""

    @property
    def name(self) -> str:
        """The episode's, or its file's where that has but one."""
        return self.understood.name if self.among and self.understood.name else _name(self.source)

    def findings(self) -> tuple[Finding, ...]:
        """In the order in which they were noticed."""
        return tuple(n.finding(KINDS[n.kind][0] and n.kind not in self.repaired) for n in self.noticed)

    def accepted(self, accept: set[str]) -> bool:
        return self.file is not None and not any(f.blocking and f.kind not in accept for f in self.findings())


@dataclass(kw_only=True)
class Ingestion:
    """How recordings are read and judged; run() does it, and `judged` tells afterwards what was seen."""

    spec: RobotSpec
    out: Path
    accept: Sequence[str] = ()
    """Kinds of findings that a person has looked at and lets pass."""
    repairs: Sequence[str] = ()
    """Rows of REPAIRS."""
    against: Sequence[Path] = ()
    """Data sets that must hold nothing of these recordings: test sets."""
    model: Model | None = None
    """The nominal robot, for the rules about dynamics; without it they are left out."""
    reader: Format | None = None
    """Reads every file; None: the format is told by the file."""
    config: ScreenConfig = field(default_factory=ScreenConfig)
    progress: Progress | None = None
    judged: list[Judged] = field(default_factory=list)

    def run(self, paths: Sequence[str | Path]) -> list[Episode]:
        """Read, screen and add recordings to the data set; one Episode for each that was read.

        `paths` are files, folders or globs. Raises ConfigError for an unknown kind or repair or a path that matches
        nothing, and DataRefused (which carries the episodes) when none is accepted: the data set is then as it was.
        """
        self._check()
        sources = sources_of(paths, self.reader)
        known = self._known()
        self.out.mkdir(parents=True, exist_ok=True)
        for stale in self.out.glob(f"{STAGING}*"):  # what a kill -9 left behind
            shutil.rmtree(stale, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=STAGING, dir=self.out) as staging:
            for path in sources:
                if self.progress is not None:
                    self.progress(str(path))
                self._read(path, Path(staging))
            self._compare(known)
            episodes = [self._episode(j) for j in self.judged]
            if not any(e.accepted for e in episodes):
                raise DataRefused(_why_none(episodes), tuple(episodes))
            waiting = [j.file if e.accepted else None for j, e in zip(self.judged, episodes, strict=True)]
            stored = save_dataset(self.out, self.spec, list(zip(episodes, waiting, strict=True)))
            self._keep(stored)
        return list(stored)

    def _check(self) -> None:
        for kind in self.accept:
            if kind not in KINDS:
                raise ConfigError(f"accept names '{kind}', which is no finding. {nearest(kind, list(KINDS))}")
        for name in self.repairs:
            if name not in REPAIRS:
                raise ConfigError(f"repair names '{name}', which cannot be repaired. {nearest(name, list(REPAIRS))}")

    def _known(self) -> list[Known]:
        """What is kept of the accepted episodes in the data set, and in those that must share nothing with it."""
        there = comparison.known(self.out, self.spec, self.model) if (self.out / INDEX).is_file() else []
        for folder in self.against:
            there += [replace(k, foreign=True) for k in comparison.known(folder, self.spec, self.model)]
        return there

    def _read(self, path: Path, staging: Path) -> None:
        digest, begin = files.sha256(path), len(self.judged)
        for recording in recordings_in(path, self.spec, self.reader):
            judged = Judged(path, digest, 0.0, [_noticed(f) for f in recording.findings])
            judged.understood = understood(recording)
            if len(self.judged) > begin:
                judged.among = self.judged[begin].among = True
            self.judged.append(judged)
            if recording.proposal:
                judged.noticed[-1] = replace(judged.noticed[-1], detail=self._proposed(path, recording))
            if recording.log is not None:
                self._screen(judged, recording.log, staging / f"{len(self.judged):06d}.mcap")

    def _proposed(self, path: Path, recording: Recording) -> str:
        """Write a map for a person to confirm beside the data set; what the finding says then. No file is replaced."""
        stem, count = _name(path), 1
        place = self.out / f"{stem}.columns.yaml"
        while place.exists() and place.read_text(encoding="utf-8") != recording.proposal:
            count += 1
            place = self.out / f"{stem}-{count}.columns.yaml"
        files.write_text(place, recording.proposal)
        detail = recording.findings[-1].detail
        return f"{detail} A guess is in {place}: look at it, confirm it, and pass it as map=."

    def _screen(self, judged: Judged, episode: EpisodeLog, path: Path) -> None:
        """What one episode shows alone; where that lets it pass, the episode waits at `path`."""
        seen = {(n.kind, n.channel) for n in judged.noticed}
        before = [n for n in notice(episode, self.spec, None, self.config) if (n.kind, n.channel) not in seen]
        judged.noticed += before
        if self.repairs:
            episode, done = repair(episode, self.spec, self.repairs, self.config)
            if done:
                after = notice(episode, self.spec, None, self.config)
                judged.repaired = {n.kind for n in judged.noticed if n.kind in self.repairs} - {n.kind for n in after}
                known = {(n.kind, n.channel) for n in judged.noticed}
                judged.noticed += [n for n in after if (n.kind, n.channel) not in known]  # what the repair has done
                judged.noticed += done
        judged.seconds, judged.label = round(episode.seconds, 6), episode.meta.get("label", "")
        if any(f.blocking and f.kind not in self.accept for f in judged.findings()):
            return
        judged.kept = kept.keep(Signals(episode, self.spec), self.model)
        judged.noticed += comparison.alone(judged.kept, self.config)
        for name, channel in episode.channels.items():
            if name.startswith("camera.") and (found := reference_of([channel])) is not None:
                judged.pictures[name] = found
        judged.file = replace(in_time_order(episode), fingerprint=self.spec.fingerprint()).save(path)

    def _compare(self, known: list[Known]) -> None:
        """What shows only beside other episodes."""
        passing = [j for j in self.judged if j.kept is not None]
        news = [Known(j.name, j.kept) for j in passing if j.kept is not None]
        for judged, found in zip(passing, comparison.compare(news, known, self.spec, self.config), strict=True):
            judged.noticed += found
        self._compare_pictures(passing)

    def _compare_pictures(self, passing: list[Judged]) -> None:
        """Red and blue exchanged in one episode, judged by the same camera's pictures in the others."""
        if not any(j.pictures for j in passing):
            return
        there = _pictures_there(self.out, self.spec)
        for judged in passing:
            others = [j.pictures for j in passing if j is not judged] + there
            for name in judged.pictures:
                reference = screen_images.median_map([o[name] for o in others if name in o])
                if reference is None or judged.file is None:
                    continue
                for kind, row, detail in screen_images.swapped(log.load(judged.file)[name], reference):
                    if (kind, name) not in {(n.kind, n.channel) for n in judged.noticed}:
                        judged.noticed.append(Noticed(kind, name, f"picture {row + 1}", detail))

    def _episode(self, judged: Judged) -> Episode:
        return Episode(
            file=judged.name if judged.among else "",
            source=str(judged.source),
            sha256=judged.sha256,
            seconds=judged.seconds,
            accepted=judged.accepted(set(self.accept)),
            findings=judged.findings(),
            label=judged.label,
        )

    def _keep(self, stored: Sequence[Episode]) -> None:
        """Leave what later comparisons need beside the data set."""
        for judged, episode in zip(self.judged, stored, strict=True):
            if episode.file and judged.kept is not None:
                kept.save(comparison.place(self.out, episode.file), judged.kept)


def ingest(
    paths: Sequence[str | Path],
    spec: RobotSpec,
    out: Path,
    accept: Sequence[str] = (),
    progress: Progress | None = None,
) -> list[Episode]:
    """Ingestion.run() with the defaults, and without the rules about dynamics."""
    return Ingestion(spec=spec, out=Path(out), accept=accept, progress=progress).run(paths)


def _noticed(found: Finding) -> Noticed:
    return Noticed(found.kind, found.channel, found.where, found.detail)


def _name(source: Path) -> str:
    return source.name.split(".")[0]


def _pictures_there(out: Path, spec: RobotSpec) -> list[dict[str, Array]]:
    """Colour maps of some accepted episodes of the data set as it was."""
    if not spec.cameras or not (out / INDEX).is_file():
        return []
    accepted = [e for e in load_index(out, spec).episodes if e.accepted and (out / e.file).is_file()]
    maps = []
    for episode in accepted[:COMPARED]:
        try:
            loaded = log.load(out / episode.file)
        except LogError:
            continue
        cameras = {n: reference_of([c]) for n, c in loaded.channels.items() if n.startswith("camera.")}
        maps.append({n: m for n, m in cameras.items() if m is not None})
    return maps


def _why_none(episodes: Sequence[Episode]) -> str:
    reasons = "; ".join(f"{Path(e.source).name}: {_reason(e)}" for e in episodes[:3])
    more = f" (and {len(episodes) - 3} more)" if len(episodes) > 3 else ""
    return f"no episode was accepted. {reasons}{more}"


def _reason(episode: Episode) -> str:
    first: Finding | None = next((f for f in episode.findings if f.blocking), None)
    return f"{first.kind} at {first.where}: {first.detail}" if first else "nothing was read."

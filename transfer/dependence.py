"""What must be made again when a recording is taken away: whatever was computed from it, by hash.

A recording goes where its bytes went: into data sets whose index has accepted them, from there into every stage whose
inputs have the hash of something that depends on it. Names decide nothing, so that a copy is followed (while what it
was copied from is there), and another file under an old name is not taken for it; what several stages hold alike was
made by the first of them. Where an input has been overwritten since, its content is not known any more; that is said,
and counts as a dependence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot import config, files
from robot.config import ConfigError, nearest
from robot.result import PAPERS
from transfer.dataset import INDEX, Dataset, Episode
from transfer.report.collect import StageResult, maker_of, with_makers

AGAIN = {
    "ingest": "ingest",
    "identify": "fit",
    "calibrate": "fit",
    "pretrain": "train",
    "train": "train",
    "finetune": "train",
    "synthesize": "draw",
    "export": "export",
    "record": "record",
    "run": "record",
}
"""Stage -> what is to be done again; everything else measures."""
SHORTEST = 8
"""Digits of a hash that name a recording."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """One recording that some stage has read."""

    source: str
    sha256: str
    reader: StageResult
    refused: bool = False
    """Whether the data set's index says that it was not accepted."""
    copy: str = ""
    """Hash of the episode that the data set made of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dependent:
    """A stage whose outputs depend on the recording."""

    stage: StageResult
    because: str
    certain: bool = True
    """False: one of its inputs was overwritten since, and may have held the recording."""

    def row(self) -> dict[str, Any]:
        """As result.json lists it."""
        again = AGAIN.get(self.stage.stage, "measure")
        return {
            "stage": self.stage.stage,
            "folder": str(self.stage.folder),
            "again": again,
            "because": self.because,
            "certain": self.certain,
        }


def without(run: Path, recording: str) -> dict[str, Any]:
    """What must be made again when `recording` is removed: stages under `run` and those that they were made from.

    `recording` is a file, an episode of a data set, or the first digits of a hash. ConfigError when none has read it.
    """
    stages = with_makers(run)
    known = [k for stage in stages for k in _read_by(stage)]
    digest = _digest(recording, known, run)
    found = dependents(stages, {digest, *(k.copy for k in known if k.sha256 == digest and k.copy and not k.refused)})
    refused = [str(k.reader.folder) for k in known if k.sha256 == digest and k.refused]
    return {"recording": recording, "sha256": digest, "redo": [d.row() for d in found], "refused_by": refused}


def dependents(stages: Sequence[StageResult], hashes: Iterable[str]) -> list[Dependent]:
    """Stages that depend on files with these hashes, each after those that it depends on.

    `stages` are in the order in which they finished.
    """
    bad, found = dict.fromkeys(hashes, "the recording"), dict[Path, Dependent]()
    wrote = {stage.folder: _outputs(stage) for stage in stages}
    first: dict[str, Path] = {}
    for folder, outputs in wrote.items():
        first = dict.fromkeys(outputs, folder) | first
    grown = True
    while grown:
        grown = False
        for stage in stages:
            folder = stage.folder
            if folder not in found and (dependent := _dependent(stage, bad, set(found))) is not None:
                found[folder], grown = dependent, True
                own = {d for d, of in wrote[folder].items() if first[d] == folder and of in ("", *bad)}
                bad |= dict.fromkeys(own, f"the output of {stage.stage} in {folder}")
    return _in_order(found)


def _in_order(found: dict[Path, Dependent]) -> list[Dependent]:
    """Each after those that made its inputs."""
    left, ordered = dict(found), list[Dependent]()
    while left:
        makers = {f: {maker_of(Path(p)) for p in d.stage.inputs} - {f} for f, d in left.items()}
        folder = next((f for f in left if not makers[f] & set(left)), next(iter(left)))
        ordered.append(left.pop(folder))
    return ordered


def _dependent(stage: StageResult, bad: dict[str, str], folders: set[Path]) -> Dependent | None:
    index = _index(stage.folder)
    if index is not None:
        taken = next((e for e in index.episodes if e.accepted and e.sha256 in bad), None)
        if taken is None:
            return None
        return Dependent(stage=stage, because=f"it accepted {bad[taken.sha256]}: {taken.source}")
    for path, digest in stage.inputs.items():
        if digest in bad:
            return Dependent(stage=stage, because=f"it read {bad[digest]}: {path}, sha256 {digest[:12]}")
    for path, digest in stage.inputs.items():
        maker = maker_of(Path(path))
        if maker is None or not (maker in folders or (maker / INDEX).is_file()):
            continue
        if not Path(path).exists() or files.sha256(Path(path), skip=PAPERS) != digest:
            because = f"it read {path} as sha256 {digest[:12]}, which was overwritten since and may have held it"
            return Dependent(stage=stage, because=because, certain=False)
    return None


def _outputs(stage: StageResult) -> dict[str, str]:
    """Hashes under which other stages may have read what a stage wrote -> hash of the one recording that is in it.

    The latter is empty where it is not that of one recording alone.
    """
    folder, index = stage.folder, _index(stage.folder)
    found = dict.fromkeys((files.sha256(folder, skip=PAPERS), files.sha256(folder / "result.json")), "")
    if index is None:
        return found | dict.fromkeys(_parts(folder, depth=2), "")
    there = [e for e in index.episodes if e.accepted and (folder / e.file).is_file()]
    return found | {files.sha256(folder / e.file): e.sha256 for e in there}


def _parts(folder: Path, depth: int) -> Iterable[str]:
    """Of files and folders in a folder, down to `depth`; those of another stage's run are its own."""
    for path in sorted(folder.iterdir()):
        if path.name in PAPERS or path.name.startswith(".") or (path / "result.json").is_file():
            continue
        yield files.sha256(path, skip=PAPERS)
        if path.is_dir() and depth > 1:
            yield from _parts(path, depth - 1)


def _index(folder: Path) -> Dataset | None:
    return config.load(Dataset, folder / INDEX) if (folder / INDEX).is_file() else None


def _read_by(stage: StageResult) -> list[Known]:
    """Recordings that a stage has read from outside, or that a recording stage has made."""
    index = _index(stage.folder)
    if index is not None:
        return [_known(stage, e) for e in index.episodes]
    raw = {p: d for p, d in stage.inputs.items() if maker_of(Path(p)) is None}
    return [Known(source=path, sha256=digest, reader=stage) for path, digest in raw.items()]


def _known(stage: StageResult, episode: Episode) -> Known:
    file = stage.folder / episode.file
    copy = files.sha256(file) if episode.file and file.is_file() else ""
    return Known(
        source=episode.source, sha256=episode.sha256, reader=stage, refused=not episode.accepted, copy=copy
    )  # fmt: skip


def _digest(recording: str, known: Sequence[Known], run: Path) -> str:
    """The hash of a recording under run=; ConfigError says what was read there instead."""
    path, there = Path(recording), {k.sha256 for k in known}
    if path.is_file():
        digest = files.sha256(path)
        digest = next((k.sha256 for k in known if k.copy == digest), digest)
        if digest in there:
            return digest
        other = sorted({k.sha256[:12] for k in known if Path(k.source).name == path.name})
        hint = f" Another content of that name was: remove={' or remove='.join(other)}." if other else ""
        raise ConfigError(f"remove={recording}: nothing under run={run} has read this content ({digest[:12]}).{hint}")
    fitting = {d for d in there if len(recording) >= SHORTEST and d.startswith(recording.lower())}
    fitting = fitting or {k.sha256 for k in known if recording in (k.source, Path(k.source).name)}
    if len(fitting) > 1:
        choice = ", ".join(sorted(d[:12] for d in fitting))
        raise ConfigError(f"remove={recording}: several recordings are called so; give one of the hashes {choice}.")
    if not fitting:
        names = sorted({Path(k.source).name for k in known})
        raise ConfigError(f"remove={recording}: nothing under run={run} has read it. {nearest(recording, names)}")
    return fitting.pop()

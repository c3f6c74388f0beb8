"""A data set: one folder with dataset.yaml and one MCAP file an episode.

The index is written last and by rename, so a crash, a full disk or a refused file leaves what was ingested
before whole. Rejected episodes stay in the index with their findings: nothing disappears silently.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from robot import config, log
from robot.config import ConfigError
from robot.log import EpisodeLog, LogError
from robot.spec import RobotSpec

SCHEMA_VERSION = 1
INDEX = "dataset.yaml"


class DataRefused(ConfigError):
    """Recorded data cannot be used; the message says which file, where in it, and what to do (exit code 4)."""

    exit_code = 4

    def __init__(self, message: str, episodes: tuple[Episode, ...] = ()) -> None:
        super().__init__(message)
        self.episodes = episodes
        """What an ingestion that accepted nothing found in each file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that screening noticed in one file."""

    kind: str
    """A row of transfer.screen.KINDS."""
    channel: str
    """Channel or column it is about; empty for the whole file."""
    where: str
    """Row and line, or time, of its first occurrence."""
    detail: str
    """One sentence with the figures."""
    blocking: bool = False
    """Whether it keeps the episode out, unless a person accepts its kind."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Episode:
    """One recorded episode as the index of a data set knows it."""

    file: str
    """MCAP file inside the folder; empty when the episode was not accepted."""
    source: str
    """Where it was read from."""
    sha256: str
    """Of the source file."""
    seconds: float
    accepted: bool
    findings: tuple[Finding, ...] = ()
    label: str = ""
    """What a trial ended with, `success` or `failure`; empty where nobody judged it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """dataset.yaml."""

    schema: int = SCHEMA_VERSION
    robot: str
    fingerprint: str
    """RobotSpec.fingerprint() of the robot that all episodes belong to."""
    episodes: tuple[Episode, ...] = ()

    def __post_init__(self) -> None:
        if self.schema != SCHEMA_VERSION:
            raise ConfigError(
                f"the data set has schema {self.schema}; this terrafirma reads {SCHEMA_VERSION}: ingest again."
            )


def load_index(folder: Path, spec: RobotSpec) -> Dataset:
    """The index of a data set; DataRefused when there is none, it is damaged, or it belongs to another robot."""
    path = Path(folder) / INDEX
    if not path.is_file():
        raise DataRefused(f"{folder}: not a data set (no {INDEX}); make one with `terrafirma ingest`.")
    try:
        index = config.load(Dataset, path)
    except ConfigError as error:
        raise DataRefused(str(error)) from error
    refuse_other_robot(str(folder), index.robot, index.fingerprint, spec)
    return index


def refuse_other_robot(what: str, robot: str, fingerprint: str, spec: RobotSpec) -> None:
    """DataRefused when a data set or log was recorded on another robot, or on another version of this one."""
    if robot != spec.name:
        raise DataRefused(f"{what}: recorded on robot '{robot}'; this robot is '{spec.name}'. Pass robot={robot}.")
    if fingerprint != spec.fingerprint():
        raise DataRefused(
            f"{what}: recorded with another version of robot '{robot}' (fingerprint {fingerprint}, now "
            f"{spec.fingerprint()}). Restore its configs/robot/{robot}.yaml, or ingest the sources again."
        )


def load_dataset(folder: Path, spec: RobotSpec) -> list[EpisodeLog]:
    """The accepted episodes of a data set, in the order of its index, each named as its file (so names differ).

    DataRefused when the folder is no data set, belongs to another robot, accepted nothing, or lost a file.
    """
    index = load_index(folder, spec)
    accepted = [e for e in index.episodes if e.accepted]
    if not accepted:
        raise DataRefused(f"{folder}: none of its {len(index.episodes)} episodes was accepted; see {INDEX} for why.")
    logs = []
    for episode in accepted:
        try:
            loaded = log.load(Path(folder) / episode.file)
            logs.append(replace(loaded, name=Path(episode.file).stem))
        except LogError as error:
            raise DataRefused(f"{error} Ingest {episode.source} again.") from error
    return logs


def save_dataset(folder: Path, spec: RobotSpec, episodes: Sequence[tuple[Episode, Path | None]]) -> tuple[Episode, ...]:
    """Add episodes to a data set, which is made if need be; returns them with their file names.

    Each comes with the MCAP file, on the same disk, that is moved into the data set if it is accepted, under the name
    that its `file` asks for, or else its source's. A source of the same content as before is replaced, everything else
    is kept. DataRefused when the folder holds another robot's episodes. If anything fails, the data set is as it was.
    """
    folder = Path(folder)
    known: tuple[Episode, ...] = load_index(folder, spec).episodes if (folder / INDEX).exists() else ()
    renewed = {(e.sha256, Path(e.source).name) for e, _ in episodes}
    kept = tuple(e for e in known if (e.sha256, Path(e.source).name) not in renewed)
    taken, stored, written = {e.file for e in known}, [], []
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for episode, waiting in episodes:
            name = ""
            if episode.accepted and waiting is not None:
                name = _free_name(episode, taken)
                taken.add(name)
                if not (folder / name).exists():
                    written.append(folder / name)
                waiting.replace(folder / name)
            stored.append(replace(episode, file=name))
        index = Dataset(robot=spec.name, fingerprint=spec.fingerprint(), episodes=kept + tuple(stored))
        config.save(folder / INDEX, index)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    for episode in known:  # replaced episodes leave their files behind; the new index does not name them
        if episode.file and episode.file not in {e.file for e in index.episodes}:
            (folder / episode.file).unlink(missing_ok=True)
    return tuple(stored)


def _free_name(episode: Episode, taken: set[str]) -> str:
    """A name that no episode of the data set has: files in use are never written over."""
    stem = re.sub(r"[^\w.-]+", "_", episode.file or Path(episode.source).name.split(".")[0])
    stem = stem or "episode"
    name = f"{stem}.mcap"
    if name in taken:
        name = f"{stem}-{episode.sha256[:8]}.mcap"
    count = 2
    while name in taken:
        name = f"{stem}-{episode.sha256[:8]}-{count}.mcap"
        count += 1
    return name

"""meta/terrafirma.json: what a LeRobotDataset that we wrote says beyond LeRobot, so that it comes back as it was.

LeRobot counts time in frames. Beside each frame we keep the true stamp of every channel's row in it (STAMPS, int64
[ns]); here, which channel stands in which columns, and what is no number. lerobot_writer.py writes this file, and
lerobot.py reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robot import config
from robot.config import ConfigError
from robot.log import Channel, EpisodeLog
from transfer.formats.lerobot_info import TEXT_BYTES, Feature

OWN = Path("meta/terrafirma.json")
SCHEMA = 1
STAMPS = "log.t_ns"
"""Feature with the true stamp of each channel's row [ns], as many components as there are channels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnChannel:
    """Where a channel stands."""

    name: str
    unit: str
    components: tuple[str, ...] = ()
    feature: str
    start: int = 0
    """Its first component in the feature."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnText:
    """One row of a channel of texts."""

    channel: str
    t_ns: int
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnEpisode:
    name: str
    length: int
    """Frames, by which an edited data set is noticed."""
    meta: dict[str, str]
    texts: tuple[OwnText, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Own:
    """The file."""

    schema: int = SCHEMA
    robot: str
    fingerprint: str
    channels: tuple[OwnChannel, ...]
    """In the order of the stamps' components."""
    episodes: tuple[OwnEpisode, ...]


def load(root: Path) -> Own | None:
    """The file of a data set; None where there is none, or it is damaged: the data set is then read as anybody's."""
    path = root / OWN
    try:
        if not path.is_file() or path.stat().st_size > TEXT_BYTES:
            return None
        own = config.load(Own, path)
    except (ConfigError, OSError):
        return None
    return own if own.schema == SCHEMA else None


def fits(own: Own, features: Mapping[str, Feature], lengths: list[int]) -> bool:
    """Whether the file still describes the data set: LeRobot's tools delete, split and merge episodes without it."""
    if [e.length for e in own.episodes] != lengths or STAMPS not in features:
        return False
    if features[STAMPS].shape != (len(own.channels),):
        return False
    for channel in own.channels:
        feature = features.get(channel.feature)
        if feature is None or channel.start < 0:
            return False
        if not feature.is_picture and channel.start + len(channel.components) > feature.shape[0]:
            return False
    return True


def numbers(own: Own, arrays: Mapping[str, np.ndarray]) -> dict[str, Channel]:
    """The channels of numbers of one episode, of its features (n,) or (n, k): each row once, under its own stamp."""
    stamps = np.atleast_2d(arrays[STAMPS].T).T
    channels = {}
    for k, channel in enumerate(own.channels):
        if channel.feature not in arrays:
            continue
        rows = first_of(stamps[:, k])
        values = np.atleast_2d(arrays[channel.feature].T).T[
            rows, channel.start : channel.start + len(channel.components)
        ]
        channels[channel.name] = Channel(channel.name, channel.unit, channel.components, stamps[rows, k], values)
    return channels


def first_of(stamps: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Rows of the first of equal stamps, in their order: what a frame repeats was one row."""
    return np.sort(np.unique(stamps, return_index=True)[1])


def log_of(own: Own, index: int, channels: Mapping[str, Channel]) -> EpisodeLog:
    """The episode with its texts and its own name."""
    episode = own.episodes[index]
    texts = dict[str, Channel]()
    for name in dict.fromkeys(t.channel for t in episode.texts):
        rows = [t for t in episode.texts if t.channel == name]
        values = np.array([t.text for t in rows], dtype=object)
        texts[name] = Channel(name, "text", (), np.array([t.t_ns for t in rows], np.int64), values)
    return EpisodeLog(episode.name, own.robot, own.fingerprint, {**channels, **texts}, episode.meta)

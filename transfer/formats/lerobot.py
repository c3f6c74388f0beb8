"""LeRobotDataset v3.0, v2.1 and v2.0: Hugging Face's folders of parquet tables and videos.

A data set that `ingest write=lerobot` wrote comes back with its channels, units and true stamps. Any other says neither
units nor which robot it is, and its time is frame_index / fps: a map says what its columns mean (column_map.py).
Columns are named `observation.state/shoulder_pan.pos`, by feature and component.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from robot.log import Channel
from robot.spec import RobotSpec
from transfer.dataset import DataRefused, Finding, refuse_other_robot
from transfer.formats import Recording, lerobot_info, lerobot_own, parquet, sources
from transfer.formats.column_map import UNKNOWN
from transfer.formats.layout import nanoseconds
from transfer.formats.lerobot_info import INFO, Episode, Info, LeRobotRefused
from transfer.formats.lerobot_pictures import pictures_of
from transfer.formats.sources import Clock, Pictures, Source, refused, table_of, unmapped
from transfer.formats.sources import flat as flattened
from transfer.screen import finding

TOLERANCE_S = 1e-4
COUNTED = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""Columns that every data set has."""
ZEROS = "zeros and directions are those of the arm's calibration, which the data set does not keep."
ARMS = ("follower", "so10", "koch", "lekiwi")
"""What the types of robots that LeRobot calibrates by hand have in their names."""
NOMINAL = "LeRobot counts time: stamps are frame_index / fps, and were not measured."


def detect(path: Path) -> bool:
    """A folder with meta/info.json."""
    return path.is_dir() and (path / INFO).is_file()


def root_of(path: Path) -> Path | None:
    """The data set that a file is part of, up to five folders above it; None for other files."""
    return next((p for p in list(path.parents)[:5] if detect(p)), None)


def read(path: Path, spec: RobotSpec) -> Iterator[Recording]:
    """The episodes of a data set of ours; of any other what is wrong with it, or a map to confirm."""
    try:
        opened = _open(path)
    except LeRobotRefused as error:
        return iter([Recording(log=None, findings=(_finding(error),), format="LeRobotDataset")])
    if opened.own is None:
        return unmapped(_episodes(opened), spec)
    return _own(opened, opened.own, spec)


def episodes(path: Path) -> Iterator[Source]:
    """The episodes as columns, in the order of their numbers."""
    try:
        opened = _open(path)
    except LeRobotRefused as error:
        yield refused(path.name, "LeRobotDataset", error.kind, str(error), error.where)
        return
    yield from _episodes(opened)


@dataclass(slots=True)
class _Opened:
    """A data set whose index has been read."""

    root: Path
    info: Info
    index: list[Episode]
    own: lerobot_own.Own | None
    tasks: Mapping[int, str]
    cached: tuple[Path, dict[str, np.ndarray]] | None = field(default=None)
    """The last data file, which usually holds the next episode as well."""

    @property
    def format(self) -> str:
        of = f" of robot type {self.info.robot_type!r}" if self.info.robot_type else ""
        return f"LeRobotDataset {self.info.version}{of}, {len(self.index)} episodes at {self.info.fps:g} Hz"


def _open(root: Path) -> _Opened:
    info = lerobot_info.load(root)
    index = lerobot_info.episodes(root, info)
    own = lerobot_own.load(root)
    if own is not None and not lerobot_own.fits(own, info.features, [e.length for e in index]):
        own = None
    return _Opened(root, info, index, own, lerobot_info.tasks(root, info))


def _lacking(opened: _Opened) -> LeRobotRefused | None:
    """What the index lacks of the episodes that info.json counts."""
    total, there = opened.info.total_episodes, len(opened.index)
    if total in (-1, there):
        return None
    return LeRobotRefused("incomplete", "meta/episodes", f"the index has {there} of the {total} episodes of info.json.")


def _episodes(opened: _Opened) -> Iterator[Source]:
    if (error := _lacking(opened)) is not None:
        yield refused(opened.root.name, opened.format, error.kind, str(error), error.where)
    for episode in opened.index:
        name = f"{opened.root.name}-{episode.index:06d}"
        try:
            arrays, first, file = _rows(opened, episode)
        except LeRobotRefused as error:
            yield refused(name, opened.format, error.kind, str(error), error.where)
            continue
        columns, units = dict[str, np.ndarray](), dict[str, str]()
        for key, values in arrays.items():
            if key in COUNTED or key == lerobot_own.STAMPS:
                continue
            feature = opened.info.features.get(key)
            names = feature.names if feature is not None and feature.names and values.ndim == 2 else None
            cells = flattened(key, values, names)
            columns |= cells
            stated = feature.units if feature is not None and feature.units else (UNKNOWN,) * len(cells)
            units |= dict(zip(cells, stated, strict=False))
        stamps, nominal = _stamps(arrays, opened.info.fps)
        columns["timestamp"] = stamps
        meta = {"task": task} if (task := _task(opened, arrays)) else {}
        t_ns = nanoseconds(stamps, 1.0)
        by_hand = (
            opened.own is None
            and any(arm in opened.info.robot_type for arm in ARMS)
            and not any(f.units for f in opened.info.features.values())
        )
        told = (finding("unknown_zero", "joint.position", "file", ZEROS),) if by_hand else ()
        yield Source(
            name=name, format=opened.format, table=table_of(columns, told), units=units, meta=meta,
            clock=Clock(column="timestamp", nominal=nominal), episodes=len(opened.index),
            unread=tuple(n for n, f in opened.info.features.items() if n not in arrays and not f.is_picture),
            cameras=tuple(_cameras(opened.info)), pictures=_pictures(opened, episode, file, first, t_ns),
        )  # fmt: skip


def _cameras(info: Info) -> dict[str, str]:
    """Camera -> feature, by the last part of its name where that tells the cameras apart."""
    features = [n for n, f in info.features.items() if f.is_picture]
    ends = [n.rsplit(".", 1)[-1] for n in features]
    return {(end if ends.count(end) == 1 else n): n for n, end in zip(features, ends, strict=True)}


def _pictures(
    opened: _Opened, episode: Episode, file: Path, first: int, t_ns: np.ndarray
) -> Callable[[Collection[str]], Pictures]:
    def read(wanted: Collection[str]) -> Pictures:
        features = _cameras(opened.info)
        rows = {features[c]: np.arange(episode.length) for c in wanted}
        images, findings = pictures_of(opened.root, opened.info, episode, file, first, rows)
        return {
            c: Channel(f"camera.{c}", "uint8", (), t_ns, images[features[c]]) for c in wanted if features[c] in images
        }, findings

    return read


def _own(opened: _Opened, own: lerobot_own.Own, spec: RobotSpec) -> Iterator[Recording]:
    """Episodes of a data set of ours, as they were written."""
    findings: tuple[Finding, ...] = ()
    try:
        refuse_other_robot(opened.root.name, own.robot, own.fingerprint, spec)
    except DataRefused as error:
        kind = "other_robot" if own.robot != spec.name else "other_version"
        findings = (finding(kind, "", "meta/terrafirma.json", str(error)),)
        if kind == "other_robot":
            yield Recording(log=None, findings=findings, format=opened.format)
            return
    if (lacking := _lacking(opened)) is not None:
        yield Recording(log=None, findings=(_finding(lacking),), format=opened.format)
    for k, episode in enumerate(opened.index):
        try:
            arrays, first, file = _rows(opened, episode)
            channels = lerobot_own.numbers(own, arrays)
        except LeRobotRefused as error:
            yield Recording(log=None, findings=(*findings, _finding(error)), format=opened.format)
            continue
        stamps = np.atleast_2d(arrays[lerobot_own.STAMPS].T).T
        of_camera = {c.feature: (i, c) for i, c in enumerate(own.channels) if c.feature not in arrays}
        rows = {f: lerobot_own.first_of(stamps[:, i]) for f, (i, _) in of_camera.items() if f in opened.info.features}
        images, told = pictures_of(opened.root, opened.info, episode, file, first, rows)
        for feature, values in images.items():
            i, channel = of_camera[feature]
            channels[channel.name] = Channel(channel.name, channel.unit, (), stamps[rows[feature], i], values)
        log = lerobot_own.log_of(own, k, channels)
        log = replace(log, meta={**log.meta, "layout": "lerobot/own"})
        yield Recording(log=log, findings=(*findings, *told), format=opened.format)


def _rows(opened: _Opened, episode: Episode) -> tuple[dict[str, np.ndarray], int, Path]:
    """One episode's numbers by feature, the file that they stand in, and their first row in it."""
    path = lerobot_info.path_of(opened.root, opened.info.data_path, episode.data, INFO.as_posix())
    where = path.relative_to(opened.root).as_posix()
    if opened.cached is None or opened.cached[0] != path:
        opened.cached = None
        opened.cached = (path, _table(path, where))
    table = opened.cached[1]
    if lacking := next((n for n in ("episode_index", "frame_index", "timestamp") if n not in table), None):
        raise LeRobotRefused("missing_column", where, f"it has no column '{lacking}'.")
    rows = np.flatnonzero(table["episode_index"] == episode.index)
    if len(rows) != episode.length or not len(rows):
        detail = f"episode {episode.index} has {len(rows)} of its {episode.length} frames."
        raise LeRobotRefused("incomplete", where, detail)
    first = int(rows[0])
    arrays = {n: v[first : first + len(rows)] for n, v in table.items()}
    if not np.array_equal(arrays["frame_index"], np.arange(len(rows))):
        raise LeRobotRefused("incomplete", where, f"the frames of episode {episode.index} do not count from 0 on.")
    for name, values in arrays.items():
        feature = opened.info.features.get(name)
        width = values.shape[1] if values.ndim == 2 else 1
        if feature is not None and feature.shape not in ((width,), ()):
            detail = f"{name[:80]} has {width} components; {INFO.as_posix()} says {list(feature.shape)}."
            raise LeRobotRefused("unreadable", where, detail)
    return arrays, first, path


def _table(path: Path, where: str) -> dict[str, np.ndarray]:
    """Every column of numbers of one data file."""
    try:
        return parquet.numbers(path)[0]
    except parquet.TooLarge as error:
        told = (
            f"its numbers would take {sources.size_told(error.n_bytes)}, more than {sources.size_told(sources.MEMORY)}."
        )
        raise LeRobotRefused("too_large", where, told) from error
    except FileNotFoundError as error:
        raise LeRobotRefused("incomplete", where, "the file is missing.") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise LeRobotRefused("unreadable", where, f"not a whole parquet file ({parquet.short(error)}).") from error


def _stamps(arrays: Mapping[str, np.ndarray], fps: float) -> tuple[np.ndarray, str]:
    """Stamps [s]: exactly frame_index / fps, of which the file's are float32; its own where they are something else."""
    counted, given = arrays["frame_index"] / fps, np.asarray(arrays["timestamp"], np.float64)
    if np.abs(given - counted).max() <= TOLERANCE_S + 1e-6 * counted[-1]:
        return counted, NOMINAL
    return given, ""


def _task(opened: _Opened, arrays: Mapping[str, np.ndarray]) -> str:
    index = arrays.get("task_index")
    return opened.tasks.get(int(index[0]), "") if index is not None and np.isfinite(index[0]) else ""


def _finding(error: LeRobotRefused) -> Finding:
    return finding(error.kind, "", error.where, str(error))

"""Write a data set as a LeRobotDataset v3.0, which LeRobot 0.6 opens and trains on.

The numbers go into float32 (state, action) and float64 (the rest), pictures into videos or, small ones, into PNG files
inside the table, and what LeRobot has no place for into meta/terrafirma.json. The folder appears whole or not at all.
Source: LeRobot v0.6.1, src/lerobot/datasets: dataset_writer.py, io_utils.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robot import config, files, pictures
from robot import log as logs
from robot.config import ConfigError
from robot.log import EpisodeLog
from robot.spec import RobotSpec
from transfer.dataset import DataRefused
from transfer.formats import lerobot_stats as stats
from transfer.formats.lerobot_meta import (
    DATA,
    DATA_MB,
    EPISODES,
    FILES_A_CHUNK,
    VIDEO_MB,
    VIDEOS,
    dtype_of,
    episodes_table,
    info_of,
    plain,
    tasks_table,
)
from transfer.formats.lerobot_own import OWN, STAMPS, Own, OwnEpisode, OwnText
from transfer.formats.lerobot_plan import Frames, Plan, frames_of, plan
from transfer.formats.mp4 import CODECS, VideoWriter, encoder_of

PNG = "png"


@dataclass(frozen=True, kw_only=True, slots=True)
class LeRobotConfig:
    """`lerobot:` of `ingest`."""

    fps: int | None = None
    """Frames a second; null for the rate of the first camera, or else of the joints."""
    pictures: Literal["auto", "video", "image"] = "auto"
    """How pictures are kept: in videos, which lose detail, or as PNG files; auto: PNG up to 128 x 128."""
    video: Literal["auto", "av1", "h264"] = "auto"
    """The codec; auto: AV1 as LeRobot has it, where PyAV and the rate allow it."""
    task: str = ""
    """What the robot was to do, in words; empty for what the episode says, or the robot's name."""

    def __post_init__(self) -> None:
        if self.fps is not None and self.fps < 1:
            raise ConfigError(f"lerobot.fps is {self.fps}; it must be 1 or more.")


@dataclass(slots=True)
class Written:
    """What was written, and what was lost on the way."""

    folder: Path
    fps: int
    episodes: int = 0
    frames: int = 0
    features: tuple[str, ...] = ()
    lost_rows: dict[str, int] = field(default_factory=dict)
    """Channel -> rows between two frames, which no frame has."""
    late_ms: float = 0.0
    """How far a row's true stamp is from its frame's time, at most; the true one is kept beside it."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Channel -> why it was not written."""


def write(folder: Path, paths: Sequence[Path], spec: RobotSpec, cfg: LeRobotConfig | None = None) -> Written:
    """Write episodes (our MCAP files) as one LeRobotDataset; `folder` is replaced once all is written.

    Raises DataRefused where an episode lacks what the others have, ConfigError where a video cannot be encoded.
    """
    cfg = cfg or LeRobotConfig()
    made = plan(paths, spec, cfg.fps)
    as_images = {n: _as_images(size, cfg) for n, size in made.sizes.items()}
    with files.replacing_folder(folder) as new:
        writing = _Writing(new, made, spec, cfg, as_images)
        try:
            for path in paths:
                writing.add(logs.load(path))
        finally:
            writing.close()
        writing.finish()
    told = writing.written
    told.folder = Path(folder)
    return told


def _as_images(size: tuple[int, int], cfg: LeRobotConfig) -> bool:
    small = size[0] * size[1] <= pictures.LOSSLESS_PIXELS
    return cfg.pictures == "image" or (cfg.pictures == "auto" and small)


class _Writing:
    """A data set while it is written."""

    def __init__(self, root: Path, made: Plan, spec: RobotSpec, cfg: LeRobotConfig, as_images: dict[str, bool]) -> None:
        self.root, self.plan, self.spec, self.cfg, self.as_images = root, made, spec, cfg, as_images
        self.written = Written(root, made.fps, left_out=dict(made.left_out), features=(*made.names, *made.sizes))
        self.encoder = encoder_of(cfg.video, made.fps) if not all(as_images.values()) else ""
        self.codec = CODECS.get(self.encoder, "")
        self.tables: pq.ParquetWriter | None = None
        self.table_number, self.table_path = -1, root
        self.videos: dict[str, VideoWriter] = {}
        self.video_numbers = dict.fromkeys(made.sizes, -1)
        self.tasks: dict[str, int] = {}
        self.rows: list[dict[str, Any]] = []
        self.stats: list[dict[str, stats.Stats]] = []
        self.own: list[OwnEpisode] = []

    def add(self, episode: EpisodeLog) -> None:
        """Append one episode."""
        frames = frames_of(episode, self.plan)
        n, index = len(frames.rows[self.plan.base]), self.written.episodes
        task = self.cfg.task or episode.meta.get("task", "") or f"robot {self.spec.name}"
        number = self.tasks.setdefault(task, len(self.tasks))
        columns = self._numbers(episode, frames)
        columns |= _counted(n, index, self.written.frames, number, self.plan.fps)
        told = {name: stats.of_numbers(v if v.ndim == 2 else v[:, None]) for name, v in columns.items()}
        places: dict[str, Any] = {}
        images: dict[str, pa.Array] = {}
        for channel in (c for c in self.plan.channels if c.feature in self.plan.sizes):
            shown = episode[channel.name].values
            if shown.shape[1:3] != self.plan.sizes[channel.feature]:
                raise DataRefused(f"episode '{episode.name}': {channel.name} has another size than in the first.")
            rows = frames.rows[channel.name]
            told[channel.feature] = stats.of_pictures(shown[rows])
            if self.as_images[channel.feature]:
                images[channel.feature] = _png_column(shown, rows)
            else:
                places |= self._film(channel.feature, shown, rows)
        place = self._table({**columns, **images}, n)
        self.rows.append({"episode_index": index, "tasks": [task], "length": n, **place,
                          "dataset_from_index": self.written.frames, "dataset_to_index": self.written.frames + n,
                          **places})  # fmt: skip
        self.stats.append(told)
        self.own.append(_own_episode(episode, n))
        self._count(episode, frames, n)

    def close(self) -> None:
        """Close every open file."""
        if self.tables is not None:
            self.tables.close()
            self.tables = None
        for video in self.videos.values():
            video.close()
        self.videos.clear()

    def finish(self) -> None:
        """Write what stands in meta/."""
        meta = self.root / "meta"
        (self.root / EPISODES).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(episodes_table(self.rows, self.stats), self.root / EPISODES)
        pq.write_table(tasks_table(self.tasks), meta / "tasks.parquet")
        whole = {name: stats.combined([told[name] for told in self.stats]) for name in self.stats[0]}
        (meta / "stats.json").write_text(json.dumps({n: plain(s) for n, s in whole.items()}, indent=4))
        told = self.written
        info = info_of(
            self.plan, self.spec.name, (told.episodes, told.frames, len(self.tasks)), self.as_images, self.codec
        )
        (meta / "info.json").write_text(json.dumps(info, indent=4))
        own = Own(
            robot=self.spec.name,
            fingerprint=self.spec.fingerprint(),
            channels=self.plan.channels,
            episodes=tuple(self.own),
        )
        (self.root / OWN).write_text(json.dumps(config.to_plain(own), indent=1))

    def _numbers(self, episode: EpisodeLog, frames: Frames) -> dict[str, np.ndarray]:
        """Feature -> (n, k) of numbers, and the stamps."""
        parts: dict[str, list[np.ndarray]] = {}
        for channel in (c for c in self.plan.channels if c.feature in self.plan.names):
            values = episode[channel.name].ordered(channel.components)[frames.rows[channel.name]]
            parts.setdefault(channel.feature, []).append(values)
        columns = {n: np.concatenate(v, axis=1).astype(dtype_of(n)) for n, v in parts.items()}
        stamps = [episode[c.name].t_ns[frames.rows[c.name]] for c in self.plan.channels]
        return columns | {STAMPS: np.stack(stamps, axis=1)}

    def _table(self, columns: dict[str, Any], n: int) -> dict[str, int]:
        """Append one row group to the data file, a new one where it is full; returns where it stands."""
        table = pa.table({k: v if isinstance(v, pa.Array) else _column(v) for k, v in columns.items()})
        size = self.table_path.stat().st_size if self.tables is not None else 0
        if self.tables is None or size + table.nbytes >= DATA_MB << 20:
            if self.tables is not None:
                self.tables.close()
            self.table_number += 1
            self.table_path = self.root / DATA.format(**_place(self.table_number))
            self.table_path.parent.mkdir(parents=True, exist_ok=True)
            self.tables = pq.ParquetWriter(self.table_path, table.schema, compression="snappy", use_dictionary=True)
        self.tables.write_table(table, row_group_size=n)
        return {f"data/{k}": v for k, v in _place(self.table_number).items()}

    def _film(self, feature: str, shown: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
        """Append frames to a camera's video, a new one where it is full; returns where they stand."""
        video = self.videos.get(feature)
        if video is None or video.n_bytes >= VIDEO_MB << 20:
            if video is not None:
                video.close()
            self.video_numbers[feature] += 1
            path = self.root / VIDEOS.format(video_key=feature, **_place(self.video_numbers[feature]))
            path.parent.mkdir(parents=True, exist_ok=True)
            height, width = self.plan.sizes[feature]
            video = self.videos[feature] = VideoWriter(path, height, width, self.plan.fps, self.encoder)
        begin = video.frames
        for row in rows:
            video.add(shown[row])
        where = {f"videos/{feature}/{k}": v for k, v in _place(self.video_numbers[feature]).items()}
        return where | {
            f"videos/{feature}/from_timestamp": begin / self.plan.fps,
            f"videos/{feature}/to_timestamp": video.frames / self.plan.fps,
        }

    def _count(self, episode: EpisodeLog, frames: Frames, n: int) -> None:
        told = self.written
        told.episodes, told.frames = told.episodes + 1, told.frames + n
        told.late_ms = max(told.late_ms, round(frames.late_s * 1e3, 3))
        for channel in self.plan.channels:
            lost = len(episode[channel.name].t_ns) - len(np.unique(frames.rows[channel.name]))
            if lost:
                told.lost_rows[channel.name] = told.lost_rows.get(channel.name, 0) + lost


def _place(number: int) -> dict[str, int]:
    return {"chunk_index": number // FILES_A_CHUNK, "file_index": number % FILES_A_CHUNK}


def _counted(n: int, episode: int, before: int, task: int, fps: int) -> dict[str, np.ndarray]:
    """The columns that LeRobot counts."""
    frame = np.arange(n, dtype=np.int64)
    return {
        "timestamp": (frame / fps).astype(np.float32),
        "frame_index": frame,
        "episode_index": np.full(n, episode, np.int64),
        "index": before + frame,
        "task_index": np.full(n, task, np.int64),
    }


def _column(values: np.ndarray) -> pa.Array:
    """(n,) or (n, 1) as plain cells, (n, k) as lists of one length."""
    if values.ndim == 1 or values.shape[1] == 1:
        return pa.array(values.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1])


def _png_column(shown: np.ndarray, rows: np.ndarray) -> pa.Array:
    """Pictures as PNG files, each with the name that LeRobot gives them."""
    import cv2

    cells = [
        {"bytes": cv2.imencode(f".{PNG}", shown[row][:, :, ::-1])[1].tobytes(), "path": f"frame-{k:06d}.{PNG}"}
        for k, row in enumerate(rows)
    ]
    return pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def _own_episode(episode: EpisodeLog, n: int) -> OwnEpisode:
    texts = [
        OwnText(channel=name, t_ns=int(t), text=str(text))
        for name, c in episode.channels.items()
        if c.values.dtype.kind == "O"
        for t, text in zip(c.t_ns, c.values, strict=True)
    ]
    return OwnEpisode(name=episode.name, length=n, meta=dict(episode.meta), texts=tuple(texts))

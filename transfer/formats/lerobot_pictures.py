"""The pictures of one episode of a LeRobotDataset: frames of a shared video, or PNG files inside its table."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from transfer.dataset import Finding
from transfer.formats import lerobot_info, parquet, sources
from transfer.formats.lerobot_info import INFO, Episode, Feature, Info, LeRobotRefused
from transfer.formats.mp4 import Images, VideoRefused, frames_at
from transfer.formats.parquet_footer import RowGroup, row_groups
from transfer.formats.sources import size_told
from transfer.screen import finding

PNG = b"\x89PNG\r\n\x1a\n"
BATCH = 32
"""Pictures of a table that are in memory as files at a time."""


def pictures_of(
    root: Path,
    info: Info,
    episode: Episode,
    table: Path,
    first: int,
    rows: Mapping[str, npt.NDArray[np.intp]],
) -> tuple[dict[str, Images], tuple[Finding, ...]]:
    """Feature -> the pictures (n, h, w, 3) of the given frames of an episode; and what is wrong with those left out.

    `table` is the file with the episode's rows, which begin at row `first` of it.
    """
    images, findings, left = dict[str, Images](), list[Finding](), sources.MEMORY
    for name, frames in rows.items():
        feature = info.features[name]
        channel = f"camera.{name.rsplit('.', 1)[-1]}"
        try:
            left -= len(frames) * _bytes(name, feature)
            if left < 0:
                told = f"with {name} the pictures of one episode would take more than {size_told(sources.MEMORY)}."
                raise LeRobotRefused("too_large", INFO.as_posix(), told)
            if feature.dtype == "video":
                images[name] = _of_video(root, info, episode, name, frames)
            else:
                images[name] = _of_table(table, name, feature, first + frames)
        except LeRobotRefused as error:
            kind = error.kind if error.kind in ("too_large", "outside") else "damaged_video"
            findings.append(finding(kind, channel, error.where, f"{error} The camera is left out."))
    return images, tuple(findings)


def _bytes(name: str, feature: Feature) -> int:
    """Of one picture; LeRobotRefused where the feature is none of three colours."""
    if len(feature.shape) != 3 or feature.shape[2] != 3:
        told = f"{name[:80]} has the shape {list(feature.shape)}; pictures of height x width x 3 are read."
        raise LeRobotRefused("damaged_video", INFO.as_posix(), told)
    return int(np.prod(feature.shape, dtype=np.float64))


def _of_video(root: Path, info: Info, episode: Episode, name: str, frames: npt.NDArray[np.intp]) -> Images:
    if name not in episode.videos:
        raise LeRobotRefused("damaged_video", "meta/episodes", f"the index does not say where {name[:80]} is.")
    fields, start = episode.videos[name]
    path = lerobot_info.path_of(root, info.video_path, {**fields, "video_key": name}, INFO.as_posix())
    where = path.relative_to(root).as_posix()
    height, width, _ = info.features[name].shape
    try:
        return frames_at(path, start + frames / info.fps, height, width)
    except VideoRefused as error:
        raise LeRobotRefused("damaged_video", where, f"{error}.") from error


def _of_table(path: Path, name: str, feature: Feature, rows: npt.NDArray[np.intp]) -> Images:
    """Pictures that stand in the table as PNG files."""
    out = np.empty((len(rows), *feature.shape), np.uint8)
    wanted, seen = {int(row): k for k, row in enumerate(rows)}, 0
    where = path.name
    try:
        groups, start = _groups(row_groups(path), int(rows[0]), int(rows[-1]), name)
        with parquet.opened(path) as file:
            row = start
            for batch in file.iter_batches(BATCH, row_groups=groups, columns=[f"{name}.bytes"], use_threads=False):
                for cell in batch.column(0):
                    if row in wanted:
                        out[wanted[row]] = _decoded(cell.as_py(), feature, f"row {row + 1}")
                        seen += 1
                    row += 1
    except LeRobotRefused:
        raise
    except (pa.ArrowException, OSError, KeyError, IndexError, AttributeError, TypeError, ValueError) as error:
        raise LeRobotRefused("damaged_video", where, f"{name[:80]} cannot be read ({parquet.short(error)}).") from error
    if seen < len(rows):
        raise LeRobotRefused("damaged_video", where, f"{name[:80]} has {seen} of {len(rows)} pictures.")
    return out


def _groups(declared: Sequence[RowGroup], first: int, last: int, name: str) -> tuple[list[int], int]:
    """Row groups with rows `first` to `last`, and the first row of the first of them."""
    groups, start, row, size = list[int](), 0, 0, 0
    for k, group in enumerate(declared):
        if row + group.rows > first and row <= last:
            start = start if groups else row
            groups.append(k)
            size += group.n_bytes
        row += group.rows
    if size > sources.MEMORY:
        raise LeRobotRefused("too_large", name[:80], f"its row groups have {size_told(size)}.")
    return groups, start


def _decoded(cell: dict[str, bytes] | None, feature: Feature, where: str) -> Images:
    """A PNG of the declared size, which is looked at before it is unpacked."""
    import cv2

    data = (cell or {}).get("bytes") or b""
    height, width, _ = feature.shape
    if data[:8] != PNG or len(data) < 24 or struct.unpack(">II", data[16:24]) != (width, height):
        raise LeRobotRefused("damaged_video", where, f"it is no PNG of {width} x {height}.")
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None or picture.shape != (height, width, 3):
        raise LeRobotRefused("damaged_video", where, "the PNG is damaged.")
    return np.ascontiguousarray(picture[:, :, ::-1])

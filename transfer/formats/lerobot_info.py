"""What a LeRobotDataset says of itself: meta/info.json, where its episodes are, and what they were about.

Versions v3.0 (many episodes a file) and v2.1, v2.0 (a file an episode). Paths are built from the templates in info.json
without str.format, and none that leaves the data set's folder is followed.
Source: LeRobot v0.6.1 (Hugging Face), src/lerobot/datasets: dataset_metadata.py, utils.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transfer.formats import parquet
from transfer.formats.parquet_footer import row_groups

INFO = Path("meta/info.json")
TEXT_BYTES = 64 << 20
"""Most bytes of a JSON file that is read."""
PATHS = {
    "v3.0": (
        "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    ),
    "v2.1": (
        "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    ),
}
PATHS["v2.0"] = PATHS["v2.1"]
"""Version -> templates of data and videos where info.json gives none."""
EPISODES = 1_000_000
"""Most episodes of a data set that is read."""
_FIELD = re.compile(r"\{(\w+)(?::0?(\d)d)?\}")


class LeRobotRefused(ValueError):
    """A data set, or a part of one, cannot be read; `kind` is the finding that says so, `where` the file."""

    def __init__(self, kind: str, where: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.where = kind, where


@dataclass(frozen=True, slots=True)
class Feature:
    """One row of info.json's features."""

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...]
    """Of the components; empty where the data set gives none, or not as many as there are."""
    units: tuple[str, ...] = ()
    """Of the components, where the data set states them, as ours do (`info.units`)."""

    @property
    def is_picture(self) -> bool:
        return self.dtype in ("video", "image")


@dataclass(frozen=True, slots=True)
class Episode:
    """Where one episode is."""

    index: int
    length: int
    data: Mapping[str, int]
    """Fields of the data file's template."""
    videos: Mapping[str, tuple[Mapping[str, int], float]] = field(default_factory=dict)
    """Feature -> fields of its file's template, and when the episode begins in it [s]."""


@dataclass(frozen=True, slots=True)
class Info:
    """meta/info.json."""

    version: str
    fps: float
    robot_type: str
    total_episodes: int
    chunks_size: int
    features: Mapping[str, Feature]
    data_path: str
    video_path: str


def load(root: Path) -> Info:
    """info.json of a data set; LeRobotRefused names what is wrong in it."""
    data = _json(root / INFO, INFO.as_posix())
    version = str(data.get("codebase_version", ""))
    if version not in PATHS:
        known = ", ".join(PATHS)
        detail = f"LeRobotDataset {version[:20]!r} is not read; {known} are. LeRobot's own scripts convert data sets."
        raise LeRobotRefused("unknown_format", INFO.as_posix(), detail)
    fps, chunks = data.get("fps"), data.get("chunks_size", 1000)
    if (
        not isinstance(fps, (int, float))
        or isinstance(fps, bool)
        or not 0 < fps < 1e6
        or not isinstance(chunks, int)
        or chunks < 1
    ):
        raise LeRobotRefused("unreadable", INFO.as_posix(), f"fps {fps!r} or chunks_size {chunks!r} is wrong.")
    features = data.get("features")
    if not isinstance(features, dict) or not features:
        raise LeRobotRefused("unreadable", INFO.as_posix(), "it lists no features.")
    total = data.get("total_episodes")
    return Info(
        version=version,
        fps=float(fps),
        robot_type=str(data.get("robot_type") or "")[:80],
        total_episodes=total if isinstance(total, int) else -1,
        chunks_size=chunks,
        features={str(n): _feature(str(n), f) for n, f in features.items()},
        data_path=str(data.get("data_path") or PATHS[version][0]),
        video_path=str(data.get("video_path") or PATHS[version][1]),
    )


def episodes(root: Path, info: Info) -> list[Episode]:
    """Every episode of the index; LeRobotRefused where the index cannot be read."""
    found = _of_tables(root, info) if info.version == "v3.0" else _of_lines(root, info)
    if not found:
        raise LeRobotRefused("empty", "meta/episodes", "the data set lists no episodes.")
    return sorted(found, key=lambda e: e.index)


def path_of(root: Path, template: str, fields: Mapping[str, int | str], where: str) -> Path:
    """The file that a template names; LeRobotRefused ("outside") where it is not below the data set's folder."""

    def value(match: re.Match[str]) -> str:
        given = fields.get(match.group(1))
        if given is None:
            raise LeRobotRefused("unreadable", where, f"'{template[:120]}' names '{match.group(1)}', which is unknown.")
        return str(given).zfill(int(match.group(2) or 0))

    relative = Path(_FIELD.sub(value, template))
    if relative.is_absolute() or ".." in relative.parts or any("\0" in part for part in relative.parts):
        raise LeRobotRefused("outside", where, f"'{str(relative)[:120]!s}' is outside the data set's folder.")
    return root / relative


def tasks(root: Path, info: Info) -> dict[int, str]:
    """Task index -> what was asked for; empty where the file is missing or damaged, which costs a description only."""
    try:
        if info.version != "v3.0":
            rows = _lines(root / "meta/tasks.jsonl", "meta/tasks.jsonl")
            return {int(r["task_index"]): str(r["task"])[:400] for r in rows}
        path = root / "meta/tasks.parquet"
        if path.stat().st_size > TEXT_BYTES:
            return {}
        text = "task" if "task" in pq.read_schema(path).names else "__index_level_0__"  # as pandas names an index
        groups = row_groups(path)
        if sum(g.rows for g in groups) > EPISODES or sum(g.n_bytes for g in groups) > TEXT_BYTES:
            return {}
        with pq.ParquetFile(path, read_dictionary=[text]) as file:  # equal texts are kept once
            table = file.read(columns=["task_index", text], use_threads=False)
        found = list[str]()
        for part in table[text].chunks:
            told = [str(t)[:400] for t in part.dictionary.to_pylist()]
            found += ["" if k is None else told[k] for k in part.indices.to_pylist()]
        return {int(i): t for i, t in zip(table["task_index"].to_pylist(), found, strict=True) if i is not None}
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError):
        return {}


def _of_tables(root: Path, info: Info) -> list[Episode]:
    """v3.0: meta/episodes/chunk-*/file-*.parquet."""
    videos = [n for n, f in info.features.items() if f.dtype == "video"]
    wanted = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    of_video = {v: [f"videos/{v}/{k}" for k in ("chunk_index", "file_index", "from_timestamp")] for v in videos}
    found: list[Episode] = []
    for path in sorted((root / "meta/episodes").glob("chunk-*/file-*.parquet")):
        where = path.relative_to(root).as_posix()
        try:
            if len(found) + sum(group.rows for group in row_groups(path)) > EPISODES:
                raise LeRobotRefused("too_large", where, f"the index has more than {EPISODES} episodes.")
            table, _ = parquet.numbers(path, [*wanted, *(c for names in of_video.values() for c in names)])
        except LeRobotRefused:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            raise LeRobotRefused("unreadable", where, f"the index cannot be read ({parquet.short(error)}).") from error
        if lacking := next((n for n in wanted if n not in table), None):
            raise LeRobotRefused("missing_column", where, f"the index has no column '{lacking}'.")
        if not all(np.isfinite(table[n]).all() for n in wanted):
            raise LeRobotRefused("nan", where, "the index has empty cells.")
        for k in range(len(table["length"])):
            index, length, chunk, number = (int(table[n][k]) for n in wanted)
            places = {
                v: ({"chunk_index": int(table[c][k]), "file_index": int(table[f][k])}, float(table[start][k]))
                for v, (c, f, start) in of_video.items()
                if all(n in table and np.isfinite(table[n][k]) for n in (c, f, start))
            }
            found.append(Episode(index, length, {"chunk_index": chunk, "file_index": number}, places))
    return found


def _of_lines(root: Path, info: Info) -> list[Episode]:
    """v2.1: meta/episodes.jsonl, and one file an episode."""
    found = []
    for row in _lines(root / "meta/episodes.jsonl", "meta/episodes.jsonl"):
        try:
            index, length = int(row["episode_index"]), int(row["length"])
        except (KeyError, TypeError, ValueError) as error:
            raise LeRobotRefused("unreadable", "meta/episodes.jsonl", f"a row lacks {error}.") from error
        fields = {"episode_index": index, "episode_chunk": index // info.chunks_size}
        videos = {n: (fields, 0.0) for n, f in info.features.items() if f.dtype == "video"}
        found.append(Episode(index, length, fields, videos))
    return found


def _feature(name: str, data: Any) -> Feature:
    where = f"{INFO.as_posix()}: features.{name[:80]}"
    shape = data.get("shape") if isinstance(data, dict) else None
    if not isinstance(shape, list) or not all(isinstance(n, int) and 0 < n < 1 << 31 for n in shape):
        raise LeRobotRefused("unreadable", where, f"its shape is {str(shape)[:80]}, not a list of sizes.")
    width = shape[0] if len(shape) == 1 else 0
    names = _names(data.get("names"))
    info = data.get("info")
    units = _names(info.get("units")) if isinstance(info, dict) else ()
    return Feature(
        str(data.get("dtype", "")),
        tuple(shape),
        names if len(names) == width and len(set(names)) == width else (),
        units if len(units) == width else (),
    )


def _names(value: Any) -> tuple[str, ...]:
    """Names as a list, or, as older data sets have it, in lists by group."""
    if isinstance(value, dict):
        return tuple(n for part in value.values() for n in _names(part))
    return tuple(str(n)[:80] for n in value) if isinstance(value, list) else ()


def _json(path: Path, where: str) -> dict[str, Any]:
    try:
        data = json.loads(_text(path, where))
    except (ValueError, RecursionError) as error:
        raise LeRobotRefused("unreadable", where, f"it is no JSON ({parquet.short(error)}).") from error
    if not isinstance(data, dict):
        raise LeRobotRefused("unreadable", where, "it is no JSON object.")
    return data


def _lines(path: Path, where: str) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file."""
    try:
        rows = [json.loads(line) for line in _text(path, where).splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise LeRobotRefused("unreadable", where, f"a line is no JSON ({parquet.short(error)}).") from error
    return [r for r in rows if isinstance(r, dict)]


def _text(path: Path, where: str) -> str:
    try:
        if path.stat().st_size > TEXT_BYTES:
            raise LeRobotRefused("too_large", where, f"it has {path.stat().st_size >> 20} MiB of JSON.")
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise LeRobotRefused("incomplete", where, f"it cannot be read ({error.strerror}).") from error

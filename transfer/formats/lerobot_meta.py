"""The files in meta/ of a LeRobotDataset v3.0: info.json, the index of episodes, the tasks.

Source: LeRobot v0.6.1 (Hugging Face), src/lerobot/datasets: dataset_metadata.py, io_utils.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from transfer.formats.lerobot_own import STAMPS
from transfer.formats.lerobot_plan import ACTION, STATE, Plan
from transfer.formats.lerobot_stats import Stats

VERSION = "v3.0"
FILES_A_CHUNK = 1000
DATA_MB, VIDEO_MB = 100, 200
"""Sizes beyond which a new file is begun, as LeRobot has them."""
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEOS = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
COUNTED = {"timestamp": "float32"} | dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64")
"""Features that every data set has -> their type."""


def dtype_of(feature: str) -> str:
    """float32 is what LeRobot's policies compute in; what they do not read keeps its digits."""
    if feature == STAMPS:
        return "int64"
    return "float32" if feature in (STATE, ACTION) or feature.startswith("observation.") else "float64"


def info_of(
    plan: Plan, robot: str, totals: tuple[int, int, int], as_images: Mapping[str, bool], codec: str
) -> dict[str, Any]:
    """info.json; `totals` are of episodes, frames and tasks, `as_images` says which cameras have no video."""
    features: dict[str, Any] = {}
    for name, labels in plan.names.items():
        features[name] = {"dtype": dtype_of(name), "shape": [len(labels)], "names": list(labels)}
        if name != STAMPS:
            features[name]["info"] = {"units": plan.units(name)}
    for name, size in plan.sizes.items():
        features[name] = _picture_feature(size, "" if as_images[name] else codec, plan.fps)
    features |= {n: {"dtype": kind, "shape": [1], "names": None} for n, kind in COUNTED.items()}
    episodes, frames, tasks = totals
    return {
        "codebase_version": VERSION, "fps": plan.fps, "features": features,
        "total_episodes": episodes, "total_frames": frames, "total_tasks": tasks,
        "chunks_size": FILES_A_CHUNK, "data_files_size_in_mb": DATA_MB, "video_files_size_in_mb": VIDEO_MB,
        "data_path": DATA, "video_path": VIDEOS if codec else None,
        "robot_type": robot, "splits": {"train": f"0:{episodes}"},
    }  # fmt: skip


def _picture_feature(size: tuple[int, int], codec: str, fps: int) -> dict[str, Any]:
    names = ["height", "width", "channels"]
    if not codec:
        return {"dtype": "image", "shape": [*size, 3], "names": names}
    info = {
        "video.height": size[0], "video.width": size[1], "video.codec": codec, "video.pix_fmt": "yuv420p",
        "video.fps": fps, "video.channels": 3, "has_audio": False, "is_depth_map": False,
    }  # fmt: skip
    return {"dtype": "video", "shape": [*size, 3], "names": names, "info": info}


def episodes_table(rows: Sequence[Mapping[str, Any]], told: Sequence[Mapping[str, Stats]]) -> pa.Table:
    """The index: one row an episode, with its statistics by feature."""
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    for feature in told[0]:
        for key in told[0][feature]:
            columns[f"stats/{feature}/{key}"] = [plain(t[feature])[key] for t in told]
    columns |= {f"meta/episodes/{k}": [0] * len(rows) for k in ("chunk_index", "file_index")}
    return pa.table(columns)


def plain(stats: Stats) -> dict[str, Any]:
    """Statistics as lists."""
    return {k: v.astype(int).tolist() if k == "count" else v.tolist() for k, v in stats.items()}


def tasks_table(tasks: Mapping[str, int]) -> pa.Table:
    """Pandas' metadata makes `task` the index; without it LeRobot gives numbers for tasks."""
    table = pa.table({"task_index": list(tasks.values()), "task": list(tasks)})
    kinds = {"task_index": ("int64", "int64"), "task": ("unicode", "object")}
    columns = [
        {"name": n, "field_name": n, "pandas_type": p, "numpy_type": t, "metadata": None} for n, (p, t) in kinds.items()
    ]
    of_names = {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object"}
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [of_names | {"metadata": {"encoding": "UTF-8"}}],
        "columns": columns,
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})

"""Recordings in foreign formats, made when a test needs them; nothing of anybody else's is kept here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robot.log import Channel, EpisodeLog
from robot.spec import RobotSpec

EPOCH = 1_700_000_000_123_456_789
"""A clock since 1970 [ns], which float64 cannot hold."""


def motion(rows: int, width: int = 2, rate: float = 500.0) -> dict[str, np.ndarray]:
    """t (n,) [s]; q, v and tau (n, width) [rad, rad/s, N m], of which v is the slope of q."""
    t, k = np.arange(rows) / rate, 3.0 + 2.0 * np.arange(width)
    return {
        "t": t,
        "q": 0.5 * np.sin(np.outer(t, k)),
        "v": 0.5 * k * np.cos(np.outer(t, k)),
        "tau": 0.2 * np.sin(np.outer(t, k + 4.0)),
    }


def picture_stack(rows: int, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    """(n, h, w, 3) smooth pictures that a codec keeps, each of another brightness."""
    images = np.zeros((rows, *size, 3), np.uint8)
    images[..., 0] = (8 * np.arange(rows) % 240)[:, None, None]
    images[:, : size[0] // 2, :, 1] = 120
    return images


def episode(
    spec: RobotSpec, name: str = "run", rows: int = 60, rate: float = 30.0, jitter_ns: int = 2_000_000
) -> EpisodeLog:
    """What a robot with a camera records: every channel with a clock of its own."""
    made, rng = motion(rows, len(spec.joints), rate), np.random.default_rng(rows)
    t_ns = EPOCH + np.round(made["t"] * 1e9).astype(np.int64) + rng.integers(0, jitter_ns, rows)
    values = {
        "joint.position": ("rad", made["q"], 0),
        "joint.velocity": ("rad/s", made["v"], 0),
        "joint.effort": ("N m", np.full_like(made["q"], np.nan), 0),
        "command.effort": ("N m", made["tau"], 1_000_000),
        "servo.current": ("A", made["tau"] / 3.0, 300_000),
    }
    channels = {n: Channel(n, u, spec.joint_names, t_ns + late, v) for n, (u, v, late) in values.items()}
    channels["camera.front"] = Channel("camera.front", "uint8", (), t_ns, picture_stack(rows))
    channels["event"] = Channel("event", "text", (), t_ns[:2], np.array(["begin", "go on"], dtype=object))
    return EpisodeLog(name, spec.name, spec.fingerprint(), channels, {"label": "success", "task": "swing up"})


def lerobot_v21(root: Path, joints: Sequence[str], lengths: Sequence[int], fps: int = 50) -> Path:
    """A data set as LeRobot before v3.0 kept it, in degrees that it does not tell of."""
    n_joints = len(joints)
    names = [f"{j}.pos" for j in joints]
    vector = {"dtype": "float32", "shape": [n_joints], "names": {"motors": names}}
    counted = {
        n: {"dtype": "int64", "shape": [1], "names": None}
        for n in ("frame_index", "episode_index", "index", "task_index")
    }
    info = {
        "codebase_version": "v2.1", "robot_type": "lab_arm", "fps": fps, "chunks_size": 1000,
        "total_episodes": len(lengths), "total_frames": sum(lengths), "total_tasks": 1,
        "total_videos": 0, "total_chunks": 1,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet", "video_path": None,
        "features": {"observation.state": vector, "action": vector,
                     "timestamp": {"dtype": "float32", "shape": [1], "names": None}, **counted},
    }  # fmt: skip
    (root / "meta").mkdir(parents=True)
    (root / "data/chunk-000").mkdir(parents=True)
    begin = 0
    for k, n in enumerate(lengths):
        made, frame = motion(n, n_joints, fps), np.arange(n)
        degrees = np.degrees(made["q"]).astype(np.float32)
        wanted = np.degrees(made["q"] + 0.01).astype(np.float32)
        columns = {
            "observation.state": lists(degrees), "action": lists(wanted),
            "timestamp": (frame / fps).astype(np.float32), "frame_index": frame, "episode_index": np.full(n, k),
            "index": begin + frame, "task_index": np.zeros(n, np.int64),
        }  # fmt: skip
        pq.write_table(pa.table(columns), root / f"data/chunk-000/episode_{k:06d}.parquet")
        begin += n
    rows = [{"episode_index": k, "tasks": ["wave"], "length": n} for k, n in enumerate(lengths)]
    (root / "meta/episodes.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    (root / "meta/tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "wave"}))
    (root / "meta/info.json").write_text(json.dumps(info))
    return root


def lists(values: np.ndarray) -> pa.Array:
    """(n, k) as lists of one length."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def changed(path: Path, **changes: Any) -> None:
    """Put other values into a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def confirmed(proposal: str, **units: str) -> str:
    """A proposed map as a person leaves it: with the unit of each channel (dots as underscores) filled in."""
    text, channel = [], ""
    for line in proposal.replace("confirmed: false", "confirmed: true").splitlines():
        if line.startswith("  ") and line.rstrip().endswith(":"):
            channel = line.strip(" :").replace(".", "_")
        text.append(line.replace('unit: "?"', f"unit: {units[channel]}") if channel in units else line)
    return "\n".join(text)

"""Videos of a robot: pictures with their stamps, labels of some frames, and how far an estimate is off.

Angles are of the picture: 0 points down, positive is counter-clockwise as seen, in radians. Neighbouring frames look
alike, so every interval resamples blocks of time, never single frames. To read another kind of file: a function that
returns a Clip.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError
from transfer.dataset import DataRefused

Array = npt.NDArray[np.float64]
Images = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.bool_]

COLUMNS = ("frame", "angle_rad")
"""What a file of labels must have; `time_s`, and the flags below, may stand beside them."""
FLAGS = {"valid": True, "moving": True, "dup": False}
"""Optional columns of 0 and 1, and what holds where they are missing."""
BLOCK_S = 0.25
"""Length of the blocks of time that are resampled for an interval [s]."""
DRAWS = 1000
FAR_DEG = 10.0
STATISTICS: dict[str, Callable[[Array], float]] = {
    "median_deg": lambda e: float(np.median(e)),
    "mean_deg": lambda e: float(np.mean(e)),
    "p90_deg": lambda e: float(np.percentile(e, 90)),
    "share_over_10_deg": lambda e: float(np.mean(e > FAR_DEG)),
}
"""What is told of absolute errors [deg]."""


@dataclass(frozen=True, slots=True)
class Clip:
    """The frames of one video, cut and reduced to what an encoder takes."""

    name: str
    images: Images
    """(N, 3, h, w) RGB."""
    seconds: Array
    """(N,) stamps of the file [s], from the first frame on."""

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, slots=True)
class Labels:
    """Angles of some frames of a clip."""

    frames: npt.NDArray[np.intp]
    """(L,) numbers of the labelled frames, rising."""
    angles: Array
    """(L,) [rad]."""
    scored: Rows
    """(L,) valid, moving, and no repeat of the picture before: on the others a constant answer would look good."""

    def of(self, count: int) -> tuple[Array, Rows]:
        """(count,) angles of all frames, NaN where there is none, and which are scored."""
        angles, scored = np.full(count, np.nan), np.zeros(count, dtype=bool)
        angles[self.frames], scored[self.frames] = self.angles, self.scored
        return angles, scored

    def halves(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Scored frames of the first and of the second half of the motion, in time order."""
        moving = self.frames[self.scored]
        return moving[: len(moving) // 2], moving[len(moving) // 2 :]


def existing_file(path: Path | None, key: str) -> Path:
    """`path` if it is a file; DataRefused if not."""
    if path is None:
        raise DataRefused(f"{key}= is missing; give a file.")
    if not path.is_file():
        raise DataRefused(f"{key}={path}: there is no such file.")
    return path


def crop_of(numbers: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """crop= as read_clip() takes it; ConfigError when it has not four numbers."""
    if not numbers:
        return None
    if len(numbers) != 4:
        raise ConfigError(f"crop={list(numbers)}: give [column,row,width,height] in pixels of the video.")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def read_clip(path: Path, width: int, height: int, crop: tuple[int, int, int, int] | None = None) -> Clip:
    """All frames of a video, each cut to `crop` and reduced by area to (height, width).

    `crop`: column and row of the corner, width and height [pixel of the video]; default: the largest part about the
    middle that has the shape of the encoder's pictures. DataRefused when the file is no video, breaks off in its first
    frame, or is smaller than the crop.
    """
    import cv2

    path = existing_file(Path(path), "video")
    capture = cv2.VideoCapture(str(path))
    images: list[npt.NDArray[Any]] = []
    stamps: list[float] = []
    try:
        while True:
            whole, frame = capture.read()
            if not whole:
                break
            stamps.append(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e-3)
            left, top, wide, high = crop or _middle(frame.shape[1], frame.shape[0], width / height)
            part = frame[top : top + high, left : left + wide]
            if min(left, top, wide, high) < 0 or part.shape[:2] != (high, wide) or not part.size:
                raise DataRefused(
                    f"video={path}: crop {list(crop or ())} leaves the picture of {frame.shape[1]} x {frame.shape[0]}; "
                    "give crop=[column,row,width,height] inside it."
                )
            small = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
            images.append(cv2.cvtColor(small, cv2.COLOR_BGR2RGB).transpose(2, 0, 1))
        rate = float(capture.get(cv2.CAP_PROP_FPS))
    finally:
        capture.release()
    if not images:
        raise DataRefused(
            f"video={path}: OpenCV reads no frame of it; give an mp4 or another video that it can decode."
        )
    return Clip(path.stem, np.stack(images), _seconds(path, np.array(stamps), rate))


def _middle(width: int, height: int, aspect: float) -> tuple[int, int, int, int]:
    wide, high = min(width, round(height * aspect)), min(height, round(width / aspect))
    return (width - wide) // 2, (height - high) // 2, wide, high


def _seconds(path: Path, stamps: Array, rate: float) -> Array:
    """The file's stamps; frame numbers over the frame rate where the file has none that rise."""
    if len(stamps) < 2 or (np.diff(stamps) > 0.0).all():
        return stamps - stamps[0]
    if not (math.isfinite(rate) and rate > 0.0):
        raise DataRefused(f"video={path}: it has neither rising time stamps nor a frame rate; encode it again.")
    return np.arange(len(stamps)) / rate


def read_labels(path: Path, clip: Clip) -> Labels:
    """Labels of a clip's frames from a CSV file with the columns COLUMNS and perhaps `time_s` and FLAGS.

    DataRefused, naming file and row, for a missing column, a value that is no number, a frame that the clip lacks or
    that comes twice, or a `time_s` that is another frame's.
    """
    path = existing_file(Path(path), "labels")
    with path.open(newline="", encoding="utf-8", errors="replace") as stream:
        reader = csv.DictReader(stream)
        if missing := [c for c in COLUMNS if c not in (reader.fieldnames or ())]:
            raise DataRefused(f"labels={path}: column '{missing[0]}' is missing; its columns are {reader.fieldnames}.")
        rows = [_row(f"labels={path}: line {i}", row) for i, row in enumerate(reader, start=2)]
    if not rows:
        raise DataRefused(f"labels={path}: it has no rows.")
    rows.sort(key=lambda row: row["frame"])
    table = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    frames = table["frame"].astype(np.intp)
    _match(path, clip, frames, table["time_s"])
    scored = (table["valid"] != 0) & (table["moving"] != 0) & (table["dup"] == 0)
    return Labels(frames, table["angle_rad"], scored)


def _row(where: str, row: Mapping[str, str | None]) -> dict[str, float]:
    defaults = {"time_s": math.nan} | {name: float(value) for name, value in FLAGS.items()}
    try:
        out = {key: float(row[key] or value) if key in row else value for key, value in defaults.items()}
        out |= {key: float(row[key] or "nothing") for key in COLUMNS}
    except ValueError as error:
        raise DataRefused(f"{where}: {error}.") from error
    if out["frame"] != int(out["frame"]) or not math.isfinite(out["angle_rad"]):
        raise DataRefused(
            f"{where}: frame {row['frame']} and angle_rad {row['angle_rad']} must be finite, frame whole."
        )
    return out


def _match(path: Path, clip: Clip, frames: npt.NDArray[np.intp], seconds: Array) -> None:
    if frames[0] < 0 or frames[-1] >= len(clip):
        wrong = frames[0] if frames[0] < 0 else frames[-1]
        raise DataRefused(
            f"labels={path}: frame {wrong} is not in the video, whose frames are 0 to {len(clip) - 1}; "
            "give the labels of this very file."
        )
    if (same := np.flatnonzero(np.diff(frames) == 0)).size:
        raise DataRefused(f"labels={path}: frame {frames[same[0]]} is labelled twice.")
    half = 0.5 * float(np.median(np.diff(clip.seconds))) if len(clip) > 1 else math.inf
    off = np.abs(seconds - clip.seconds[frames])
    if (late := np.flatnonzero(off > half)).size:
        raise DataRefused(
            f"labels={path}: frame {frames[late[0]]} is at {seconds[late[0]]:.3f} s there and at "
            f"{clip.seconds[frames[late[0]]]:.3f} s in the video; give the labels of this very file."
        )


def angle_errors(estimate: Array, truth: Array) -> Array:
    """(...) absolute difference of two angles [rad], the short way round, in degrees."""
    return np.abs(np.degrees(np.angle(np.exp(1j * (np.asarray(estimate) - np.asarray(truth))))))


def summary(errors: Array, seconds: Array, rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """STATISTICS of absolute errors (N,) [deg] at `seconds` (N,), with intervals over blocks of time.

    errors may be (S, N), of S runs on the same frames, NaN where a run is not judged: the statistics are then means
    over runs, and the intervals resample runs and blocks.
    """
    return {name: _interval(lambda e, f=f: f(e), (errors,), seconds, rng) for name, f in STATISTICS.items()}


def change(after: Array, before: Array, seconds: Array, rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """STATISTICS of `after` minus those of `before`, both as in summary() and paired frame by frame."""
    return {
        name: _interval(lambda a, b, f=f: f(a) - f(b), (after, before), seconds, rng) for name, f in STATISTICS.items()
    }


def _interval(
    value: Callable[..., float], errors: tuple[Array, ...], seconds: Array, rng: np.random.Generator
) -> dict[str, Any]:
    """Mean over runs of `value` of a run's errors, with a percentile interval over runs and blocks of time."""
    tables = [np.atleast_2d(e) for e in errors]
    block = np.floor((seconds - seconds[0]) / BLOCK_S).astype(np.intp)
    members = [np.flatnonzero(block == b) for b in np.unique(block)]
    runs, both = np.arange(len(tables[0])), np.sum(tables, axis=0)

    def of(chosen: npt.NDArray[np.intp], frames: npt.NDArray[np.intp]) -> float:
        kept = np.isfinite(both[:, frames])
        values = [value(*(t[r, frames[kept[r]]] for t in tables)) for r in chosen if kept[r].any()]
        return float(np.mean(values)) if values else math.nan

    draws = []
    for _ in range(DRAWS):
        frames = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        draws.append(of(rng.choice(runs, len(runs)), frames))
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return {"mean": of(runs, np.arange(len(seconds))), "ci95": [float(low), float(high)], "n": len(seconds)}

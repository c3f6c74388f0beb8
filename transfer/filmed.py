"""What a vision encoder sees in a video, frame by frame, against labels where there are some.

The angle is the picture's: end about pivot as seen, because a camera in the hand rolls. Used by the stages evaluate
and finetune; the network is the one that goes on board.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robot import files
from robot.config import ConfigError
from transfer.report.video import write_angles
from transfer.video import Array, Clip, Images, Labels, angle_errors, read_clip, read_labels, summary

if TYPE_CHECKING:
    from policies.encoders.vision import VisionEncoder

FRAMES, FIGURE = "frames.csv", "angles.html"
"""Files that a stage leaves in its folder."""
FINE = 2
"""Frames that an encoder is adapted to are kept this many times larger than it takes: turning them blurs less."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What an encoder says of the N frames of a clip."""

    angle: Array
    """(N,) of the picture [rad]."""
    keypoints: Array
    """(N, 2, 2) pivot and end, in [-1, 1] of the picture."""
    spread: Array
    """(N, 2) how far the votes for each lie apart, in halves of the picture."""


def vision_encoder(folder: Path) -> VisionEncoder:
    """The vision encoder in a folder; ConfigError when it holds another kind, or none."""
    from policies.encoders.vision import CARD, VisionEncoder
    from robot.config import load_yaml

    if not (Path(folder) / CARD).is_file():
        raise ConfigError(f"encoder={folder}: it has no {CARD}; give the folder that `terrafirma pretrain` prints.")
    card = load_yaml(Path(folder) / CARD)
    if not isinstance(card, dict) or card.get("kind") != "vision":
        raise ConfigError(f"encoder={folder}: it is no vision encoder; pretrain one with encoder=vision.")
    return VisionEncoder.load(folder)


def one_camera(folder: Path) -> VisionEncoder:
    """A vision encoder that can be asked for an angle in one picture; ConfigError when it cannot."""
    encoder = vision_encoder(folder)
    if len(encoder.card.cameras) != 1 or len(encoder.card.keypoints) != 2:
        raise ConfigError(
            f"encoder={folder}: an angle in a video needs one camera and two keypoints, pivot and end; it has "
            f"{list(encoder.card.cameras)} and {list(encoder.card.keypoints)}."
        )
    return encoder


def read(
    encoder: VisionEncoder, video: Path, labels: Path | None, crop: tuple[int, int, int, int] | None, fine: int = 1
) -> tuple[Clip, Labels | None]:
    """A clip as the encoder takes it, `fine` times as large, and its labels."""
    clip = read_clip(video, fine * encoder.card.width, fine * encoder.card.height, crop)
    return clip, None if labels is None else read_labels(labels, clip)


def see(encoder: VisionEncoder, images: Images) -> Seen:
    """Angle and keypoints of pictures (N, 3, n h, n w), each by itself."""
    from policies.encoders.vision import image_angle

    parts = [(s.keypoints, s.spread) for s in _answers(encoder, images)]
    keypoints, spread = (np.concatenate([p[i].numpy() for p in parts]).astype(np.float64) for i in (0, 1))
    aspect = encoder.card.width / encoder.card.height
    angle = np.concatenate([image_angle(p[0], aspect).numpy() for p in parts]).astype(np.float64)
    return Seen(angle, keypoints, spread)


def joints(encoder: VisionEncoder, images: Images) -> Array:
    """(N, J) positions of the joints in pictures (N, 3, n h, n w)."""
    from policies.encoders.vision import joint_angles

    return np.concatenate([joint_angles(s, encoder.card).numpy() for s in _answers(encoder, images)]).astype(np.float64)


def _answers(encoder: VisionEncoder, images: Images) -> Iterator[Any]:
    """The encoder's Seen of pictures, some at a time."""
    import torch

    from policies.encoders.warp import pixels, reduced

    with torch.no_grad():
        for first in range(0, len(images), 128):
            batch = reduced(torch.from_numpy(images[first : first + 128]), encoder.card.height, encoder.card.width)
            yield encoder(pixels(batch))


def told(seen: Seen, clip: Clip, labels: Labels | None, out: Path, seed: int) -> dict[str, Any]:
    """Keys of result.json, with frames.csv and angles.html beside it.

    Errors are of scored frames alone: those that move, once each.
    """
    truth, scored = labels.of(len(clip)) if labels is not None else (np.full(len(clip), np.nan), None)
    files.write_text(out / FRAMES, _table(seen, clip, truth))
    write_angles(out / FIGURE, clip.name, clip.seconds, seen.angle, truth)
    keys: dict[str, Any] = {
        "frames": len(clip),
        "seconds_of_video": float(clip.seconds[-1]),
        "frames_csv": FRAMES,
        "figure": FIGURE,
    }
    if scored is not None and scored.any():
        keys["angle_error"] = scores(seen.angle, clip, truth, scored, seed)
    return keys


def scores(angle: Array, clip: Clip, truth: Array, rows: npt.NDArray[Any], seed: int) -> dict[str, Any]:
    """STATISTICS of the frames `rows`, with intervals over blocks of time, and the largest error [deg]."""
    errors = angle_errors(angle[rows], truth[rows])
    found: dict[str, Any] = dict(summary(errors, clip.seconds[rows], np.random.default_rng(seed)))
    return found | {"max_deg": float(errors.max())}


def _table(seen: Seen, clip: Clip, truth: Array) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["frame", "time_s", "angle_rad", "pivot_x", "pivot_y", "end_x", "end_y", "spread_pivot",
                     "spread_end", "label_rad", "error_deg"])  # fmt: skip
    errors = angle_errors(seen.angle, truth)
    for i, second in enumerate(clip.seconds):
        numbers = [second, seen.angle[i], *seen.keypoints[i].ravel(), *seen.spread[i], truth[i], errors[i]]
        writer.writerow([i, *("" if np.isnan(v) else f"{v:.5f}" for v in numbers)])
    return stream.getvalue()

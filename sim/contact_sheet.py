"""A sheet of pictures to look at: what a data set holds, with its labels drawn over it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sim.shards import Layout, Sample

Picture = npt.NDArray[np.uint8]

TILE = 192
"""Side of a picture on the sheet [pixel]."""
COLOURS = {1: (255, 140, 0), 2: (0, 220, 60)}
"""Of keypoints that are hidden, and of those that are seen."""


def save(path: Path, samples: Iterable[Sample], layout: Layout, count: int = 12) -> None:
    """Write a PNG of the first `count` samples, rare events first: pictures, segmentation with keypoints, depth."""
    import cv2

    from robot import files

    chosen = _pick(list(samples), count)
    columns = [np.vstack([_titled(s), _labelled(s, layout), _deep(s)]) for s in chosen]
    half = -(-len(columns) // 2)
    blank = np.zeros_like(columns[0])
    rows = [np.hstack(columns[:half]), np.hstack([*columns[half:], *[blank] * (2 * half - len(columns))])]
    sheet = np.vstack(rows if len(columns) > 1 else rows[:1])
    files.write_bytes(path, cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes())


def _pick(samples: list[Sample], count: int) -> list[Sample]:
    """Two of each event, then ordinary ones."""
    events = sorted({s.event for s in samples if s.event})
    rare = [s for e in events for s in [x for x in samples if x.event == e][:2]][: count // 2 + 2]
    return (rare + [s for s in samples if not s.event] + [s for s in samples if s.event and s not in rare])[:count]


def _scaled(image: Picture) -> Picture:
    import cv2

    scale = TILE / max(image.shape[:2])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)
    out = np.zeros((TILE, TILE, 3), dtype=np.uint8)
    out[: size[1], : size[0]] = small
    return out


def _titled(sample: Sample) -> Picture:
    import cv2

    out = _scaled(sample.rgb)
    text = f"{sample.index} {sample.event or 'ordinary'}"
    cv2.putText(out, text, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(out, text, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return out


def _labelled(sample: Sample, layout: Layout) -> Picture:
    """The segmentation, one colour a geom, half transparent over the picture, and the keypoints."""
    import cv2

    palette = np.random.default_rng(3).integers(40, 255, (len(layout.geoms) + 1, 3))
    palette[-1] = 0
    out = _scaled((0.35 * sample.rgb + 0.65 * palette[sample.segmentation]).astype(np.uint8))
    scale = TILE / max(layout.width, layout.height)
    for place, seen in zip(sample.keypoints, sample.visibility, strict=True):
        if seen:
            x, y = (round(float(v) * scale) for v in place)
            cv2.circle(out, (x, y), 4, (0, 0, 0), -1, cv2.LINE_AA)
            cv2.circle(out, (x, y), 3, COLOURS[int(seen)], -1, cv2.LINE_AA)
    return out


def _deep(sample: Sample) -> Picture:
    """Depth: near is bright; black is nothing."""
    import cv2

    depth = sample.depth.astype(np.float32)
    if not depth.any():
        return np.zeros((TILE, TILE, 3), dtype=np.uint8)
    grey = np.where(depth > 0.0, 40.0 + 215.0 * depth[depth > 0.0].min() / np.maximum(depth, 1e-3), 0.0)
    return _scaled(np.asarray(cv2.applyColorMap(grey.astype(np.uint8), cv2.COLORMAP_BONE), dtype=np.uint8)[..., ::-1])

"""Sheets of pictures for an encoder's card: which regions matter, and what looks alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robot import files

Pictures = npt.NDArray[np.uint8]

TILE = 128
"""Height of one picture on a sheet [pixel]."""
GAP = 4


def save_regions(path: Path, images: Pictures, maps: npt.NDArray[np.float64], points: npt.NDArray[np.floating]) -> None:
    """Pictures (N, cameras, 3, h, w) above the same with maps (N, cameras, h, w) of 0 to 1 laid over, and points.

    points (N, cameras, K, 2) in [-1, 1] of the picture.
    """
    import cv2

    columns = []
    for one, heat, places in zip(images, maps, points, strict=True):
        for picture, weight, found in zip(one, heat, places, strict=True):
            plain = _tile(picture)
            grey = np.repeat(cv2.cvtColor(plain, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
            colour = cv2.applyColorMap((255 * weight).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
            colour = cv2.resize(colour, plain.shape[1::-1], interpolation=cv2.INTER_LINEAR)
            laid = (0.5 * grey + 0.5 * colour).astype(np.uint8)
            for x, y in found:
                at = round((x + 1.0) / 2.0 * plain.shape[1]), round((y + 1.0) / 2.0 * plain.shape[0])
                cv2.circle(laid, at, 5, (255, 255, 255), 1, cv2.LINE_AA)
            columns.append(_stack([plain, laid], axis=0))
    _write(path, _stack(columns, axis=1))


def save_neighbours(path: Path, images: Pictures, neighbours: Sequence[Pictures]) -> None:
    """A row for each of N pictures (N, cameras, 3, h, w): it, and beside it its neighbours (M, cameras, 3, h, w)."""
    rows = []
    for one, near in zip(images, neighbours, strict=True):
        tiles = [_stack([_tile(p) for p in sample], axis=0) for sample in (one, *near)]
        bar = np.full((tiles[0].shape[0], 2 * GAP, 3), 255, np.uint8)
        rows.append(_stack([tiles[0], bar, *tiles[1:]], axis=1))
    _write(path, _stack(rows, axis=0))


def _tile(picture: Pictures) -> Pictures:
    """(3, h, w) -> (TILE, ..., 3)"""
    import cv2

    width = max(round(TILE * picture.shape[2] / picture.shape[1]), 1)
    upright = np.ascontiguousarray(picture.transpose(1, 2, 0))
    return np.asarray(cv2.resize(upright, (width, TILE), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)


def _stack(parts: Sequence[Pictures], axis: int) -> Pictures:
    """Pictures beside or below each other, with white between them."""
    shape = list(parts[0].shape)
    shape[axis] = GAP
    spaced = [x for part in parts for x in (part, np.full(shape, 255, np.uint8))][:-1]
    return np.concatenate(spaced, axis=axis)


def _write(path: Path, sheet: Pictures) -> None:
    import cv2

    files.write_bytes(path, cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes())

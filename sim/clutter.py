"""What lies about behind a robot, and titles laid over a film: drawings that differ from picture to picture.

A drawing follows from one number alone, the value of its target, so that a scene stays the same while its value does.
To add a thing: a function of (canvas, generator) and its row in THINGS. Sizes are shares of the canvas's height.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Canvas = npt.NDArray[np.uint8]

FINER = 2
"""Drawings are made this much larger than the picture, and averaged down."""
COLOURED = 0.35
"""Share of the things that have a colour; the others are grey, or nearly."""
LETTERS = "abcdefghiklmnoprstuvwxyzABDEGMRST   "


def generator(value: float) -> np.random.Generator:
    """The generator that belongs to a target's value: all of its digits choose."""
    return np.random.default_rng(int(np.float64(value).view(np.uint64)))


def clutter(backdrop: Canvas, value: float) -> Canvas:
    """(h, w, 3) the backdrop with as many random things before it as `value` says, rounded down."""
    import cv2

    rng, (height, width) = generator(value), backdrop.shape[:2]
    canvas = np.repeat(np.repeat(backdrop, FINER, axis=0), FINER, axis=1)
    draw = list(THINGS.values())
    for kind in rng.integers(0, len(draw), int(value)):
        draw[kind](canvas, rng)
    return np.asarray(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def title(image: npt.NDArray[np.float32], size: float) -> npt.NDArray[np.float32]:
    """The image (h, w, 3), 1 as full scale, with a line of text over it near its upper or lower edge."""
    import cv2

    rng, (height, width) = generator(size), image.shape[:2]
    text = "".join(rng.choice(list(LETTERS), rng.integers(5, 24)))
    mask = np.zeros((FINER * height, FINER * width), dtype=np.uint8)
    pixels = size * height * FINER
    thick = max(1, round(pixels * rng.uniform(0.08, 0.2)))
    left, margin = rng.uniform(0.0, 0.5) * FINER * width, rng.uniform(0.2, 1.5) * pixels
    base = pixels + margin if rng.random() < 0.5 else FINER * height - margin
    _write(mask, text, (left, base), pixels, 255, thick)
    share = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)[..., None] / 255.0
    tone = np.float32(rng.uniform(0.85, 1.0) if rng.random() < 0.8 else rng.uniform(0.0, 0.2))
    return np.asarray(image + share * (tone - image), dtype=np.float32)


def _write(
    canvas: Canvas, text: str, place: tuple[float, float], pixels: float, colour: int | list[int], thick: int
) -> None:
    """Text whose capitals are `pixels` high, its base line beginning at `place`."""
    import cv2

    at = round(place[0]), round(place[1])
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, pixels / 21.0, colour, thick, cv2.LINE_AA)


def _colour(rng: np.random.Generator) -> list[int]:
    tone = rng.uniform(0.0, 255.0)
    if rng.random() < COLOURED:
        return [int(c) for c in rng.uniform(0.0, 255.0, 3)]
    return [int(c) for c in np.clip(tone + rng.normal(0.0, 12.0, 3), 0.0, 255.0)]


def _size(rng: np.random.Generator, low: float, high: float) -> float:
    """As likely in each doubling of the size."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _point(canvas: Canvas, rng: np.random.Generator, beyond: float = 0.1) -> tuple[float, float]:
    height, width = canvas.shape[:2]
    return width * rng.uniform(-beyond, 1.0 + beyond), height * rng.uniform(-beyond, 1.0 + beyond)


def _rounded(points: npt.ArrayLike) -> npt.NDArray[np.int32]:
    return np.rint(np.asarray(points)).astype(np.int32)


def beam(canvas: Canvas, rng: np.random.Generator) -> None:
    """A straight bar, often level or upright, often with a lit or a shaded edge."""
    import cv2

    x, y = _point(canvas, rng)
    turn = rng.uniform(0.0, np.pi) if rng.random() < 0.6 else rng.integers(0, 2) * np.pi / 2 + rng.normal(0.0, 0.03)
    reach, thick = canvas.shape[0] * _size(rng, 0.2, 3.0) / 2, canvas.shape[0] * _size(rng, 0.008, 0.08)
    along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    ends = np.array([x, y]) + np.outer([-reach, reach], along)
    first = _colour(rng)
    for share in (0.0, 0.5) if rng.random() < 0.4 else (0.0,):
        a, b = _rounded(ends + share * thick * across)
        colour = first if share == 0.0 else _colour(rng)
        cv2.line(canvas, tuple(a), tuple(b), colour, max(1, round(thick * (1.0 - share))), cv2.LINE_AA)


def block(canvas: Canvas, rng: np.random.Generator) -> None:
    """A box, mostly upright."""
    import cv2

    size = canvas.shape[0] * _size(rng, 0.04, 0.7), canvas.shape[0] * _size(rng, 0.03, 0.5)
    turn = rng.normal(0.0, 3.0) if rng.random() < 0.7 else rng.uniform(0.0, 90.0)
    corners = cv2.boxPoints((_point(canvas, rng), size, float(turn)))
    cv2.fillConvexPoly(canvas, _rounded(corners), _colour(rng), cv2.LINE_AA)


def round_thing(canvas: Canvas, rng: np.random.Generator) -> None:
    """A disc or a ring: knobs, plugs, wheels, lamps."""
    import cv2

    radius = canvas.shape[0] * _size(rng, 0.015, 0.12)
    thick = -1 if rng.random() < 0.6 else max(1, round(radius * rng.uniform(0.1, 0.6)))
    middle = tuple(int(v) for v in _rounded(_point(canvas, rng)))
    cv2.circle(canvas, middle, max(1, round(radius)), _colour(rng), thick, cv2.LINE_AA)


def cable(canvas: Canvas, rng: np.random.Generator) -> None:
    """A hanging, curved line."""
    import cv2

    (x0, y0), (x1, y1) = _point(canvas, rng), _point(canvas, rng)
    t = np.linspace(0.0, 1.0, 12)
    sag = canvas.shape[0] * rng.uniform(-0.3, 0.5)
    points = np.stack([x0 + t * (x1 - x0), y0 + t * (y1 - y0) + 4.0 * sag * t * (1.0 - t)], axis=1)
    thick = max(1, round(canvas.shape[0] * _size(rng, 0.004, 0.02)))
    cv2.polylines(canvas, [_rounded(points)], False, _colour(rng), thick, cv2.LINE_AA)


def panel(canvas: Canvas, rng: np.random.Generator) -> None:
    """Everything on one side of a straight edge: a table, a wall, a shadow."""
    import cv2

    height, width = canvas.shape[:2]
    left, right = height * rng.uniform(0.2, 0.9) + height * rng.normal(0.0, 0.08, 2)
    down = rng.random() < 0.6
    edge = height if down else 0
    corners = _rounded([(0, left), (width, right), (width, edge), (0, edge)])
    mask = cv2.fillConvexPoly(np.zeros((height, width), dtype=np.uint8), corners, 255)
    share = 1.0 if rng.random() < 0.5 else rng.uniform(0.1, 0.6)
    table = np.arange(256.0)[:, None] * (1.0 - share) + share * np.array(_colour(rng))
    cv2.copyTo(cv2.LUT(canvas, table.astype(np.uint8)[None]), mask, canvas)


THINGS: dict[str, Callable[[Canvas, np.random.Generator], None]] = {
    "beam": beam,
    "block": block,
    "round_thing": round_thing,
    "cable": cable,
    "panel": panel,
}

"""The baselines that an encoder pretrained in simulation has to beat on a video of a pendulum.

A constant; a dark-blob detector that is told the geometry; a small network trained on procedural drawings (OpenCV) of
pendulums, zero-shot or tuned on some labelled frames, and the same network with nothing but those frames. Pictures are
(n, 3, h, w) uint8 RGB, angles [rad] as seen: 0 down, + counter-clockwise. To add a baseline: a function from pictures
(and labels) to angles, and its row in pendulum_video.py.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from policies import tensors

Array = npt.NDArray[np.float64]
Images = npt.NDArray[np.uint8]
SIZE = 64
DRAWINGS = 64_000
FINE = 2
"""Drawings are made this many times larger than SIZE, and reduced by area."""


def constant(labels: Array, count: int) -> Array:
    """(count,) one answer for all: the direction of the mean of the labels' unit vectors."""
    return np.full(count, np.angle(np.exp(1j * labels).mean()))


# -- dark blob ---------------------------------------------------------------------------------------------------------
def blob_angles(images: Images, pivot: Array, radius: float, disc_radius: float) -> Array:
    """(n,) angle of the darkest disc on the ring where the weight moves; all lengths in pixels of the picture.

    `pivot` (2,) column and row, `radius` and `disc_radius` are labelled geometry: this detector is told everything but
    the angle.
    """
    import cv2

    angles = np.linspace(-np.pi, np.pi, 720, endpoint=False)
    out = np.empty(len(images))
    side = 2 * int(np.ceil(disc_radius)) + 1
    y, x = np.mgrid[:side, :side] - side // 2
    kernel = (np.hypot(x, y) <= disc_radius).astype(np.float32)
    for i, image in enumerate(images):
        grey = cv2.cvtColor(np.ascontiguousarray(image.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY)
        dark = cv2.filter2D(255.0 - grey.astype(np.float32), -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)
        columns = (pivot[0] + radius * np.sin(angles)).astype(np.float32)[None]
        rows = (pivot[1] + radius * np.cos(angles)).astype(np.float32)[None]
        ring = cv2.remap(dark, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)[0]
        best = int(ring.argmax())
        near = np.arange(best - 12, best + 13)
        weights = np.clip(ring[near % len(angles)] - ring.max() + 30.0, 0.0, None)
        out[i] = np.angle((weights * np.exp(1j * angles[near % len(angles)])).sum())
    return out


# -- procedural drawings -----------------------------------------------------------------------------------------------
def drawings(count: int, rng: np.random.Generator) -> tuple[Images, Array]:
    """(count, 3, SIZE, SIZE) drawings of pendulums before clutter, and their angles (count,)."""
    images, angles = np.empty((count, 3, SIZE, SIZE), np.uint8), rng.uniform(-np.pi, np.pi, count)
    for i, angle in enumerate(angles):
        images[i] = _draw(float(angle), rng).transpose(2, 0, 1)
    return images, angles


def _draw(angle: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """(SIZE, SIZE, 3) one drawing: background, clutter, motor, rod and disc with motion blur, text, noise."""
    import cv2

    side = SIZE * FINE
    canvas = _background(side, rng)
    for _ in range(rng.integers(0, 14)):
        _clutter(canvas, rng)
    hub = side * (0.5 + rng.uniform(-0.1, 0.1, 2))
    length, disc, motor = side * rng.uniform(0.3, 0.5), side * rng.uniform(0.035, 0.075), side * rng.uniform(0.03, 0.08)
    colours = [_grey(rng, *span) for span in ((0, 120), (0, 255), (0, 70))]
    thick = int(rng.integers(1, 5))
    arc = rng.uniform(0.0, 0.2) if rng.random() < 0.5 else 0.0
    steps = 5 if arc else 1
    total = np.zeros(canvas.shape, np.float32)
    for turn in angle + (np.linspace(-0.5, 0.5, steps) * arc if arc else np.zeros(1)):
        layer = canvas.copy()
        end = hub + length * np.array([np.sin(turn), np.cos(turn)])
        _circle(layer, hub, motor, colours[0])
        cv2.line(layer, _fixed(hub), _fixed(end), colours[1], thick, cv2.LINE_AA, 4)
        _circle(layer, end, disc, colours[2])
        total += layer
    picture = (total / steps).astype(np.uint8)
    if rng.random() < 0.3:
        words = "".join(rng.choice(list("abcdefghijklmnopqrst "), 12))
        where = (int(rng.integers(0, side // 2)), int(rng.integers(8, side)))
        cv2.putText(picture, words, where, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    picture = cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    bright = picture * rng.uniform(0.6, 1.3) + rng.normal(0.0, rng.uniform(0.0, 8.0), picture.shape)
    return np.clip(bright, 0.0, 255.0).astype(np.uint8)


def _background(side: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    import cv2

    coarse = rng.uniform(0, 255, 3) + rng.normal(0.0, rng.uniform(0.0, 40.0), (*rng.integers(2, 7, 2), 3))
    smooth = cv2.resize(coarse.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth, 0, 255).astype(np.uint8)


def _clutter(canvas: npt.NDArray[np.uint8], rng: np.random.Generator) -> None:
    import cv2

    side = len(canvas)
    first, second = rng.integers(0, side, (2, 2))
    colour = tuple(int(c) for c in rng.integers(0, 256, 3))
    kind = rng.integers(3)
    if kind == 0:
        cv2.line(canvas, first.tolist(), second.tolist(), colour, int(rng.integers(1, 8)), cv2.LINE_AA)
    elif kind == 1:
        cv2.rectangle(canvas, first.tolist(), (first + rng.integers(3, 50, 2)).tolist(), colour, -1)
    else:
        cv2.circle(canvas, first.tolist(), int(rng.integers(2, 14)), colour, -1, cv2.LINE_AA)


def _grey(rng: np.random.Generator, low: int, high: int) -> tuple[float, ...]:
    return tuple(np.clip(rng.uniform(low, high) + rng.normal(0.0, 10.0, 3), 0, 255).tolist())


def _fixed(point: Array) -> tuple[int, int]:
    return int(point[0] * 16), int(point[1] * 16)


def _circle(layer: npt.NDArray[np.uint8], centre: Array, radius: float, colour: tuple[float, ...]) -> None:
    import cv2

    cv2.circle(layer, _fixed(centre), int(radius * 16), colour, -1, cv2.LINE_AA, 4)


# -- small network -----------------------------------------------------------------------------------------------------
class SmallCnn(nn.Module):
    """0.53 M weights: four convolutions and two layers, from a picture to cosine and sine of the angle."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 24, 5, 2, 2), nn.ReLU(), nn.Conv2d(24, 48, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(48, 96, 3, 2, 1), nn.ReLU(), nn.Conv2d(96, 96, 3, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(96 * 16, 256), nn.ReLU(), nn.Linear(256, 2),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images.float() / 127.5 - 1.0)


def cnn_angles(model: nn.Module, images: Images) -> Array:
    """(n,) angles."""
    with torch.no_grad():
        answer = torch.cat([model(torch.from_numpy(images[i : i + 256])) for i in range(0, len(images), 256)])
    return np.arctan2(answer[:, 1].numpy(), answer[:, 0].numpy()).astype(np.float64)


def train_cnn(seconds: float, seed: int, count: int = DRAWINGS) -> SmallCnn:
    """A network trained on `count` drawings for `seconds` of this process's CPU time."""
    images, angles = drawings(count, np.random.default_rng(seed))
    torch.manual_seed(seed)
    model = SmallCnn()
    _descend(model, images, angles, seconds, 1e-3, seed, batch=128)
    return model


def tune_cnn(model: SmallCnn, images: Images, angles: Array, seconds: float, seed: int, rate: float) -> SmallCnn:
    """A network tuned on a few labelled frames, with random shifts and changes of brightness."""
    _descend(model, images, angles, seconds, rate, seed, batch=64, augment=True)
    return model


def _descend(
    model: nn.Module, images: Images, angles: Array, seconds: float, rate: float, seed: int, batch: int,
    augment: bool = False,
) -> None:  # fmt: skip
    """Adam on the squared error of the unit vector; the rate falls as a cosine over the seconds of CPU time."""
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.from_numpy(images)
    wanted = torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32))
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    start = time.process_time()
    while (spent := (time.process_time() - start) / seconds) < 1.0:
        optimizer.param_groups[0]["lr"] = rate * 0.5 * (1.0 + float(np.cos(np.pi * spent)))
        pick = torch.randint(len(pictures), (batch,), generator=generator)
        shown = _augmented(pictures[pick], generator) if augment else pictures[pick].float()
        loss = (model(shown) - wanted[pick]).square().sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _augmented(pictures: Tensor, generator: torch.Generator, pad: int = 4) -> Tensor:
    padded = nn.functional.pad(pictures.float(), (pad,) * 4, mode="replicate")
    out = torch.empty(pictures.shape)
    for i, (x, y) in enumerate(torch.randint(2 * pad + 1, (len(pictures), 2), generator=generator).tolist()):
        out[i] = padded[i, :, y : y + SIZE, x : x + SIZE]
    gain = 0.8 + 0.4 * torch.rand(len(pictures), 1, 1, 1, generator=generator)
    return (out * gain).clamp(0.0, 255.0)


def save_cnn(model: SmallCnn, path: Path) -> None:
    tensors.save(path, dict(model.state_dict()))


def load_cnn(path: Path) -> SmallCnn:
    model = SmallCnn()
    tensors.load_into(model, path)
    return model.eval()


def settings() -> dict[str, Any]:
    """What the table says about the network."""
    return {"drawings": DRAWINGS, "size": SIZE, "weights": sum(p.numel() for p in SmallCnn().parameters())}

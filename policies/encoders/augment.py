"""Changes of pictures at training time that cost little and leave their labels known.

random_shift is the strong simple baseline of learning from pixels (Kostrikov et al., Image Augmentation Is All You
Need, ICLR 2021; Yarats et al., DrQ-v2, ICLR 2022); it is always available. Pictures are (B, 3, h, w), keypoints
(B, K, 2) in [-1, 1] of the picture, as policies/encoders/vision.py has them. To add a change: a function of
(pictures, generator), and its call in strong().
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

NORMALS = 1 << 20
"""Size of the table from which noise is taken: drawing it anew costs as much as a layer of the network."""


def random_shift(images: Tensor, keypoints: Tensor, generator: torch.Generator, pad: int = 4) -> tuple[Tensor, Tensor]:
    """Each picture shifted by up to `pad` pixels in each direction, its edge repeated; keypoints move along.

    images (B, C, h, w) of any type, keypoints (B, K, 2); returns both, changed.
    """
    count, _, height, width = images.shape
    right, down = torch.randint(-pad, pad + 1, (2, count), generator=generator)
    rows = (torch.arange(height) - down[:, None]).clamp(0, height - 1)
    columns = (torch.arange(width) - right[:, None]).clamp(0, width - 1)
    # one gather over the pixels of a picture: rows and columns of its own for each
    place = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
    moved = images.flatten(2).gather(2, place[:, None].expand(-1, images.shape[1], -1)).view_as(images)
    shift = 2.0 * torch.stack([right / width, down / height], dim=1)
    return moved, keypoints + shift[:, None].to(keypoints)


def strong(images: Tensor, generator: torch.Generator) -> Tensor:
    """Colours, contrast, noise and things in the way, on top of what the renderer has varied.

    (B, 3, h, w) uint8 -> uint8.
    """
    x = noisy(coloured(covered(images, generator).float() / 255.0, generator), generator)
    return (255.0 * x.clamp(0.0, 1.0)).round().to(torch.uint8)


def _uniform(generator: torch.Generator, count: int, low: float, high: float, channels: int = 1) -> Tensor:
    return low + (high - low) * torch.rand(count, channels, 1, 1, generator=generator)


def coloured(x: Tensor, generator: torch.Generator) -> Tensor:
    """Less or more colour, another gamma, gains of each channel; the channels of a batch change places."""
    count, grey = len(x), x.mean(dim=1, keepdim=True)
    x = grey + (x - grey) * _uniform(generator, count, 0.0, 1.4).clamp(max=1.0)
    x = x.roll(int(torch.randint(3, (1,), generator=generator)), dims=1)
    gamma = torch.exp2(_uniform(generator, count, -0.5, 0.5))
    return x.clamp(1e-4, 1.0).pow(gamma) * torch.exp2(_uniform(generator, count, -0.3, 0.3, channels=3))


@functools.cache
def _normals() -> Tensor:
    return torch.randn(NORMALS, generator=torch.Generator().manual_seed(11))


def noisy(x: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian noise, of a strength of its own in each picture."""
    begin = int(torch.randint(NORMALS, (1,), generator=generator))
    drawn = _normals().roll(-begin).repeat(-(-x.numel() // NORMALS))[: x.numel()]
    return x + _uniform(generator, len(x), 0.0, 0.04) * drawn.view_as(x)


def covered(images: Tensor, generator: torch.Generator) -> Tensor:
    """A rectangle of one colour over half of the pictures, up to a fifth of each side.

    Source: DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017.
    """
    count, _, height, width = images.shape
    inside = []
    for side in (height, width):
        middle = torch.randint(side, (count, 1), generator=generator)
        size = torch.rand(count, 1, generator=generator) * side / 5
        inside.append((torch.arange(side) - middle).abs() < size / 2)
    some = torch.rand(count, 1, 1, generator=generator) < 0.5
    mask = (inside[0][:, :, None] & inside[1][:, None, :] & some)[:, None]
    colour = torch.randint(256, (count, 3, 1, 1), generator=generator, dtype=torch.uint8)
    return torch.where(mask, colour, images)

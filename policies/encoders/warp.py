"""Pictures turned, shifted and lit otherwise, with labels that move along: the known rigid geometry of a picture.

Turning a picture about its middle turns whatever is in it by the same angle, so a label of one pose is a label of all
poses, and two turned copies of an unlabelled picture must be answered alike. Keypoints are (B, K, 2) in [-1, 1] of the
picture, x to the right and y down; a positive turn is counter-clockwise as seen, as image_angle() of vision.py counts.
Pictures may be a whole multiple of the encoder's size: they are reduced after the motion, so that turning blurs less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

DARKEST = 0.6
"""Least factor of the light; the largest is its inverse."""
TINT = 0.15
NOISE = 8.0
"""Largest standard deviation of the noise, in 1 / 255."""
PATCH = 0.3
"""Largest side of the grey patch that may cover a part, as a share of the picture."""


@dataclass(frozen=True, slots=True)
class Motion:
    """A turn and a shift of each of B pictures; points first turn about the middle, then shift."""

    turn: Tensor
    """(B,) [rad]."""
    shift: Tensor
    """(B, 2) to the right and down, in halves of the picture."""
    aspect: float
    """Width of the pictures over their height."""

    @classmethod
    def draw(cls, count: int, generator: torch.Generator, *, turn: float, shift: float, aspect: float = 1.0) -> Motion:
        """Uniform in turns of up to `turn` [rad] and shifts of up to `shift` [halves of the picture]."""
        angles = turn * (2.0 * torch.rand(count, generator=generator) - 1.0)
        return cls(angles, shift * (2.0 * torch.rand(count, 2, generator=generator) - 1.0), aspect)

    def _matrix(self) -> Tensor:
        """(B, 2, 2) of the turn, in halves of the picture."""
        cos, sin = torch.cos(self.turn), torch.sin(self.turn)
        rows = torch.stack([cos, sin / self.aspect, -sin * self.aspect, cos], dim=1)
        return rows.view(-1, 2, 2)

    def points(self, keypoints: Tensor) -> Tensor:
        """Where keypoints (B, K, 2) come to lie."""
        return keypoints @ self._matrix().transpose(1, 2) + self.shift[:, None]

    def back(self, keypoints: Tensor) -> Tensor:
        """Where keypoints (B, K, 2) of the moved pictures lay before."""
        return (keypoints - self.shift[:, None]) @ torch.linalg.inv(self._matrix()).transpose(1, 2)

    def images(self, images: Tensor, height: int, width: int) -> Tensor:
        """(B, 3, height, width) float in [0, 255]: the pictures moved, their edge repeated outside, and reduced.

        `images` (B, 3, n height, n width) uint8, n whole.
        """
        inverse = torch.linalg.inv(self._matrix())
        affine = torch.cat([inverse, -inverse @ self.shift[:, :, None]], dim=2)
        grid = functional.affine_grid(affine, list(images.shape), align_corners=False)
        moved = functional.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
        return reduced(moved, height, width)


def reduced(images: Tensor, height: int, width: int) -> Tensor:
    """(..., 3, height, width) float: the means of blocks of pictures of a whole multiple of that size."""
    factor = images.shape[-1] // width
    if factor == 1 and images.shape[-2] == height:
        return images.float()
    return functional.avg_pool2d(images.float(), factor)


def pixels(images: Tensor) -> Tensor:
    """Float pictures in [0, 255] as uint8, the type that encoders take."""
    return images.add(0.5).clamp(0.0, 255.0).to(torch.uint8)


def relit(images: Tensor, generator: torch.Generator) -> Tensor:
    """Float pictures (B, 3, h, w) in [0, 255] with other light, colour and noise, some blurred or partly covered."""
    count, _, height, width = images.shape

    def uniform(*shape: int) -> Tensor:
        return 2.0 * torch.rand(*shape, generator=generator) - 1.0

    gain = torch.exp(math.log(1.0 / DARKEST) * uniform(count, 1, 1, 1)) * (1.0 + TINT * uniform(count, 3, 1, 1))
    middle = images.mean(dim=(2, 3), keepdim=True)
    out = ((images - middle) * (1.0 + 0.3 * uniform(count, 1, 1, 1)) + middle) * gain
    soft = functional.avg_pool2d(functional.pad(out, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    out = torch.where(torch.rand(count, 1, 1, 1, generator=generator) < 0.3, soft, out)
    side = PATCH * torch.rand(count, 2, generator=generator) * (torch.rand(count, 1, generator=generator) < 0.5)
    corner = torch.rand(count, 2, generator=generator)
    y, x = torch.arange(height)[:, None] / height, torch.arange(width)[None] / width
    covered = ((y - corner[:, 0, None, None]).abs() < side[:, 0, None, None] / 2) & (
        (x - corner[:, 1, None, None]).abs() < side[:, 1, None, None] / 2
    )
    grey = 255.0 * torch.rand(count, 3, 1, 1, generator=generator)
    out = torch.where(covered[:, None], grey, out)
    noise = NOISE * torch.rand(count, 1, 1, 1, generator=generator)
    return out + noise * torch.randn(out.shape, generator=generator)

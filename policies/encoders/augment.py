"""Changes of pictures at training time that cost little and leave their labels known.

random_shift is the strong simple baseline of learning from pixels (Kostrikov et al., Image Augmentation Is All You
Need, ICLR 2021; Yarats et al., DrQ-v2, ICLR 2022); it is always available. Pictures are (B, 3, h, w), keypoints
(B, K, 2) in [-1, 1] of the picture, as policies/encoders/vision.py has them. To add a change: a function of
(pictures, generator), and its call in strong().
"""

from __future__ import annotations

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


class Strong:
    """Colours, contrast, noise and things in the way, on top of what the renderer has varied."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        self._normals = torch.randn(NORMALS, generator=generator)

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, h, w) uint8 -> uint8."""
        x = self.noise(self.colours(self.cover(images).float() / 255.0))
        return (255.0 * x.clamp(0.0, 1.0)).round().to(torch.uint8)

    def _uniform(self, count: int, low: float, high: float, channels: int = 1) -> Tensor:
        drawn = torch.rand(count, channels, 1, 1, generator=self._generator)
        return low + (high - low) * drawn

    def colours(self, x: Tensor) -> Tensor:
        """Less or more colour, another gamma, gains of each channel; the channels of a batch change places."""
        count = len(x)
        grey = x.mean(dim=1, keepdim=True)
        x = grey + (x - grey) * self._uniform(count, 0.0, 1.4).clamp(max=1.0)
        x = x.roll(int(torch.randint(3, (1,), generator=self._generator)), dims=1)
        gamma = torch.exp2(self._uniform(count, -0.5, 0.5))
        return x.clamp(1e-4, 1.0).pow(gamma) * torch.exp2(self._uniform(count, -0.3, 0.3, channels=3))

    def noise(self, x: Tensor) -> Tensor:
        """Gaussian, of a strength of its own in each picture."""
        begin = int(torch.randint(NORMALS, (1,), generator=self._generator))
        drawn = self._normals.roll(-begin).repeat(-(-x.numel() // NORMALS))[: x.numel()]
        return x + self._uniform(len(x), 0.0, 0.04) * drawn.view_as(x)

    def cover(self, images: Tensor) -> Tensor:
        """A rectangle of one colour over half of the pictures, up to a fifth of each side.

        Source: DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017.
        """
        count, _, height, width = images.shape
        inside = []
        for side in (height, width):
            middle = torch.randint(side, (count, 1), generator=self._generator)
            size = torch.rand(count, 1, generator=self._generator) * side / 5
            inside.append((torch.arange(side) - middle).abs() < size / 2)
        some = torch.rand(count, 1, 1, generator=self._generator) < 0.5
        mask = (inside[0][:, :, None] & inside[1][:, None, :] & some)[:, None]
        colour = torch.randint(256, (count, 3, 1, 1), generator=self._generator, dtype=torch.uint8)
        return torch.where(mask, colour, images)

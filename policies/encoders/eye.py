"""One camera's picture -> keypoints by vote, places where learned channels are bright, and a summary.

Coordinates of a picture run from -1 to 1, from its left to its right and from its top to its bottom edge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from policies.encoders.vision import VisionCard

REACH = 0.5
"""How far from where it looks a cell may vote for a keypoint, in halves of the picture, before training widens it."""

NEAR = 0.15
"""Votes within about this of each other [halves of the picture] speak of the same place."""


def _convolution(inputs: int, outputs: int, stride: int = 1, side: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Eye(nn.Module):
    """A pyramid: each level halves the picture; back up to a quarter of its size the coarse levels tell the fine ones
    what they look at. There every cell says how much it knows of a keypoint and where that lies from it; the place
    where most of these votes meet may lie between the cells, and outside of the picture. `points` channels more are
    free: their spatial softmax (Finn et al., Deep Spatial Autoencoders, ICRA 2016) gives features beside the keypoints.
    """

    grid: Tensor

    def __init__(self, card: VisionCard) -> None:
        super().__init__()
        self.keypoints, self.points = len(card.keypoints), card.points
        stem, *levels = card.channels
        self.stem = _convolution(3, stem, 2, 5)
        self.down = nn.ModuleList(
            nn.Sequential(_convolution(i, o, 2), _convolution(o, o))
            for i, o in zip(card.channels[:-1], levels, strict=True)
        )
        self.up = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in zip(levels[:0:-1], levels[-2::-1], strict=True))
        self.mix = nn.ModuleList(_convolution(o, o) for o in levels[-2::-1])
        self.out = nn.Conv2d(levels[0], 3 * self.keypoints + self.points, 1)
        rows, columns = ((side + 3) // 4 for side in (card.height, card.width))
        y = (8.0 * torch.arange(rows) + 1.0) / card.height - 1.0  # a cell looks at pixel 4 i, whose middle is at + 0.5
        x = (8.0 * torch.arange(columns) + 1.0) / card.width - 1.0
        grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1])
        self.register_buffer("grid", grid.flatten(1), persistent=False)
        self.size = 4 * self.keypoints - 2 + 2 * self.points

    def maps(self, image: Tensor) -> Tensor:
        """image (B, 3, h, w) uint8 -> the finest level of the pyramid (B, C, h / 4, w / 4)."""
        fine = []
        x = self.stem(standardized(image))
        for level in self.down:
            x = level(x)
            fine.append(x)
        for beside, narrow, mix in zip(fine[-2::-1], self.up, self.mix, strict=True):
            x = mix(beside + functional.interpolate(narrow(x), size=beside.shape[-2:], mode="nearest"))
        return x

    def read(self, fine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """maps() -> summary (B, size), keypoints (B, K, 2), spread (B, K)."""
        out = self.out(fine).flatten(2)
        k = self.keypoints
        weights = torch.softmax(out[:, : k + self.points], dim=2)
        votes = self.grid + REACH * out[:, k + self.points :].unflatten(1, (k, 2))
        found = agreed(weights[:, :k], votes)
        spread = (weights[:, :k] * (votes - found[..., None]).square().sum(dim=2)).sum(dim=2)
        places = weights[:, k:] @ self.grid.T
        summary = [found.flatten(1), directions(found).flatten(1), places.flatten(1)]
        return torch.cat(summary, dim=1), found, (spread + 1e-8).sqrt()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See read()."""
        return self.read(self.maps(image))


def standardized(image: Tensor) -> Tensor:
    """(B, 3, h, w) uint8 -> float: colour and brightness of the light are divided out; what counts is how a picture
    differs from its mean.

    Sums are of whole numbers and so exact: a dark picture would show the order in which its pixels were added up.
    """
    pixels, count = image.to(torch.int32), image.shape[2] * image.shape[3]
    mean = pixels.sum(dim=(2, 3), keepdim=True, dtype=torch.int64).double() / count
    square = (pixels * pixels).sum(dim=(2, 3), keepdim=True, dtype=torch.int64).double() / count
    variance = (square - mean * mean).clamp(min=0.0).mean(dim=1, keepdim=True)
    return (image.float() - mean.float()) / (variance + 1e-4 * 255.0**2).sqrt().float()


def agreed(weights: Tensor, votes: Tensor) -> Tensor:
    """(B, K, 2) where most of the votes (B, K, 2, N) of these weights (B, K, N) meet.

    The mean of the votes around the strongest one, by two steps of mean shift (Comaniciu and Meer, PAMI 2002): where
    two places are likely, the mean of all would lie between them.
    """
    strongest = weights.argmax(dim=2)[:, :, None, None].expand(-1, -1, 2, 1)
    place = votes.gather(3, strongest).detach()
    for _ in range(2):
        near = weights * torch.exp(-0.5 * (votes - place).square().sum(dim=2) / NEAR**2)
        place = (near[:, :, None] * votes).sum(dim=3, keepdim=True) / near.sum(dim=2)[..., None, None].clamp(min=1e-9)
    return place[..., 0]


def directions(keypoints: Tensor) -> Tensor:
    """(B, K - 1, 2) from each keypoint (B, K, 2) to the next, of length 1 unless they are very near to each other."""
    step = keypoints[:, 1:] - keypoints[:, :-1]
    return step / (step.square().sum(dim=2, keepdim=True) + 1e-4).sqrt()

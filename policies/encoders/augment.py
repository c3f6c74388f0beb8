"""Changes of pictures at training time that cost little and leave their labels known.

random_shift is the strong simple baseline of learning from pixels (Kostrikov et al., Image Augmentation Is All You
Need, ICLR 2021; Yarats et al., DrQ-v2, ICLR 2022); it is always available. Pictures are uint8 (B, 3, h, w), keypoints
(B, K, 2) in [-1, 1] of the picture, as policies/encoders/vision.py has them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def random_shift(images: Tensor, keypoints: Tensor, generator: torch.Generator, pad: int = 4) -> tuple[Tensor, Tensor]:
    """Each picture shifted by up to `pad` pixels in each direction, its edge repeated; keypoints move along.

    images (B, 3, h, w) of any type, keypoints (B, K, 2); returns both, changed.
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

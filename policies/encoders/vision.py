"""The image path: a small convolutional network from one camera's picture to a feature vector.

uint8 pictures go in as they come from the camera; scaling is inside, so the robot and training cannot differ.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CameraEncoder(nn.Module):
    """(B, 3, h, w) uint8 -> (B, features): convolutions, then where each channel is bright (spatial softmax).

    Source of the spatial softmax: Finn et al., Deep Spatial Autoencoders, ICRA 2016.
    """

    grid_x: Tensor
    grid_y: Tensor

    def __init__(self, height: int, width: int, features: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(32, 16, 3, stride=1, padding=1),
        )  # fmt: skip
        rows, columns = -(-height // 4), -(-width // 4)
        y, x = torch.meshgrid(torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns), indexing="ij")
        self.register_buffer("grid_x", x.flatten(), persistent=False)
        self.register_buffer("grid_y", y.flatten(), persistent=False)
        self.out = nn.Linear(32, features)

    def forward(self, image: Tensor) -> Tensor:
        """image (B, 3, h, w) uint8, RGB."""
        weights = torch.softmax(self.convolutions(image.float() / 255.0).flatten(2), dim=2)
        x, y = (weights * self.grid_x).sum(dim=2), (weights * self.grid_y).sum(dim=2)
        return torch.tanh(self.out(torch.cat([x, y], dim=1)))

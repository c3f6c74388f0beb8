"""What the pyramid of an eye is trained on beside the keypoints: where the robot is, and how near everything is.

Only training uses these heads; they are saved beside the encoder, and never exported.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from policies import tensors
from policies.encoders.vision import VisionCard

FILE = "heads.safetensors"
MAPS = ("mask", "nearness")
"""Of ImageData.maps, in this order."""


class MapHeads(nn.Module):
    """The finest level of each camera's pyramid -> maps of a quarter of the picture's size."""

    def __init__(self, card: VisionCard) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv2d(card.channels[1], len(MAPS), 1) for _ in card.cameras)

    def loss(self, camera: int, fine: Tensor, maps: Tensor) -> Tensor:
        """Cross-entropy of the maps (B, 2, h, w) uint8, averaged down, that `fine` (B, C, h / 4, w / 4) should tell."""
        told = self.heads[camera](fine)
        wanted = functional.interpolate(maps.float() / 255.0, size=told.shape[-2:], mode="area")
        return functional.binary_cross_entropy_with_logits(told, wanted)

    def save(self, folder: Path) -> None:
        tensors.save(folder / FILE, dict(self.state_dict()))

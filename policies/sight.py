"""Sight: what a policy reads of its vision encoder.

By default the state that the encoder tells, in physical units: then another encoder for the same robot, one that was
adapted to its real camera, can take its place under the same policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from policies.encoders.vision import COSINE, VisionCard, VisionEncoder
from policies.network import NetworkConfig

SIGHT = "sight"
"""Input of environments that tell, in place of pictures, what an encoder would: (n, states)."""
PRIVILEGED = "privileged"
"""Input of environments that tell what no sensor measures: (n, P)."""
SHORTEST = 0.5
"""A cosine and sine shorter than this stay inside the circle: the encoder knows next to nothing, and bringing them to
length 1 would make rounding errors as large as the tolerance between torch and ONNX."""


class Sight(nn.Module):
    """Pictures by input name -> (B, size); the encoder is frozen."""

    def __init__(self, encoder: VisionEncoder, network: NetworkConfig) -> None:
        super().__init__()
        self.encoder, self.reads = encoder.requires_grad_(False), network.sight
        # the cosine of a joint is followed by its sine
        self.cosines = [i for i, name in enumerate(encoder.card.states) if name.startswith(COSINE)]

    @staticmethod
    def size(card: VisionCard, network: NetworkConfig) -> int:
        """How many values are read of an encoder."""
        return len(card.states) if network.sight == "state" else card.features

    def forward(self, images: Mapping[str, Tensor]) -> Tensor:
        """images: image_<camera> -> (B, 3, h, w) uint8; KeyError when one is missing."""
        seen = self.encoder(*(images[f"image_{name}"] for name in self.encoder.card.cameras))
        return seen.features if self.reads == "features" else self._on_circles(seen.state)

    def _on_circles(self, state: Tensor) -> Tensor:
        """Cosines and sines (B, S) brought to the unit circle, where those of training without pictures lie."""
        columns = list(state.unbind(dim=1))
        for i in self.cosines:
            length = (columns[i].square() + columns[i + 1].square()).clamp(min=SHORTEST**2).sqrt()
            columns[i], columns[i + 1] = columns[i] / length, columns[i + 1] / length
        return torch.stack(columns, dim=1)


@torch.no_grad()
def shown(
    inputs: Mapping[str, npt.NDArray[Any]], sight: Sight | None, privileged: bool = False
) -> npt.NDArray[np.float32]:
    """(n, shown) of one moment, raw: the observation, then what is read of the pictures, or given in their place, and
    to a teacher what is privileged."""
    parts = [inputs["observation"]]
    if sight is not None:
        if SIGHT in inputs:
            parts.append(inputs[SIGHT])
        else:
            images = {k: torch.from_numpy(v) for k, v in inputs.items() if k.startswith("image_")}
            parts.append(sight(images).numpy())
    if privileged:
        parts.append(inputs[PRIVILEGED])
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

"""The small pieces that every network here is made of: input scaling and multi-layer perceptrons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from robot.config import ConfigError

CLIP = 10.0
"""Scaled inputs beyond this many standard deviations are cut: a broken sensor must not reach the network at 1e6."""

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "elu": nn.ELU, "relu": nn.ReLU}


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """configs/network/<name>.yaml: the policy's network."""

    hidden: tuple[int, ...] = (128, 128)
    """Widths of the hidden layers, of the actor and of the critic alike."""
    activation: Literal["tanh", "elu", "relu"] = "tanh"
    sight: Literal["state", "features"] = "state"
    """What is read of a vision encoder: the physical state that it tells, so that an adapted encoder can take its place
    under the same policy; or its features, which may hold more, and mean something in this encoder alone."""
    features: tuple[str, ...] = ()
    """What the policy is shown in place of what the task lists; empty for the task's."""
    hold: bool = False
    """Whether linear-quadratic feedback, computed of the simulator, holds the task's pose under the network."""
    stiction: bool = False
    """Whether the hold counts on the dry friction of joints that are not driven: where it is known, as on an identified
    robot, they stay where they are, and it brings them back slowly."""
    memory: int = 0
    """Past control steps of which the policy remembers what it was shown: a single picture tells no velocity."""
    recurrent: int = 0
    """Width of an LSTM before the hidden layers, whose state the exported file takes and gives; 0: none. Trained by
    recipe.algorithm=recurrent_ppo."""

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ConfigError("network: hidden needs at least one layer, and every width must be at least 1.")
        if self.memory < 0:
            raise ConfigError(f"network.memory is {self.memory}; it must be at least 0.")
        if self.stiction and not self.hold:
            raise ConfigError("network.stiction=true is a way to hold: give network.hold=true, too.")
        if self.recurrent < 0 or (self.recurrent and self.memory):
            raise ConfigError(
                f"network.recurrent is {self.recurrent} and network.memory {self.memory}; both must be at least 0, and "
                "one of them 0: a policy remembers in one way."
            )


def mlp(inputs: int, hidden: Sequence[int], outputs: int, activation: type[nn.Module]) -> nn.Sequential:
    """Linear layers of the given widths with an activation after each but the last."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), activation()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


class Scale(nn.Module):
    """(x - mean) / deviation, clipped; the statistics are buffers, so they are saved and exported with the weights."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.deviation).clamp(-CLIP, CLIP)

    def set(self, mean: npt.ArrayLike, deviation: npt.ArrayLike) -> None:
        """Put statistics in force; a component that never varied is left unscaled."""
        spread = np.asarray(deviation, dtype=np.float64)
        self.mean.copy_(torch.as_tensor(np.asarray(mean, dtype=np.float64)))
        self.deviation.copy_(torch.as_tensor(np.where(spread > 1e-6, spread, 1.0)))

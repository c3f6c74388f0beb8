"""Memory: what a policy was shown in its last control steps, as explicit state of the exported file.

A picture tells where things are and not how fast they move; from the last few of them, and the actions in between, the
actor can tell. A row is kept raw, in the units of what was shown, behind a 1 that says it is real: rows before
the episode began are 0. Nothing in it is learned, so a recorded episode gives the same memory for ever.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from policies.network import CLIP, Scale

MEMORY = "state_memory"
"""The exported file's input; its output is `state_memory_next`."""


class Memory(nn.Module):
    """The last `steps` rows of `width` values each, newest last; without weights."""

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self.steps, self.width = steps, 1 + width
        self.size = steps * self.width
        """Length of what is recalled."""

    def blank(self, n: int) -> dict[str, npt.NDArray[np.float32]]:
        """The memory of n robots at the start of an episode, by the name of its input; empty without a memory."""
        return {MEMORY: np.zeros((n, self.steps, self.width), np.float32)} if self.steps else {}

    def push(self, memory: Tensor | None, shown: Tensor) -> Tensor | None:
        """The memory (B, steps, 1 + width) after a step in which `shown` (B, width) was shown."""
        if memory is None or not self.steps:
            return None
        row = functional.pad(shown, (1, 0), value=1.0)
        return torch.cat([memory[:, 1:], row[:, None]], dim=1)

    def recall(self, memory: Tensor | None, scale: Scale) -> list[Tensor]:
        """[(B, size)] the rows as the actor reads them, scaled and 0 where they are not real; [] without a memory."""
        if memory is None or not self.steps:
            return []
        mean, deviation = functional.pad(scale.mean, (1, 0)), functional.pad(scale.deviation, (1, 0), value=1.0)
        # rows that are not real are 0 and stay so, without a node that takes the flag away and one that puts it back
        return [((memory - memory[:, :, :1] * mean) / deviation).clamp(-CLIP, CLIP).flatten(1)]

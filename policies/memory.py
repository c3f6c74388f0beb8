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

    one: Tensor
    pick: Tensor

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self.steps, self.width = steps, 1 + width
        self.size = steps * self.width
        """Length of what is recalled."""
        # products with these are the cheapest way to set a 1 before a row in an exported file (see _with and _scaled)
        self.register_buffer("one", torch.eye(self.width)[0], persistent=False)
        self.register_buffer("pick", torch.eye(self.width)[1:], persistent=False)

    def blank(self, n: int) -> dict[str, npt.NDArray[np.float32]]:
        """The memory of n robots at the start of an episode, by the name of its input; empty without a memory."""
        return {MEMORY: np.zeros((n, self.steps, self.width), np.float32)} if self.steps else {}

    def push(self, memory: Tensor | None, shown: Tensor) -> Tensor | None:
        """The memory (B, steps, 1 + width) after a step in which `shown` (B, width) was shown."""
        if memory is None or not self.steps:
            return None
        return self._with(memory, shown)[:, 1:]

    def recall(self, memory: Tensor | None, scale: Scale) -> list[Tensor]:
        """[(B, size)] the rows as the actor reads them, scaled and 0 where they are not real; [] without a memory."""
        if memory is None or not self.steps:
            return []
        return [self._scaled(memory, scale)]

    def advance(self, memory: Tensor, shown: Tensor, scale: Scale) -> tuple[Tensor, Tensor]:
        """(B, size + 1 + width) memory and then `shown`, scaled alike, and the memory after this step.

        What recall() and push() say, and `shown` behind its 1, with fewer nodes in an exported file.
        """
        rows = self._with(memory, shown)
        return self._scaled(rows, scale), rows[:, 1:]

    def _with(self, memory: Tensor, shown: Tensor) -> Tensor:
        row = torch.addmm(self.one, shown, self.pick)
        return torch.cat([memory, row[:, None]], dim=1)

    def _scaled(self, rows: Tensor, scale: Scale) -> Tensor:
        # of each row its 1 times the mean is taken: rows that are not real are 0 and stay so
        centre = torch.cat([functional.pad(-scale.mean, (1, 0), value=1.0)[None], self.pick])
        deviation = functional.pad(scale.deviation, (1, 0), value=1.0)
        return (rows @ centre / deviation).clamp(-CLIP, CLIP).flatten(1)

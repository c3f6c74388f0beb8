"""Mirror symmetry: what a robot and its mirror image see and do, as permutations with signs.

A left-right symmetric robot that is shown the mirror image of a moment should do the mirror image of what it would have
done. The tables come from sim/symmetry.py, which derives them from joint axes and names; here they are put to use, by
an actor that has the symmetry exactly (`equivariant`), or by mirrored samples in training (`augment`).

Source: Mittal et al., "Symmetry considerations for learning task symmetric robot policies", ICRA 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from robot.config import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Reflection:
    """The mirror image of a vector: component i of it is `sign[i]` times component `index[i]`."""

    index: tuple[int, ...] = ()
    sign: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.index)
        if sorted(self.index) != list(range(n)) or len(self.sign) != n or any(abs(s) != 1.0 for s in self.sign):
            raise ConfigError("a reflection's index must be a permutation, with a sign of 1 or -1 for each component.")
        twice = [self.index[i] for i in self.index]
        if twice != list(range(n)) or any(self.sign[i] * self.sign[k] != 1.0 for i, k in enumerate(self.index)):
            raise ConfigError("a reflection done twice must change nothing.")

    def apply(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The mirror image of rows (..., n)."""
        made: npt.NDArray[Any] = rows[..., list(self.index)] * np.array(self.sign, dtype=rows.dtype)
        return made

    @staticmethod
    def same(n: int) -> Reflection:
        """Of n components that a mirror does not change."""
        return Reflection(index=tuple(range(n)), sign=(1.0,) * n)

    @staticmethod
    def join(parts: Sequence[Reflection]) -> Reflection:
        """Of vectors one after the other."""
        index: list[int] = []
        sign: list[float] = []
        for part in parts:
            index += [len(sign) + i for i in part.index]
            sign += part.sign
        return Reflection(index=tuple(index), sign=tuple(sign))


@dataclass(frozen=True, kw_only=True, slots=True)
class Symmetry:
    """The mirror images that belong to one policy."""

    shown: Reflection
    """Of what the actor is shown of one moment."""
    action: Reflection
    privileged: Reflection = Reflection()
    """Of what only a critic sees; empty where there is nothing."""

    def vector(self, context: int, memory: int) -> Reflection:
        """Of what the actor reads: shown, `context` numbers, which tell of the robot and not of sides, and `memory`
        rows of a flag and what was shown."""
        row = Reflection.join([Reflection.same(1), self.shown])
        return Reflection.join([self.shown, Reflection.same(context), *[row] * memory])


class Mirror(nn.Module):
    """A Reflection of tensors (B, n); without weights, and nothing of it is saved."""

    index: Tensor
    sign: Tensor

    def __init__(self, reflection: Reflection) -> None:
        super().__init__()
        self.register_buffer("index", torch.tensor(reflection.index, dtype=torch.long), persistent=False)
        self.register_buffer("sign", torch.tensor(reflection.sign), persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        return rows[:, self.index] * self.sign

"""What the physics encoder is trained on, one batch of windows at a time.

Prediction of the next states with the context and without it (the baseline), the physical parameters with their
uncertainty, and the agreement of two windows of one robot. Rows are lost at random on the way, as they are on robots.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from policies.encoders.heads import Heads
from policies.encoders.physics import PhysicsEncoder
from policies.encoders.probes import earlier_actions
from policies.encoders.ranks import ALONE, Ranks
from policies.encoders.windows import WindowData
from robot.config import ConfigError

_MAX_LOSS = 25.0
"""Squared errors are flattened here, so that one impact or wrap does not dominate a batch."""
_TEMPERATURE = 0.1


class Batches:
    """Random batches of windows as tensors; the second half of a batch are windows of the same robots as the first."""

    def __init__(
        self,
        data: WindowData,
        size: int,
        generator: torch.Generator,
        lost: float = 0.0,
        ranks: Ranks = ALONE,
    ) -> None:
        """`lost` is the share of rows that every second window lacks. Of several processes each draws the same global
        batch and takes its share of it."""
        if size < ranks.count:
            raise ConfigError(f"encoder.batch is {size}, of which {ranks.count} processes cannot each have a window.")
        self._ranks, self.size = ranks, size
        self._arrays = [torch.from_numpy(a) for a in (data.history, data.mask, data.observation)]
        self._arrays += [earlier_actions(data), torch.from_numpy(data.action), torch.from_numpy(data.future)]
        self._arrays += [torch.zeros(len(data), 0) if data.base is None else torch.from_numpy(data.base)]
        self._arrays.append(torch.from_numpy(data.parameters.astype(np.float32)))
        self._count, self._generator, self._lost = len(data), generator, lost
        self.rows = torch.zeros(0, dtype=torch.long)
        """Of the windows in the newest batch."""
        # windows in the order of their robots: a partner is drawn from the same stretch
        order = np.argsort(data.group, kind="stable")
        _, first, counts = np.unique(data.group[order], return_index=True, return_counts=True)
        self._order = torch.from_numpy(order)
        self._first, self._counts = (torch.from_numpy(np.repeat(v, counts)) for v in (first, counts))

    def draw(self) -> list[Tensor]:
        """history, mask, observation, earlier actions, actions, future, base (empty without one), parameters."""
        half = torch.randint(self._count, ((self.size + 1) // 2,), generator=self._generator)
        share = torch.rand(self.size // 2, generator=self._generator)
        partners = self._first[half[: len(share)]] + (share * self._counts[half[: len(share)]]).long()
        own = self._ranks.own(self.size)
        rows = self._order[torch.cat([half, partners])][own]
        self.rows = rows
        batch = [array[rows] for array in self._arrays]
        if self._lost > 0.0:
            dice = torch.rand(self.size, batch[1].shape[1], generator=self._generator)
            dice[::2] = 1.0
            batch[1] = batch[1] * (dice[own] >= self._lost)
            batch[0] = batch[0] * batch[1].unsqueeze(-1)
        return batch


def losses(
    encoder: PhysicsEncoder, heads: Heads, batch: list[Tensor], context: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Prediction loss with context, prediction loss without, and the context (B, Z) of a batch, unless it is given."""
    history, mask, observation, earlier, actions, future, foretold, _ = batch
    base = foretold if heads.predictor.use_base and foretold.numel() else None
    context = encoder(history, mask) if context is None else context
    seeing = heads.predictor.unexplained(heads.predictor(observation, earlier, actions, context, base), future)
    blind = heads.blind.unexplained(heads.blind(observation, earlier, actions, context, base), future)
    return seeing.clamp(max=_MAX_LOSS).mean(), blind.clamp(max=_MAX_LOSS).mean(), context


def disagreement(context: Tensor) -> Tensor:
    """How badly the windows of one robot are told from those of others by their contexts (B, Z): InfoNCE.

    The second half of the batch are partners of the first. Source: van den Oord et al., arXiv 1807.03748.
    """
    unit = functional.normalize(context, dim=1)
    count = len(context) // 2
    alike = unit[:count] @ unit[len(context) - count :].T / _TEMPERATURE
    own = torch.arange(count)
    return 0.5 * (functional.cross_entropy(alike, own) + functional.cross_entropy(alike.T, own))

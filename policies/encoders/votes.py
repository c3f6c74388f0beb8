"""What a window says of the robot, as votes: each stretch of rows tells each latent, and how surely.

The posterior of a latent is the product of a standard normal and of every stretch's own Gaussian, so a longer window
makes it more certain, a stretch with a lost row has no vote, and an empty window gives the prior. Cheaper than
evidence.py, and better where forces are shared among contacts, so that no single outcome can be foretold; worse where
the equations of motion are known.

Source: Rakelly et al., "Efficient off-policy meta-reinforcement learning via probabilistic context variables" (PEARL),
ICML 2019, eq. 3.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from policies.encoders.stretches import Stretcher

FAR = 8.0
"""Scaled readings are cut here: an impact is no more than a large one."""
FIRST = -3.0
"""Log certainty of a vote before training: a hundred of them weigh as much as five robots."""
LEAST, MOST = -12.0, 6.0


class Votes(nn.Module):
    """History (B, H, K), mask (B, H) -> posterior mean and variance of Z latents, which are standard normal before."""

    def __init__(
        self,
        components: tuple[str, ...],
        actions: int,
        *,
        span: int,
        latents: int,
        hidden: tuple[int, ...],
        period_s: float,
    ) -> None:
        """As policies.encoders.stretches.Stretcher is told."""
        super().__init__()
        self.latents = latents
        self.stretches = Stretcher(components, actions, span=span, period_s=period_s)
        widths = [len(self.stretches.inputs.mean) + self.stretches.outcomes, *hidden]
        layers = [layer for i, o in pairwise(widths) for layer in (nn.Linear(i, o), nn.SiLU())]
        self.net = nn.Sequential(*layers, nn.Linear(widths[-1], 2 * latents))

    def forward(self, history: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, Z) and variance (B, Z) of the latents after the window."""
        seen = self.stretches(history, mask)
        rows = [self.stretches.inputs(seen.inputs), self.stretches.results(seen.outcomes)]
        made = self.net(torch.cat(rows, dim=2).float().clamp(-FAR, FAR)).unflatten(2, (2, self.latents))
        certainty = torch.exp((made[:, :, 1] + FIRST).clamp(LEAST, MOST)) * seen.real.unsqueeze(-1).float()
        total = 1.0 + certainty.sum(dim=1)
        return (certainty * made[:, :, 0]).sum(dim=1) / total, 1.0 / total

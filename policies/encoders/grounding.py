"""Grounding: the evidence network learns from the true parameters of simulated robots.

Given the parameters, every stretch of every window is a regression target of its own, so physics is learned from
millions of them instead of from one label a window; that the latents can then be read from a window is arithmetic.
With the equations of motion nothing has to be learned before that arithmetic makes sense, so its result is what is
trained: how surely each stretch tells something, and what the equations leave out.
The latents are the parameters themselves, standardized and decorrelated; with more parameters than latents, those
mixtures of them that change the motion most. Where the equations of motion are known there is a latent for each
parameter, as near to it as can be, and nothing is left to choose.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from policies.encoders.evidence import Evidence
from policies.encoders.foreseen import Foreseen
from policies.encoders.ranks import ALONE, Ranks
from policies.encoders.windows import WindowData

FREEDOM = 6.0
"""Degrees of freedom of the t distribution that true latents are judged by: an impact must not dominate a batch."""
NEGLIGIBLE = 1e-3
"""Share of the largest variance below which a mixture of parameters counts as constant."""


class Grounding(nn.Module):
    """The latents of a robot whose parameters are known, and the loss of what is expected of it."""

    mean: Tensor
    deviation: Tensor
    covariance: Tensor

    def __init__(self, parameters: int, latents: int, fixed: bool = False) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(parameters))
        self.register_buffer("deviation", torch.ones(parameters))
        self.register_buffer("covariance", torch.eye(parameters))
        self.mixture = nn.Parameter(torch.zeros(latents, parameters), requires_grad=not fixed)
        self.fixed = fixed

    def set_statistics(self, data: WindowData) -> None:
        """Begin with the mixtures that vary most; or, fixed, with the nearest to the parameters."""
        values = data.parameters
        deviation = np.maximum(values.std(axis=0), 1e-12)
        covariance = np.atleast_2d(np.corrcoef((values / deviation).T))
        variance, axes = np.linalg.eigh(covariance)
        order = np.argsort(variance)[::-1][: len(self.mixture)]
        rows = [axes[:, i] for i in order if variance[i] > NEGLIGIBLE * variance.max()]
        if self.fixed:
            rows = list((axes / np.sqrt(np.maximum(variance, NEGLIGIBLE * variance.max()))) @ axes.T)
        self.mean.copy_(torch.from_numpy(values.mean(axis=0)))
        self.deviation.copy_(torch.from_numpy(deviation))
        self.covariance.copy_(torch.from_numpy(covariance))
        with torch.no_grad():
            self.mixture[: len(rows)] = torch.from_numpy(np.stack(rows))

    def latents(self, parameters: Tensor) -> Tensor:
        """(B, P) -> (B, Z), each of variance 1 over the training robots; 0 where there is nothing to mix."""
        variance = ((self.mixture @ self.covariance) * self.mixture).sum(dim=1)
        return ((parameters - self.mean) / self.deviation) @ (self.mixture.T / variance.clamp(min=1e-6).sqrt())

    def spread(self) -> Tensor:
        """(P, Z) change of each parameter with each latent, in its unit; of fixed mixtures."""
        mixture, covariance = self.mixture.detach().double(), self.covariance.double()
        size = ((mixture @ covariance) * mixture).sum(dim=1).clamp(min=1e-6).sqrt()
        return self.deviation.double().unsqueeze(1) * torch.linalg.inv(mixture) * size

    def mixing(self, foreseen: Foreseen) -> Tensor:
        """(P + 1, Z + 1) for Evidence.mixing; the nuisance is what the squared delay lacks of its mean over robots."""
        late = foreseen.delay_slopes @ self.spread()
        return torch.block_diag(self.spread(), late.square().sum()[None, None])

    def loss(
        self, evidence: Evidence, history: Tensor, mask: Tensor, parameters: Tensor, ranks: Ranks = ALONE
    ) -> Tensor:
        """Gaussian negative log likelihood of the outcomes, a mean over the real stretches of all processes' windows:
        these losses are to be added up."""
        seen = evidence.stretches(history, mask)
        foretold = evidence.foretell(seen._replace(inputs=seen.inputs.float()))
        expected = foretold.mean + (foretold.slopes * self.latents(parameters)[:, None, None]).sum(dim=-1)
        residual = evidence.stretches.results(seen.outcomes).float() - expected
        losses = 0.5 * (foretold.log_variance + residual.square() * torch.exp(-foretold.log_variance)).mean(dim=2)
        return (losses * seen.real).sum() / ranks.total(seen.real.sum()).clamp(min=1.0)

    def surprise(self, evidence: Evidence, history: Tensor, mask: Tensor, parameters: Tensor) -> Tensor:
        """Negative log likelihood of the true latents under what the windows tell, a mean over windows and latents.

        Of a multivariate t distribution, up to a constant, whose tails are heavier than a Gaussian's.
        """
        information, told = evidence.weigh(history, mask)
        root = torch.linalg.cholesky(information)
        known = slice(0, evidence.latents)
        off = torch.cholesky_solve(told, root)[:, known, 0] - self.latents(parameters)
        spread = torch.linalg.cholesky(torch.cholesky_inverse(root)[:, known, known])
        scaled = torch.linalg.solve_triangular(spread, off.unsqueeze(2), upper=False).square().sum(dim=(1, 2))
        size = spread.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        off_by = 0.5 * (FREEDOM + evidence.latents) * torch.log1p(scaled / FREEDOM)
        return (off_by + size).mean() / evidence.latents

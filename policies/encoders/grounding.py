"""Grounding: the evidence network learns from the true parameters of simulated robots what to expect of each stretch.

Given the parameters, every stretch of every window is a regression target of its own, so physics is learned from
millions of them instead of from one label a window; that the latents can then be read from a window is arithmetic.
The latents are the parameters themselves, standardized and decorrelated; with more parameters than latents, those
mixtures of them that change the motion most.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from policies.encoders.evidence import Evidence
from policies.encoders.windows import WindowData

NEGLIGIBLE = 1e-3
"""Share of the largest variance below which a mixture of parameters counts as constant."""


class Grounding(nn.Module):
    """The latents of a robot whose parameters are known, and the loss of what is expected of it."""

    mean: Tensor
    deviation: Tensor
    covariance: Tensor

    def __init__(self, parameters: int, latents: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(parameters))
        self.register_buffer("deviation", torch.ones(parameters))
        self.register_buffer("covariance", torch.eye(parameters))
        self.mixture = nn.Parameter(torch.zeros(latents, parameters))

    def set_statistics(self, data: WindowData) -> None:
        """Begin with the mixtures that vary most."""
        values = data.parameters
        deviation = np.maximum(values.std(axis=0), 1e-12)
        covariance = np.atleast_2d(np.corrcoef((values / deviation).T))
        variance, axes = np.linalg.eigh(covariance)
        order = np.argsort(variance)[::-1][: len(self.mixture)]
        rows = [axes[:, i] for i in order if variance[i] > NEGLIGIBLE * variance.max()]
        self.mean.copy_(torch.from_numpy(values.mean(axis=0)))
        self.deviation.copy_(torch.from_numpy(deviation))
        self.covariance.copy_(torch.from_numpy(covariance))
        with torch.no_grad():
            self.mixture[: len(rows)] = torch.from_numpy(np.stack(rows))

    def latents(self, parameters: Tensor) -> Tensor:
        """(B, P) -> (B, Z), each of variance 1 over the training robots; 0 where there is nothing to mix."""
        variance = ((self.mixture @ self.covariance) * self.mixture).sum(dim=1)
        return ((parameters - self.mean) / self.deviation) @ (self.mixture.T / variance.clamp(min=1e-6).sqrt())

    def loss(self, evidence: Evidence, history: Tensor, mask: Tensor, parameters: Tensor) -> Tensor:
        """Gaussian negative log likelihood of the outcomes, a mean over real stretches."""
        seen = evidence.stretches(history, mask)
        foretold = evidence.foretell(seen.inputs.float())
        expected = foretold.mean + (foretold.slopes * self.latents(parameters)[:, None, None]).sum(dim=-1)
        residual = evidence.stretches.results(seen.outcomes).float() - expected
        losses = 0.5 * (foretold.log_variance + residual.square() * torch.exp(-foretold.log_variance)).mean(dim=2)
        return (losses * seen.real).sum() / seen.real.sum().clamp(min=1.0)

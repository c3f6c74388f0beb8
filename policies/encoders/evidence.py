"""What a window says of the robot, gathered as evidence: each stretch of rows is compared with what the nominal robot
would have done, and the differences are explained by the latents.

A small network knows, for any three rows a span apart and the actions around them, what to expect of the third
(`expected`), how surely, and how that would change with each latent (`slopes`). Residuals over all stretches of the
window are then a linear regression with a standard normal prior, solved in closed form: posterior mean and variance.
Where the equations of motion are known they give most of it (foreseen.py), and the network what they leave out.
A longer window makes the latents more certain, a stretch with a lost row says nothing, and an empty window gives the
prior. Grounding (grounding.py) teaches the network with the true parameters of simulated robots.

Source of the regression on learned features: Harrison, Sharma, Pavone, "Meta-learning priors for efficient online
Bayesian regression", WAFR 2018.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from policies.encoders.stretches import Stretcher, Stretches

MOST_CERTAIN, LEAST_CERTAIN = -9.0, 4.0
"""Bounds of the log variance of an outcome, in scaled units; more certainty would amplify rounding."""


class Gate(nn.Module):
    """Products of what is linear in the inputs, as equations of motion are. Source: Shazeer, arXiv 2002.05202."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.value, self.gate = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        gate = _linear(self.gate, x)
        return _linear(self.value, x) * (gate * torch.sigmoid(gate))


class Last(nn.Linear):
    """A layer that works in the precision of what it reads."""

    def forward(self, x: Tensor) -> Tensor:
        return _linear(self, x)


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return nn.functional.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))


class Foretold(NamedTuple):
    """What the network expects of each outcome, in scaled units."""

    mean: Tensor
    """(B, n, outcomes)"""
    log_variance: Tensor
    """(B, n, outcomes)"""
    slopes: Tensor
    """(B, n, outcomes, Z) change of the mean with each latent, nuisances last."""


class Evidence(nn.Module):
    """History (B, H, K), mask (B, H) -> posterior mean and variance of Z latents, which are standard normal before."""

    unit: Tensor
    mixing: Tensor | None
    """(P + 1, Z + 1) change of each parameter with each latent, and of the squared delay with the nuisance."""

    def __init__(
        self,
        components: tuple[str, ...],
        actions: int,
        *,
        span: int,
        latents: int,
        hidden: tuple[int, ...],
        period_s: float,
        parameters: int | None = None,
    ) -> None:
        """As policies.encoders.stretches.Stretcher is told."""
        super().__init__()
        self.latents = latents
        self.stretches = Stretcher(components, actions, span=span, period_s=period_s, parameters=parameters)
        self.outcomes = self.stretches.outcomes
        known = parameters is not None
        self.nuisances = 1 if known else 0  # what the square of the delay adds is estimated, and told to nobody
        mixing = torch.zeros((parameters or 0) + 1, latents + 1, dtype=torch.float64)
        self.register_buffer("mixing", mixing if known else None)
        widths = [len(self.stretches.inputs.mean), *hidden]
        gates = [Gate(i, o) for i, o in pairwise(widths)]
        last = Last(widths[-1], self.outcomes * (2 + latents))
        if known:  # begin with the equations as they are
            nn.init.zeros_(last.weight), nn.init.zeros_(last.bias)
        self.net = nn.Sequential(*gates, last)
        self.weight = nn.Parameter(torch.zeros(self.outcomes))  # log; stretches overlap and so are not independent
        self.register_buffer("unit", torch.eye(latents + self.nuisances, dtype=torch.float64), persistent=False)

    def forward(self, history: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, Z) and variance (B, Z) of the latents after the window.

        In double precision throughout: what slightly explains a residual is divided by little, which shows every
        rounding, and the exported file must give the same numbers.
        """
        information, evidence = self.weigh(history, mask)
        unit = self.unit.expand(information.shape[0], -1, -1)  # len() would fix the batch in an exported file
        solved = self._solve(information, torch.cat([evidence, unit], dim=2))
        told = slice(0, self.latents)
        return solved[:, told, 0].float(), (solved[..., 1:] * self.unit).sum(dim=2)[:, told].float()

    def weigh(self, history: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Information (B, Z, Z), the prior's included, and evidence (B, Z, 1), nuisances last: the posterior's inverse
        covariance, and that times its mean."""
        seen = self.stretches(history, mask)
        foretold = self.foretell(seen)
        certainty = torch.exp(self.weight - foretold.log_variance) * seen.real.unsqueeze(-1)
        residual = self.stretches.results(seen.outcomes) - foretold.mean
        slopes = foretold.slopes.flatten(1, 2)
        weighted = slopes * certainty.flatten(1).unsqueeze(-1)
        information = weighted.transpose(1, 2) @ slopes + self.unit
        return information, weighted.transpose(1, 2) @ residual.flatten(1).unsqueeze(-1)

    def foretell(self, seen: Stretches) -> Foretold:
        """What is expected of the outcomes, in the precision of the inputs; nuisances are the last slopes."""
        made = self.net(self.stretches.inputs(seen.inputs)).unflatten(2, (self.outcomes, 2 + self.latents))
        mean, slopes = made[..., 0], 0.1 * made[..., 2:]
        if seen.slopes is not None and self.mixing is not None:
            known = (seen.slopes / self.stretches.results.deviation.unsqueeze(-1)) @ self.mixing
            slopes = nn.functional.pad(slopes, (0, self.nuisances)) + known.to(slopes.dtype)
            mean = mean - self.stretches.results.mean / self.stretches.results.deviation + known[..., -1].to(mean.dtype)
        return Foretold(mean, made[..., 1].clamp(MOST_CERTAIN, LEAST_CERTAIN), slopes)

    def _solve(self, matrix: Tensor, right: Tensor) -> Tensor:
        """matrix (B, Z, Z), positive definite by the prior, and right (B, Z, r) -> matrix^-1 right (B, Z, r).

        Gauss-Jordan without pivoting, unrolled, because ONNX has no operator that solves.
        """
        system = torch.cat([matrix, right], dim=2)
        for i in range(self.latents + self.nuisances):
            row = system.narrow(1, i, 1)
            pivot = row / row.narrow(2, i, 1)
            system = system - (system.narrow(2, i, 1) - self.unit.narrow(1, i, 1)) * pivot
        return system[:, :, self.latents + self.nuisances :]

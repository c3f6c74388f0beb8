"""What a window says of the robot, gathered as evidence: each stretch of rows is compared with what the nominal robot
would have done, and the differences are explained by the latents.

A small network knows, for any three rows a span apart and the actions around them, what to expect of the third
(`expected`), how surely, and how that would change with each latent (`slopes`). Residuals over all stretches of the
window are then a linear regression with a standard normal prior, solved in closed form: posterior mean and variance.
A longer window makes the latents more certain, a stretch with a lost row says nothing, and an empty window gives the
prior. Grounding (grounding.py) teaches the network with the true parameters of simulated robots.

Which components are angles, rates or readings is told by their names, as robot/observation.py gives them: a new
feature there needs its prefix in one of the tables below.

Where the robot's equations of motion are known (motion.py), outcomes are taken as differences from what the nominal
robot would do, and the network learns only the rest.

Source of the regression on learned features: Harrison, Sharma, Pavone, "Meta-learning priors for efficient online
Bayesian regression", WAFR 2018.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from policies.encoders.motion import Motion
from policies.network import Scale

PLACES = ("position", "gravity")
"""Prefixes of components whose second difference is an outcome."""
RATES = ("velocity", "gyro")
"""Those whose change is."""
READINGS = ("effort", "accel", "innovation")
"""Those that are outcomes themselves, and no input."""
MOST_CERTAIN, LEAST_CERTAIN = -9.0, 4.0
"""Bounds of the log variance of an outcome, in scaled units; more certainty would amplify rounding."""


DELAYS = 3
"""Actions are seen as they act at once, and one or more rows late."""


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


class Stretches(NamedTuple):
    """What the network reads of each stretch of rows, in time order."""

    inputs: Tensor
    """(B, n, inputs)"""
    outcomes: Tensor
    """(B, n, outcomes)"""
    real: Tensor
    """(B, n) 1 where every row of it is."""


class Foretold(NamedTuple):
    """What the network expects of each outcome, in scaled units."""

    mean: Tensor
    """(B, n, outcomes)"""
    log_variance: Tensor
    """(B, n, outcomes)"""
    slopes: Tensor
    """(B, n, outcomes, Z) change of the mean with each latent."""


class Evidence(nn.Module):
    """History (B, H, K), mask (B, H) -> posterior mean and variance of Z latents, which are standard normal before."""

    unit: Tensor
    ramp: Tensor

    def __init__(
        self,
        components: tuple[str, ...],
        actions: int,
        *,
        span: int,
        latents: int,
        hidden: tuple[int, ...],
        period_s: float,
        known: bool,
    ) -> None:
        """`span` rows lie between two anchors, of which a stretch has three; a row lasts `period_s`.

        `known`: whether equations of motion will be given, for which every joint must have its cosine and sine.
        """
        super().__init__()
        self.span, self.latents, self.width, self.actions = span, latents, len(components), actions
        self.time = span * period_s
        column = {name: i for i, name in enumerate(components)}
        pairs = [n.removeprefix("cos/") for n in components if n.startswith("cos/") and f"sin/{n[4:]}" in column]
        self.cosines, self.sines = ([column[f"{f}/{name}"] for name in pairs] for f in ("cos", "sin"))
        self.places, self.rates, self.readings = (
            [i for name, i in column.items() if name.split("/")[0] in table] for table in (PLACES, RATES, READINGS)
        )
        turning = {f"velocity/{name}": k for k, name in enumerate(pairs)}
        self.turning = [turning[components[i]] if known else 0 for i in self.rates]
        count = len(pairs) + len(self.places)
        size = 2 * len(pairs) + len(self.places) + len(self.rates) + count + DELAYS * actions
        self.outcomes = count + len(self.rates) + len(self.readings)
        self.motion = Motion(len(pairs), actions) if known else None
        self.inputs, self.results = Scale(size + (len(pairs) if known else 0)), Scale(self.outcomes)
        widths = [len(self.inputs.mean), *hidden]
        gates = [Gate(i, o) for i, o in pairwise(widths)]
        self.net = nn.Sequential(*gates, Last(widths[-1], self.outcomes * (2 + latents)))
        self.weight = nn.Parameter(torch.zeros(self.outcomes))  # log; stretches overlap and so are not independent
        self.register_buffer("ramp", (torch.arange(span) + 0.5) / span**2, persistent=False)
        self.register_buffer("unit", torch.eye(latents, dtype=torch.float64), persistent=False)

    def forward(self, history: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, Z) and variance (B, Z) of the latents after the window.

        In double precision throughout: what slightly explains a residual is divided by little, which shows every
        rounding, and the exported file must give the same numbers.
        """
        seen = self.stretches(history, mask)
        foretold = self.foretell(seen.inputs)
        certainty = torch.exp(self.weight - foretold.log_variance) * seen.real.unsqueeze(-1)
        residual = self.results(seen.outcomes) - foretold.mean
        slopes = foretold.slopes.flatten(1, 2)
        weighted = slopes * certainty.flatten(1).unsqueeze(-1)
        information = weighted.transpose(1, 2) @ slopes + self.unit
        evidence = weighted.transpose(1, 2) @ residual.flatten(1).unsqueeze(-1)
        unit = self.unit.expand(information.shape[0], -1, -1)  # len() would fix the batch in an exported file
        solved = self._solve(information, torch.cat([evidence, unit], dim=2))
        return solved[..., 0].float(), (solved[..., 1:] * self.unit).sum(dim=2).float()

    def stretches(self, history: Tensor, mask: Tensor) -> Stretches:
        """Cut a window into overlapping stretches, the newest ending at the newest row; in double precision."""
        span, first = self.span, (history.shape[1] - 1) % self.span
        history = history.double() * mask.unsqueeze(-1)
        rows = history[:, first::span, : self.width]
        before, here, after = rows[:, 1:-2], rows[:, 2:-1], rows[:, 3:]
        late, early = self._moved(here, after), self._moved(before, here)
        acting = self._acting(history[:, first:-1, self.width :])
        kept = self.cosines + self.sines + self.places + self.rates
        inputs = [here[..., kept], late + early, acting]
        curved, changed = late - early, after[..., self.rates] - before[..., self.rates]
        if self.motion is not None:
            speed = (late + early) / (2.0 * self.time)
            cosine, sine = here[..., self.cosines], here[..., self.sines]
            bent = self.motion(cosine, sine, speed, acting[..., : self.actions]) * self.time
            inputs.append(bent)
            curved, changed = curved - bent * self.time, changed - 2.0 * bent[..., self.turning]
        outcomes = torch.cat([curved, changed, here[..., self.readings]], dim=2)
        filled = mask[:, first:-1].unflatten(1, (-1, span)).amin(dim=2)
        real = filled[:, :-2] * filled[:, 1:-1] * filled[:, 2:] * mask[:, first::span][:, 3:]
        return Stretches(torch.cat(inputs, dim=2), outcomes, real)

    def _acting(self, action: Tensor) -> Tensor:
        """(B, n, DELAYS x A) what acted on each stretch, for each delay [rows].

        A second difference of places is a mean of accelerations with these weights: growing up to the middle anchor,
        and falling from there.
        """
        made = []
        for delay in range(DELAYS):
            late = nn.functional.pad(action, (0, 0, delay, 0))[:, : action.shape[1]]
            whole = late.unflatten(1, (-1, self.span))
            rising, falling = ((whole * ramp[:, None]).sum(dim=2) for ramp in (self.ramp, self.ramp.flip(0)))
            made.append(rising[:, 1:-1] + falling[:, 2:])
        return torch.cat(made, dim=2)

    def foretell(self, inputs: Tensor) -> Foretold:
        """(B, n, inputs) -> what is expected of the outcomes, in the precision of the inputs."""
        made = self.net(self.inputs(inputs)).unflatten(2, (self.outcomes, 2 + self.latents))
        return Foretold(made[..., 0], made[..., 1].clamp(MOST_CERTAIN, LEAST_CERTAIN), 0.1 * made[..., 2:])

    def set_statistics(self, history: Tensor, mask: Tensor) -> None:
        """Scale inputs and outcomes by those of some windows."""
        seen = self.stretches(history, mask)
        real = seen.real > 0
        for scale, values in ((self.inputs, seen.inputs[real]), (self.results, seen.outcomes[real])):
            if len(values) > 1:
                scale.set(values.mean(dim=0).numpy(), values.std(dim=0).numpy())

    def _moved(self, before: Tensor, after: Tensor) -> Tensor:
        """Change of angles, as its sine, and of the other places between two anchors."""
        turned = after[..., self.sines] * before[..., self.cosines] - after[..., self.cosines] * before[..., self.sines]
        return torch.cat([turned, after[..., self.places] - before[..., self.places]], dim=2)

    def _solve(self, matrix: Tensor, right: Tensor) -> Tensor:
        """matrix (B, Z, Z), positive definite by the prior, and right (B, Z, r) -> matrix^-1 right (B, Z, r).

        Gauss-Jordan without pivoting, unrolled, because ONNX has no operator that solves.
        """
        system = torch.cat([matrix, right], dim=2)
        for i in range(self.latents):
            pivot = system[:, i : i + 1] / system[:, i : i + 1, i : i + 1]
            system = system - (system[:, :, i : i + 1] - self.unit[:, i : i + 1]) * pivot
        return system[:, :, self.latents :]

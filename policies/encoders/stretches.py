"""Stretches of a window: three anchors a span of rows apart, and the actions around them.

What an encoder compares. Which components are angles, rates or readings is told by their names, as robot/observation.py
gives them: a new feature there needs its prefix in one of the tables below. Where the robot's equations of motion are
known (motion.py), outcomes are taken as differences from what the nominal robot would do.
"""

from __future__ import annotations

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
DELAYS = 3
"""Actions are seen as they act at once, and one or more rows late."""


class Stretches(NamedTuple):
    """What the network reads of each stretch of rows, in time order."""

    inputs: Tensor
    """(B, n, inputs)"""
    outcomes: Tensor
    """(B, n, outcomes)"""
    real: Tensor
    """(B, n) 1 where every row of it is."""


class Stretcher(nn.Module):
    """History (B, H, K), mask (B, H) -> Stretches, and how their inputs and outcomes are scaled."""

    ramp: Tensor

    def __init__(self, components: tuple[str, ...], actions: int, *, span: int, period_s: float, known: bool) -> None:
        """`span` rows lie between two anchors; a row lasts `period_s`.

        `known`: whether equations of motion will be given, for which every joint must have its cosine and sine.
        """
        super().__init__()
        self.span, self.width, self.actions = span, len(components), actions
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
        self.register_buffer("ramp", (torch.arange(span) + 0.5) / span**2, persistent=False)

    def forward(self, history: Tensor, mask: Tensor) -> Stretches:
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

    def set_statistics(self, history: Tensor, mask: Tensor) -> None:
        """Scale inputs and outcomes by those of some windows."""
        seen = self(history, mask)
        real = seen.real > 0
        for scale, values in ((self.inputs, seen.inputs[real]), (self.results, seen.outcomes[real])):
            if len(values) > 1:
                scale.set(values.mean(dim=0).numpy(), values.std(dim=0).numpy())

    def _moved(self, before: Tensor, after: Tensor) -> Tensor:
        """Change of angles, as its sine, and of the other places between two anchors."""
        turned = after[..., self.sines] * before[..., self.cosines] - after[..., self.cosines] * before[..., self.sines]
        return torch.cat([turned, after[..., self.places] - before[..., self.places]], dim=2)

"""Stretches of a window: anchors a span of rows apart, and the actions around them.

What an encoder compares. Which components are angles, rates or readings is told by their names, as robot/observation.py
gives them: a new feature there needs its prefix in one of the tables below. Where the robot's equations of motion are
known (foreseen.py), outcomes are taken as differences from what the nominal robot would do.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from policies.encoders.foreseen import Foreseen, cells
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
    slopes: Tensor | None = None
    """(B, n, outcomes, P + 1) what the equations of motion say of how outcomes change with each parameter, and with
    the square of the delay; None where they are not known."""


class Stretcher(nn.Module):
    """History (B, H, K), mask (B, H) -> Stretches, and how their inputs and outcomes are scaled."""

    triangles: Tensor

    def __init__(
        self, components: tuple[str, ...], actions: int, *, span: int, period_s: float, parameters: int | None = None
    ) -> None:
        """`span` rows lie between two anchors; a row lasts `period_s`.

        `parameters`: by how many the equations of motion change that will be given, for which every joint must have
        its cosine and sine; None for a robot without.
        """
        super().__init__()
        self.span, self.width, self.actions = span, len(components), actions
        self.time = span * period_s
        column = {name: i for i, name in enumerate(components)}
        pairs = [n.removeprefix("cos/") for n in components if n.startswith("cos/") and f"sin/{n[4:]}" in column]
        columns = {side: [column[f"{side}/{name}"] for name in pairs] for side in ("cos", "sin")}
        for name, table in (("places", PLACES), ("rates", RATES), ("readings", READINGS)):
            columns[name] = [i for component, i in column.items() if component.split("/")[0] in table]
        columns["kept"] = columns["cos"] + columns["sin"] + columns["places"] + columns["rates"]
        self.columns = _Columns(columns)
        places, rates, readings = (len(columns[name]) for name in ("places", "rates", "readings"))
        known = parameters is not None
        count = len(pairs) + places
        size = 2 * len(pairs) + places + rates + count + DELAYS * actions
        # where the equations are known, the places tell more exactly what the rates could
        self.outcomes = count + (0 if known else rates) + readings
        self.foreseen = None
        if parameters is not None:
            self.foreseen = Foreseen(len(pairs), actions, parameters, span=span, period_s=period_s)
        self.inputs, self.results = Scale(size + (len(pairs) if known else 0)), Scale(self.outcomes)
        self.register_buffer("triangles", triangles(span), persistent=False)

    def forward(self, history: Tensor, mask: Tensor) -> Stretches:
        """Cut a window into overlapping stretches, the newest ending at the newest row; in double precision."""
        span, first = self.span, (history.shape[1] - 1) % self.span
        history = history.double() * mask.unsqueeze(-1)
        rows = history[:, first::span, : self.width]
        here = rows[:, 2:-1]
        cosine, sine, places, rates = (self.columns(rows, name) for name in ("cos", "sin", "places", "rates"))
        turned = sine[:, 1:] * cosine[:, :-1] - cosine[:, 1:] * sine[:, :-1]
        moved = torch.cat([turned, places[:, 1:] - places[:, :-1]], dim=2)  # angles, as their sine, and other places
        late, early = moved[:, 2:], moved[:, 1:-1]
        actions = history[:, first:-1, self.width :]
        inputs = torch.cat([self.columns(here, "kept"), late + early, self._acting(actions)], dim=2)
        curved, changed, readings = late - early, rates[:, 3:] - rates[:, 1:-2], self.columns(here, "readings")
        filled = mask[:, first:-1].unflatten(1, (-1, span)).amin(dim=2)
        real = filled[:, :-2] * filled[:, 1:-1] * filled[:, 2:] * mask[:, first::span][:, 3:]
        if self.foreseen is None:
            return Stretches(inputs, torch.cat([curved, changed, readings], dim=2), real)
        seen = self.foreseen(cosine, sine, actions)
        bent, slopes = seen.nominal * self.time, seen.slopes * self.time
        inputs = torch.cat([inputs[:, :-1], bent], dim=2)
        told = torch.zeros_like(slopes[:, :, :1]).expand(-1, -1, readings.shape[2], -1)
        slopes = torch.cat([slopes * self.time, told], dim=2)
        outcomes = torch.cat([seen.curved - bent * self.time, readings[:, :-1]], dim=2)
        return Stretches(inputs, outcomes, real[:, :-1] * real[:, 1:], slopes)

    def _acting(self, action: Tensor) -> Tensor:
        """(B, n, DELAYS x A) what acted on each stretch, for each delay [rows].

        A second difference of places is a mean of accelerations with these weights: growing up to the middle anchor,
        and falling from there.
        """
        padded = nn.functional.pad(action, (0, 0, DELAYS - 1, 0))
        around = cells(padded, self.span, 2 * self.span + DELAYS - 1, action.shape[1] // self.span - 2)
        return (around @ self.triangles).transpose(2, 3).flatten(2)

    def set_statistics(self, history: Tensor, mask: Tensor) -> None:
        """Scale inputs and outcomes by those of some windows."""
        seen = self(history, mask)
        real = seen.real > 0
        for scale, values in ((self.inputs, seen.inputs[real]), (self.results, seen.outcomes[real])):
            if len(values) > 1:
                scale.set(values.mean(dim=0).numpy(), values.std(dim=0).numpy())


class _Columns(nn.Module):
    """Columns of rows by name, as gathers whose indices are made once."""

    def __init__(self, columns: dict[str, list[int]]) -> None:
        super().__init__()
        for name, which in columns.items():
            self.register_buffer(name, torch.tensor(which, dtype=torch.int64), persistent=False)

    def forward(self, rows: Tensor, name: str) -> Tensor:
        """rows (B, n, K) -> (B, n, columns of that name)"""
        return rows.index_select(2, self.get_buffer(name))


def triangles(span: int) -> Tensor:
    """(2 span + DELAYS - 1, DELAYS) weights of single rows' actions in a second difference, for each delay [rows]."""
    ramp = (torch.arange(span) + 0.5) / span**2
    made = torch.zeros(2 * span + DELAYS - 1, DELAYS, dtype=torch.float64)
    for delay in range(DELAYS):
        first = DELAYS - 1 - delay
        made[first : first + 2 * span, delay] = torch.cat([ramp, ramp.flip(0)]).double()
    return made

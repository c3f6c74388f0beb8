"""What a robot with known equations of motion would do in a stretch of five anchors, and how that depends on it.

A second difference of angles over two spans is a mean of the acceleration over them, weighted by a triangle. Of the
equations' own part that mean is taken to fourth order (Numerov's rule); of the actions, which step from row to row
and come late, it is exact, to second order in what the delay differs from the middle one.

Source: Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, 2nd ed., 1993, III.10 (Numerov's method).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from policies.encoders.motion import Motion, Posed

LATEST = 3
"""Rows by which actions may come late."""
NUMEROV = (1.0 / 12.0, 10.0 / 12.0, 1.0 / 12.0)
SLOPE_AT = ((-3.0, -10.0, 18.0, -6.0, 1.0), (1.0, -8.0, 0.0, 8.0, -1.0), (-1.0, 6.0, -18.0, 10.0, 3.0))
"""Twelve times the first derivative of five samples a step of 1 apart, at the second, third and fourth."""


class Foresight(NamedTuple):
    """Of each stretch: n = anchors - 4, the middle anchor is the one that the others are before and after."""

    curved: Tensor
    """(B, n, J) second difference of the angles [rad]."""
    nominal: Tensor
    """(B, n, J) mean acceleration of the robot in the middle of the randomization [rad/s²]."""
    slopes: Tensor
    """(B, n, J, P + 1) its change with each parameter, in that parameter's unit; last, with the square of the delay's
    difference from the middle one [rows²]."""


class Foreseen(nn.Module):
    """Angles of J joints at anchors, and actions of all rows, to Foresight."""

    delay: Tensor
    delay_slopes: Tensor
    kernels: Tensor
    numerov: Tensor
    derivative: Tensor

    def __init__(self, joints: int, actions: int, parameters: int, *, span: int, period_s: float) -> None:
        super().__init__()
        self.span, self.actions, self.period_s = span, actions, period_s
        self.motion = Motion(joints, actions, parameters)
        self.register_buffer("delay", torch.zeros((), dtype=torch.float64))  # rows
        self.register_buffer("delay_slopes", torch.zeros(parameters, dtype=torch.float64))  # rows per unit
        self.register_buffer("kernels", torch.from_numpy(kernels(span, 0.0)))
        derivative = torch.tensor(SLOPE_AT, dtype=torch.float64).T / (12.0 * span * period_s)
        self.register_buffer("derivative", derivative, persistent=False)
        self.register_buffer("numerov", torch.tensor(NUMEROV, dtype=torch.float64), persistent=False)

    def set(self, equations: Mapping[str, npt.NDArray[np.float64]]) -> None:
        """Put a robot's equations in force: those of Motion, and `delay` [s] with its slopes [s per unit]."""
        self.motion.set(equations)
        self.delay.copy_(torch.as_tensor(float(equations["delay"]) / self.period_s))
        self.delay_slopes.copy_(torch.from_numpy(equations["delay_slopes"] / self.period_s))
        self.kernels.copy_(torch.from_numpy(kernels(self.span, float(self.delay))))

    def forward(self, cosine: Tensor, sine: Tensor, action: Tensor) -> Foresight:
        """cosine, sine (B, anchors, J) and action (B, span (anchors - 1), A) from each row on.

        Pairs that are longer than a direction is are shortened: of what is no angle, equations of motion would make
        numbers without bound.
        """
        time = self.span * self.period_s
        length = (cosine * cosine + sine * sine).clamp(min=1.0).sqrt()
        cosine, sine = cosine / length, sine / length
        turned = _angle(cosine, sine)  # (B, anchors - 1, J)
        count = turned.shape[1] - 3
        first, second, third, fourth = (turned.narrow(1, i, count) for i in range(4))
        place = [-first - second, -second, torch.zeros_like(first), third, third + fourth]
        acting, changing, bending = self._acting(action)
        curved = third - second
        speed = (torch.stack(place, dim=-1) @ self.derivative).transpose(2, 3)  # (B, n, 3, J) [rad/s]
        near, across = (torch.stack([x.narrow(1, i, count) for i in (1, 2, 3)], dim=2) for x in (cosine, sine))
        at = self.motion.posed(near, across, speed)
        nominal = (self.motion(at, acting.unsqueeze(2)) * self.numerov.unsqueeze(1)).sum(dim=2)
        late = torch.cat([changing.unsqueeze(-1) * self.delay_slopes, 0.5 * bending.unsqueeze(-1)], dim=-1)
        middle = Posed(*(part.select(2, 1) for part in at))
        return Foresight(curved, nominal, self.motion.slopes(middle, acting, curved / time**2, late))

    def _acting(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, n, A) each: what acted on each stretch, and its first and second change with the delay [rows]."""
        count = action.shape[1] // self.span - 3
        padded = nn.functional.pad(action, (0, 0, LATEST, 0))
        made = cells(padded, self.span, 2 * self.span + LATEST, count) @ self.kernels.T
        return made[..., 0], made[..., 1], made[..., 2]


def cells(rows: Tensor, span: int, size: int, count: int) -> Tensor:
    """(B, rows, A) -> (B, count, A, size): `size` rows for each stretch, the first from row `span` on, each a span on.

    One gather: a slice for each row would be most of the exported file, and of the time that it takes.
    """
    index = span + span * torch.arange(count).unsqueeze(1) + torch.arange(size)
    return rows.index_select(1, index.flatten()).unflatten(1, (count, size)).transpose(2, 3)


def kernels(span: int, delay: float) -> npt.NDArray[np.float64]:
    """(3, 2 span + LATEST) weights of the actions of single rows in the mean over a stretch, when all come `delay`
    rows late; their first and second derivative with respect to it. The middle anchor is at row span + LATEST.
    """
    edges = (np.arange(-span - LATEST, span + 1) + delay) / span
    inside = np.clip(edges, -1.0, 1.0)
    area = np.where(inside < 0.0, 0.5 * (1.0 + inside) ** 2, 1.0 - 0.5 * (1.0 - inside) ** 2)
    height = np.maximum(1.0 - np.abs(edges), 0.0) / span
    steepness = np.where(np.abs(edges) < 1.0, -np.sign(edges + 1e-9), 0.0) / span**2
    return np.stack([np.diff(area), np.diff(height), np.diff(steepness)])


def _angle(cosine: Tensor, sine: Tensor) -> Tensor:
    """(B, n, J) -> (B, n - 1, J) by how much each angle turns; less than a right angle."""
    turned = sine[:, 1:] * cosine[:, :-1] - cosine[:, 1:] * sine[:, :-1]
    square = turned * turned
    series = 1.0 + square * (1 / 6 + square * (3 / 40 + square * (5 / 112 + square * (35 / 1152 + square * 63 / 2816))))
    return turned * series

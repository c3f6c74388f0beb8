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

from policies.encoders.motion import Motion

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

    def __init__(self, joints: int, actions: int, parameters: int, *, span: int, period_s: float) -> None:
        super().__init__()
        self.span, self.actions, self.period_s = span, actions, period_s
        self.motion = Motion(joints, actions, parameters)
        self.register_buffer("delay", torch.zeros((), dtype=torch.float64))  # rows
        self.register_buffer("delay_slopes", torch.zeros(parameters, dtype=torch.float64))  # rows per unit
        self.register_buffer("kernels", torch.from_numpy(kernels(span, 0.0)))

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
        steps = [turned[:, i : i + count] for i in range(4)]
        place = [-steps[0] - steps[1], -steps[1], torch.zeros_like(steps[0]), steps[2], steps[2] + steps[3]]
        acting, changing, bending = self._acting(action)
        curved = steps[2] - steps[1]
        nominal = torch.zeros_like(curved)
        for i, weight in enumerate(NUMEROV, start=1):
            speed = self._speed(place, i)
            at = slice(i, i + count)
            nominal = nominal + weight * self.motion(cosine[:, at], sine[:, at], speed, acting)
        late = torch.cat([changing.unsqueeze(-1) * self.delay_slopes, 0.5 * bending.unsqueeze(-1)], dim=-1)
        here = slice(2, 2 + count)
        speed, acceleration = self._speed(place, 2), curved / time**2
        slopes = self.motion.slopes(cosine[:, here], sine[:, here], speed, acting, acceleration, late)
        return Foresight(curved, nominal, slopes)

    def _speed(self, place: list[Tensor], anchor: int) -> Tensor:
        """Velocity [rad/s] at the second, third or fourth of five anchors (1, 2, 3)."""
        weighted = [w * p for w, p in zip(SLOPE_AT[anchor - 1], place, strict=True)]
        return torch.stack(weighted).sum(dim=0) / (12.0 * self.span * self.period_s)

    def _acting(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, n, A) each: what acted on each stretch, and its first and second change with the delay [rows]."""
        count = action.shape[1] // self.span - 3
        padded = nn.functional.pad(action, (0, 0, LATEST, 0))
        made = []
        for kernel in self.kernels:
            cells = [
                kernel[c] * padded[:, self.span + c :: self.span][:, :count] for c in range(2 * self.span + LATEST)
            ]
            made.append(torch.stack(cells).sum(dim=0))
        return made[0], made[1], made[2]


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

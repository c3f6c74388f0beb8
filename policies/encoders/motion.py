"""How the nominal robot would accelerate: equations of motion as trigonometric polynomials, for one or two joints.

The coefficients come from whoever knows the simulator (transfer/rigid.py) and are buffers, so they travel with the
weights into the exported file. Without any, nothing ever accelerates, and the network beside learns it all.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

SLIP = 0.1
"""[rad/s] Speed at which friction has grown to three quarters of its size."""


def terms(cosine: Tensor, sine: Tensor) -> Tensor:
    """(..., J) each -> (..., 5^J): products of 1, cos, sin, cos², sin cos of every joint."""
    made = torch.ones_like(cosine[..., :1])
    for j in range(cosine.shape[-1]):
        c, s = cosine[..., j : j + 1], sine[..., j : j + 1]
        own = torch.cat([torch.ones_like(c), c, s, c * c, s * c], dim=-1)
        made = (made.unsqueeze(-1) * own.unsqueeze(-2)).flatten(-2)
    return made


def products(still: Tensor, velocity: Tensor) -> Tensor:
    """terms() (..., T) and velocity (..., J) -> (..., T (1 + J (J + 1) / 2)): times 1 and every product of two."""
    joints = velocity.shape[-1]
    pairs = [velocity[..., i : i + 1] * velocity[..., j : j + 1] for i in range(joints) for j in range(i, joints)]
    moving = torch.cat([torch.ones_like(velocity[..., :1]), *pairs], dim=-1)
    return (still.unsqueeze(-1) * moving.unsqueeze(-2)).flatten(-2)


class Motion(nn.Module):
    """Cosine, sine and velocity of J <= 2 joints, and actions, to accelerations [rad/s²]."""

    mass: Tensor
    bias: Tensor
    damping: Tensor
    friction: Tensor
    drive: Tensor

    def __init__(self, joints: int, actions: int) -> None:
        super().__init__()
        self.joints = joints
        count = 5**joints
        mass = torch.zeros(count, joints * joints)
        mass[0] = torch.eye(joints).flatten()
        self.register_buffer("mass", mass)
        self.register_buffer("bias", torch.zeros(count * (1 + joints * (joints + 1) // 2), joints))
        self.register_buffer("damping", torch.zeros(joints))
        self.register_buffer("friction", torch.zeros(joints))
        self.register_buffer("drive", torch.zeros(actions, joints))

    def set(self, coefficients: Mapping[str, np.ndarray]) -> None:
        """Put a robot's equations in force: a value for each of the buffers."""
        for name, buffer in self.named_buffers():
            buffer.copy_(torch.from_numpy(np.asarray(coefficients[name], dtype=np.float32)))

    def forward(self, cosine: Tensor, sine: Tensor, velocity: Tensor, action: Tensor) -> Tensor:
        """(..., J) each and action (..., A) in [-1, 1] -> (..., J)."""
        still = terms(cosine, sine)
        drive, bias, matrix = (b.to(still.dtype) for b in (self.drive, self.bias, self.mass))
        torque = action @ drive - products(still, velocity) @ bias
        torque = torque - self.damping * velocity - self.friction * torch.tanh(velocity / SLIP)
        mass = still @ matrix
        if self.joints == 1:
            return torque / _apart_from_zero(mass)
        a, b, c, d = (mass[..., i : i + 1] for i in range(4))
        first, second = torque[..., :1], torque[..., 1:]
        turned = torch.cat([d * first - b * second, a * second - c * first], dim=-1)
        return turned / _apart_from_zero(a * d - b * c)


def _apart_from_zero(positive: Tensor) -> Tensor:
    """Rows that were lost hold zeros, which are no state."""
    return positive.clamp(min=1e-9)

"""How a robot of one or two turning joints accelerates, and how that changes with each of its parameters: equations of
motion as trigonometric polynomials, linear in the parameters.

    M(q) a = B u - c(q, v) - D v - friction

Every coefficient is a value in the middle of the randomization and a slope by each parameter; they come from whoever
knows the simulator (transfer/rigid.py) and are buffers, so they travel with the weights into the exported file.

Source of linearity in the parameters: Khalil and Dombre, Modeling, Identification and Control of Robots, 2002, ch. 9.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

SLIP = 0.05
"""[rad/s] Speed at which friction has grown to three quarters of its size."""
SLOPES = "_slopes"
"""Ending of the buffers that hold how a coefficient changes with each parameter; its last axis is the parameters'."""


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


class Posed(NamedTuple):
    """What equations of motion read of a state of J joints."""

    still: Tensor
    """(..., T) terms()"""
    moving: Tensor
    """(..., T (1 + J (J + 1) / 2)) products()"""
    velocity: Tensor
    """(..., J) [rad/s]"""
    slip: Tensor
    """(..., J) share of its friction that a joint has at that speed, with its sign."""


class Motion(nn.Module):
    """Equations of motion of J <= 2 joints with A actions in [-1, 1] and P parameters."""

    mass: Tensor
    bias: Tensor
    damping: Tensor
    friction: Tensor
    drive: Tensor
    mass_slopes: Tensor
    bias_slopes: Tensor
    damping_slopes: Tensor
    friction_slopes: Tensor
    drive_slopes: Tensor

    def __init__(self, joints: int, actions: int, parameters: int) -> None:
        super().__init__()
        self.joints, self.parameters_known = joints, parameters
        count = 5**joints
        mass = torch.zeros(count, joints * joints, dtype=torch.float64)
        mass[0] = torch.eye(joints).flatten()
        still = {
            "mass": mass,
            "bias": torch.zeros(count * (1 + joints * (joints + 1) // 2), joints, dtype=torch.float64),
            "damping": torch.zeros(joints, dtype=torch.float64),
            "friction": torch.zeros(joints, dtype=torch.float64),
            "drive": torch.zeros(actions, joints, dtype=torch.float64),
        }
        for name, values in still.items():
            self.register_buffer(name, values)
            self.register_buffer(name + SLOPES, torch.zeros(*values.shape, parameters, dtype=torch.float64))

    def set(self, coefficients: Mapping[str, np.ndarray]) -> None:
        """Put a robot's equations in force: a value for each of the buffers."""
        for name, buffer in self.named_buffers():
            buffer.copy_(torch.from_numpy(np.asarray(coefficients[name], dtype=np.float64)))

    def posed(self, cosine: Tensor, sine: Tensor, velocity: Tensor) -> Posed:
        """Where the robot is and how fast it moves: (..., J) each, in double precision."""
        still = terms(cosine, sine)
        return Posed(still, products(still, velocity), velocity, torch.tanh(velocity / SLIP))

    def forward(self, at: Posed, action: Tensor) -> Tensor:
        """Action (..., A), in double precision -> accelerations (..., J) [rad/s²]."""
        torque = action @ self.drive - at.moving @ self.bias
        torque = torque - self.damping * at.velocity - self.friction * at.slip
        return self._accelerated(at.still, torque.unsqueeze(-1)).squeeze(-1)

    def slopes(self, at: Posed, action: Tensor, acceleration: Tensor, late: Tensor) -> Tensor:
        """(..., J, P + 1) change of the acceleration with each parameter, and with the last column's unknown.

        Exact for any change of the parameters where `acceleration` (..., J) is the true one; the middle mass matrix
        weighs it. `late` (..., A, P + 1) are changes of the action itself: by parameters that delay it.
        """
        mass = (at.still @ self.mass_slopes.flatten(1)).unflatten(-1, (self.joints, self.joints, -1))
        torque = action @ self.drive_slopes.flatten(1) - at.moving @ self.bias_slopes.flatten(1)
        torque = torque.unflatten(-1, (self.joints, -1))
        torque = torque - at.velocity.unsqueeze(-1) * self.damping_slopes - at.slip.unsqueeze(-1) * self.friction_slopes
        torque = torque - (mass * acceleration[..., None, :, None]).sum(dim=-2)
        return self._accelerated(at.still, nn.functional.pad(torque, (0, 1)) + self.drive.T @ late)

    def _accelerated(self, still: Tensor, torque: Tensor) -> Tensor:
        """terms() (..., T) and torques (..., J, n) -> M^-1 torque (..., J, n)."""
        mass = still @ self.mass
        if self.joints == 1:
            return torque / _apart_from_zero(mass).unsqueeze(-1)
        a, b, c, d = (mass[..., i : i + 1] for i in range(4))
        first, second = torque[..., 0, :], torque[..., 1, :]
        turned = torch.stack([d * first - b * second, a * second - c * first], dim=-2)
        return turned / _apart_from_zero(a * d - b * c).unsqueeze(-1)


def _apart_from_zero(positive: Tensor) -> Tensor:
    """Rows that were lost hold zeros, which are no state."""
    return positive.clamp(min=1e-9)

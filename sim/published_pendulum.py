"""The published equations of the double pendulum, for n of them at once, integrated by Runge-Kutta.

MuJoCo has no friction that is negative or an arctan, and the public robustness benchmark asks for both; so its suite
runs on these equations. Where both apply, a test holds them against MuJoCo.
Source: DFKI RIC Underactuated Robotics Lab, double_pendulum: M(q) a + C(q, v) v - G(q) + F(v) = D u, with
F = b v + cf arctan(100 v).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

GRAVITY = 9.81
STEEPNESS = 100.0
"""[s/rad] of the arctan that stands for the sign of a velocity."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pendulums:
    """n double pendulums; every array is (n,), SI units, inertias about the joints."""

    I1: Array
    I2: Array
    Ir: Array
    """Rotor inertia of either motor, before the gear."""
    l1: Array
    m2: Array
    m1r1: Array
    m2r2: Array
    b1: Array
    b2: Array
    cf1: Array
    cf2: Array
    gr: Array
    """Gear."""


class Equations:
    """Motion of n double pendulums. A state is (4, n): shoulder, elbow [rad], and their velocities [rad/s]."""

    def __init__(self, of: Pendulums) -> None:
        self._of = of
        self._swing = of.l1 * of.m2r2
        self._m11 = of.I1 + of.I2 + of.l1**2 * of.m2 + (of.gr**2 + 1.0) * of.Ir
        self._m12 = of.I2 - of.gr * of.Ir
        self._m22 = of.I2 + of.gr**2 * of.Ir
        self._upper = GRAVITY * (of.m1r1 + of.m2 * of.l1)
        self._lower = GRAVITY * of.m2r2
        self._damping = np.stack([of.b1, of.b2])
        self._coulomb = np.stack([of.cf1, of.cf2])
        self._dry = np.flatnonzero(self._coulomb.any(axis=0))  # an arctan for those alone: it is a tenth of the cost

    @property
    def physical(self) -> npt.NDArray[np.bool_]:
        """(n,) whether the mass matrix is positive definite at every elbow angle."""
        determinant = [(self._m11 + 2.0 * s) * self._m22 - (self._m12 + s) ** 2 for s in (self._swing, -self._swing)]
        return (np.minimum(*determinant) > 0.0) & (self._m22 > 0.0)

    def acceleration(self, state: Array, torque: Array) -> Array:
        """(2, n) [rad/s²] under torques (2, n) [N m]."""
        q1, q2, v1, v2 = state
        s, c = self._swing * np.sin(q2), self._swing * np.cos(q2)
        lower = self._lower * np.sin(q1 + q2)
        force = torque - self._damping * state[2:]
        if self._dry.size:
            slow = np.arctan(STEEPNESS * state[2:, self._dry])
            force[:, self._dry] -= self._coulomb[:, self._dry] * slow
        f1 = force[0] + s * v2 * (2.0 * v1 + v2) - self._upper * np.sin(q1) - lower
        f2 = force[1] - s * v1 * v1 - lower
        m11, m12 = self._m11 + 2.0 * c, self._m12 + c
        determinant = m11 * self._m22 - m12 * m12
        out = np.empty_like(torque)
        out[0] = (self._m22 * f1 - m12 * f2) / determinant
        out[1] = (m11 * f2 - m12 * f1) / determinant
        return out

    def _slope(self, state: Array, torque: Array) -> Array:
        out = np.empty_like(state)
        out[:2] = state[2:]
        out[2:] = self.acceleration(state, torque)
        return out

    def step(self, state: Array, torque: Array, dt: float) -> Array:
        """(4, n) the state `dt` [s] later, torques (2, n) held; the classical Runge-Kutta method."""
        k1 = self._slope(state, torque)
        k2 = self._slope(state + 0.5 * dt * k1, torque)
        k3 = self._slope(state + 0.5 * dt * k2, torque)
        k4 = self._slope(state + dt * k3, torque)
        return state + dt / 6.0 * (k1 + 2.0 * (k2 + k3) + k4)

    def energy(self, state: Array) -> Array:
        """(n,) kinetic and potential energy [J]."""
        q1, q2, v1, v2 = state
        c = self._swing * np.cos(q2)
        kinetic = 0.5 * (self._m11 + 2.0 * c) * v1 * v1 + (self._m12 + c) * v1 * v2 + 0.5 * self._m22 * v2 * v2
        return np.asarray(kinetic - self._upper * np.cos(q1) - self._lower * np.cos(q1 + q2))

"""What motors give beyond the equations: a small network on a short history, as torque at the joint. Batched numpy.

One hidden layer for each actuator. Its inputs are what was asked of the motor and the joint's speed, now and as they
fade over 10 and 40 ms; its first layer is drawn once, from a seed, and is the same for every robot, so that the weights
of the second are all there is to fit, and stand among the targets (sim/targets/residual.py). No unit has a bias: the
network is odd, so it can take the place neither of a joint's zero nor of a load. Its torque is bounded.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]

UNITS = 8
FADE_S = (0.010, 0.040)
"""Time constants of the history [s]."""
BOUND = 0.1
"""Largest torque, as a share of the actuator's limit."""
BRISK = 0.2
"""Share of a joint's velocity limit that is one unit of speed."""
FIRST_LAYER = (
    np.random.default_rng(20_240).normal(size=(UNITS, 2 * (1 + len(FADE_S)))) * np.linspace(0.5, 3.0, UNITS)[:, None]
)
"""(UNITS, inputs): from nearly linear units to sharp ones."""


class ResidualNetwork:
    """The networks of n simulations; arrays are (n, n_actuators)."""

    def __init__(self, n: int, limit: Array, speed: Array) -> None:
        """`limit` (n_actuators,) largest torques [N m], `speed` velocity limits [rad/s]; infinite ones count as 20."""
        self._limit = np.where(np.isfinite(limit), limit, 1.0)
        self._speed = BRISK * np.where(np.isfinite(speed), speed, 20.0)
        self._past = np.zeros((n, len(FADE_S), 2, len(limit)))
        self._fresh = np.ones(n, dtype=bool)

    def reset(self, ids: Ids) -> None:
        """Some simulations begin anew; their history is what the first step shows."""
        self._fresh[ids] = True

    def torque(self, asked: Array, velocity: Array, weights: Array, step_s: float) -> Array:
        """[N m] at what is asked of the motors [N m] and the joints' speeds [rad/s]; the history moves on by `step_s`.

        weights: (n, UNITS, n_actuators).
        """
        now = np.stack([asked / self._limit, velocity / self._speed], axis=1)
        self._past[self._fresh] = now[self._fresh, None]
        self._fresh[:] = False
        inputs = np.concatenate([now[:, None], self._past], axis=1).reshape(len(now), -1, now.shape[2])
        keep = np.exp(-step_s / np.array(FADE_S))[:, None, None]
        self._past = keep * self._past + (1.0 - keep) * now[:, None]
        units = np.tanh(np.einsum("ui,nia->nua", FIRST_LAYER, inputs))
        out: Array = BOUND * self._limit * np.tanh((weights * units).sum(axis=1))
        return out

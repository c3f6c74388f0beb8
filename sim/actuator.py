"""What lies between a command and the torque at the joint: delay, first-order lag, gain, friction. Batched numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def stribeck_level(velocity: Array, coulomb: Array, ratio: Array, smooth: Array) -> Array:
    """Friction level [N m] at `velocity` [rad/s]: coulomb (1 + (ratio - 1) exp(-(v / smooth)²)); all broadcast.

    Written into MuJoCo's frictionloss before each substep, so the solver keeps true stiction while the level
    follows the Stribeck curve. Source: Armstrong-Hélouvry et al., Automatica 30(7), 1994, without the
    viscous part, which is the joint's damping.
    """
    return coulomb * (1.0 + (ratio - 1.0) * np.exp(-np.square(velocity / smooth)))


class CommandLine:
    """A delay and a first-order lag on commands held for one control period, for n simulations.

    Exact for a zero-order hold: a substep that a delayed switch falls into gets the mean of both commands,
    and the lag's response is averaged over the substep.
    """

    def __init__(self, n: int, width: int, period_s: float, substeps: int, max_delay_s: float) -> None:
        """`width` commands each; delays up to `max_delay_s` [s] can be set."""
        self.period, self.substeps, self.dt = period_s, substeps, period_s / substeps
        self._past = np.zeros((n, int(np.ceil(max_delay_s / period_s)) + 2, width))
        self._lagged = np.zeros((n, width))
        self._newer = np.zeros((n, substeps), dtype=np.intp)
        self._share = np.ones((n, substeps))
        self._keep = np.zeros(n)
        self._mean = np.ones(n)
        self.has_lag = False

    def set(self, ids: npt.NDArray[np.intp], delay_s: Array, lag_s: Array) -> None:
        """Delay and lag [s] of some simulations, (n_ids,) each."""
        end = np.arange(1, self.substeps + 1)[None] * self.dt - delay_s[:, None]
        start = end - self.dt
        # index of the newest command acting at the end of each substep: 0 is the present one
        index = np.floor(np.round(end / self.period, 9) - 1e-9)
        boundary = index * self.period
        self._share[ids] = np.clip((end - np.maximum(boundary, start)) / self.dt, 0.0, 1.0)
        self._newer[ids] = (-index).astype(np.intp).clip(0)
        lag = np.maximum(lag_s, 1e-12)
        self._keep[ids] = np.exp(-self.dt / lag)
        self._mean[ids] = lag / self.dt * (1.0 - np.exp(-self.dt / lag))
        self.has_lag = bool((self._keep > 0).any())

    def reset(self, ids: npt.NDArray[np.intp]) -> None:
        """Forget earlier commands of some simulations."""
        self._past[ids] = 0.0
        self._lagged[ids] = 0.0

    def push(self, command: Array) -> Array:
        """Commands (n, width) of this period to what acts in each substep, (n, substeps, width)."""
        self._past[:, 1:] = self._past[:, :-1]
        self._past[:, 0] = command
        rows = np.arange(len(command))[:, None]
        newer = self._past[rows, self._newer]
        older = self._past[rows, np.minimum(self._newer + 1, self._past.shape[1] - 1)]
        acting = older + self._share[..., None] * (newer - older)
        if not self.has_lag:
            return acting
        keep, mean = self._keep[:, None], self._mean[:, None]
        out = np.empty_like(acting)
        for j in range(self.substeps):
            gap = self._lagged - acting[:, j]
            out[:, j] = acting[:, j] + gap * mean
            self._lagged = acting[:, j] + gap * keep
        return out

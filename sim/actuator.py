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

    What acts in a physics step is the exact mean over it of the delayed, lagged command, also where a command
    changes within the step.
    """

    def __init__(self, n: int, width: int, period_s: float, substeps: int, max_delay_s: float) -> None:
        """`width` commands each; delays up to `max_delay_s` [s] can be set."""
        self.period, self.substeps, self.dt = period_s, substeps, period_s / substeps
        self._past = np.zeros((n, int(np.ceil(max_delay_s / period_s)) + 2, width))
        self._lagged = np.zeros((n, width))
        self._newer = np.zeros((n, substeps), dtype=np.intp)
        # each step is split where the older command gives way to the newer: [0] before, [1] after
        self._share = np.zeros((2, n, substeps))
        self._share[1] = 1.0
        self._keep, self._tail = np.zeros((2, n, substeps)), np.zeros((2, n, substeps))
        self._rows = np.arange(n)[:, None]
        self.has_lag, self._depth, self._immediate = False, 2, True

    def set(self, ids: npt.NDArray[np.intp], delay_s: Array, lag_s: Array) -> None:
        """Delay and lag [s] of some simulations, (n_ids,) each; for a new episode, so reset() them too."""
        end = np.arange(1, self.substeps + 1)[None] * self.dt - delay_s[:, None]
        # the newest command acting at the end of each step began this many periods after the present one: 0 is itself
        index = np.floor(np.round(end / self.period, 9) - 1e-9)
        after = np.clip((end - np.maximum(index * self.period, end - self.dt)) / self.dt, 0.0, 1.0)
        self._newer[ids] = (-index).astype(np.intp).clip(0)
        lag = np.maximum(lag_s, 1e-12)[:, None]
        for half, share in enumerate((1.0 - after, after)):
            keep = np.exp(-share * self.dt / lag)
            self._share[half, ids], self._keep[half, ids] = share, keep
            self._tail[half, ids] = lag / self.dt * (1.0 - keep)
        self.has_lag = bool((self._keep[1] * self._share[1] > 0).any())
        self._depth = int(self._newer.max()) + 2  # commands, the present one included, that can still act
        self._immediate = not self.has_lag and self._depth == 2 and bool((self._share[1] == 1.0).all())

    @property
    def immediate(self) -> bool:
        """Whether every command acts at once and unchanged, so that there is nothing to do."""
        return self._immediate

    def reset(self, ids: npt.NDArray[np.intp], command: Array) -> None:
        """Forget earlier commands of some simulations: what acted so far is `command`, (n_ids, width)."""
        self._past[ids] = command[:, None]
        self._lagged[ids] = command

    def push(self, command: Array) -> Array:
        """Commands (n, width) of this period to what acts in each physics step, (n, substeps, width)."""
        if self._immediate:
            return np.repeat(command[:, None], self.substeps, axis=1)
        self._past[:, 1 : self._depth] = self._past[:, : self._depth - 1]
        self._past[:, 0] = command
        newer = self._past[self._rows, self._newer]
        older = self._past[self._rows, self._newer + 1]
        acting = older + self._share[1][..., None] * (newer - older)
        if not self.has_lag:
            return acting
        for j in range(self.substeps):
            for half, held in enumerate((older[:, j], newer[:, j])):
                gap = self._lagged - held
                acting[:, j] += gap * self._tail[half, :, j, None]
                self._lagged = held + gap * self._keep[half, :, j, None]
        return acting

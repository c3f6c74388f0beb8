"""What happens to a command on its way to the motor: delay, jitter, loss, first-order lag. Batched numpy.

To add an effect of the way: a row in sim/targets/timing.py, its value in `CommandLine.set`, and a test. What happens
inside the motor is in sim/actuator.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sim.streams import Streams

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]


def lag_factors(duration_s: Array | float, step_s: float, lag_s: Array | float) -> tuple[Array, Array]:
    """What a first-order lag keeps of a gap over `duration_s`, and that gap's mean as a share of `step_s`."""
    lag = np.asarray(lag_s, dtype=np.float64)
    keep = np.where(lag > 0.0, np.exp(-(np.asarray(duration_s) / np.maximum(lag, 1e-12))), 0.0)
    return keep, lag / step_s * (1.0 - keep)


class CommandLine:
    """The way of commands that are held for one control period, for n simulations.

    What acts in a physics step is the exact mean over it of the delayed, lagged command, also where a command
    changes within the step. A lost command never arrives: the one before it is held. With jitter each command
    takes its own time, but none overtakes another, as on a bus.
    """

    def __init__(self, n: int, width: int, period_s: float, substeps: int, max_delay_s: float) -> None:
        """`width` commands each; delays, jitter included, up to `max_delay_s` [s] can be set."""
        self.period, self.substeps, self.dt = period_s, substeps, period_s / substeps
        self._past = np.zeros((n, int(np.ceil(max_delay_s / period_s)) + 2, width))
        self._lagged = np.zeros((n, width))
        self._lag, self._delay = np.zeros(n), np.zeros(n)
        self._jitter, self._drop = np.zeros(n), np.zeros(n)
        self._newer = np.zeros((n, substeps), dtype=np.intp)
        # each step is split where the older command gives way to the newer: [0] before, [1] after
        self._share = np.zeros((2, n, substeps))
        self._share[1] = 1.0
        self._keep, self._tail = np.zeros((2, n, substeps)), np.zeros((2, n, substeps))
        self._arrival = np.zeros(self._past.shape[:2])  # [s] after the present period's begin, newest first
        self._rows = np.arange(n)[:, None]
        self._uneven = np.zeros(0, dtype=np.intp)  # simulations with jitter
        self.has_lag, self._has_drop, self._depth, self._immediate = False, False, 2, True
        self.streams = Streams(n)
        """Of jitter and loss; a driver, which sends at its own times, draws from it too."""

    def seed(self, seed: int) -> None:
        """Begin the streams of jitter and loss anew."""
        self.streams.seed(seed)

    def set(
        self, ids: Ids, delay_s: Array, lag_s: Array, jitter_s: Array | float = 0.0, drop: Array | float = 0.0
    ) -> None:
        """Of some simulations, (n_ids,) each; for a new episode, so reset() them too.

        A command takes between `delay_s` and `delay_s + jitter_s` [s], uniformly; `drop` is the probability that it
        is lost; `lag_s` [s] is the time constant of the response to what arrived.
        """
        self._delay[ids], self._lag[ids], self._jitter[ids], self._drop[ids] = delay_s, lag_s, jitter_s, drop
        end = np.arange(1, self.substeps + 1)[None] * self.dt - delay_s[:, None]
        # the newest command acting at the end of each step began this many periods after the present one: 0 is itself
        index = np.floor(np.round(end / self.period, 9) - 1e-9)
        after = _share((end - np.maximum(index * self.period, end - self.dt)) / self.dt)
        self._newer[ids] = (-index).astype(np.intp).clip(0)
        for half, share in enumerate((1.0 - after, after)):
            self._share[half, ids] = share
            self._keep[half, ids], self._tail[half, ids] = lag_factors(share * self.dt, self.dt, lag_s[:, None])
        self._uneven = np.flatnonzero(self._jitter > 0.0)
        self._has_drop = bool((self._drop > 0.0).any())
        self.has_lag = bool((self._lag > 0.0).any())
        longest = float((self._delay + self._jitter).max())
        self._depth = max(int(self._newer.max()), int(np.ceil(longest / self.period))) + 2
        self._depth = min(self._depth, self._past.shape[1])  # commands, the present one included, that can still act
        plain = not (self.has_lag or self._has_drop or len(self._uneven))
        self._immediate = plain and int(self._newer.max()) == 0 and bool((self._share[1] == 1.0).all())

    @property
    def immediate(self) -> bool:
        """Whether every command acts at once and unchanged, so that there is nothing to do."""
        return self._immediate

    def reset(self, ids: Ids, command: Array) -> None:
        """Forget earlier commands of some simulations: what acted so far is `command`, (n_ids, width)."""
        self._past[ids] = command[:, None]
        self._lagged[ids] = command
        self._arrival[ids] = -np.arange(1, self._past.shape[1] + 1) * self.period

    def push(self, command: Array) -> Array:
        """Commands (n, width) of this period to what acts in each physics step, (n, substeps, width)."""
        if self._immediate:
            return np.repeat(command[:, None], self.substeps, axis=1)
        if self._has_drop:
            lost = self.streams.uniform() < self._drop
            command = np.where(lost[:, None], self._past[:, 0], command)
        self._past[:, 1 : self._depth] = self._past[:, : self._depth - 1]
        self._past[:, 0] = command
        newer = self._past[self._rows, self._newer]
        older = self._past[self._rows, self._newer + 1]
        # a share of exactly 1 leaves the command as it is, bit by bit
        acting = older * self._share[0][..., None] + newer * self._share[1][..., None]
        before = self._lagged.copy() if len(self._uneven) else self._lagged
        if self.has_lag:
            for j in range(self.substeps):
                for half, held in enumerate((older[:, j], newer[:, j])):
                    share, keep, tail = (x[half, :, j, None] for x in (self._share, self._keep, self._tail))
                    acting[:, j] += self._lag_by(slice(None), held, share, keep, tail)
        if len(self._uneven):
            self._lagged[self._uneven] = before[self._uneven]
            acting[self._uneven] = self._with_jitter(self._uneven)
        return acting

    def _lag_by(self, rows: Ids | slice, held: Array, share: Array, keep: Array, tail: Array) -> Array:
        """How far the lagged response still is from `held`, as a mean over a step; the response moves on."""
        lagged = self._lagged[rows]
        gap = lagged - held
        self._lagged[rows] = np.where(share > 0.0, held + gap * keep, lagged)
        return gap * tail

    def _with_jitter(self, rows: Ids) -> Array:
        """(len(rows), substeps, width) acting, each command from its own time of arrival."""
        arrival = self._arrival
        arrival[rows, 1:] = arrival[rows, :-1] - self.period
        arrives = self._delay[rows] + self._jitter[rows] * self.streams.uniform(rows)
        arrival[rows, 0] = np.maximum(arrives, arrival[rows, 1])
        begin = arrival[rows, : self._depth]
        begin[:, -1] = -np.inf  # older ones have been replaced
        end = np.concatenate([np.full((len(rows), 1), np.inf), begin[:, :-1]], axis=1)
        lag = self._lag[rows, None]
        acting = np.zeros((len(rows), self.substeps, self._past.shape[2]))
        for j in range(self.substeps):
            overlap = np.minimum(end, (j + 1) * self.dt) - np.maximum(begin, j * self.dt)
            for k in reversed(range(self._depth)):
                share, held = _share(overlap[:, k, None] / self.dt), self._past[rows, k]
                acting[:, j] += share * held
                if self.has_lag:
                    acting[:, j] += self._lag_by(rows, held, share, *lag_factors(share * self.dt, self.dt, lag))
        return acting


def _share(x: Array) -> Array:
    """Shares of a step, with the rounding of times taken off at both ends."""
    return np.where(x > 1.0 - 1e-9, 1.0, np.where(x < 1e-9, 0.0, x))

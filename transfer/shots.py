"""Windows of recorded episodes, and their open-loop rollouts: what evaluation scores and identification fits.

A shot starts at a logged row with the logged position and the fitted velocity, and is driven by the logged
command. Simulated states are read at the logged rows by cubic Hermite interpolation between physics steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.plant import Plant
from transfer.series import Series

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Shots:
    """W windows over some episodes, with R scored rows in all."""

    series: Sequence[Series]
    episode: Index
    """(W,) which of `series` a window is cut from."""
    start: Array
    """(W,) [s] in its episode."""
    position: Array
    """(W, J) [rad] at the start, as read."""
    velocity: Array
    """(W, J) [rad/s] at the start, fitted."""
    window: Index
    """(R,) window of each row."""
    since: Array
    """(R,) [s] from the window's start to the row."""
    row_position: Array
    """(R, J) [rad] as read."""
    row_velocity: Array
    """(R, J) [rad/s] fitted."""
    seconds: float
    """Length of every window [s]."""

    def __len__(self) -> int:
        return len(self.start)

    def steps(self, timestep_s: float) -> int:
        """Physics steps that cover a window."""
        return int(np.ceil(self.seconds / timestep_s - 1e-6))

    def torque(self, timestep_s: float, shift: int, delay_s: float, lag_s: float) -> Array:
        """(W, steps, J) mean acting torque [N m] of each physics step, before gain and bias."""
        grid = timestep_s * np.arange(self.steps(timestep_s) + 1)
        out = np.empty((len(self), len(grid) - 1, self.position.shape[1]))
        for i, series in enumerate(self.series):
            mine = self.episode == i
            out[mine] = series.command.mean_torque(self.start[mine, None] + grid, shift, delay_s, lag_s)
        return out

    def at_rows(self, position: Array, velocity: Array, timestep_s: float, late_s: float = 0.0) -> tuple[Array, Array]:
        """States (W, steps + 1, J) on the physics grid, the start included, to (R, J) each at the logged rows.

        `late_s`: delay of the sensor, which then still shows an earlier state, at most the start's.
        """
        x = np.maximum(self.since - late_s, 0.0) / timestep_s
        k = np.minimum(x.astype(np.intp), position.shape[1] - 2)
        s = (x - k)[:, None]
        q0, q1 = position[self.window, k], position[self.window, k + 1]
        v0, v1 = velocity[self.window, k] * timestep_s, velocity[self.window, k + 1] * timestep_s
        rise = q1 - q0
        c2, c3 = 3.0 * rise - 2.0 * v0 - v1, v0 + v1 - 2.0 * rise
        return q0 + s * (v0 + s * (c2 + s * c3)), (v0 + s * (2.0 * c2 + 3.0 * s * c3)) / timestep_s


def cut(series: Sequence[Series], first_s: float, every_s: float, seconds: float, row_period_s: float = 0.0) -> Shots:
    """Windows that start at the first row with t >= first_s + k every_s (k = 0, 1, ...) that `seconds` of log follow.

    Scored rows are all later ones up to `seconds`, or, with `row_period_s`, about one in that time.
    """
    episode, start, position, velocity, window, since, row_q, row_v = ([] for _ in range(8))  # type: ignore[var-annotated]
    for i, s in enumerate(series):
        wanted = np.arange(first_s, s.t[-1], every_s)
        rows = np.unique(np.searchsorted(s.t, wanted - 1e-9))
        every = max(1, round(row_period_s / float(np.median(np.diff(s.t)))))
        for row in rows[(rows < len(s.t))]:
            if s.t[-1] - s.t[row] < seconds - 1e-9:
                continue
            end = int(np.searchsorted(s.t, s.t[row] + seconds + 1e-9, "right"))
            scored = np.arange(row + every, end, every)
            window.append(np.full(len(scored), len(start)))
            since.append(s.t[scored] - s.t[row])
            row_q.append(s.position[scored])
            row_v.append(s.velocity[scored])
            episode.append(i)
            start.append(s.t[row])
            position.append(s.position[row])
            velocity.append(s.velocity[row])
    joints = series[0].position.shape[1] if series else 0
    return Shots(
        series,
        np.array(episode, dtype=np.intp),
        np.array(start),
        np.array(position).reshape(-1, joints),
        np.array(velocity).reshape(-1, joints),
        np.concatenate([np.zeros(0, np.intp), *window]).astype(np.intp),
        np.concatenate([np.zeros(0), *since]),
        np.concatenate([np.zeros((0, joints)), *row_q]),
        np.concatenate([np.zeros((0, joints)), *row_v]),
        seconds,
    )


def simulate(plant: Plant, position: Array, velocity: Array, torque: Array) -> tuple[Array, Array]:
    """States (n, steps + 1, J) from starts (n, J) under torques (n, steps, J), the start included."""
    plant.reset(position, velocity)
    recorded = plant.run(torque, record=True)
    assert recorded is not None  # run() records when asked to
    return (
        np.concatenate([position[:, None], recorded[0]], axis=1),
        np.concatenate([velocity[:, None], recorded[1]], axis=1),
    )

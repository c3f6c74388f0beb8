"""One episode as identification and evaluation see it: joint positions, their fitted rate, and the held command."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robot.log import EpisodeLog
from robot.spec import RobotSpec
from transfer.dataset import DataRefused

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class VelocityFit:
    """Velocity from a least-squares polynomial through the positions around a row."""

    degree: int = 3
    half_s: float = 0.020
    """Half width [s] of the rows used ..."""
    half_periods: float = 2.5
    """... or in median periods, whichever is wider."""

    def __call__(self, t: Array, q: Array) -> Array:
        """(n, J) rate [rad/s] at each of the rows `t` (n,) [s], `q` (n, J) [rad].

        Near an end or in a gap, where fewer rows lie inside than the polynomial needs, its nearest rows are used.
        """
        need = self.degree + 1
        half = max(self.half_s, self.half_periods * float(np.median(np.diff(t)))) * (1.0 + 1e-9)
        low, high = np.searchsorted(t, t - half, "left"), np.searchsorted(t, t + half, "right")
        few = high - low < need
        centre = np.arange(len(t))
        low = np.where(few, np.clip(centre - need // 2, 0, max(0, len(t) - need)), low)
        high = np.where(few, np.minimum(low + need, len(t)), high)
        index = low[:, None] + np.arange(int((high - low).max()))
        inside = (index < high[:, None]).astype(np.float64)
        index = np.minimum(index, len(t) - 1)
        x = (t[index] - t[:, None]) / half
        powers = x[..., None] ** np.arange(need) * inside[..., None]
        normal = np.einsum("nma,nmb->nab", powers, powers)
        right = np.einsum("nma,nmj->naj", powers, q[index] - q[:, None])
        rate: Array = np.linalg.solve(normal, right)[:, 1] / half
        return rate


class HeldCommand:
    """A torque command with zero-order hold at its logged stamps, through shift, delay and lag; exact."""

    def __init__(self, t: Array, effort: Array) -> None:
        """`t` (k,) [s] increasing, `effort` (k, J) [N m]; 0 before the first stamp, the last value for ever."""
        self.t, self.effort = t, effort
        self.period = float(np.median(np.diff(t))) if len(t) > 1 else 0.0

    def mean_torque(self, edges: Array, shift: int = 0, delay_s: float = 0.0, lag_s: float = 0.0) -> Array:
        """Mean acting torque [N m] between consecutive `edges` (..., s + 1) [s]; returns (..., s, J).

        `shift` rows a command comes late, then a pure delay, then a first-order lag.
        """
        u = np.zeros_like(self.effort)
        u[shift:] = self.effort[: len(u) - shift]
        steps = np.diff(self.t)
        area = np.vstack([np.zeros_like(u[:1]), np.cumsum(u[:-1] * steps[:, None], axis=0)])
        at = edges - delay_s
        k = np.searchsorted(self.t, at, "right") - 1
        began = (k >= 0)[..., None]
        k = np.maximum(k, 0)
        since = (at - self.t[k])[..., None]
        integral = np.where(began, area[k] + u[k] * since, 0.0)
        width = np.diff(edges)[..., None]
        if lag_s <= 0.0:
            return np.diff(integral, axis=-2) / width
        lagged = self._lagged(u, np.exp(-steps / lag_s))
        y = np.where(began, u[k] + (lagged[k] - u[k]) * np.exp(-since / lag_s), 0.0)
        # lag dy/dt = u - y, so the integral of y is that of u less lag times the rise of y
        return (np.diff(integral, axis=-2) - lag_s * np.diff(y, axis=-2)) / width

    @staticmethod
    def _lagged(u: Array, keep: Array) -> Array:
        """(k, J) the lag's output at the stamps, from rest."""
        out = np.zeros_like(u)
        for i in range(len(keep)):
            out[i + 1] = u[i] + (out[i] - u[i]) * keep[i]
        return out


@dataclass(frozen=True, slots=True)
class Series:
    """An episode in seconds since its first position row, joints in the RobotSpec's order."""

    name: str
    t: Array
    """(n,) [s] of the position rows."""
    position: Array
    """(n, J) [rad], as read."""
    velocity: Array
    """(n, J) [rad/s], fitted to the positions."""
    command: HeldCommand
    by_row: bool
    """Whether one stamp a cycle stands for reading and command alike, so that a command's own time is unknown."""
    late_rows: int | None
    """Rows by which commands come late, as the recording loop is documented; None where it is not."""


def series_of(log: EpisodeLog, spec: RobotSpec, fit: VelocityFit) -> Series:
    """Read an episode; rows that are not finite, or repeat a stamp, are left out (screening has told of them).

    DataRefused when position or command are missing, or fewer rows are left than a fit needs.
    """
    for name in ("joint.position", "command.effort"):
        if name not in log:
            raise DataRefused(f"episode '{log.name}' has no channel '{name}'; it has {', '.join(log.channels)}.")
    position, command = log["joint.position"], log["command.effort"]
    q, u = position.ordered(spec.joint_names), command.ordered(spec.joint_names)
    rows, orders = _usable(position.t_ns, q), _usable(command.t_ns, u)
    if rows.sum() < fit.degree + 1 or not orders.any():
        raise DataRefused(f"episode '{log.name}' has {int(rows.sum())} usable rows of position; it cannot be scored.")
    t0 = position.t_ns[rows][0]
    t = (position.t_ns[rows] - t0) * 1e-9
    held = HeldCommand((command.t_ns[orders] - t0) * 1e-9, u[orders])
    late = log.meta.get("late_rows")
    by_row, late_rows = log.meta.get("stamps") == "row", None if late is None else int(late)
    return Series(log.name, t, q[rows], fit(t, q[rows]), held, by_row, late_rows)


def _usable(t_ns: npt.NDArray[np.int64], values: Array) -> npt.NDArray[np.bool_]:
    """Finite rows whose stamp is later than that of every finite row before."""
    finite = np.array(np.isfinite(values).all(axis=1))
    latest = np.maximum.accumulate(np.where(finite, t_ns, np.iinfo(np.int64).min))
    finite[1:] &= t_ns[1:] > latest[:-1]
    return finite

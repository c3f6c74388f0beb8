"""One episode as identification and evaluation see it: joint positions, their fitted rate, and the held command.

What a recording says of its own set-up comes along: the P gain that the servos' registers had, and where their torque
was switched off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robot.log import EpisodeLog
from robot.spec import RobotSpec
from sim.servos import SERVOS
from transfer.dataset import DataRefused

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]


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
    """A command with zero-order hold at its logged stamps, through shift, delay and lag; exact."""

    def __init__(self, t: Array, effort: Array, before: Array | float = 0.0) -> None:
        """`t` (k,) [s] increasing, `effort` (k, J) torques [N m] or goals [rad]; `before` (J,) holds before the first
        stamp, and the last value for ever."""
        self.t, self.effort, self.before = t, effort, before
        self.period = float(np.median(np.diff(t))) if len(t) > 1 else 0.0

    def mean_torque(self, edges: Array, shift: int = 0, delay_s: float = 0.0, lag_s: float = 0.0) -> Array:
        """Mean acting torque [N m] between consecutive `edges` (..., s + 1) [s]; returns (..., s, J).

        `shift` rows a command comes late, then a pure delay, then a first-order lag.
        """
        u = np.zeros_like(self.effort) + self.before
        u[shift:] = self.effort[: len(u) - shift]
        u = u - self.before  # what follows is linear, and begins at 0
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
            return np.diff(integral, axis=-2) / width + self.before
        lagged = self._lagged(u, np.exp(-steps / lag_s))
        y = np.where(began, u[k] + (lagged[k] - u[k]) * np.exp(-since / lag_s), 0.0)
        # lag dy/dt = u - y, so the integral of y is that of u less lag times the rise of y
        return (np.diff(integral, axis=-2) - lag_s * np.diff(y, axis=-2)) / width + self.before

    def held(self, t: Array) -> Array:
        """The command itself at times `t` (...) [s], (..., J)."""
        k = np.searchsorted(self.t, t, "right") - 1
        return np.where((k >= 0)[..., None], self.effort[np.maximum(k, 0)], self.before)

    @staticmethod
    def _lagged(u: Array, keep: Array) -> Array:
        """(k, J) the lag's output at the stamps, from rest: in plain numbers, several times as fast as row by row."""
        shares, columns = keep.tolist(), []
        for wanted in u.T.tolist():
            column = [0.0]
            for value, share in zip(wanted, shares, strict=False):  # of the last value nothing is seen any more
                column.append(value + (column[-1] - value) * share)
            columns.append(column)
        return np.array(columns).T


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
    stiffness: float = 1.0
    """The servos' P gain register in this recording, as a share of the one that the model's kp stands for."""
    powered: HeldCommand | None = None
    """1 where the servos' torque is on, 0 where off, (n, 1); None where it is always on."""


CHANNELS = {"position_pd": "command.position", "velocity": "command.velocity"}
"""Kind of actuator -> channel of its commands; others: command.effort."""


def series_of(log: EpisodeLog, spec: RobotSpec, fit: VelocityFit) -> Series:
    """Read an episode; rows that are not finite, or repeat a stamp, are left out (screening has told of them).

    DataRefused when position or command are missing, or fewer rows are left than a fit needs.
    """
    wanted = commands_of(spec)
    for name in ("joint.position", *wanted):
        if name not in log:
            raise DataRefused(f"episode '{log.name}' has no channel '{name}'; it has {', '.join(log.channels)}.")
    position = log["joint.position"]
    q = position.ordered(spec.joint_names)
    rows = _usable(position.t_ns, q)
    stamps, u = _commands(log, spec, wanted)
    orders = _usable(stamps, u)
    if rows.sum() < fit.degree + 1 or not orders.any():
        raise DataRefused(f"episode '{log.name}' has {int(rows.sum())} usable rows of position; it cannot be scored.")
    t0 = position.t_ns[rows][0]
    t = (position.t_ns[rows] - t0) * 1e-9
    servos = np.isin(np.arange(len(spec.joints)), _joints_of(spec, "command.position"))
    held = HeldCommand((stamps[orders] - t0) * 1e-9, u[orders], np.where(servos, u[orders][0], 0.0))
    late = log.meta.get("late_rows")
    by_row, late_rows = log.meta.get("stamps") == "row", None if late is None else int(late)
    return Series(log.name, t, q[rows], fit(t, q[rows]), held, by_row, late_rows, _stiffness(log), _powered(log, t0))


def commands_of(spec: RobotSpec) -> tuple[str, ...]:
    """Channels that the robot's commands stand in."""
    return tuple(dict.fromkeys(CHANNELS.get(a.kind, "command.effort") for a in spec.actuators)) or ("command.effort",)


def _joints_of(spec: RobotSpec, channel: str) -> Index:
    """Joints whose commands stand in a channel."""
    mine = [CHANNELS.get(a.kind, "command.effort") == channel for a in spec.actuators]
    return np.asarray(spec.driven)[np.array(mine, dtype=bool)]


def _commands(log: EpisodeLog, spec: RobotSpec, wanted: tuple[str, ...]) -> tuple[npt.NDArray[np.int64], Array]:
    """Stamps (k,) and commands (k, J), each joint's from the channel of its kind; of several channels the first's
    stamps, at which the others are held."""
    first = log[wanted[0]]
    u = np.zeros((len(first.t_ns), len(spec.joints)))
    for name in wanted:
        channel, joints = log[name], _joints_of(spec, name) if spec.actuators else np.arange(len(spec.joints))
        known = [j for j in joints if spec.joint_names[j] in channel.components]
        at = np.clip(np.searchsorted(channel.t_ns, first.t_ns, "right") - 1, 0, None)
        u[:, known] = channel.ordered(tuple(spec.joint_names[j] for j in known))[at]
    return first.t_ns, u


def _stiffness(log: EpisodeLog) -> float:
    """From the P gain that the recording tells (`meta`), over the one of the servo's type."""
    motor = SERVOS.get(log.meta.get("motor", ""))
    return float(log.meta["kp"]) / motor.p_gain if motor is not None and "kp" in log.meta else 1.0


def _powered(log: EpisodeLog, t0: int) -> HeldCommand | None:
    if "servo.torque_enable" not in log:
        return None
    channel = log["servo.torque_enable"]
    t: Array = np.asarray(channel.t_ns - t0, dtype=np.float64) * 1e-9
    on: Array = np.where(channel.values[:, :1] > 0.5, 1.0, 0.0)
    return None if on.all() else HeldCommand(t, on, 1.0)


def _usable(t_ns: npt.NDArray[np.int64], values: Array) -> npt.NDArray[np.bool_]:
    """Finite rows whose stamp is later than that of every finite row before."""
    finite = np.array(np.isfinite(values).all(axis=1))
    latest = np.maximum.accumulate(np.where(finite, t_ns, np.iinfo(np.int64).min))
    finite[1:] &= t_ns[1:] > latest[:-1]
    return finite

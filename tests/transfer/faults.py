"""Faults put into real recordings at random places: what the rules of screening are measured on.

A fault is a function (log, rng) -> Injected, or None where this log cannot carry it: the stated bounds are those below
which the fault changes nothing that matters (a clock that jumps while the robot stands, a lag of a millisecond).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from robot.log import Channel, EpisodeLog

Array = npt.NDArray[np.float64]
Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Injected:
    """A log with one fault, and how it must be named."""

    log: EpisodeLog
    kind: str
    channels: tuple[str, ...]
    """Any of which may be blamed; empty for any."""
    at: float | None = None
    """[s] since the first position row; None for a fault of the whole episode."""


Fault = Callable[[EpisodeLog, Rng], "Injected | None"]
POSITION, VELOCITY, EFFORT = "joint.position", "joint.velocity", "joint.effort"


def changed(
    log: EpisodeLog, name: str, values: Array | None = None, t_ns: npt.NDArray[np.int64] | None = None
) -> EpisodeLog:
    """A log with other values or stamps in one channel."""
    c = log[name]
    new = Channel(name, c.unit, c.components, c.t_ns if t_ns is None else t_ns, c.values if values is None else values)
    return replace(log, channels={**log.channels, name: new})


def stretch(log: EpisodeLog, start_s: float, seconds: float) -> EpisodeLog:
    """A part of a log, by the stamps of its positions."""
    low = log[POSITION].t_ns[0] + round(start_s * 1e9)
    out = {}
    for name, c in log.channels.items():
        keep = (c.t_ns >= low) & (c.t_ns < low + round(seconds * 1e9))
        out[name] = Channel(name, c.unit, c.components, c.t_ns[keep], c.values[keep])
    return replace(log, channels=out)


def _rate(log: EpisodeLog) -> tuple[Array, Array]:
    """(n,), (n, J) time [s] and slope of the positions, over about 30 ms."""
    c = log[POSITION]
    t = c.seconds()
    half = max(1, round(0.015 / np.median(np.diff(t))))
    slope = np.zeros_like(c.values)
    slope[half:-half] = (c.values[2 * half :] - c.values[: -2 * half]) / (t[2 * half :] - t[: -2 * half])[:, None]
    return t, slope


def _place(log: EpisodeLog, rng: Rng, fits: Array, margin_s: float = 0.3) -> int | None:
    """A random row among those that fit, away from the ends."""
    t = log[POSITION].seconds()
    rows = np.flatnonzero(fits & (t > margin_s) & (t < t[-1] - margin_s))
    return int(rng.choice(rows)) if len(rows) else None


def _of_row_stamps(log: EpisodeLog) -> list[str]:
    """Channels that carry the positions' stamps."""
    t = log[POSITION].t_ns
    return [n for n, c in log.channels.items() if c.values.dtype.kind == "f" and np.array_equal(c.t_ns, t)]


def clock_jump(log: EpisodeLog, rng: Rng) -> Injected | None:
    """The clock set forward by 50 ms to 2 s, where a joint would have travelled at least 0.1 rad meanwhile."""
    jump = float(np.exp(rng.uniform(np.log(0.05), np.log(2.0))))
    t, rate = _rate(log)
    row = _place(log, rng, (np.abs(rate) * jump).max(axis=1) > 0.1)
    if row is None:
        return None
    out = log
    for name in _of_row_stamps(log):
        stamps = log[name].t_ns.copy()
        stamps[row + 1 :] += round(jump * 1e9)
        out = changed(out, name, t_ns=stamps)
    return Injected(out, "clock_jump", (), float(t[row]))


def clock_back(log: EpisodeLog, rng: Rng) -> Injected | None:
    """The clock set back by 1.5 periods to 1 s."""
    t = log[POSITION].seconds()
    period = float(np.median(np.diff(t)))
    back = float(np.exp(rng.uniform(np.log(5.0 * period), np.log(1.0))))
    row = _place(log, rng, t > back)
    if row is None:
        return None
    out = log
    for name in _of_row_stamps(log):
        stamps = log[name].t_ns.copy()
        stamps[row + 1 :] -= round(back * 1e9)
        out = changed(out, name, t_ns=stamps)
    return Injected(out, "decreasing_time", (), float(t[row + 1]) - back)


def repeated(log: EpisodeLog, rng: Rng) -> Injected | None:
    """One to twenty rows with the stamp of the row before."""
    t = log[POSITION].seconds()
    row, count = _place(log, rng, t > 0.0), int(rng.integers(1, 21))
    if row is None:
        return None
    out = log
    for name in _of_row_stamps(log):
        stamps = log[name].t_ns.copy()
        stamps[row + 1 : row + 1 + count] = stamps[row]
        out = changed(out, name, t_ns=stamps)
    return Injected(out, "repeated_stamp", (), float(t[row]))


def missing_rows(log: EpisodeLog, rng: Rng) -> Injected | None:
    """60 ms to 1 s of rows left out (at least six)."""
    t = log[POSITION].seconds()
    period = float(np.median(np.diff(t)))
    lost = max(6, round(float(np.exp(rng.uniform(np.log(0.06), 0.0))) / period))
    row = _place(log, rng, t < t[-1] - 0.5 - lost * period)
    if row is None:
        return None
    out = log
    for name in _of_row_stamps(log):
        c = out[name]
        keep = np.ones(len(c.t_ns), dtype=bool)
        keep[row + 1 : row + 1 + lost] = False
        new = Channel(name, c.unit, c.components, c.t_ns[keep], c.values[keep])
        out = replace(out, channels={**out.channels, name: new})
    return Injected(out, "gap", (), float(t[row]))


def nan(log: EpisodeLog, rng: Rng) -> Injected | None:
    """One to fifty rows of nan in one component of a channel."""
    name = str(rng.choice([n for n in (POSITION, VELOCITY, "command.effort", "command.position") if n in log]))
    values = log[name].values.copy()
    row, count = int(rng.integers(20, len(values) - 80)), int(rng.integers(1, 51))
    values[row : row + count, rng.integers(values.shape[1])] = np.nan
    return Injected(changed(log, name, values), "nan", (name,), float(log[name].seconds()[row]))


def _moves_throughout(log: EpisodeLog) -> bool:
    """Whether a joint's velocity varies in each sixth of the log, so that a lag shows everywhere."""
    _, rate = _rate(log)
    return bool((np.array([part.std(axis=0) for part in np.array_split(rate, 6)]) > 0.3).all(axis=0).any())


def drift(log: EpisodeLog, rng: Rng) -> Injected | None:
    """The velocity's clock 0.5 to 3 % fast or slow, which adds up to at least 40 ms; the joints move throughout."""
    c = log.channels.get(VELOCITY)
    seconds = float(log[POSITION].seconds()[-1])
    rate = float(rng.uniform(0.005, 0.03)) * rng.choice([-1.0, 1.0])
    if c is None or abs(rate) * seconds < 0.04 or abs(rate) * seconds > 0.3 or not _moves_throughout(log):
        return None
    stamps = c.t_ns[0] + np.round((c.t_ns - c.t_ns[0]) * (1.0 + rate)).astype(np.int64)
    return Injected(changed(log, VELOCITY, t_ns=stamps), "drift", (VELOCITY,))


def _shifted(c: Channel, lag_s: float) -> Array:
    """A channel's values later by `lag_s`, on the same stamps."""
    t = c.seconds()
    return np.stack([np.interp(t - lag_s, t, column) for column in c.values.T], axis=1)


def velocity_lag(log: EpisodeLog, rng: Rng) -> Injected | None:
    """The velocity late or early by 30 to 150 ms, and at least four periods."""
    c = log.channels.get(VELOCITY)
    if c is None or not c.values.any():
        return None
    period = float(np.median(np.diff(c.seconds())))
    lag = max(float(rng.uniform(0.03, 0.15)), 4.0 * period) * rng.choice([-1.0, 1.0])
    _, rate = _rate(log)
    if rate.std(axis=0).max() < 0.3:
        return None
    return Injected(changed(log, VELOCITY, _shifted(c, lag)), "lag", (VELOCITY,))


def effort_lag(log: EpisodeLog, rng: Rng) -> Injected | None:
    """The measured torque late by 40 to 150 ms, and at least five periods, where the command varies."""
    c, command = log.channels.get(EFFORT), log.channels.get("command.effort")
    if c is None or command is None or not c.values.any() or "measured_input" in log.meta:
        return None
    t = command.seconds()
    width = max(3, round(0.3 / float(np.median(np.diff(t)))))
    slow = np.stack([np.convolve(u, np.ones(width) / width, "same") for u in command.values.T], axis=1)
    if (command.values - slow)[width:-width].std(axis=0).max() < 0.1:
        return None
    lag = max(float(rng.uniform(0.04, 0.15)), 5.0 * float(np.median(np.diff(t))))
    return Injected(changed(log, EFFORT, _shifted(c, lag)), "lag", (EFFORT,))


def velocity_unit(log: EpisodeLog, rng: Rng) -> Injected | None:
    """Velocities of one joint or all in deg/s, rpm or turn/s; the joint travels at least 0.3 rad."""
    return _scaled(log, rng, VELOCITY, (180.0 / np.pi, 30.0 / np.pi, 0.5 / np.pi))


def position_unit(log: EpisodeLog, rng: Rng) -> Injected | None:
    """Positions of one joint or all in degrees, turns or thousandths."""
    return _scaled(log, rng, POSITION, (180.0 / np.pi, 0.5 / np.pi, 1000.0))


def _scaled(log: EpisodeLog, rng: Rng, name: str, factors: tuple[float, ...]) -> Injected | None:
    c = log.channels.get(name)
    if c is None or VELOCITY not in log or not log[VELOCITY].values.any():
        return None
    travelled = np.ptp(log[POSITION].values, axis=0) > 0.3
    if not travelled.any():
        return None
    values = c.values.copy()
    factor = float(rng.choice(factors))
    if rng.uniform() < 0.5:
        values *= factor
    else:
        values[:, int(rng.choice(np.flatnonzero(travelled)))] *= factor
    return Injected(changed(log, name, values), "unit", (POSITION, VELOCITY))


def both_in_degrees(log: EpisodeLog, rng: Rng) -> Injected | None:
    """Positions and velocities both in degrees, so that they agree; the robot's fastest twentieth is above 1 rad/s, or
    its encoder counts."""
    if VELOCITY not in log or not log[VELOCITY].values.any():
        return None
    _, rate = _rate(log)
    if np.quantile(np.abs(rate).max(axis=1), 0.95) < 1.5:
        return None
    out = changed(log, POSITION, np.degrees(log[POSITION].values))
    return Injected(changed(out, VELOCITY, np.degrees(log[VELOCITY].values)), "unit", (POSITION, VELOCITY))


def effort_unit(log: EpisodeLog, rng: Rng) -> Injected | None:
    """The measured torque in kg cm, in mN m, or as a current at 0.3 to 0.45 N m/A."""
    return _effort(log, rng, float(rng.choice([10.197, 1000.0, 1.0 / rng.uniform(0.3, 0.45)])), "unit")


def effort_sign(log: EpisodeLog, rng: Rng) -> Injected | None:
    """The measured torque with the other sign."""
    return _effort(log, rng, -1.0, "sign")


def _effort(log: EpisodeLog, rng: Rng, factor: float, kind: str) -> Injected | None:
    found = effort_lag(log, rng)
    return None if found is None else Injected(changed(log, EFFORT, factor * log[EFFORT].values), kind, (EFFORT,))


def mirrored(log: EpisodeLog, rng: Rng) -> Injected | None:
    """Position or velocity of one joint with the other sign; it travels at least 0.3 rad."""
    travelled = np.flatnonzero(np.ptp(log[POSITION].values, axis=0) > 0.3)
    if VELOCITY not in log or not log[VELOCITY].values.any() or not len(travelled):
        return None
    name, joint = str(rng.choice([POSITION, VELOCITY])), int(rng.choice(travelled))
    values = log[name].values.copy()
    values[:, joint] *= -1.0
    return Injected(changed(log, name, values), "sign", (POSITION, VELOCITY, "command.position"))


def swapped(log: EpisodeLog, rng: Rng) -> Injected | None:
    """Positions of two joints exchanged, whose motions differ; both travel at least 0.3 rad."""
    q = log[POSITION].values
    travelled = np.flatnonzero(np.ptp(q, axis=0) > 0.3)
    if VELOCITY not in log or len(travelled) < 2:
        return None
    a, b = rng.choice(travelled, 2, replace=False)
    _, rate = _rate(log)
    if abs(np.corrcoef(rate[:, a], rate[:, b])[0, 1]) > 0.5:
        return None
    values = q.copy()
    values[:, [a, b]] = values[:, [b, a]]
    return Injected(changed(log, POSITION, values), "joint_order", (POSITION, VELOCITY, "command.position"))


def saturated_effort(log: EpisodeLog, rng: Rng) -> Injected | None:
    """A measured torque that stops at 40 to 80 % of its peak, in at least 2 % of the rows and for three at a time."""
    return _clipped(log, rng, EFFORT)


def saturated_velocity(log: EpisodeLog, rng: Rng) -> Injected | None:
    """A velocity that stops at 40 to 80 % of its peak, in at least 2 % of the rows and for three at a time."""
    return _clipped(log, rng, VELOCITY)


def _clipped(log: EpisodeLog, rng: Rng, name: str) -> Injected | None:
    c = log.channels.get(name)
    if c is None or not c.values.any() or (name == EFFORT and effort_lag(log, rng) is None):
        return None
    joint = int(np.argmax(np.abs(c.values).max(axis=0)))
    values = c.values.copy()
    level = float(rng.uniform(0.4, 0.8)) * np.abs(values[:, joint]).max()
    over = np.abs(values[:, joint]) > level
    stretches = np.count_nonzero(np.diff(over.astype(int)) == 1) + 1
    if over.mean() < 0.02 or over.sum() / stretches < 4.0:
        return None
    values[:, joint] = np.clip(values[:, joint], -level, level)
    return Injected(changed(log, name, values), "saturated", (name,))


def saturated_command(log: EpisodeLog, rng: Rng) -> Injected | None:
    """A command that asks for up to three times the robot's limit, and stops there."""
    c = log.channels.get("command.effort")
    if c is None or not c.values.any():
        return None
    limit = float(log.meta["effort_limit"])
    scaled = c.values * limit * float(rng.uniform(1.2, 3.0)) / np.abs(c.values).max()
    return Injected(changed(log, c.name, np.clip(scaled, -limit, limit)), "saturated", (c.name,))


def stuck(log: EpisodeLog, rng: Rng) -> Injected | None:
    """One joint's reading held for 0.1 to 2 s from a row in which it moves (0.3 rad/s), until it is at least 0.15 rad
    away; its velocity goes on, or is the difference of the readings and sticks as well."""
    c = log[POSITION]
    t, period = c.seconds(), float(np.median(np.diff(c.seconds())))
    rows = max(5, round(float(np.exp(rng.uniform(np.log(0.1), np.log(2.0)))) / period))
    joint = int(rng.integers(c.values.shape[1]))
    q = c.values[:, joint]
    fits = np.zeros(len(q), dtype=bool)
    if rows + 40 >= len(q):
        return None
    fits[: -rows - 1] = np.abs(q[rows + 1 :] - q[: -rows - 1]) > 0.15
    row = _place(log, rng, fits & (np.abs(_rate(log)[1][:, joint]) > 0.3), 0.2)
    if row is None:
        return None
    values = c.values.copy()
    values[row : row + rows, joint] = values[row, joint]
    out = changed(log, POSITION, values)
    if VELOCITY in log and rng.uniform() < 0.5:
        v = log[VELOCITY].values.copy()
        v[row : row + rows, joint] = 0.0
        out = changed(out, VELOCITY, v)
    return Injected(out, "stuck", (POSITION,), float(t[row]))


def wrapped(log: EpisodeLog, rng: Rng) -> Injected | None:
    """A position modulo a turn, with the seam at a random place inside the travel (at least 0.5 rad)."""
    q = log[POSITION].values
    joint = int(rng.choice(np.flatnonzero(np.ptp(q, axis=0) > 0.5))) if (np.ptp(q, axis=0) > 0.5).any() else None
    if joint is None:
        return None
    low, high = np.quantile(q[:, joint], [0.1, 0.9])
    seam = float(rng.uniform(low, high))
    values = q.copy()
    values[:, joint] = (values[:, joint] - seam) % (2.0 * np.pi) + seam
    crossing = np.flatnonzero(np.abs(np.diff(values[:, joint])) > 4.0)
    if not len(crossing):
        return None
    return Injected(changed(log, POSITION, values), "wrapped", (POSITION,), float(log[POSITION].seconds()[crossing[0]]))


def spike(log: EpisodeLog, rng: Rng) -> Injected | None:
    """One to three rows of one joint off by 0.8 to 3 rad, as misread frames are; at least thrice what the joint can
    travel in a row."""
    size = float(rng.uniform(0.8, 3.0))
    period = float(np.median(np.diff(log[POSITION].seconds())))
    if size < 3.0 * float(log.meta["velocity_limit"]) * period:
        return None
    row = _place(log, rng, np.ones(len(log[POSITION].t_ns), dtype=bool))
    if row is None:
        return None
    values = log[POSITION].values.copy()
    values[row : row + int(rng.integers(1, 4)), rng.integers(values.shape[1])] += size * rng.choice([-1, 1])
    return Injected(changed(log, POSITION, values), "spike", (POSITION,), float(log[POSITION].seconds()[row]))


def coarse(log: EpisodeLog, rng: Rng) -> Injected | None:
    """Positions rounded to steps of 8 to 40 mrad, at least four times the sensor's, of which the travel has twenty."""
    step = max(float(np.exp(rng.uniform(np.log(0.008), np.log(0.04)))), 4.0 * float(log.meta["resolution"]))
    if np.ptp(log[POSITION].values, axis=0).max() < 20.0 * step:
        return None
    return Injected(changed(log, POSITION, np.round(log[POSITION].values / step) * step), "quantized", (POSITION,))


def stale_velocity(log: EpisodeLog, rng: Rng) -> Injected | None:
    """A velocity that keeps its value for 0.4 to 1.5 s, and ends at least 0.15 rad off."""
    c = log.channels.get(VELOCITY)
    if c is None or not c.values.any():
        return None
    t, period = c.seconds(), float(np.median(np.diff(c.seconds())))
    rows, joint = round(float(rng.uniform(0.4, 1.5)) / period), int(rng.integers(c.values.shape[1]))
    if rows + 40 >= len(t):
        return None
    q, v = log[POSITION].values[:, joint], c.values[:, joint]
    said = v[: -rows - 1] * (t[rows + 1 :] - t[: -rows - 1])
    fits = np.zeros(len(t), dtype=bool)
    apart = np.abs(said - (q[rows + 1 :] - q[: -rows - 1]))
    fits[: -rows - 1] = (apart > 0.15) & (apart > 0.6 * np.abs(said)) & (np.abs(v[: -rows - 1]) > 0.2)
    row = _place(log, rng, fits, 0.1)
    if row is None:
        return None
    values = c.values.copy()
    values[row : row + rows, joint] = values[row, joint]
    return Injected(changed(log, VELOCITY, values), "stale_velocity", (VELOCITY,), float(t[row]))


FAULTS: dict[str, Fault] = {
    f.__name__: f
    for f in (
        clock_jump, clock_back, repeated,
        missing_rows, nan, drift, velocity_lag, effort_lag, velocity_unit, position_unit,
        both_in_degrees, effort_unit, effort_sign, mirrored, swapped, saturated_effort, saturated_velocity,
        saturated_command, stuck, wrapped, spike, coarse, stale_velocity,
    )
}  # fmt: skip

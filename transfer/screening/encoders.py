"""Rules about single readings: encoders that are stuck, wrap, jump or count in coarse steps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from transfer.screening.config import ScreenConfig
from transfer.screening.signals import Array, Evidence, Noticed, Signal, Signals, around

REGISTERS = (12, 14, 16)
"""Bits of encoder registers, after whose range a position may wrap beside a whole turn."""
LEVELS = 6
"""Fewest different readings that show a step of quantization."""


def stuck(signals: Signals, config: ScreenConfig) -> Iterator[Noticed]:
    """A joint whose reading stays the same bit by bit while it must have moved.

    What it missed is told by the velocity channel where that went on, and else by the jump at the end of the stretch,
    by a motion that ends within one row, or by a command that varies while the reading never does.
    """
    position, velocity, command = signals.position, signals.velocity, signals.command
    if position is None:
        return
    for j, joint in enumerate(signals.joints):
        q = position.values[:, j]
        if np.ptp(q) == 0.0:
            limit = signals.spec.effort_limits[j]
            reach = np.ptp(command.values[:, j]) if command is not None else 0.0
            by_torque = command is not None and command.name == "command.effort"
            enough = 0.05 * limit if by_torque else config.stuck_command
            if reach > enough > 0.0:
                detail = f"joint '{joint}' reads {q[0]:.4f} rad throughout while its command varies."
                yield Noticed("stuck", "joint.position", "file", detail, _shown(signals, j, 0.0, position.t[-1]))
            continue
        found = [(a, b, m) for a, b in _runs(q) if (m := _missed(position, velocity, j, a, b, config)) > 0.0]
        if found:
            a, b, missed = max(found, key=lambda f: f[2])
            channel = signals.episode["joint.position"]
            seconds = position.t[b] - position.t[a]
            detail = (
                f"joint '{joint}' reads {q[a]:.4f} rad for {seconds * 1e3:.0f} ms while it moves by about "
                f"{missed:.3f} rad; {len(found)} such stretch(es)."
            )
            where = signals.at(channel, int(np.searchsorted(signals.seconds(channel), position.t[a])))
            yield Noticed("stuck", "joint.position", where, detail, _shown(signals, j, position.t[a], position.t[b]))


def _shown(signals: Signals, joint: int, start: float, end: float) -> Evidence | None:
    position = signals.position
    if position is None:
        return None
    trace = {"recorded": around(position, joint, start, end)}
    return Evidence(f"position of {signals.joints[joint]} [rad]", trace, (start, end))


def _runs(q: Array) -> list[tuple[int, int]]:
    """(first, last) row of each stretch of at least three equal readings."""
    edges = np.flatnonzero(np.diff(q) != 0.0)
    first, last = np.concatenate([[0], edges + 1]), np.concatenate([edges, [len(q) - 1]])
    long = last - first >= 2
    return list(zip(first[long].tolist(), last[long].tolist(), strict=True))


def _missed(position: Signal, velocity: Signal | None, j: int, first: int, last: int, config: ScreenConfig) -> float:
    """Travel [rad] that a stretch of equal readings has missed; 0 where nothing says so."""
    t, q = position.t, position.values[:, j]
    if t[last] - t[first] < config.stuck_s:
        return 0.0
    quantum = _smallest(q)
    enough = max(config.stuck_rad, 8.0 * quantum)
    if velocity is not None:
        inside = (velocity.t > t[first]) & (velocity.t < t[last])
        v = velocity.values[inside, j]
        travel = abs(float(np.trapezoid(v, velocity.t[inside])))
        # a velocity with an offset would "travel" as well: it must have the speed of a joint that moves
        moves = np.mean(np.abs(v)) > 3.0 * _idle(velocity, position, j, ~inside) if len(v) > 2 else False
        if moves and _alive(v) and travel > enough:
            return travel
    before = _speed(t, q, max(0, first - 6), first)
    if last + 1 < len(q):
        jump, step = abs(q[last + 1] - q[last]), t[last + 1] - t[last]
        after = _speed(t, q, last + 1, min(len(q) - 1, last + 7))
        usual = (max(before, after) * step) + 2.0 * quantum
        return float(jump) if jump > enough and jump > 6.0 * usual else 0.0
    # a joint that brakes takes smaller and smaller steps; one whose reading sticks stops within a row
    steps = np.abs(np.diff(q[max(0, first - 3) : first + 1]))
    missed = before * (t[last] - t[first])
    return (
        missed if len(steps) == 3 and steps.min() > max(4.0 * quantum, 0.5 * steps.max()) and missed > enough else 0.0
    )


def _alive(v: Array) -> bool:
    """Whether a velocity reading goes on changing, rather than keep its last value."""
    return float(np.count_nonzero(np.diff(v))) > 0.1 * len(v)


def _idle(velocity: Signal, position: Signal, j: int, elsewhere: npt.NDArray[np.bool_]) -> float:
    """Mean size of the velocity reading [rad/s] where the position hardly moves elsewhere; 0 where it always does."""
    moved = np.abs(np.gradient(position.at(velocity.t, j), velocity.t))
    slow = (moved < 0.02) & elsewhere
    return float(np.abs(velocity.values[slow, j]).mean()) if slow.sum() > 20 else 0.0


def _speed(t: Array, q: Array, first: int, last: int) -> float:
    return float(abs(q[last] - q[first]) / (t[last] - t[first])) if last > first else 0.0


def _smallest(q: Array) -> float:
    """The smallest difference between two readings [rad]."""
    levels = np.unique(np.round(q, 10))
    return float(np.diff(levels).min()) if len(levels) > 1 else 0.0


def leaps(signals: Signals, config: ScreenConfig) -> Iterator[Noticed]:
    """Positions that step faster than the joint can turn: `wrapped`, `spike` where they return, else `over_speed`."""
    position = signals.position
    if position is None:
        return
    channel = signals.episode["joint.position"]
    dt = np.maximum(np.diff(position.t), 1e-3)
    for j, joint in enumerate(signals.joints):
        q, steps = position.values[:, j], np.diff(position.values[:, j])
        usual = float(np.median(np.abs(steps)))
        fast = np.flatnonzero(np.abs(steps) > config.over_speed * signals.spec.joints[j].velocity_limit * dt)
        fast = fast[np.abs(steps[fast]) > 8.0 * usual]
        sorts: dict[str, list[int]] = {"wrapped": [], "spike": [], "over_speed": []}
        for k in fast:
            sorts[_sort(q, steps, int(k), _ranges(signals, j))].append(int(k))
        if len(fast) > 0.05 * len(steps):
            continue  # a motion that is too fast throughout is a matter of its unit
        for kind, rows in sorts.items():
            if rows:
                row = rows[0]
                where = signals.at(channel, int(np.searchsorted(signals.seconds(channel), position.t[row + 1])))
                detail = (
                    f"joint '{joint}' {_WORDS[kind]} by {steps[row]:+.3f} rad in one row; {len(rows)} such step(s)."
                )
                shown = _shown(signals, j, position.t[row], position.t[row + 1])
                yield Noticed(kind, "joint.position", where, detail, shown)


_WORDS = {
    "wrapped": "starts over at the other end of its encoder's range,",
    "spike": "leaps there and back,",
    "over_speed": "moves faster than it can,",
}


def _ranges(signals: Signals, j: int) -> Array:
    """Steps [rad] of an encoder that starts over: a turn first, and the registers' ranges."""
    steps = [s.resolution for s in signals.spec.sensors if s.signal == "joint.position" and s.resolution > 0.0]
    return np.array([2.0 * np.pi, *(step * 2.0**bits for step in steps for bits in REGISTERS)])


def _sort(q: Array, steps: Array, k: int, ranges: Array) -> str:
    """What one leap is, by where the readings go on."""
    own = float(np.median(np.concatenate([steps[max(0, k - 3) : k], steps[k + 1 : k + 4]]))) if len(steps) > 1 else 0.0
    fits = np.abs(abs(steps[k]) - ranges) <= np.abs(own) * 3.0 + 0.01 * ranges
    if fits[0]:
        return "wrapped"
    ahead = q[k + 2 : k + 5]
    back = q[k - 2 : k + 1] if k >= 2 else q[: k + 1]
    returns = len(ahead) and np.min(np.abs(ahead - q[k])) < 0.3 * abs(steps[k])
    returned = len(back) and np.min(np.abs(back[:-1] - q[k + 1]), initial=np.inf) < 0.3 * abs(steps[k])
    if returns or returned:
        return "spike"
    return "wrapped" if fits.any() else "over_speed"


def quantized(signals: Signals, config: ScreenConfig) -> Iterator[Noticed]:
    """Readings in steps that are coarse beside the motion, or coarser than the robot's file says."""
    known = {s.signal: s.resolution for s in signals.spec.sensors}
    for name in ("joint.position", "joint.velocity", "joint.effort"):
        signal = signals.signal(name)
        if signal is None:
            continue
        worst: tuple[float, int, float] | None = None
        position = signals.position
        for j in range(len(signals.joints)):
            step = quantum(signal.values[:, j])
            deviation = float(signal.values[:, j].std())
            if step == 0.0 or deviation == 0.0:
                continue
            moves = position is None or np.ptp(position.values[:, j]) > config.quantized_rad
            unknown = name == "joint.velocity" or not known.get(name)
            coarse = moves and unknown and step > config.quantized_share * deviation
            beyond = known.get(name, 0.0) > 0.0 and step > config.quantized_factor * known[name]
            if (coarse or beyond) and (worst is None or step / deviation > worst[0]):
                worst = (step / deviation, j, step)
        if worst is not None:
            share, j, step = worst
            file = f"; the robot's file says {known[name]:.4g}" if known.get(name) else ""
            detail = f"joint '{signals.joints[j]}' is read in steps of {step:.4g}, {share:.0%} of its deviation{file}."
            middle = float(signal.t[int(np.argmax(np.abs(signal.values[:, j])))])
            trace = {"recorded": around(signal, j, middle, middle)}
            yield Noticed("quantized", name, "file", detail, Evidence(f"{name} of {signals.joints[j]}", trace))


def quantum(values: npt.NDArray[np.float64]) -> float:
    """The step of which all readings (n,) are whole numbers; 0 where there is none that shows."""
    levels = np.unique(np.round(values, 9))
    if len(levels) < LEVELS:
        return 0.0
    apart = np.diff(levels)
    step = float(apart.min())
    if step < 1e-7:
        return 0.0
    near = apart[apart < 1.5 * step]
    step = float(near.mean())
    off = np.abs(apart / step - np.round(apart / step))
    return step if float(np.mean(off < 0.05)) > 0.98 else 0.0

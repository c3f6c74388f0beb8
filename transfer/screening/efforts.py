"""Rules about what drives the robot: limits, plateaus, and what was measured of a command or followed it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from transfer.screening.config import ScreenConfig
from transfer.screening.lags import PIECES, Drift, Match, correlate, lag_of, line, smoothed
from transfer.screening.rates import called
from transfer.screening.signals import Array, Evidence, Noticed, Signal, Signals, around

OPPOSED = 0.1
"""A measured torque is called mirrored if it agrees by so much better that way ..."""
ON_TIME_S = 0.02
"""... or as well, and is on time only so [s]."""
QUICK_S = 0.3
"""What changes within this time [s] tells a lag; what is steady tells nothing of it."""
MOST_OF_IT = 0.6
"""A torque that is late is late by more and less, as it is filtered: clocks drift if that changes by so much of it."""


def limits(signals: Signals, config: ScreenConfig) -> Iterator[Noticed]:
    """`over_limit` and `saturated`: commands beyond or at the robot's effort limit."""
    found = signals.raw("command.effort")
    if found is None:
        return
    channel, tau = found
    command = signals.signal("command.effort")
    for j, joint in enumerate(signals.joints):
        limit = signals.spec.effort_limits[j]
        size = np.abs(np.nan_to_num(tau[:, j]))
        if not limit > 0.0:
            continue
        over, at = np.flatnonzero(size > 1.001 * limit), np.flatnonzero(size > 0.999 * limit)
        rows = over if over.size else at
        if not rows.size:
            continue
        evidence = None
        if command is not None:
            t = float(signals.seconds(channel)[rows[0]])
            evidence = Evidence(f"command of {joint} [N m]", {"command": around(command, j, t, t, 1.0)}, (t, t))
        if over.size:
            detail = f"joint '{joint}': up to {size.max():.2f} N m, limit {limit:.2f}; {over.size} row(s)."
            yield Noticed("over_limit", channel.name, signals.at(channel, int(over[0])), detail, evidence)
        else:
            detail = f"joint '{joint}': {at.size / len(size):.0%} of the rows are at the limit of {limit:.2f} N m."
            yield Noticed("saturated", channel.name, signals.at(channel, int(at[0])), detail, evidence)


def plateaus(signals: Signals, config: ScreenConfig) -> Iterator[Noticed]:
    """`saturated`: a measured torque or velocity stops at one value while its counterpart goes on.

    The counterpart of a torque is its command, that of a velocity the slope of the position.
    """
    command = signals.signal("command.effort")
    for name, signal in (("joint.effort", signals.effort), ("joint.velocity", signals.velocity)):
        if signal is None:
            continue
        for j, joint in enumerate(signals.joints):
            values = signal.values[:, j]
            for extreme in (float(values.max()), float(values.min())):
                rows = np.flatnonzero(np.abs(values - extreme) <= 1e-6 * max(1.0, abs(extreme)))
                if not _flat(values, rows, extreme, config):
                    continue
                other = _counterpart(signals, name, command, signal, j)
                if other is None:
                    continue
                size, enough = other[rows] * np.sign(extreme), config.saturated_excess * abs(extreme)
                low, high = np.quantile(size, [0.1, 0.9])
                # a command that is held as long as its measurement tells of a gain, and of no limit
                if np.median(size) > abs(extreme) + enough and high - low > enough:
                    channel = signals.episode[name]
                    where = signals.at(channel, int(np.searchsorted(signals.seconds(channel), signal.t[rows[0]])))
                    detail = (
                        f"joint '{joint}' stops at {extreme:.4g} in {len(rows)} rows, where "
                        f"{'its command' if name == 'joint.effort' else 'the slope of its position'} reaches "
                        f"{np.abs(other[rows]).max():.4g}."
                    )
                    t = float(signal.t[rows[0]])
                    traces = {"recorded": around(signal, j, t, t), "expected": _near(signal.t, other, t)}
                    yield Noticed("saturated", name, where, detail, Evidence(f"{name} of {joint}", traces, (t, t)))
                    break


def _flat(values: Array, rows: npt.NDArray[np.intp], extreme: float, config: ScreenConfig) -> bool:
    """Whether an extreme value is held: far more often than its neighbours are, and in stretches."""
    if len(rows) < max(5, config.saturated_share * len(values)) or abs(extreme) < 0.3 * np.abs(values).max():
        return False
    stretches = 1 + int(np.count_nonzero(np.diff(rows) > 1))
    near = np.count_nonzero((np.abs(values) > 0.9 * abs(extreme)) & (np.sign(values) == np.sign(extreme))) - len(rows)
    return len(rows) / stretches >= 3.0 and bool(len(rows) > 0.5 * near)


def _counterpart(signals: Signals, name: str, command: Signal | None, signal: Signal, j: int) -> Array | None:
    """(n,) at the signal's stamps: what it should be by another channel's word."""
    if name == "joint.effort":
        return None if command is None else command.at(signal.t, j)
    position = signals.position
    if position is None:
        return None
    half = max(0.01, 2.0 * position.period)
    found = lag_of(position, signal)
    t = signal.t - (found.lag if found is not None else 0.0)
    return (position.at(t + half, j) - position.at(t - half, j)) / (2.0 * half)


def _near(t: Array, values: Array, middle: float) -> tuple[Array, Array]:
    inside = np.abs(t - middle) < 0.5
    return t[inside], values[inside]


def effort_follows(signals: Signals, config: ScreenConfig) -> Iterator[Noticed]:
    """`sign`, `unit`, `lag` and `drift` of the measured torque against the commanded one."""
    command, effort = signals.signal("command.effort"), signals.effort
    if command is None or effort is None or not command.values.any():
        return
    late = float(signals.episode.meta.get("late_rows", 0)) * command.period
    for j, joint in enumerate(signals.joints):
        first, last = max(command.t[0], effort.t[0]), min(command.t[-1], effort.t[-1])
        found = _torque_lag(command, effort, j, first, last, late)
        if found is None:
            continue
        match, sign, slope = found
        evidence = _followed(signals, command, effort, j)
        if sign < 0.0:
            strength = f"correlation {-match.correlation:.2f}"
            detail = f"joint '{joint}': the measured torque opposes the commanded one ({strength})."
            yield Noticed("sign", "joint.effort", "file", detail, evidence)
        if not 1.0 / config.unit_factor < slope < config.unit_factor:
            detail = f"joint '{joint}': the measured torque is {slope:.3g} times the commanded one{called(slope)}."
            yield Noticed("unit", "joint.effort", "file", detail, evidence)
        drift = _torque_drift(command, effort, j, first, last, match.lag, sign)
        least = max(config.lag_s, config.lag_periods * max(command.period, effort.period))
        if drift is not None and abs(drift.change) > max(config.drift_s, MOST_OF_IT * abs(match.lag - late)):
            detail = f"the clocks of torque and command drift apart by {drift.change * 1e3:+.0f} ms over the episode."
            yield Noticed("drift", "joint.effort", "file", detail, Evidence("lag [s]", {"lag": (drift.t, drift.lags)}))
            return
        if abs(match.lag - late) > least and match.clear:
            side = "behind" if match.lag > late else "ahead of"
            detail = f"the torque of '{joint}' is {abs(match.lag - late) * 1e3:.0f} ms {side} its command."
            yield Noticed("lag", "joint.effort", "file", detail, evidence)
            return


def _torque_lag(
    command: Signal, effort: Signal, j: int, first: float, last: float, late: float, known: float = 0.0
) -> tuple[Match, float, float] | None:
    """(match, sign, slope) of a measured torque, which is expected to be `late` [s] and perhaps `known` to have a sign;
    None where it does not follow its command."""
    period = max(command.period, effort.period)
    width = max(3, round(QUICK_S / period))
    margin = (width // 2) * period  # at an end of what is smoothed both series would jump at once
    begin, end = max(command.t[0], effort.t[0], first - margin), min(command.t[-1], effort.t[-1], last + margin)
    # from a row of the command on: between rows a command that is held would be older than the measured torque
    t = np.arange(command.t[min(np.searchsorted(command.t, begin), len(command.t) - 1)], end, period)
    if len(t) < 60:
        return None
    a = command.values[(np.searchsorted(command.t, t, "right") - 1).clip(0), j]  # held, as commands are
    b = effort.at(t, j)
    if not (a.std() > 0.02 * np.abs(command.values).max() and b.std() > 0.0):
        return None
    inner = slice(width // 2, len(t) - width // 2)
    a_quick, b_quick = ((x - smoothed(x, width))[inner] for x in (a, b))
    straight, opposed = (correlate(a_quick, s * b_quick, period, late) for s in (1.0, -1.0))
    sign = known or _sign(straight, opposed, late, max(ON_TIME_S, 2.0 * period))
    match = straight if sign > 0 else opposed
    if match.correlation < 0.8 or not match.inside:
        return None
    shifted = np.interp(t + match.lag, effort.t, effort.values[:, j])
    slope = float(np.sqrt(np.square(shifted - shifted.mean()).sum() / np.square(a - a.mean()).sum()))
    return match, sign, slope


def _sign(straight: Match, opposed: Match, late: float, near: float) -> float:
    """-1 for a torque that is mirrored. One that repeats opposes itself half a period later, so of two signs that fit
    alike the one that is on time is the right one, and else the one as recorded."""
    if abs(straight.correlation - opposed.correlation) > OPPOSED:
        return 1.0 if straight.correlation > opposed.correlation else -1.0
    return -1.0 if abs(opposed.lag - late) < near < abs(straight.lag - late) else 1.0


def _torque_drift(
    command: Signal, effort: Signal, j: int, first: float, last: float, late: float, sign: float
) -> Drift | None:
    """Lags of the pieces, near that of the whole: what repeats agrees in many ways."""
    edges = np.linspace(first, last, PIECES + 1)
    lags = [
        ((a + b) / 2.0, found[0].lag)
        for a, b in pairwise(edges)
        if (found := _torque_lag(command, effort, j, a, b, late, sign)) is not None
    ]
    return line(lags, last - first)


def _followed(signals: Signals, command: Signal, effort: Signal, j: int) -> Evidence:
    middle = float(command.t[int(np.argmax(np.abs(command.values[:, j])))])
    traces = {"command": around(command, j, middle, middle), "measured": around(effort, j, middle, middle)}
    return Evidence(f"torque of {signals.joints[j]} [N m]", traces)


def position_follows(signals: Signals, config: ScreenConfig) -> Iterator[Noticed]:
    """`sign`, `unit`, `joint_order` and `lag` of a servo's position against the commanded one."""
    command, position = signals.signal("command.position"), signals.position
    if command is None or position is None or signals.command is not command:
        return
    period = max(command.period, position.period)
    t = np.arange(max(command.t[0], position.t[0]), min(command.t[-1], position.t[-1]), period)
    if len(t) < 100:
        return
    joints = range(len(signals.joints))
    a = np.array([command.values[(np.searchsorted(command.t, t, "right") - 1).clip(0), j] for j in joints])
    b = np.array([position.at(t, j) for j in joints])
    moving = (a.std(axis=1) > 0.01) & (b.std(axis=1) > 0.01)
    late: list[tuple[float, str]] = []
    for j in np.flatnonzero(moving).tolist():
        joint = signals.joints[j]
        match, opposed = (correlate(a[j], sign * b[j], period) for sign in (1.0, -1.0))
        evidence = _commanded(signals, command, position, j)
        others = [correlate(a[i], b[j], period).correlation if i != j and moving[i] else 0.0 for i in joints]
        if match.correlation < 0.6 and max(others) > 0.9:
            detail = f"joint '{joint}' follows the command of '{signals.joints[int(np.argmax(others))]}', not its own."
            yield Noticed("joint_order", "command.position", "file", detail, evidence)
            continue
        if opposed.correlation > 0.9 and opposed.correlation > match.correlation + 0.3:
            detail = f"joint '{joint}' moves against its command (correlation {-opposed.correlation:.2f})."
            yield Noticed("sign", "command.position", "file", detail, evidence)
            continue
        if match.correlation < 0.9:
            continue
        slope = float(b[j].std() / a[j].std())
        if not 1.0 / (2.0 * config.unit_factor) < slope < 2.0 * config.unit_factor:
            detail = f"joint '{joint}' moves by {slope:.3g} times its command{called(slope)}."
            yield Noticed("unit", "command.position", "file", detail, evidence)
        if (abs(match.lag) > max(config.follow_s, config.lag_periods * period) or match.lag < -period) and match.clear:
            late.append((match.lag, joint))
    if late:
        (least, _), (most, joint) = min(late), max(late, key=lambda found: abs(found[0]))
        detail = f"{len(late)} joint(s) follow their commands {least * 1e3:.0f} to {max(late)[0] * 1e3:.0f} ms late; "
        detail += f"most at '{joint}', {most * 1e3:.0f} ms."
        evidence = _commanded(signals, command, position, signals.joints.index(joint))
        yield Noticed("lag", "command.position", "file", detail, evidence)


def _commanded(signals: Signals, command: Signal, position: Signal, j: int) -> Evidence:
    middle = float(command.t[int(np.argmax(np.abs(command.values[:, j] - np.median(command.values[:, j]))))])
    traces = {"command": around(command, j, middle, middle, 2.0), "position": around(position, j, middle, middle, 2.0)}
    return Evidence(f"position of {signals.joints[j]} [rad]", traces)

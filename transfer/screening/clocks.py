"""Rules about time stamps: rows that go back, repeat a stamp, are missing, or follow a clock that was set forward."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from robot.log import Channel
from transfer.screening.config import ScreenConfig
from transfer.screening.signals import Array, Evidence, Noticed, Signals, thinned

FIT_ROWS, FIT_S = (4, 12), 0.08
"""Rows on each side of a step of time that tell the joints' speed: those of FIT_S, at least and at most so many."""


def stamps(signals: Signals, config: ScreenConfig) -> Iterator[Noticed]:
    """`decreasing_time`, `repeated_stamp`, `gap` and `clock_jump`; channels of the same stamps share the finding."""
    seen: set[bytes] = set()
    for channel in signals.numeric():
        key = channel.t_ns.tobytes()
        if key in seen or len(channel.t_ns) < 3:
            continue
        seen.add(key)
        steps = np.diff(channel.t_ns) * 1e-9
        usual = float(np.median(steps))
        if (back := np.flatnonzero(steps < 0)).size:
            detail = f"the stamp is {-steps[back[0]] * 1e3:.3f} ms before the previous row's; {back.size} such row(s)."
            yield _noticed("decreasing_time", channel, signals, int(back[0]) + 1, detail)
        if (same := np.flatnonzero(steps == 0)).size:
            detail = f"{same.size} row(s) repeat the previous row's stamp."
            yield _noticed("repeated_stamp", channel, signals, int(same[0]) + 1, detail)
        yield from _steps(signals, channel, steps, usual, config)


def jumps(signals: Signals, channel: Channel, config: ScreenConfig) -> list[int]:
    """Rows after which the clock was set forward."""
    steps = np.diff(channel.t_ns) * 1e-9
    usual = float(np.median(steps))
    large = _large(steps, usual, config)
    return [int(k) for k in large if _stood_still(signals, channel, int(k), steps[k], usual, config)]


def _large(steps: Array, usual: float, config: ScreenConfig) -> npt.NDArray[np.intp]:
    return np.flatnonzero(steps > max(config.gap_periods * usual, usual + config.gap_s))


def _steps(signals: Signals, channel: Channel, steps: Array, usual: float, config: ScreenConfig) -> Iterator[Noticed]:
    """Large steps of time, told apart by whether the joints went on meanwhile."""
    jumped = jumps(signals, channel, config)
    gaps = [k for k in _large(steps, usual, config) if k not in jumped]
    if jumped:
        worst = max(jumped, key=lambda k: float(steps[k]))
        detail = (
            f"the clock steps forward by {(steps[worst] - usual) * 1e3:.1f} ms while the joints' motion does not; "
            f"{len(jumped)} such step(s)."
        )
        yield _noticed("clock_jump", channel, signals, int(worst), detail)
    if gaps:
        worst = max(gaps, key=lambda k: float(steps[k]))
        detail = f"{steps[worst] * 1e3:.1f} ms without a row, usually {usual * 1e3:.2f} ms; {len(gaps)} such gap(s)."
        yield _noticed("gap", channel, signals, int(worst), detail)


def _stood_still(signals: Signals, channel: Channel, row: int, step: float, usual: float, config: ScreenConfig) -> bool:
    """Whether positions and speeds after a step of time are those of a usual period later, not of `step` later."""
    found = signals.raw("joint.position")
    if found is None or not np.array_equal(found[0].t_ns, channel.t_ns):
        found = (channel, np.asarray(channel.values)) if channel.name == "joint.position" else None
    if found is None:
        return False
    q = found[1]
    span = int(np.clip(round(FIT_S / usual), *FIT_ROWS))
    before, after = slice(max(0, row - span + 1), row + 1), slice(row + 1, row + 1 + span)
    t: Array = np.arange(-span, span, dtype=np.float64) * usual
    a, b = q[before], q[after]
    if len(a) < 4 or len(b) < 4 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return False
    # each side as a parabola, carried to the middle of a usual step: they meet if no time has passed
    t_a, t_b = t[span - len(a) : span], t[span : span + len(b)]
    fit_a, fit_b = np.polyfit(t_a, a, 2 if len(a) > 6 else 1), np.polyfit(t_b, b, 2 if len(b) > 6 else 1)
    middle = -0.5 * usual
    speeds = [fit[-2] + 2.0 * fit[0] * middle if len(fit) == 3 else fit[0] for fit in (fit_a, fit_b)]
    apart = _value(fit_b, middle) - _value(fit_a, middle)
    expected = 0.5 * (np.abs(speeds[0]) + np.abs(speeds[1])) * (step - usual)
    noise = 3.0 * np.sqrt(_spread(a, fit_a, t_a) ** 2 + _spread(b, fit_b, t_b) ** 2)
    telling = expected > 4.0 * noise + 1e-4
    if not telling.any():
        return False
    position = (np.abs(apart) <= config.jump_travel * expected + noise)[telling].all()
    change = np.abs(speeds[1] - speeds[0])
    smooth = (change <= 0.5 * (np.abs(speeds[0]) + np.abs(speeds[1])) + 3.0 * noise / (span * usual))[telling].all()
    return bool(position and smooth)


def _value(fit: Array, t: float) -> Array:
    powers = t ** np.arange(len(fit) - 1, -1, -1)
    return np.asarray(powers @ fit)


def _spread(values: Array, fit: Array, t: Array) -> Array:
    powers = t[:, None] ** np.arange(len(fit) - 1, -1, -1)
    return np.asarray((values - powers @ fit).std(axis=0))


def _noticed(kind: str, channel: Channel, signals: Signals, row: int, detail: str) -> Noticed:
    t = signals.seconds(channel)
    window = slice(max(0, row - 100), row + 100)
    rows = np.arange(len(t))[window].astype(np.float64)
    evidence = Evidence(
        f"stamp of {channel.name} [s]", {"stamps": thinned(rows, t[window])}, (row - 0.5, row + 0.5), "row"
    )
    return Noticed(kind, channel.name, signals.at(channel, row), detail, evidence)


def finite(signals: Signals, config: ScreenConfig) -> Iterator[Noticed]:
    """`nan`: values that are not finite. NaN of a whole `joint.effort` says that the robot does not estimate it."""
    for channel in signals.numeric():
        bad = ~np.isfinite(channel.values)
        if channel.name == "joint.effort":
            bad &= ~bad.all(axis=0)
        rows = bad.any(axis=1)
        if rows.any():
            row = int(np.argmax(rows))
            detail = f"{int(rows.sum())} of {len(rows)} rows have a value that is not finite."
            shown = np.flatnonzero(bad.any(axis=0))[0]
            t = signals.seconds(channel)
            window = slice(max(0, row - 100), row + 100)
            trace = thinned(t[window], channel.values[window, shown])
            evidence = Evidence(f"{channel.name} of {channel.components[shown]}", {"recorded": trace}, (t[row], t[row]))
            yield Noticed("nan", channel.name, signals.at(channel, row), detail, evidence)


def length(signals: Signals, config: ScreenConfig) -> Iterator[Noticed]:
    """`short`: no evaluation window fits in."""
    channel = signals.episode.channels.get("joint.position")
    if channel is not None and len(channel.t_ns):
        seconds = float(channel.seconds()[-1])
        if seconds < config.short_s:
            detail = f"{seconds:.2f} s; one window needs {config.short_s} s."
            yield Noticed("short", "joint.position", "file", detail)

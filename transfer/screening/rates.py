"""Rules that hold a velocity against the position that it should be the rate of: unit, sign, order, lag and drift.

Velocities are integrated over short stretches and compared with the travel there, which averages latency and noise
out; each channel keeps its own clock.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from transfer.screening.config import ScreenConfig
from transfer.screening.lags import lag_of, pieces
from transfer.screening.signals import Array, Evidence, Noticed, Signal, Signals, around

BLOCK_S = 0.05
NAMED = {
    57.29578: "degrees",
    9.549297: "rpm",
    0.1591549: "turns",
    1000.0: "thousandths",
}
"""Factor between a reading and rad or rad/s -> what it then is in."""
NEAR = 0.12
"""Share by which a factor may be off and still be called by its name."""
STILL_RAD = 0.02
"""A joint that travels less than this in a whole episode [rad] tells nothing."""


def called(factor: float) -> str:
    """What a reading that is `factor` times too large may be in, as the end of a sentence."""
    for known, name in NAMED.items():
        if abs(factor / known - 1.0) < NEAR:
            return f", as if it were in {name}"
    return ""


def agreement(position: Signal, velocity: Signal, lag: float = 0.0) -> tuple[Array, Array, Array]:
    """(J, J) correlation of each joint's travel (rows) with each one's integrated velocity, and (J, B) both of them."""
    block = max(BLOCK_S, 3.0 * max(position.period, velocity.period))
    first, last = max(position.t[0], velocity.t[0]), min(position.t[-1], velocity.t[-1])
    edges = np.arange(first, last, block)
    if len(edges) < 9:
        joints = position.values.shape[1]
        return np.full((joints, joints), np.nan), np.zeros((joints, 0)), np.zeros((joints, 0))
    joints = range(position.values.shape[1])
    moved = np.diff([position.at(edges, j) for j in joints], axis=1)
    integral = np.diff([np.interp(edges - lag, velocity.t, velocity.travel[:, j]) for j in joints], axis=1)
    scale = np.sqrt(np.outer(np.square(moved).sum(axis=1), np.square(integral).sum(axis=1)))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.where(scale > 0.0, moved @ integral.T / scale, np.nan)
    return correlation, moved, integral


def rate_agrees(signals: Signals, config: ScreenConfig) -> Iterator[Noticed]:
    """`unit`, `sign` and `joint_order` of the velocity against the position."""
    position, velocity = signals.position, signals.velocity
    if position is None or velocity is None:
        return
    found = lag_of(position, velocity)
    correlation, moved, integral = agreement(position, velocity, found.lag if found else 0.0)
    swapped = _swapped(correlation, moved, config)
    for j, joint in enumerate(signals.joints):
        if j in swapped:
            other = signals.joints[swapped[j]]
            detail = (
                f"joint '{joint}' moves as the velocity of '{other}' says (correlation "
                f"{correlation[j, swapped[j]]:.2f}, with its own {correlation[j, j]:.2f}): their order differs."
            )
            yield Noticed("joint_order", "joint.velocity", "file", detail, _compared(signals, j))
            continue
        own = correlation[j, j]
        if not np.isfinite(own) or np.abs(moved[j]).sum() < STILL_RAD or abs(own) < config.unit_correlation:
            continue
        slope = float(np.sqrt(np.square(integral[j]).sum() / np.square(moved[j]).sum()))
        if own < 0.0:
            detail = f"joint '{joint}' moves against its velocity: their correlation is {own:.2f}."
            yield Noticed("sign", "joint.velocity", "file", detail, _compared(signals, j))
        if not 1.0 / config.unit_factor < slope < config.unit_factor:
            detail = f"joint '{joint}': the velocity integrates to {slope:.3g} times the travel{_either(slope)}."
            yield Noticed("unit", "joint.velocity", "file", detail, _compared(signals, j))


def _either(slope: float) -> str:
    """Which of both may be in what."""
    of_velocity, of_position = called(slope), called(1.0 / slope)
    if of_velocity:
        return f": {of_velocity[2:].replace('it were', 'the velocity were')}"
    return f": {of_position[2:].replace('it were', 'the position were')}" if of_position else ""


def _swapped(correlation: Array, moved: Array, config: ScreenConfig) -> dict[int, int]:
    """Joint -> joint whose velocity it follows, where that is another's by far."""
    out: dict[int, int] = {}
    for j in range(len(correlation)):
        row = np.abs(np.nan_to_num(correlation[j]))
        best = int(np.argmax(row))
        if best != j and row[best] > 0.9 and row[j] < 0.6 and np.abs(moved[j]).sum() > STILL_RAD:
            out[j] = best
    return out


def _compared(signals: Signals, joint: int) -> Evidence | None:
    """The slope of the position and the velocity, where the joint is fastest."""
    position, velocity = signals.position, signals.velocity
    if position is None or velocity is None:
        return None
    middle = float(velocity.t[int(np.argmax(np.abs(velocity.values[:, joint])))])
    t, q = around(position, joint, middle, middle, 1.0)
    slope = np.gradient(q, t) if len(t) > 2 else q
    traces = {"slope of the position": (t, slope), "velocity": around(velocity, joint, middle, middle, 1.0)}
    return Evidence(f"velocity of {signals.joints[joint]} [rad/s]", traces)


def velocity_lag(signals: Signals, config: ScreenConfig) -> Iterator[Noticed]:
    """`lag` and `drift` of the velocity against the position."""
    position, velocity = signals.position, signals.velocity
    if position is None or velocity is None:
        return
    found, drift = lag_of(position, velocity), pieces(position, velocity)
    least = max(config.lag_s, config.lag_periods * max(position.period, velocity.period))
    if drift is not None and abs(drift.change) > config.drift_s:
        detail = f"the velocity's clock drifts from the position's by {drift.change * 1e3:+.0f} ms over the episode."
        evidence = Evidence("lag [s]", {"lag": (drift.t, drift.lags)})
        yield Noticed("drift", "joint.velocity", "file", detail, evidence)
    elif found is not None and abs(found.lag) > least and found.clear:
        joint = found.joint
        side = "behind" if found.lag > 0 else "ahead of"
        detail = (
            f"the velocity of '{signals.joints[joint]}' is {abs(found.lag) * 1e3:.0f} ms {side} the position's slope."
        )
        yield Noticed("lag", "joint.velocity", "file", detail, _compared(signals, joint))


def implausible_speed(signals: Signals, config: ScreenConfig) -> Iterator[Noticed]:
    """`unit`: the robot seems to move faster than it can throughout, or reads in a known unit's steps."""
    from transfer.screening.encoders import quantum

    known = {s.signal: s.resolution for s in signals.spec.sensors}
    for name in ("joint.position", "joint.velocity"):
        signal = signals.signal(name)
        if signal is None:
            continue
        for j, joint in enumerate(signals.joints):
            values, limit = signal.values[:, j], signals.spec.joints[j].velocity_limit
            if name == "joint.position":
                stride = max(1, round(BLOCK_S / signal.period))
                speed = np.abs(values[stride:] - values[:-stride]) / (signal.t[stride:] - signal.t[:-stride])
            else:
                speed = np.abs(values)
            if not len(speed):
                continue
            fast = float(np.quantile(speed, 0.95))
            step = quantum(values)
            by_step = called(step / known[name]) if known.get(name) and step else ""
            if fast > config.implausible_speed * limit:
                detail = f"joint '{joint}' turns at {fast:.3g} rad/s a twentieth of the time; it can do {limit:.3g}."
            elif by_step:
                detail = f"joint '{joint}' is read in steps of {step:.4g}, its sensor's are {known[name]:.4g}{by_step}."
            else:
                continue
            middle = float(signal.t[int(np.argmax(np.abs(values)))])
            evidence = Evidence(f"{name} of {joint}", {"recorded": around(signal, j, middle, middle, 1.0)})
            yield Noticed("unit", name, "file", detail, evidence)
            break


def stale_velocity(signals: Signals, config: ScreenConfig) -> Iterator[Noticed]:
    """`stale_velocity`: a velocity keeps one value other than 0, and the position does not move by what it says."""
    position, velocity = signals.position, signals.velocity
    if position is None or velocity is None:
        return
    for j, joint in enumerate(signals.joints):
        v = velocity.values[:, j]
        edges = np.flatnonzero(np.diff(v) != 0.0)
        first, last = np.concatenate([[0], edges + 1]), np.concatenate([edges, [len(v) - 1]])
        seconds = velocity.t[last] - velocity.t[first]
        said = np.abs(v[first]) * seconds
        apart = np.abs(position.at(velocity.t[last], j) - position.at(velocity.t[first], j) - v[first] * seconds)
        least = 1.5 * float(np.abs(v[v != 0.0]).min(initial=np.inf))  # one count may be an offset
        wrong = (
            (last - first >= 3)
            & (np.abs(v[first]) > least)
            & (seconds > config.stale_s)
            & (apart > 2.0 * config.stuck_rad)
            & (apart > 0.4 * said)
        )
        if wrong.any():
            k = int(np.argmax(np.where(wrong, apart, 0.0)))
            start, end = float(velocity.t[first[k]]), float(velocity.t[last[k]])
            detail = (
                f"joint '{joint}' reads {v[first[k]]:+.3g} rad/s for {seconds[k]:.2f} s, {apart[k]:.3f} rad from where "
                f"it then is; {int(wrong.sum())} such stretch(es)."
            )
            channel = signals.episode["joint.velocity"]
            traces = {"position [rad]": around(position, j, start, end), "velocity": around(velocity, j, start, end)}
            evidence = Evidence(f"{joint} [rad, rad/s]", traces, (start, end))
            where = signals.at(channel, int(np.searchsorted(signals.seconds(channel), start)))
            yield Noticed("stale_velocity", "joint.velocity", where, detail, evidence)

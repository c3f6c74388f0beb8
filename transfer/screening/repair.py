"""Repairs: what a person may ask to be put right, by the name of the finding; nothing is repaired unasked.

Each takes an episode and returns it repaired with one sentence of what was done, or None where there is nothing to do.
`resample` is no finding's name: it puts all channels on one uniform clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from robot.log import Channel, EpisodeLog
from robot.spec import RobotSpec
from transfer.screening import clocks
from transfer.screening.config import ScreenConfig
from transfer.screening.lags import lag_of, pieces
from transfer.screening.signals import Noticed, Signals

Repaired = tuple[EpisodeLog, str] | None
Rows = npt.NDArray[np.bool_] | npt.NDArray[np.intp]


def repair(
    episode: EpisodeLog, spec: RobotSpec, asked: Sequence[str], config: ScreenConfig
) -> tuple[EpisodeLog, list[Noticed]]:
    """The episode with all that is asked for put right, in the order of REPAIRS, and what was done."""
    told = []
    for name, step in REPAIRS.items():
        if name in asked and (done := step(episode, spec, config)) is not None:
            episode, detail = done
            episode = replace(episode, meta={**episode.meta, f"repaired.{name}": detail})
            told.append(Noticed("repaired", "", "file", f"{name}: {detail}"))
    return episode, told


def _with(episode: EpisodeLog, channels: dict[str, Channel]) -> EpisodeLog:
    return replace(episode, channels={**episode.channels, **channels})


def _rows(channel: Channel, rows: Rows) -> Channel:
    return replace(channel, t_ns=channel.t_ns[rows], values=channel.values[rows])


def _sort(episode: EpisodeLog, spec: RobotSpec, config: ScreenConfig) -> Repaired:
    changed = {}
    for name, c in episode.channels.items():
        if (np.diff(c.t_ns) < 0).any():
            changed[name] = _rows(c, np.argsort(c.t_ns, kind="stable"))
    return (_with(episode, changed), f"rows of {', '.join(changed)} sorted by stamp.") if changed else None


def _drop_repeats(episode: EpisodeLog, spec: RobotSpec, config: ScreenConfig) -> Repaired:
    changed, count = {}, 0
    for name, c in episode.channels.items():
        again = np.concatenate([[False], np.diff(c.t_ns) == 0])
        if again.any() and c.values.dtype.kind == "f":
            changed[name], count = _rows(c, ~again), count + int(again.sum())
    return (_with(episode, changed), f"{count} rows that repeat a stamp left out.") if changed else None


def _drop_nan(episode: EpisodeLog, spec: RobotSpec, config: ScreenConfig) -> Repaired:
    changed, count = {}, 0
    for name, c in episode.channels.items():
        if c.values.dtype.kind == "f" and len(c.t_ns):
            bad = ~np.isfinite(c.values).all(axis=1)
            if bad.any() and not bad.all():
                changed[name], count = _rows(c, ~bad), count + int(bad.sum())
    return (_with(episode, changed), f"{count} rows with values that are not finite left out.") if changed else None


def _close_jumps(episode: EpisodeLog, spec: RobotSpec, config: ScreenConfig) -> Repaired:
    signals, changed, removed = Signals(episode, spec), {}, 0.0
    for name, c in episode.channels.items():
        if c.values.dtype.kind != "f" or len(c.t_ns) < 3:
            continue
        jumps = clocks.jumps(signals, c, config)
        if jumps:
            steps = np.diff(c.t_ns)
            usual = round(float(np.median(steps)))
            removed = max(removed, float(sum(steps[k] - usual for k in jumps)) * 1e-9)
            steps[jumps] = usual
            changed[name] = replace(c, t_ns=np.concatenate([c.t_ns[:1], c.t_ns[0] + np.cumsum(steps)]))
    return (_with(episode, changed), f"{removed * 1e3:.1f} ms of clock jumps taken out.") if changed else None


def _undrift(episode: EpisodeLog, spec: RobotSpec, config: ScreenConfig) -> Repaired:
    signals = Signals(episode, spec)
    position, velocity = signals.position, signals.velocity
    if position is None or velocity is None:
        return None
    drift = pieces(position, velocity)
    if drift is None or abs(drift.change) <= config.drift_s:
        return None
    c = episode["joint.velocity"]
    rate = drift.change / (position.t[-1] - position.t[0])
    t_ns = c.t_ns[0] + np.round((c.t_ns - c.t_ns[0]) * (1.0 - rate)).astype(np.int64)
    detail = f"the velocity's clock was slowed by {rate * 1e6:+.0f} millionths to the position's."
    return _with(episode, {c.name: replace(c, t_ns=t_ns)}), detail


def _unlag(episode: EpisodeLog, spec: RobotSpec, config: ScreenConfig) -> Repaired:
    signals = Signals(episode, spec)
    position, velocity = signals.position, signals.velocity
    if position is None or velocity is None or (found := lag_of(position, velocity)) is None or not found.clear:
        return None
    c = episode["joint.velocity"]
    moved = replace(c, t_ns=np.maximum(c.t_ns - round(found.lag * 1e9), 0))
    return _with(episode, {c.name: moved}), f"the velocity's stamps were moved by {-found.lag * 1e3:+.1f} ms."


def _unwrap(episode: EpisodeLog, spec: RobotSpec, config: ScreenConfig) -> Repaired:
    found = Signals(episode, spec).raw("joint.position")
    if found is None:
        return None
    channel, q = found
    whole = q.copy()
    for joint in whole.T:
        finite = np.isfinite(joint)
        joint[finite] = np.unwrap(joint[finite])
    if np.array_equal(whole, q, equal_nan=True):
        return None
    values = np.stack([whole[:, spec.joint_names.index(n)] if n in spec.joint_names else channel.component(n)
                       for n in channel.components], axis=1)  # fmt: skip
    return _with(episode, {channel.name: replace(channel, values=values)}), "positions continued over whole turns."


def resample(episode: EpisodeLog, spec: RobotSpec, config: ScreenConfig) -> Repaired:
    """All channels of numbers on one clock of the robot's control period: readings by straight lines, commands held."""
    numeric = {n: c for n, c in episode.channels.items() if c.values.dtype.kind == "f" and len(c.t_ns) > 1}
    if not numeric:
        return None
    period = round(spec.control_period_s * 1e9)
    first, last = max(c.t_ns[0] for c in numeric.values()), min(c.t_ns[-1] for c in numeric.values())
    if first >= last:
        return None  # no time that all channels share: nothing would be left
    t = np.arange(first, last + 1, period, dtype=np.int64)
    changed = {}
    for name, c in numeric.items():
        if name.startswith("command."):
            values = c.values[(np.searchsorted(c.t_ns, t, "right") - 1).clip(0)]
        else:
            clock, at = (c.t_ns - first) * 1e-9, (t - first) * 1e-9
            values = np.stack([np.interp(at, clock, column) for column in c.values.T], axis=1)
        changed[name] = replace(c, t_ns=t, values=values)
    return _with(episode, changed), f"every channel on one clock of {spec.control_period_s * 1e3:g} ms."


REPAIRS: dict[str, Callable[[EpisodeLog, RobotSpec, ScreenConfig], Repaired]] = {
    "decreasing_time": _sort,
    "repeated_stamp": _drop_repeats,
    "nan": _drop_nan,
    "clock_jump": _close_jumps,
    "drift": _undrift,
    "lag": _unlag,
    "wrapped": _unwrap,
    "resample": resample,
}

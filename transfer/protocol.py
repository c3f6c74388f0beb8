"""How recordings are cut for a fit, by how the robot's actuators are commanded, and the windows themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from robot.spec import RobotSpec
from transfer.dataset import DataRefused
from transfer.series import Series
from transfer.shots import Shots, cut

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """What a fit of one kind of robot looks at."""

    window_s: float = 0.5
    row_period_s: float = 0.01
    """About one row in this time is compared: denser ones tell nothing new."""
    first_s: float = 0.25
    coarse_s: float = 0.004
    fine_s: float = 0.002
    """Physics steps of the search and of its end; scoring uses 1 ms."""
    coarse_share: int = 3
    """The search looks at every so-manieth window."""
    zero_sd_rad: float = 0.05
    """Of an episode's joint zero about the robot's: set by hand before each recording, or that of an encoder."""
    start_sd: float = 0.01
    """Error of a velocity that was fitted to positions in counts, while the torque may step [rad/s]."""
    by_activity: bool = False
    """Whether windows are the denser the more is commanded: a servo that holds still tells its zero, and no more."""


TORQUE = Protocol()
VOLTAGE = Protocol(coarse_s=0.002, fine_s=0.001)
"""For motors on voltage: their back-EMF slows them within milliseconds, at which RK4 is unstable in steps of 4 ms."""
SERVO = Protocol(window_s=1.0, first_s=0.04, fine_s=0.004, zero_sd_rad=0.001, start_sd=0.03, by_activity=True)


def protocol_for(spec: RobotSpec) -> Protocol:
    """The protocol of a robot."""
    kinds = {a.kind for a in spec.actuators}
    if "position_pd" in kinds:
        return SERVO
    return VOLTAGE if "dcmotor" in kinds else TORQUE


def windows(series: Sequence[Series], protocol: Protocol, most: int) -> Shots:
    """At most about `most` windows of all episodes; DataRefused when they give none."""
    seconds = sum(float(s.t[-1]) for s in series)
    if protocol.by_activity:
        every = protocol.window_s / 2.0
        shots = _lively(cut(series, protocol.first_s, every, protocol.window_s, protocol.row_period_s), most)
    else:
        every = max(protocol.window_s, seconds / most)
        shots = cut(series, protocol.first_s, every, protocol.window_s, protocol.row_period_s)
    if not len(shots):
        needed = protocol.first_s + protocol.window_s
        raise DataRefused(f"no episode gives a window: one needs {needed:g} s of log; record longer episodes.")
    return shots


def _lively(shots: Shots, most: int) -> Shots:
    """As many windows of each episode, evenly along the way that its commands went, with a share for time itself."""
    chosen = []
    for episode in np.unique(shots.episode):
        mine = np.flatnonzero(shots.episode == episode)
        series = shots.series[episode]
        grid = shots.start[mine, None] + np.linspace(0.0, shots.seconds, 51)
        way = np.abs(np.diff(series.command.held(grid), axis=1)).sum(axis=(1, 2))
        way = np.cumsum(way + 0.3 * way.mean() + 1e-9)
        number = min(len(mine), max(1, most // len(np.unique(shots.episode))))
        at = np.searchsorted(way, way[-1] * (np.arange(number) + 0.5) / number)
        chosen.append(mine[np.unique(at)])
    return subset(shots, np.concatenate([*chosen, np.zeros(0, np.intp)]).astype(np.intp))


def every(shots: Shots, share: int) -> Shots:
    """Every `share`-th window, of all episodes."""
    return subset(shots, np.arange(0, len(shots), share))


def subset(shots: Shots, chosen: npt.NDArray[np.intp]) -> Shots:
    """Some windows, in the order given."""
    number = np.full(len(shots), -1, dtype=np.intp)
    number[chosen] = np.arange(len(chosen))
    rows = number[shots.window] >= 0
    return replace(
        shots,
        episode=shots.episode[chosen],
        start=shots.start[chosen],
        position=shots.position[chosen],
        velocity=shots.velocity[chosen],
        window=number[shots.window[rows]],
        since=shots.since[rows],
        row_position=shots.row_position[rows],
        row_velocity=shots.row_velocity[rows],
    )

"""What the rules see of one episode: its channels in the robot's joint order, in seconds, and what they yield."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from robot.log import Channel, EpisodeLog
from robot.spec import RobotSpec
from transfer.dataset import Finding

Array = npt.NDArray[np.float64]

POINTS = 400
"""Most points of a trace that is kept as evidence."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a finding's figure shows: traces over time, and the stretch that the finding is about."""

    label: str
    """Of the vertical axis, with its unit."""
    traces: dict[str, tuple[Array, Array]]
    """Name -> (time [s], values), at most POINTS each."""
    mark: tuple[float, float] | None = None
    """[s]"""
    across: str = "time [s]"
    """Of the horizontal axis."""


@dataclass(frozen=True, slots=True)
class Noticed:
    """A finding before its gravity is known, with its evidence."""

    kind: str
    channel: str
    where: str
    detail: str
    evidence: Evidence | None = None

    def finding(self, blocking: bool) -> Finding:
        return Finding(kind=self.kind, channel=self.channel, where=self.where, detail=self.detail, blocking=blocking)


@dataclass(frozen=True)
class Signal:
    """One channel, finite rows with increasing stamps only, joints in the RobotSpec's order."""

    name: str
    t: Array
    """(n,) [s] since the episode's first stamp."""
    values: Array
    """(n, J)"""
    period: float
    """Median step [s]."""

    @cached_property
    def travel(self) -> Array:
        """(n, J) integral over time from the first row on, by trapezoids."""
        steps = 0.5 * (self.values[1:] + self.values[:-1]) * np.diff(self.t)[:, None]
        return np.vstack([np.zeros((1, self.values.shape[1])), np.cumsum(steps, axis=0)])

    def at(self, t: Array, joint: int) -> Array:
        """One joint's values at other times, by straight lines."""
        return np.interp(t, self.t, self.values[:, joint])


class Signals:
    """One episode, for the rules."""

    def __init__(self, episode: EpisodeLog, spec: RobotSpec) -> None:
        self.episode, self.spec = episode, spec
        stamps = [c.t_ns for c in episode.channels.values() if len(c.t_ns) and c.name != "event"]
        self.start_ns = int(min((s[0] for s in stamps), default=0))

    @property
    def joints(self) -> tuple[str, ...]:
        return self.spec.joint_names

    def numeric(self) -> Iterator[Channel]:
        """Channels of numbers that have rows."""
        return (c for c in self.episode.channels.values() if c.values.dtype.kind == "f" and len(c.t_ns))

    def seconds(self, channel: Channel) -> Array:
        """(n,) a channel's stamps [s] since the episode's first."""
        return np.asarray((channel.t_ns - self.start_ns) * 1e-9, dtype=np.float64)

    def at(self, channel: Channel, row: int) -> str:
        """Where a row is, as findings say it."""
        return f"row {row + 1} (t = {(channel.t_ns[row] - channel.t_ns[0]) * 1e-9:.4f} s)"

    def raw(self, name: str) -> tuple[Channel, Array] | None:
        """A channel and all its rows in the robot's joint order, where it has rows and every joint."""
        found = self.episode.channels.get(name)
        if found is None or not len(found.t_ns) or not set(self.joints) <= set(found.components):
            return None
        return found, np.asarray(found.ordered(self.joints), dtype=np.float64)

    def signal(self, name: str) -> Signal | None:
        """A channel's usable rows; None where there are fewer than 8."""
        if name not in self._signals:
            self._signals[name] = self._usable(name)
        return self._signals[name]

    @cached_property
    def _signals(self) -> dict[str, Signal | None]:
        return {}

    def _usable(self, name: str) -> Signal | None:
        found = self.raw(name)
        if found is None:
            return None
        channel, values = found
        finite = np.asarray(np.isfinite(values).all(axis=1), dtype=np.bool_)
        latest = np.maximum.accumulate(np.where(finite, channel.t_ns, np.iinfo(np.int64).min))
        finite[1:] &= channel.t_ns[1:] > latest[:-1]
        if finite.sum() < 8:
            return None
        t = self.seconds(channel)[finite]
        return Signal(name, t, values[finite], float(np.median(np.diff(t))))

    @property
    def position(self) -> Signal | None:
        return self.signal("joint.position")

    @property
    def velocity(self) -> Signal | None:
        """None where the robot's velocities are all 0 or not recorded: a sensor that does not exist."""
        found = self.signal("joint.velocity")
        return found if found is not None and found.values.any() else None

    @property
    def effort(self) -> Signal | None:
        found = self.signal("joint.effort")
        return found if found is not None and found.values.any() else None

    @property
    def command(self) -> Signal | None:
        """What this robot is commanded by."""
        found = self.signal(command_of(self.spec))
        return found if found is not None else self.signal("command.effort")


def command_of(spec: RobotSpec) -> str:
    """The channel that a robot's actuators obey."""
    kinds = {a.kind for a in spec.actuators}
    if "position_pd" in kinds:
        return "command.position"
    return "command.velocity" if kinds == {"velocity"} else "command.effort"


def around(signal: Signal, joint: int, start: float, end: float, margin: float = 0.5) -> tuple[Array, Array]:
    """A trace of one joint around a stretch of time [s], thinned to POINTS."""
    first, last = np.searchsorted(signal.t, [start - margin, end + margin])
    return thinned(signal.t[first:last], signal.values[first:last, joint])


def thinned(t: Array, values: Array) -> tuple[Array, Array]:
    """At most POINTS rows of a trace: where it is long, the extremes of each stretch, so that no spike gets lost."""
    if len(t) <= POINTS:
        return t.copy(), values.copy()
    edges = np.linspace(0, len(t), POINTS // 2 + 1).astype(np.intp)
    extremes = [a + f(np.nan_to_num(values[a:b])) for a, b in pairwise(edges)
            for f in (np.argmin, np.argmax)]  # fmt: skip
    rows = np.unique(extremes)
    return t[rows], values[rows]

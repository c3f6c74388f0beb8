"""Perturbation: all that makes one episode harder than the nominal one, small enough to be written into a file.

A stress suite is many of them, and the worst case that a search finds is one. What the names in `values` and the
channels of the pulses stand for is the arena's (sim/arena.py), which runs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pulse:
    """One push: Gaussian in time."""

    channel: str
    """Of the arena: a joint, or a direction of a floating base."""
    time_s: float
    """When it peaks."""
    width_s: float
    """Standard deviation."""
    size: float
    """At the peak, of either sign: [N m] on a joint, [N] on a base."""

    def __post_init__(self) -> None:
        if not self.width_s > 0.0:
            raise ConfigError(f"pulse on '{self.channel}': width_s is {self.width_s}; it must be above 0.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Perturbation:
    """What is different in one run."""

    values: dict[str, float] = field(default_factory=dict)
    """Knob of the arena -> its value; a knob not named is at its nominal."""
    pulses: tuple[Pulse, ...] = ()
    seed: int = 0
    """Of the run's noise, and of its start where the task has random ones."""


def pushing(pulses: Sequence[Pulse], channels: Sequence[str], time_s: npt.NDArray[np.floating]) -> Array:
    """(T, len(channels)) sum of the pulses on each channel at the times (T,) [s]."""
    out = np.zeros((len(time_s), len(channels)))
    for pulse in pulses:
        shape = np.exp(-0.5 * np.square((time_s - pulse.time_s) / pulse.width_s))
        out[:, list(channels).index(pulse.channel)] += pulse.size * shape
    return out


@dataclass(frozen=True, kw_only=True, slots=True)
class PulseLaw:
    """How random sets of pulses are drawn: never two at once, none at the very beginning or end."""

    pulses: int = 3
    """In a run; with `each`, on every channel."""
    each: bool = False
    """Whether every channel gets as many; else each pulse falls on a channel by lot."""
    gap: float = 0.1
    """Least distance of a pulse to the next, and to both ends of the episode, as a share of the episode."""
    width_s: tuple[float, float] = (0.05, 0.1)
    size: tuple[float, float] = (0.5, 5.0)
    """[N m] on a joint, [N] on a base, of either sign; with `relative`, a share of the channel's limit."""
    relative: bool = False

    def __post_init__(self) -> None:
        if self.pulses < 1 or not 0.0 < self.gap < 1.0:
            raise ConfigError("pushes: needs at least one pulse, and a gap between 0 and 1.")
        for name, (low, high) in (("width_s", self.width_s), ("size", self.size)):
            if not 0.0 <= low <= high:
                raise ConfigError(f"pushes: {name} is [{low}, {high}]; it needs 0 <= low <= high.")

    def count(self, channels: int) -> int:
        """Pulses in one run."""
        return self.pulses * channels if self.each else self.pulses

    def draw(self, limits: Mapping[str, float], duration_s: float, rng: np.random.Generator) -> tuple[Pulse, ...]:
        """One set of pulses; `limits`: channel -> what a relative size of 1 is."""
        names, n = list(limits), self.count(len(limits))
        if self.each:
            on = rng.permutation(np.repeat(np.arange(len(names)), self.pulses))
        else:
            on = rng.integers(len(names), size=n)
        width, size, sign = (rng.random(n) for _ in range(3))
        return self.at(limits, duration_s, on, rng.random(n), width, np.where(sign < 0.5, -1.0, 1.0) * size)

    def at(
        self,
        limits: Mapping[str, float],
        duration_s: float,
        on: npt.NDArray[np.intp],
        wait: Array,
        width: Array,
        size: Array,
        least: bool = True,
    ) -> tuple[Pulse, ...]:
        """The pulses at these shares of the law's ranges, (n,) each, in the order of their times.

        `on` are indices of channels; `wait` and `width` lie in [0, 1], `size` in [-1, 1], where without `least` 0 is
        no push at all instead of the smallest of the law.
        """
        names, n, gap = list(limits), len(on), self.gap * duration_s
        room = (duration_s - (n + 1) * gap) / n
        if room < 0.0:
            raise ConfigError(
                f"pushes: {n} pulses that are {gap:g} s apart do not fit into {duration_s:g} s; make gap smaller."
            )
        times = np.cumsum(gap + wait * room)
        widths = self.width_s[0] + width * (self.width_s[1] - self.width_s[0])
        low, high = self.size if least else (0.0, self.size[1])
        sizes = np.sign(size) * low + size * (high - low)
        scale = [limits[names[i]] if self.relative else 1.0 for i in on]
        return tuple(
            Pulse(channel=names[i], time_s=float(t), width_s=float(w), size=float(s * unit))
            for i, t, w, s, unit in zip(on, times, widths, sizes, scale, strict=True)
        )

"""Handover: from one bundle to the next without a jump, or two bundles side by side of which only one drives.

The second controller computes from the beginning, on the same readings, so that its history and memory are those of the
robot as it moves; from `at_s` on its commands are blended in over `over_s`. With at_s=inf it never takes over, and the
log shows what it would have done.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError
from robot.driver import StaleState
from robot.loop import Commander
from robot.state import JointCommand, Sample


@dataclass(frozen=True, kw_only=True, slots=True)
class HandoverConfig:
    """When the second controller takes over."""

    at_s: float = math.inf
    """Time after the run's beginning [s]; infinite for never."""
    over_s: float = 0.5
    """Time over which the commands are blended [s]."""

    def __post_init__(self) -> None:
        if self.at_s < 0 or self.over_s < 0:
            raise ConfigError(f"handover: at_s is {self.at_s}, over_s {self.over_s}; both must be at least 0.")


class Handover:
    """A Commander of two: `first` drives, `second` takes over."""

    def __init__(self, first: Commander, second: Commander, config: HandoverConfig) -> None:
        """ConfigError when the two are not for the same robot at the same rate."""
        if first.spec.fingerprint() != second.spec.fingerprint() or first.period_ns != second.period_ns:
            raise ConfigError(
                f"the bundles are for '{first.spec.name}' every {first.period_ns * 1e-9} s and "
                f"'{second.spec.name}' every {second.period_ns * 1e-9} s; a hand-over needs one robot and one rate."
            )
        self.spec, self.period_ns = first.spec, first.period_ns
        self._first, self._second = first, second
        self._at = config.at_s * 1e9 / self.period_ns
        self._over = max(config.over_s * 1e9 / self.period_ns, 1.0)
        self.reset()

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras that either of the two needs."""
        return tuple(dict.fromkeys((*self._first.cameras, *self._second.cameras)))

    @property
    def needs(self) -> tuple[str, ...]:
        """Signals that either of the two needs."""
        return tuple(dict.fromkeys((*self._first.needs, *self._second.needs)))

    @property
    def action(self) -> npt.NDArray[np.float32] | None:
        """What the network of the one that leads answered last."""
        return self._leader.action

    @property
    def unfamiliar(self) -> str | None:
        """Why what the one that leads sees is not what it saw in training."""
        return self._leader.unfamiliar

    @property
    def share(self) -> float:
        """Of the second controller in the present command: 0 before the hand-over, 1 after it."""
        return min(max((self._step - self._at) / self._over, 0.0), 1.0)

    @property
    def _leader(self) -> Commander:
        return self._second if self.share > 0.5 else self._first

    def reset(self) -> None:
        """Begin an episode with the first one."""
        self._first.reset()
        self._second.reset()
        self._step = 0
        self.second_command: JointCommand | None = None
        """What the second one wished last."""

    def act(self, sample: Sample) -> JointCommand:
        """One control step of both. StaleState while the one that leads has nothing to go by."""
        self._step += 1
        share = self.share
        commands: list[JointCommand | None] = []
        for commander, needed in ((self._first, share < 1.0), (self._second, share > 0.0)):
            try:
                commands.append(commander.act(sample))
            except StaleState:
                if needed:
                    raise
                commands.append(None)
        first, self.second_command = commands
        if first is None or share == 1.0:
            assert self.second_command is not None
            return self.second_command
        return first if self.second_command is None or share == 0.0 else between(first, self.second_command, share)


def between(a: JointCommand, b: JointCommand, share: float) -> JointCommand:
    """The command whose torque is, at every state, that of `a` (share 0) to `b` (share 1) in proportion."""
    kp, kd = (1 - share) * a.kp + share * b.kp, (1 - share) * a.kd + share * b.kd

    def target(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], gain_x: npt.NDArray[np.float64],
               gain_y: npt.NDArray[np.float64], gain: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:  # fmt: skip
        weighted = (1 - share) * gain_x * x + share * gain_y * y
        return np.where(gain > 0, weighted / np.where(gain > 0, gain, 1.0), (1 - share) * x + share * y)

    return JointCommand(
        names=a.names,
        t_ns=a.t_ns,
        position=target(a.position, b.position, a.kp, b.kp, kp),
        velocity=target(a.velocity, b.velocity, a.kd, b.kd, kd),
        effort=(1 - share) * a.effort + share * b.effort,
        kp=kp,
        kd=kd,
    )

"""Forces from outside: constant ones, ever new ones, and pushes at random times, on bodies and joints. Batched numpy.

It applies the outer targets of sim/targets/forces.py: to bodies through MuJoCo's xfrc_applied, at their centres of
mass, and to joints through qfrc_applied.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from mujoco.batch import Batch

from sim.model import Model
from sim.streams import Streams
from sim.targets import Array, Ids
from sim.targets.target import body_id

PULSE_S = (0.05, 0.1)
"""Standard deviation in time of a push on a joint, drawn anew for each [s]."""
EDGE = 3.0
"""A push on a joint lasts this many standard deviations before its peak and after."""


class Disturbances:
    """The forces from outside on n simulations; each simulation has its own stream of random numbers."""

    def __init__(self, model: Model, batch: Batch, outer: Mapping[tuple[str, str], Array], period_s: float) -> None:
        """`outer` is read live; `period_s` is the time between two calls of step()."""
        self._period = period_s
        names = model.objects(("body", "force_noise"))
        self._bodies = np.array([body_id(model, b) for b in names], dtype=np.intp)
        self._force = batch.bind("xfrc_applied")
        self._constant = [
            (outer["body", f"force_{axis}"], [names.index(b) for b in model.objects(("body", f"force_{axis}"))])
            for axis in "xyz"
        ]
        self._steady = np.zeros((batch.nsim, len(names), 3))
        self._noise, self._push, self._rate = (outer["body", q] for q in ("force_noise", "push", "push_rate"))
        self._level = np.array([names.index(b) for b in model.objects(("body", "push"))], dtype=np.intp)
        self._streams = Streams(batch.nsim)
        self._noisy = self._pushed = np.zeros(0, dtype=np.intp)
        self._used = False
        self._joints = JointPushes(model, batch, outer, period_s, self._streams)

    def seed(self, seed: int) -> None:
        """Begin the random streams anew."""
        self._streams.seed(seed)

    def refresh(self, ids: Ids) -> None:
        """Take up the targets of some simulations, and forget pushes under way: after a set() and after a reset."""
        self._noisy = np.flatnonzero(self._noise.any(axis=0))
        self._pushed = np.flatnonzero((self._push * self._rate).any(axis=0))
        self._used |= bool(self._noisy.size or self._pushed.size or any(c.any() for c, _ in self._constant))
        if self._used:
            for axis, (values, columns) in enumerate(self._constant):
                self._steady[ids[:, None], columns, axis] = values[ids]
            self._force[ids[:, None], self._bodies, :3] = self._steady[ids]
        self._joints.refresh(ids)

    @property
    def random(self) -> bool:
        """Whether some force changes from period to period, so that step() has to be called."""
        return bool(self._noisy.size or self._pushed.size or self._joints.random)

    def step(self) -> None:
        """The random forces of the next control period."""
        if self._joints.random:
            self._joints.step()
        if not (self._noisy.size or self._pushed.size):
            return
        force = self._steady.copy()
        for noisy in self._noisy:
            force[:, noisy] += self._noise[:, noisy, None] * self._normal()
        for pushed in self._pushed.tolist():
            force[:, self._level[pushed]] += self._pushes(pushed)
        self._force[:, self._bodies, :3] = force

    def _pushes(self, c: int) -> Array:
        """(nsim, 3) forces [N] of the pushes that fall into this period, horizontal, spread over it."""
        falls = self._streams.uniform() < -np.expm1(-self._rate[:, c] * self._period)
        angle = 2.0 * np.pi * self._streams.uniform()
        size = falls * self._push[:, c] / self._period
        return np.stack([size * np.cos(angle), size * np.sin(angle), np.zeros_like(size)], axis=1)

    def _normal(self) -> Array:
        """(nsim, 3) standard normal numbers (Box and Muller)."""
        out = np.empty((len(self._force), 4))
        for pair in (0, 2):
            radius = np.sqrt(-2.0 * np.log1p(-self._streams.uniform()))
            angle = 2.0 * np.pi * self._streams.uniform()
            out[:, pair], out[:, pair + 1] = radius * np.cos(angle), radius * np.sin(angle)
        return out[:, :3]


class JointPushes:
    """Torques on the joints of n simulations: Gaussian in time, of either sign, on each joint one at a time."""

    def __init__(
        self, model: Model, batch: Batch, outer: Mapping[tuple[str, str], Array], period_s: float, streams: Streams
    ) -> None:
        self._size, self._rate, self._period = outer["joint", "push"], outer["joint", "push_rate"], period_s
        self._torque, self._dof, self._streams = batch.bind("qfrc_applied"), model.dof_index, streams
        # of each joint's push: time until it peaks [s], standard deviation [s], peak [N m]
        self._until, self._width, self._peak = (np.full(self._size.shape, x) for x in (-1e9, 1.0, 0.0))
        self._on = np.zeros(0, dtype=np.intp)

    @property
    def random(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._on.size)

    def refresh(self, ids: Ids) -> None:
        """Take up the targets of some simulations, and forget pushes under way."""
        self._until[ids], used = -1e9, self.random
        self._on = np.flatnonzero((self._size * self._rate).any(axis=0))
        if used or self.random:
            self._torque[np.ix_(ids, self._dof)] = 0.0

    def step(self) -> None:
        """The torques of the next control period."""
        for c in self._on.tolist():
            self._begin(c)
        self._until -= self._period
        shape = np.exp(-0.5 * np.square((self._until + 0.5 * self._period) / self._width))
        self._torque[:, self._dof] = self._peak * shape * (self._until > -EDGE * self._width)

    def _begin(self, c: int) -> None:
        """New pushes on joint c, where none is under way."""
        chance, width, sign = (self._streams.uniform() for _ in range(3))
        new = (self._until[:, c] <= -EDGE * self._width[:, c]) & (chance < -np.expm1(-self._rate[:, c] * self._period))
        drawn = PULSE_S[0] + (PULSE_S[1] - PULSE_S[0]) * width
        self._width[new, c], self._until[new, c] = drawn[new], EDGE * drawn[new]
        self._peak[new, c] = np.where(sign < 0.5, -1.0, 1.0)[new] * self._size[new, c]

"""Multi-step shooting: all windows rolled out at once, for the present estimate and for each perturbation of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sim.model import Model
from transfer.playback import Playback
from transfer.shots import Shots
from transfer.unknowns import Unknown, physical

Array = npt.NDArray[np.float64]

STEP = 1e-4
"""Perturbation of finite differences, in coordinates (0.01 %), in rad of a zero, in rad/s of a start.

Small, because the error of a slope grows with it and would pass for knowledge where the logs have none."""
MAX_SIMULATIONS = 6000
"""Rollouts in one batch; more are done one batch after another, to bound memory."""
SHARED_FROM = 4
"""Joints from which unknowns of different joints are moved together."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A point of the search."""

    x: Array
    """(P,) coordinates of the unknowns."""
    zeros: Array
    """(E, J) joint zero of each episode [rad]: reading minus truth."""
    starts: Array
    """(W, J) what is added to each window's fitted start velocity [rad/s]."""

    @classmethod
    def prior(cls, unknowns: Sequence[Unknown], shots: Shots) -> Estimate:
        """Everything at the middle of its prior."""
        joints = shots.position.shape[1]
        zeros = np.zeros((len(shots.series), joints))
        return cls(np.array([u.mean for u in unknowns]), zeros, np.zeros((len(shots), joints)))

    def moved(self, step: Array, starts: Array) -> Estimate:
        """The estimate after a step (P + E J,) over unknowns and zeros, and one (W, J) over the starts."""
        count = len(self.x)
        zeros = self.zeros + step[count:].reshape(self.zeros.shape)
        return Estimate(self.x + step[:count], zeros, self.starts + starts)


@dataclass(frozen=True, slots=True)
class Linearization:
    """Errors at the scored rows and how they change."""

    error: Array
    """(R, J) simulated minus measured position [rad]."""
    by_unknown: Array
    """(P, R, J) a coordinate."""
    by_zero: Array
    """(J, R, J) a zero of the row's own episode."""
    by_start: Array
    """(J, R, J) a start velocity of the row's own window."""


class Shooting:
    """Rollouts of one set of windows at one timestep and one shift of the commands."""

    def __init__(
        self,
        model: Model,
        shots: Shots,
        unknowns: Sequence[Unknown],
        timestep_s: float,
        shift: int = 0,
        nthread: int = 0,
        fixed: Mapping[str, float] | None = None,
        settings: Sequence[Mapping[str, float]] = (),
    ) -> None:
        """`fixed`: values of targets that are no unknowns, where they differ from the nominal; `settings`: the same of
        each episode, for what was set up anew before it."""
        self.model, self.shots, self.unknowns = model, shots, tuple(unknowns)
        self.timestep, self.shift = timestep_s, shift
        self._playback = Playback(model, shots, timestep_s, nthread)
        self._fixed = dict(fixed or {})
        self.settings = settings
        joints = model.spec.joint_names
        self._sharing = sharing(self.unknowns, joints) if len(joints) >= SHARED_FROM else None

    @property
    def settings(self) -> Sequence[Mapping[str, float]]:
        """Values of targets in each episode."""
        return self._settings

    @settings.setter
    def settings(self, settings: Sequence[Mapping[str, float]]) -> None:
        self._settings = settings
        self._given: dict[str, float | Array] = dict(self._fixed)
        for name in dict.fromkeys(n for values in settings for n in values):
            nominal = self.model.nominal(name)
            self._given[name] = np.array([settings[e].get(name, nominal) for e in self.shots.episode])

    def errors(self, at: Estimate) -> Array:
        """(R, J) simulated minus measured position [rad]."""
        out: Array = self._errors([at])[0]
        return out

    def linearize(self, at: Estimate) -> Linearization:
        """Errors and their forward differences.

        Of many joints, unknowns of one kind that act on one joint each are moved together, and each one is given its
        own joint's errors; zeros and starts likewise. What a joint's parameters do to others is left out: gears make
        it small.
        """
        count, joints = len(at.x), at.zeros.shape[1]
        if self._sharing is None:
            moves = STEP * np.eye(count)
            shoves = STEP * np.eye(joints)
        else:
            moves = STEP * self._sharing[0]
            shoves = STEP * np.ones((1, joints))
        points = [at]
        points += [replace(at, x=at.x + move) for move in moves]
        points += [replace(at, zeros=at.zeros + shove) for shove in shoves]
        points += [replace(at, starts=at.starts + shove) for shove in shoves]
        errors = self._errors(points)
        slopes = (errors[1:] - errors[0]) / STEP
        parts = np.split(slopes, [len(moves), len(moves) + len(shoves)])
        if self._sharing is not None:
            own = np.eye(joints)[:, None, :]  # (J, 1, J): of each joint its own errors
            parts = [parts[0][self._sharing[1]] * self._sharing[2][:, None, :], parts[1] * own, parts[2] * own]
        return Linearization(errors[0], *parts)

    def _errors(self, points: Sequence[Estimate]) -> Array:
        size = max(1, MAX_SIMULATIONS // len(self.shots))
        parts = [self._rollout(points[i : i + size]) for i in range(0, len(points), size)]
        return np.concatenate(parts)

    def _rollout(self, points: Sequence[Estimate]) -> Array:
        """(len(points), R, J) errors, one batch."""
        values = physical(self.unknowns, np.array([p.x for p in points]).reshape(len(points), -1))
        targets = [
            self._given | {t: float(row[i]) for i, u in enumerate(self.unknowns) for t in u.targets} for row in values
        ]
        zeros = np.array([p.zeros for p in points])[:, self.shots.episode]
        read, _ = self._playback(targets, zeros, np.array([p.starts for p in points]), self.shift)
        return np.asarray(read - self.shots.row_position)


def sharing(unknowns: Sequence[Unknown], joints: Sequence[str]) -> tuple[Array, npt.NDArray[np.intp], Array]:
    """Which unknowns can be moved together: moves (M, P) of 0 and 1, the move of each unknown (P,), and whose errors
    are its own (P, J)."""
    key = [(u.kind, "") if u.joint else (u.kind, u.name) for u in unknowns]
    numbers = {k: i for i, k in enumerate(dict.fromkeys(key))}
    which = np.array([numbers[k] for k in key], dtype=np.intp)
    moves = (which == np.arange(len(numbers))[:, None]).astype(np.float64)
    own = np.array([[not u.joint or j == u.joint for j in joints] for u in unknowns], dtype=np.float64)
    return moves, which, own.reshape(len(unknowns), len(joints))

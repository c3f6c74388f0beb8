"""Multi-step shooting: all windows rolled out at once, for the present estimate and for each perturbation of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import mujoco
import numpy as np
import numpy.typing as npt

from sim.model import Model
from sim.plant import Plant
from transfer.shots import Shots, simulate
from transfer.unknowns import Unknown, physical

Array = npt.NDArray[np.float64]

STEP = 1e-4
"""Perturbation of finite differences, in coordinates (0.01 %), in rad of a zero, in rad/s of a start.

Small, because the error of a slope grows with it and would pass for knowledge where the logs have none."""
MAX_SIMULATIONS = 6000
"""Rollouts in one batch; more are done one batch after another, to bound memory."""


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
    ) -> None:
        """`fixed`: values of targets that are no unknowns, where they differ from the nominal."""
        self.model, self.shots, self.unknowns, self.fixed = model, shots, tuple(unknowns), dict(fixed or {})
        self.timestep, self.shift, self.nthread = timestep_s, shift, nthread
        self._plants: dict[int, Plant] = {}

    def errors(self, at: Estimate) -> Array:
        """(R, J) simulated minus measured position [rad]."""
        out: Array = self._errors([at])[0]
        return out

    def linearize(self, at: Estimate) -> Linearization:
        """Errors and their forward differences."""
        count, joints = len(at.x), at.zeros.shape[1]
        move, shove = STEP * np.eye(count), STEP * np.eye(joints)
        points = [at]
        points += [replace(at, x=at.x + move[i]) for i in range(count)]
        points += [replace(at, zeros=at.zeros + shove[j]) for j in range(joints)]
        points += [replace(at, starts=at.starts + shove[j]) for j in range(joints)]
        errors = self._errors(points)
        slopes = (errors[1:] - errors[0]) / STEP
        return Linearization(errors[0], slopes[:count], slopes[count : count + joints], slopes[count + joints :])

    def _errors(self, points: Sequence[Estimate]) -> Array:
        size = max(1, MAX_SIMULATIONS // len(self.shots))
        parts = [self._rollout(points[i : i + size]) for i in range(0, len(points), size)]
        return np.concatenate(parts)

    def _rollout(self, points: Sequence[Estimate]) -> Array:
        """(len(points), R, J) errors, one batch."""
        shots, count, joints = self.shots, len(points), self.shots.position.shape[1]
        plant = self._plant(count * len(shots))
        values = physical(self.unknowns, np.array([p.x for p in points]).reshape(count, -1))
        targets = {t: np.full(plant.nsim, value) for t, value in self.fixed.items()}
        targets |= {t: np.repeat(values[:, i], len(shots)) for i, u in enumerate(self.unknowns) for t in u.targets}
        plant.set(targets)
        zeros = np.array([p.zeros for p in points])[:, shots.episode]
        start = (shots.position - zeros).reshape(-1, joints)
        rate = (shots.velocity + np.array([p.starts for p in points])).reshape(-1, joints)
        position, velocity = simulate(plant, start, rate, self._torque(plant, count))
        shape = (count, len(shots), -1, joints)
        position, velocity = position.reshape(shape), velocity.reshape(shape)
        errors = np.empty((count, *shots.row_position.shape))
        for i in range(count):
            at_rows, _ = shots.at_rows(position[i], velocity[i], self.timestep)
            errors[i] = at_rows + zeros[i][shots.window] - shots.row_position
        return errors

    def _torque(self, plant: Plant, count: int) -> Array:
        """(count W, steps, J); points that agree about delay and lag share the work."""
        width = len(self.shots)
        made: dict[tuple[float, float], Array] = {}
        blocks = []
        for i in range(count):
            timing = (float(plant.delay[i * width]), float(plant.lag[i * width]))
            if timing not in made:
                made[timing] = self.shots.torque(self.timestep, self.shift, *timing)
            blocks.append(made[timing])
        return np.concatenate(blocks)

    def _plant(self, nsim: int) -> Plant:
        if nsim not in self._plants:
            self.model.mj.opt.integrator = mujoco.mjtIntegrator.mjINT_RK4
            self._plants[nsim] = Plant(
                self.model, nsim, timestep_s=self.timestep, period_s=self.timestep, nthread=self.nthread
            )
        return self._plants[nsim]

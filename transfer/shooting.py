"""Multi-step shooting: all windows rolled out at once, for the present estimate and for each perturbation of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
import numpy.typing as npt

from sim.model import Model
from sim.plant import Plant
from transfer.shots import Shots
from transfer.unknowns import Unknown, physical

Array = npt.NDArray[np.float64]

STEP = 1e-4
"""Perturbation of finite differences, in coordinates (0.01 %) and in radians of a joint zero.

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

    def moved(self, step: Array) -> Estimate:
        """The estimate after a step (P + E J,) over unknowns and zeros."""
        count = len(self.x)
        return Estimate(self.x + step[:count], self.zeros + step[count:].reshape(self.zeros.shape))


@dataclass(frozen=True, slots=True)
class Linearization:
    """Errors at the scored rows and how they change."""

    error: Array
    """(R, J) simulated minus measured position [rad]."""
    by_unknown: Array
    """(P, R, J) a coordinate."""
    by_zero: Array
    """(J, R, J) a zero of the row's own episode."""


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
    ) -> None:
        self.model, self.shots, self.unknowns = model, shots, tuple(unknowns)
        self.timestep, self.shift, self.nthread = timestep_s, shift, nthread
        self._plants: dict[int, Plant] = {}

    def errors(self, at: Estimate) -> Array:
        """(R, J) simulated minus measured position [rad]."""
        out: Array = self._errors([at])[0]
        return out

    def linearize(self, at: Estimate) -> Linearization:
        """Errors and their forward differences."""
        count, joints = len(at.x), at.zeros.shape[1]
        points = [at]
        points += [Estimate(at.x + STEP * np.eye(count)[i], at.zeros) for i in range(count)]
        points += [Estimate(at.x, at.zeros + STEP * np.eye(joints)[j]) for j in range(joints)]
        errors = self._errors(points)
        slopes = (errors[1:] - errors[0]) / STEP
        return Linearization(errors[0], slopes[:count], slopes[count:])

    def _errors(self, points: Sequence[Estimate]) -> Array:
        size = max(1, MAX_SIMULATIONS // len(self.shots))
        parts = [self._rollout(points[i : i + size]) for i in range(0, len(points), size)]
        return np.concatenate(parts)

    def _rollout(self, points: Sequence[Estimate]) -> Array:
        """(len(points), R, J) errors, one batch."""
        shots, count, joints = self.shots, len(points), self.shots.position.shape[1]
        plant = self._plant(count * len(shots))
        values = physical(self.unknowns, np.array([p.x for p in points]))
        targets = {t: np.repeat(values[:, i], len(shots)) for i, u in enumerate(self.unknowns) for t in u.targets}
        plant.set(targets)
        zeros = np.array([p.zeros for p in points])[:, shots.episode]
        start = (shots.position - zeros).reshape(-1, joints)
        plant.reset(start, np.tile(shots.velocity, (count, 1)))
        recorded = plant.run(self._torque(plant, count), record=True)
        assert recorded is not None  # run() records when asked to
        position = np.concatenate([start[:, None], recorded[0]], axis=1).reshape(count, len(shots), -1, joints)
        velocity = np.concatenate([np.tile(shots.velocity, (count, 1))[:, None], recorded[1]], axis=1)
        velocity = velocity.reshape(position.shape)
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

"""What stands in a servo's registers in one recording and not in the next: found for each episode by its own rows.

A register in RAM is lost at power-off, and programs that stream goals rarely write it. So the acceleration of the
goal's profile is a property of the session, and two recordings of one arm may differ in it.
Each candidate is tried on each episode; where neither is clearly better, the episode did not tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.model import Model
from sim.randomization import Categorical, Term
from sim.servos import SERVOS
from sim.targets.motors import UNLIMITED_ACCELERATION
from transfer.gauss_newton import Objective
from transfer.shooting import Estimate, Shooting

Array = npt.NDArray[np.float64]
Setting = Mapping[str, float]

DECISIVE = 3.0
"""Difference of log-likelihood from which an episode told its setting: odds of twenty."""


@dataclass(frozen=True, slots=True)
class Told:
    """What each episode says."""

    candidates: tuple[Setting, ...]
    """The first is what holds where nobody has set anything."""
    costs: Array
    """(E, K) minus log-likelihood of each episode under each candidate."""

    @property
    def best(self) -> tuple[int, ...]:
        """The candidate of each episode: the most likely one, the first where it is not clearly worse."""
        better = self.costs[:, :1] - self.costs > DECISIVE
        return tuple(
            int(np.argmin(np.where(b | (np.arange(len(b)) == 0), c, np.inf)))
            for b, c in zip(better, self.costs, strict=True)
        )

    @property
    def decided(self) -> npt.NDArray[np.bool_]:
        """(E,) whether an episode told its setting."""
        ordered = np.sort(self.costs, axis=1)
        return np.asarray(ordered[:, 1] - ordered[:, 0] > DECISIVE)

    def settings(self) -> list[Setting]:
        """Target -> value, of each episode."""
        return [self.candidates[k] for k in self.best]

    def term(self) -> Term | None:
        """The law of a session yet to come: as often as episodes told it, each candidate with half an episode of credit
        (Jeffreys' prior); None where there is no choice, or nobody told."""
        targets = tuple(self.candidates[-1])
        if not targets or not self.decided.any():
            return None
        counts = np.bincount(np.array(self.best)[self.decided], minlength=len(self.candidates)) + 0.5
        values = tuple(c.get(targets[0], UNLIMITED_ACCELERATION) for c in self.candidates)
        return Term(targets=targets, law=Categorical(values=values, weights=tuple(map(float, counts))), tie=True)


def candidates(model: Model) -> tuple[Setting, ...]:
    """Settings that a session of this robot may have had; one, empty, where there is no choice."""
    servo = SERVOS.get(model.robot.model.servo)
    names = [a.name for a in model.spec.actuators if a.kind == "position_pd"]
    found: list[Setting] = [{}]
    for acceleration in servo.accelerations if servo is not None and names else ():
        found.append({f"actuator/{name}/acceleration_ceiling": acceleration for name in names})
    return tuple(found)


def ask(shooting: Shooting, objective: Objective, at: Estimate, scale: Array, choices: Sequence[Setting]) -> Told:
    """What each episode says, with everything else as it is now; the shooting's settings are put back."""
    before, episodes = shooting.settings, len(shooting.shots.series)
    costs = np.empty((episodes, len(choices)))
    for k, choice in enumerate(choices):
        shooting.settings = [choice] * episodes
        each = objective.by_window(shooting.errors(at), scale)
        costs[:, k] = np.bincount(shooting.shots.episode, each, minlength=episodes)
    shooting.settings = before
    return Told(tuple(choices), costs)

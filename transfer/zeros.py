"""Where an episode's joints have their zero: found from its first seconds, with the robot's parameters known.

Zeros are set by hand before each recording, or drift with a belt; an error of a few hundredths of a radian is
often the largest there is. Rows used here must not be scored: pass the same seconds to evaluate(from_s=...).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from robot.log import EpisodeLog
from sim.model import Model
from sim.randomization import Randomization
from transfer.dataset import DataRefused
from transfer.gauss_newton import Objective, minimize
from transfer.prediction import metric_for
from transfer.series import Series, series_of
from transfer.shooting import Estimate, Shooting
from transfer.shots import cut

Array = npt.NDArray[np.float64]

WINDOW_S = 0.5
TIMESTEP_S = 0.002


def find_zeros(
    logs: Sequence[EpisodeLog], model: Model, parameters: Randomization, seconds: float, nthread: int = 0
) -> dict[str, Array]:
    """Episode name -> (J,) joint zero [rad], reading minus truth, from each episode's first `seconds`.

    The parameters are held at their middle. DataRefused when `seconds` is too short for a window.
    """
    parameters.check(model)
    fixed = {name: float(v[0]) for name, v in parameters.center(model).items()}
    named = np.array([fixed.get(f"sensor/{j}/offset", 0.0) for j in model.spec.joint_names])
    shift = round(fixed.get("timing/command/shift", 0.0))
    series = [_first(series_of(log, model.spec, metric_for(model.spec).fit), seconds) for log in logs]
    shots = cut(series, 0.25, 0.25, WINDOW_S, 0.01)
    if len(np.unique(shots.episode)) < len(series):
        raise DataRefused(f"{seconds:g} s are too short to find a zero: take at least {0.25 + WINDOW_S:g} s.")
    shooting = Shooting(model, shots, (), TIMESTEP_S, shift, nthread, fixed)
    found = minimize(shooting, Objective(shots, ()), Estimate.prior((), shots), iterations=8)
    return {s.name: named + zero for s, zero in zip(series, found.at.zeros, strict=True)}


def _first(series: Series, seconds: float) -> Series:
    """The rows of the first `seconds`."""
    rows = series.t <= seconds
    return replace(series, t=series.t[rows], position=series.position[rows], velocity=series.velocity[rows])

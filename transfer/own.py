"""What is a recording's own, found from its first seconds: its joint zeros, and what its servos' registers held.

Zeros are set by hand, registers are lost at power-off; both stay for the rest of a recording. But a zero found while a
robot hangs in stiction need not help it swing: so a zero is taken only where, found in one half of those seconds, it
improves the prediction of the other half, both ways. Rows used here must not be scored: pass the same seconds to
evaluate(from_s=...).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from robot.log import EpisodeLog
from sim.model import Model
from sim.randomization import Randomization
from transfer.dataset import DataRefused
from transfer.gauss_newton import Objective, minimize
from transfer.prediction import metric_for
from transfer.protocol import protocol_for, subset
from transfer.series import Series, series_of
from transfer.settings import Setting, ask, candidates
from transfer.shooting import Estimate, Shooting
from transfer.shots import Shots, cut

Array = npt.NDArray[np.float64]

ENOUGH = 0.9
"""Error with the zero over that without, on rows that did not help to find it, from which a zero is taken."""


@dataclass(frozen=True, slots=True)
class Own:
    """What one recording says of itself."""

    zero: Array | None
    """(J,) joint zero [rad], reading minus truth; None where it is refused."""
    setting: Setting
    ratio: float
    """Error of the halves with each other's zero over the error without."""


def find_own(
    logs: Sequence[EpisodeLog], model: Model, parameters: Randomization, seconds: float, nthread: int = 0
) -> dict[str, Own]:
    """Episode name -> what it says of itself in its first `seconds`; DataRefused when they are too few."""
    parameters.check(model)
    fixed = {name: float(v[0]) for name, v in parameters.center(model).items()}
    named = np.array([fixed.get(f"sensor/{j}/offset", 0.0) for j in model.spec.joint_names])
    finder = _Finder(model, fixed, nthread)
    out = {}
    for log in logs:
        series = series_of(log, model.spec, metric_for(model.spec).fit)
        shots = finder.cut(series, seconds)
        setting = finder.setting(shots)
        whole, ratio = finder.zero(shots, setting), finder.ratio(shots, setting)
        out[log.name] = Own(named + whole if ratio < ENOUGH else None, setting, ratio)
    return out


class _Finder:
    def __init__(self, model: Model, fixed: dict[str, float], nthread: int) -> None:
        self.model, self.fixed, self.nthread = model, fixed, nthread
        self.protocol = protocol_for(model.spec)
        self.shift = round(fixed.get("timing/command/shift", 0.0))

    def cut(self, series: Series, seconds: float) -> Shots:
        p, rows = self.protocol, series.t <= seconds
        first = replace(series, t=series.t[rows], position=series.position[rows], velocity=series.velocity[rows])
        shots = cut([first], p.first_s, p.window_s / 2.0, p.window_s, p.row_period_s)
        if len(shots) < 2:
            raise DataRefused(f"{seconds:g} s are too short: take at least {p.first_s + 2.0 * p.window_s:g} s.")
        return shots

    def setting(self, shots: Shots) -> Setting:
        choices = candidates(self.model)
        if len(choices) < 2:
            return {}
        shooting, objective = self._shooting(shots, {}), self._objective(shots)
        at = Estimate.prior((), shots)
        return ask(shooting, objective, at, objective.scale(shooting.errors(at)), choices).settings()[0]

    def zero(self, shots: Shots, setting: Setting) -> Array:
        found = minimize(
            self._shooting(shots, setting), self._objective(shots), Estimate.prior((), shots), iterations=6
        )
        return np.asarray(found.at.zeros[0])

    def ratio(self, shots: Shots, setting: Setting) -> float:
        half = len(shots) // 2
        parts = [subset(shots, np.arange(half)), subset(shots, np.arange(half, len(shots)))]
        zeros = [self.zero(part, setting) for part in parts]
        with_it = [self._error(a, setting, zeros[1 - i]) for i, a in enumerate(parts)]
        without = [self._error(a, setting, np.zeros_like(zeros[0])) for a in parts]
        return float(max(a / max(b, 1e-12) for a, b in zip(with_it, without, strict=True)))

    def _error(self, shots: Shots, setting: Setting, zero: Array) -> float:
        at = replace(Estimate.prior((), shots), zeros=zero[None])
        return float(np.sqrt(np.mean(np.square(self._shooting(shots, setting).errors(at)))))

    def _shooting(self, shots: Shots, setting: Setting) -> Shooting:
        step, settings = self.protocol.fine_s, [setting]
        return Shooting(self.model, shots, (), step, self.shift, self.nthread, self.fixed, settings)

    def _objective(self, shots: Shots) -> Objective:
        return Objective(shots, (), self.protocol.zero_sd_rad, self.protocol.start_sd)

"""Does the simulation that was identified from a robot's logs foretell recordings of it that it has not seen?

Where logs of another robot stand under this one's name, or tampered ones went into the fit, a policy trained on it can
only get worse, and the closed loop on held-out evidence would say so after the training. Open-loop prediction says it
before: fine-tuning is given up where the identified simulation foretells the held-out recordings worse than the nominal
one, with an interval that excludes zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot.log import EpisodeLog
from sim.model import Model, RobotConfig
from sim.randomization import NOMINAL, Randomization
from transfer.dataset import DataRefused
from transfer.prediction import difference, evaluate


@dataclass(frozen=True, slots=True)
class Foretold:
    """Two simulations' errors on the same held-out recordings."""

    horizon_s: float
    identified_rad: float
    """Position RMSE at the horizon."""
    nominal_rad: float
    change: dict[str, Any]
    """Identified less nominal [rad]: mean, ci95, n; paired by window."""

    @property
    def contradicted(self) -> bool:
        """Whether the recordings say that the identified simulation is worse."""
        return bool(self.change["ci95"][0] > 0.0)

    def row(self) -> dict[str, Any]:
        """As result.json has it."""
        errors = {"identified_rmse": self.identified_rad, "nominal_rmse": self.nominal_rad}
        return {"horizon_s": self.horizon_s, **errors, "change": self.change}

    @property
    def why(self) -> str:
        """In words."""
        low, high = self.change["ci95"]
        return (
            f"negative transfer: the simulation identified from the logs is off by {self.identified_rad:.3g} rad "
            f"{self.horizon_s:g} s ahead on the held-out recordings, the nominal one by {self.nominal_rad:.3g} "
            f"({self.change['mean']:+.3g} [{low:+.3g}, {high:+.3g}]): are they of one robot?"
        )


def foretold(held_out: Sequence[EpisodeLog], robot: RobotConfig, law: Randomization, seed: int = 0) -> Foretold | None:
    """Score the middle of `law` and the nominal on the held-out recordings, at the metric's middle horizon.

    None where they are too short for a window, and so contradict nothing.
    """
    try:
        ours, theirs = (evaluate(held_out, Model(robot), parameters) for parameters in (law, NOMINAL))
    except DataRefused:
        return None
    h = len(ours.horizons_s) // 2
    change = difference(ours, theirs, ours.horizons_s[h], np.random.default_rng(seed))
    return Foretold(ours.horizons_s[h], ours.position_rmse(h), theirs.position_rmse(h), change)

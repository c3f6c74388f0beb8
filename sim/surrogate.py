"""A "real" simple pendulum that hides its truth: reached only as a Driver and through the logs it makes.

It stands in for hardware in the demo and the tests: heavier, with more and other friction, a weaker motor and a
longer way for commands than the prior believes. Nothing but tests may look at TRUTH.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robot.config import ConfigError
from robot.spec import RobotSpec
from sim.driver import SimDriver
from sim.model import RobotConfig, find_robot
from sim.randomization import Point, Randomization, Term

START_SPREAD_RAD = 0.05

# Milder truths (Coulomb 0.10 N m, gain 0.9, delay 12 ms) are no test: a policy with a pretrained encoder succeeded
# in every episode without a single log. A perfect pump is upright after 4.5 s here, with 5 s allowed.
TRUTH = Randomization(
    name="surrogate_truth",
    robot="simple_pendulum",
    terms=(
        Term(targets=("body/pendulum/mass",), how="scale", law=Point(values=(1.2,))),
        Term(targets=("body/pendulum/com",), how="scale", law=Point(values=(1.1,))),
        Term(targets=("joint/shoulder/frictionloss",), law=Point(values=(0.14,))),
        Term(targets=("joint/shoulder/stribeck_ratio",), law=Point(values=(1.5,))),
        Term(targets=("joint/shoulder/damping",), law=Point(values=(3 * 0.015,))),  # 3 x the middle of the prior
        Term(targets=("actuator/shoulder/gain",), law=Point(values=(0.8,))),
        Term(targets=("timing/command/delay",), law=Point(values=(0.020,))),
    ),
)


class SurrogateDriver(SimDriver):
    """The surrogate robot; each episode starts hanging, within 0.05 rad."""

    @classmethod
    def from_config(
        cls, spec: RobotSpec, *, robot: RobotConfig | Path | str | None = None, **options: Any
    ) -> SimDriver:
        """The surrogate of `spec`'s robot, which must be the simple pendulum; `seed` draws start and noise."""
        if spec.name != TRUTH.robot:
            raise ConfigError(
                f"driver 'surrogate' stands in for robot '{TRUTH.robot}'; it was asked for '{spec.name}'."
            )
        found = robot if isinstance(robot, RobotConfig) else find_robot(robot or spec.name)
        options = {"spread_rad": START_SPREAD_RAD, "quantize_commands": True} | options
        return cls(RobotConfig(spec=spec, model=found.model), TRUTH, **options)

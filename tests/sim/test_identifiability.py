"""What a window can tell at best: what is seen, what is not, and what is only seen together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sim.identifiability import attainable
from sim.model import RobotConfig, find_robot
from sim.randomization import Randomization, Term, Uniform
from sim.tasks import load_task

PRIOR = Randomization(
    name="prior",
    terms=(
        Term(targets=("body/lower/mass", "body/upper/mass"), how="scale", law=Uniform(low=0.9, high=1.1)),
        Term(targets=("motor/shoulder/rotor_inertia",), how="scale", law=Uniform(low=0.999, high=1.001)),
        Term(targets=("body/lower/com",), how="scale", law=Uniform(low=0.95, high=1.05)),
        Term(targets=("actuator/shoulder/gain", "actuator/elbow/gain"), law=Uniform(low=0.9, high=1.1)),
    ),
)


def best(robot: RobotConfig, history: int = 64) -> dict[str, float]:
    found = attainable(load_task("pendubot_swingup"), robot, PRIOR, history=history, windows=8, nthread=1)
    return dict(zip(found.names, found.median.tolist(), strict=True))


def test_what_no_command_reaches_is_not_told_and_geometry_is() -> None:
    r2 = best(find_robot("double_pendulum_c1"))
    assert r2["actuator/elbow/gain"] < 0.05  # the pendubot's elbow is never driven
    assert r2["body/lower/com"] > 0.9


def test_masses_and_gain_are_told_only_as_ratios() -> None:
    found = attainable(
        load_task("pendubot_swingup"), find_robot("double_pendulum_c1"), PRIOR, history=64, windows=8, nthread=1
    )
    partner, correlation = found.partner("body/lower/mass")
    assert partner in ("actuator/shoulder/gain", "body/upper/mass") and correlation > 0.9


def test_noisier_sensors_tell_less() -> None:
    robot = find_robot("double_pendulum_c1")
    noisy = tuple(replace(s, noise=0.3) for s in robot.spec.sensors)
    worse = best(replace(robot, spec=replace(robot.spec, sensors=noisy)), history=32)
    assert np.mean(list(worse.values())) < np.mean(list(best(robot, history=32).values())) - 0.02

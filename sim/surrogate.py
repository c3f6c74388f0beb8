"""Robots that hide their truth: reached only as a Driver and through the logs they make.

They stand in for hardware in the demo and the tests. `truth` picks one of fifty robots of a family (sim/truths.py),
each with effects of its kind that no prior knows of. Without it, the simple pendulum is the demo's, and other robots
are their family's number 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from robot import excitation as excitations
from robot.log import EpisodeLog
from robot.loop import ControlLoop
from robot.recorder import MemoryRecorder
from robot.safety import Safety
from robot.spec import RobotSpec
from sim import truths
from sim.driver import SimDriver
from sim.model import Model, RobotConfig, find_robot

START_SPREAD_RAD = 0.05


class SurrogateDriver(SimDriver):
    """A surrogate robot; each episode starts within 0.05 rad of the rest pose."""

    @classmethod
    def from_config(
        cls,
        spec: RobotSpec,
        *,
        robot: RobotConfig | Path | str | None = None,
        truth: int | str | None = None,
        **options: Any,
    ) -> SimDriver:
        """The surrogate of `spec`'s robot: number `truth` of its family, or `knocked`, whose cameras were turned, in
        little light; `seed` draws start and noise.

        ConfigError for a robot without a family, or a number outside 0 to 49.
        """
        found = robot if isinstance(robot, RobotConfig) else find_robot(robot or spec.name)
        config = RobotConfig(spec=spec, model=found.model)
        law = truths.truth(Model(config), truth)
        can = any(s.signal == "joint.effort" and s.resolution for s in spec.sensors)
        options = {"spread_rad": START_SPREAD_RAD, "quantize_commands": can} | options
        return cls(config, law, **options)


def record_episode(
    robot: RobotConfig,
    excitation: str,
    seconds: float,
    *,
    truth: int | str | None = None,
    seed: int = 0,
    amplitude: float = 0.5,
    **options: Any,
) -> EpisodeLog:
    """A log of one excited episode on a surrogate, as `terrafirma record robot=R driver=surrogate` makes it.

    `excitation` is a row of robot.excitation.KINDS; further options go to the driver. ConfigError for unknown ones.
    """
    rng, spec = np.random.default_rng(seed), robot.spec
    driver = SurrogateDriver.from_config(spec, robot=robot, truth=truth, seed=seed, **options)
    commander = excitations.Exciter(spec, excitations.KINDS[excitation](spec, seconds, rng, amplitude))
    meta = {"excitation": excitation, "driver": "surrogate", "seed": str(seed)}
    recorder = MemoryRecorder(f"{spec.name}_{excitation}_{seed}", spec, meta)
    report = ControlLoop(commander, driver, Safety(spec, spec.control_period_s), recorder).run(seconds)
    assert report.log is not None
    return report.log

"""A clean recording that can carry every fault of tests/transfer/faults.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from robot.log import UNITS, Channel, EpisodeLog
from sim.model import RobotConfig

Simulate = Callable[..., EpisodeLog]


def with_readings(log: EpisodeLog, robot: RobotConfig) -> EpisodeLog:
    """With a velocity by differences over three rows, a measured torque one row late, and what faults need to know."""
    spec, position, command = robot.spec, log["joint.position"], log["command.effort"]
    t, q = position.seconds(), position.values
    velocity = np.zeros_like(q)
    velocity[3:] = (q[3:] - q[:-3]) / (t[3:] - t[:-3])[:, None]
    effort = 0.97 * np.vstack([command.values[:1], command.values[:-1]])
    values = {"joint.velocity": velocity, "joint.effort": effort}
    more = {n: Channel(n, UNITS[n], spec.joint_names, position.t_ns, v) for n, v in values.items()}
    resolution = spec.sensor("joint.position").resolution
    meta = {"effort_limit": str(max(spec.effort_limits)), "resolution": str(resolution), "stamps": "row"}
    meta["velocity_limit"] = str(max(j.velocity_limit for j in spec.joints))
    return replace(log, channels={**log.channels, **more}, meta={**log.meta, **meta})


@pytest.fixture(scope="session")
def clean(double_pendulum: RobotConfig, simulate: Simulate) -> EpisodeLog:
    """Eight seconds of a double pendulum that is thrown about, at 250 Hz."""
    truth = {"joint/shoulder/damping": 0.1, "joint/elbow/damping": 0.05}
    log = simulate(double_pendulum, truth, seed=3, seconds=8.0, period_s=0.004, effort=2.5)
    return with_readings(log, double_pendulum)

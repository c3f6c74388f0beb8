"""Recordings for the tests: simulated from a known truth, and the real ones where they are at hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from robot.log import UNITS, Channel, EpisodeLog
from sim.model import Model, RobotConfig, find_robot
from sim.plant import Plant
from sim.sensor import quantize

Simulate = Callable[..., EpisodeLog]


@pytest.fixture(scope="session")
def pendulum() -> RobotConfig:
    return find_robot("simple_pendulum")


@pytest.fixture(scope="session")
def double_pendulum() -> RobotConfig:
    return find_robot("double_pendulum_c1")


@pytest.fixture(scope="session")
def real_logs() -> Path:
    """The folder of real recordings; the test is skipped where it is not at hand."""
    folder = os.environ.get("TERRAFIRMA_REAL_LOGS")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real recordings: set TERRAFIRMA_REAL_LOGS to their folder")
    return Path(folder)


@pytest.fixture(scope="session")
def simulate() -> Simulate:
    return simulate_episode


def simulate_episode(
    robot: RobotConfig,
    truth: Mapping[str, float],
    seed: int,
    seconds: float = 10.0,
    period_s: float = 0.01,
    effort: float = 1.2,
    zero: float = 0.0,
    name: str = "",
) -> EpisodeLog:
    """An episode under random steps of torque, from hanging; readings in counts, off by `zero` [rad]."""
    rng = np.random.default_rng(seed)
    spec = robot.spec
    plant = Plant(Model(robot), 1, timestep_s=0.001, period_s=period_s, nthread=1)
    plant.set({k: np.array([v]) for k, v in truth.items()})
    joints, rows = len(spec.joints), round(seconds / period_s)
    plant.reset(rng.uniform(-0.05, 0.05, (1, joints)), np.zeros((1, joints)))
    position, command = np.empty((rows, joints)), np.empty((rows, joints))
    torque = np.zeros(joints)
    for row in range(rows):
        if row % round(0.15 / period_s) == 0:
            torque = effort * rng.uniform(-1.0, 1.0, joints)
        position[row], command[row] = plant.position[0], torque
        plant.step(torque[None])
    resolution = spec.sensor("joint.position").resolution
    t_ns = (np.arange(rows) * period_s * 1e9).astype(np.int64)
    values = {"joint.position": quantize(position + zero, resolution), "command.effort": command}
    channels = {c: Channel(c, UNITS[c], spec.joint_names, t_ns, v) for c, v in values.items()}
    return EpisodeLog(name or f"episode{seed}", spec.name, spec.fingerprint(), channels)

"""Robots and tasks that the simulator's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.model import RobotConfig, load_robot

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def pendulum() -> RobotConfig:
    return load_robot(CONFIGS / "robot" / "simple_pendulum.yaml")


@pytest.fixture
def double_pendulum() -> RobotConfig:
    return load_robot(CONFIGS / "robot" / "double_pendulum_c1.yaml")

"""The simulated drivers obey the Driver contract that every driver obeys."""

from __future__ import annotations

import pytest

from robot.driver import Driver, open_driver
from robot.spec import RobotSpec, load_spec
from tests.robot.driver_conformance import DriverConformance


class TestSimDriver(DriverConformance):
    @pytest.fixture
    def spec(self) -> RobotSpec:
        return load_spec("double_pendulum_c1")

    @pytest.fixture
    def driver(self, spec: RobotSpec) -> Driver:
        return open_driver("sim", spec, seed=1)


class TestSurrogateDriver(DriverConformance):
    @pytest.fixture
    def spec(self) -> RobotSpec:
        return load_spec("simple_pendulum")

    @pytest.fixture
    def driver(self, spec: RobotSpec) -> Driver:
        return open_driver("surrogate", spec, seed=1)

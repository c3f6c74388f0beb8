"""The simulated drivers obey the Driver contract that every driver obeys, on every robot that ships."""

from __future__ import annotations

import pytest

from robot.driver import Driver, open_driver
from robot.spec import RobotSpec, load_spec
from tests.robot.driver_conformance import DriverConformance

ROBOTS = (
    "simple_pendulum", "double_pendulum_a0", "double_pendulum_c0", "double_pendulum_c1", "so101", "servo_bench",
    "motor_bench", "quadruped",
)  # fmt: skip


class TestSimDriver(DriverConformance):
    @pytest.fixture(params=ROBOTS)
    def spec(self, request: pytest.FixtureRequest) -> RobotSpec:
        return load_spec(request.param)

    @pytest.fixture
    def driver(self, spec: RobotSpec) -> Driver:
        return open_driver("sim", spec, seed=1)


class TestSurrogateDriver(DriverConformance):
    @pytest.fixture(params=ROBOTS)
    def spec(self, request: pytest.FixtureRequest) -> RobotSpec:
        return load_spec(request.param)

    @pytest.fixture
    def driver(self, spec: RobotSpec) -> Driver:
        return open_driver("surrogate", spec, truth=6, seed=1)


class TestTheDemosSurrogate(DriverConformance):
    @pytest.fixture
    def spec(self) -> RobotSpec:
        return load_spec("simple_pendulum")

    @pytest.fixture
    def driver(self, spec: RobotSpec) -> Driver:
        return open_driver("surrogate", spec, seed=1)

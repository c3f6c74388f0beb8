"""What every driver must do. To test a driver: subclass DriverConformance with the fixtures `spec` and `driver`.

The tests call wait() with small steps, so that they pass on a real clock too; they move nothing but a torque of 0.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from robot.driver import Driver, StaleState
from robot.spec import RobotSpec
from robot.state import JointCommand, Sample


class DriverConformance:
    """Subclass as `class TestMine(DriverConformance)` with two fixtures: `spec`, and `driver`, freshly opened."""

    @pytest.fixture
    def spec(self) -> RobotSpec:
        """The robot that is driven."""
        pytest.fail("a subclass gives the fixture `spec`")

    @pytest.fixture
    def driver(self, spec: RobotSpec) -> Driver:
        """A driver, freshly opened."""
        pytest.fail("a subclass gives the fixture `driver`")

    def next_sample(self, driver: Driver, spec: RobotSpec) -> Sample:
        """One reading, one control period from now."""
        driver.wait(driver.now_ns() + round(spec.control_period_s * 1e9))
        return driver.read(spec.control_period_s)

    def zero(self, spec: RobotSpec, driver: Driver) -> JointCommand:
        return JointCommand.of_effort(spec.joint_names, driver.now_ns(), np.zeros(len(spec.joints)))

    def test_it_has_the_methods_of_a_driver(self, driver: Driver) -> None:
        assert isinstance(driver, Driver)

    def test_clock_never_goes_back_and_wait_reaches_its_time(self, driver: Driver) -> None:
        begin = driver.now_ns()
        assert isinstance(begin, int)
        driver.wait(begin + 3_000_000)
        now = driver.now_ns()
        assert now >= begin + 3_000_000
        driver.wait(begin)  # has passed: returns at once
        assert now <= driver.now_ns() < now + 1_000_000_000

    def test_reading_has_every_joint_by_name_and_is_not_from_the_future(self, driver: Driver, spec: RobotSpec) -> None:
        for _ in range(3):
            sample = self.next_sample(driver, spec)
            joints = sample.joints.ordered(spec.joint_names)
            assert np.isfinite(joints.position).all() and np.isfinite(joints.velocity).all()
            assert joints.t_ns <= sample.t_ns <= driver.now_ns()

    def test_stamps_increase(self, driver: Driver, spec: RobotSpec) -> None:
        stamps = [self.next_sample(driver, spec).joints.t_ns for _ in range(4)]
        assert all(a < b for a, b in itertools.pairwise(stamps))

    def test_old_reading_is_never_given_twice(self, driver: Driver, spec: RobotSpec) -> None:
        first = self.next_sample(driver, spec)
        try:
            second = driver.read(0.0)
        except StaleState:
            return
        assert second.joints.t_ns > first.joints.t_ns

    def test_write_returns_what_was_sent_within_the_limits(self, driver: Driver, spec: RobotSpec) -> None:
        self.next_sample(driver, spec)
        sent = driver.write(self.zero(spec, driver)).ordered(spec.joint_names)
        assert (np.abs(sent.effort) <= spec.effort_limits).all()
        assert not sent.effort.any() or np.abs(sent.effort).max() < 0.01 * spec.effort_limits.max()

    def test_command_is_mapped_by_joint_name(self, driver: Driver, spec: RobotSpec) -> None:
        self.next_sample(driver, spec)
        order = spec.joint_names[::-1]
        small = 1e-2 * spec.effort_limits * np.arange(1, len(order) + 1)
        command = JointCommand.of_effort(spec.joint_names, driver.now_ns(), small)
        straight = driver.write(command).ordered(spec.joint_names)
        turned = driver.write(command.ordered(order)).ordered(spec.joint_names)
        np.testing.assert_array_equal(straight.effort, turned.effort)
        driver.write(self.zero(spec, driver))

    def test_stop_may_come_first_twice_and_after_writing(self, driver: Driver, spec: RobotSpec) -> None:
        driver.stop("user")
        driver.stop("fault")
        self.next_sample(driver, spec)
        driver.write(self.zero(spec, driver))
        driver.stop("done")

    def test_close_may_be_called_twice_and_stop_after_it(self, driver: Driver) -> None:
        driver.close()
        driver.close()
        driver.stop("error")

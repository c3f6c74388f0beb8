"""The states of a run: damped first, aligned where there are gains, over when the switch is released; all is logged."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from robot.align import AlignConfig, Alignment
from robot.loop import ControlLoop, LoopConfig, LoopReport
from robot.recorder import MemoryRecorder
from robot.safety import Safety
from robot.spec import RobotSpec
from robot.state import JointCommand, Joints, Sample
from tests.robot.fakes import FakeDriver
from tests.robot.test_loop import Constant, events


class Servos(FakeDriver):
    """Joints that are where they were told to be."""

    def write(self, command: JointCommand) -> JointCommand:
        self.written.append(command)
        self.position = np.where(command.kp > 0, command.position, self.position)
        return command


class Holds(Constant):
    """Asks the servos for the default pose."""

    def act(self, sample: Sample) -> JointCommand:
        zero = np.zeros(2)
        return JointCommand(
            names=self.spec.joint_names, t_ns=0, position=self.spec.default_pose, velocity=zero, effort=zero,
            kp=zero + 5.0, kd=zero + 0.1,
        )  # fmt: skip


@pytest.fixture
def servos(two_link: RobotSpec) -> RobotSpec:
    actuators = tuple(
        dataclasses.replace(a, kind="position_pd", kp=5.0, kd=0.1, safe_action="hold") for a in two_link.actuators
    )
    return dataclasses.replace(two_link, actuators=actuators)


def go(spec: RobotSpec, driver: FakeDriver, seconds: float = 0.2, armed: Any = None, **config: Any) -> LoopReport:
    loop = ControlLoop(
        Holds(spec, 0.0, 0.0), driver, Safety(spec, 0.01), MemoryRecorder("x", spec), LoopConfig(**config), armed
    )
    return loop.run(seconds)


def test_servos_go_to_the_default_pose_slowly_and_first(servos: RobotSpec) -> None:
    driver = Servos(servos)
    driver.position = servos.default_pose + np.array([0.4, -0.2])
    report = go(servos, driver, align=AlignConfig(speed=0.5))
    assert report.state == "hold" and report.ticks == 20
    begins = [e.split(" (")[0] for e in events(report)]
    assert begins == ["state: damp", "state: align", "state: run", "state: hold"]
    path = np.array([c.position for c in driver.written])
    assert np.abs(np.diff(path, axis=0)).max() <= 0.5 * 0.01 + 1e-9
    assert len(path) == pytest.approx(0.4 / 0.5 * 100 + 20, abs=2)
    np.testing.assert_allclose(path[-1], servos.default_pose, atol=1e-9)


def test_alignment_waits_for_a_joint_that_does_not_come_but_not_for_ever(servos: RobotSpec) -> None:
    names = servos.joint_names

    def at(position: list[float]) -> Joints:
        return Joints(names=names, t_ns=0, position=np.array(position), velocity=np.zeros(2), effort=np.zeros(2))

    alignment = Alignment(servos, AlignConfig(speed=1.0, tolerance=0.1, patience_s=2.0), at([0.5, 0.5]), 0)
    ms = 1_000_000
    assert not alignment.over(at([0.0, 0.5]), 400 * ms)  # there early: the way still takes its time
    assert alignment.over(at([0.05, 0.5]), 500 * ms)
    assert not alignment.over(at([0.3, 0.5]), 2400 * ms) and alignment.over(at([0.3, 0.5]), 2500 * ms)


def test_damping_lasts_as_long_as_asked_and_holds_still(two_link: RobotSpec) -> None:
    driver = FakeDriver(two_link)
    loop = ControlLoop(
        Constant(two_link, 0.1, 0.1), driver, Safety(two_link, 0.01), MemoryRecorder("x", two_link),
        LoopConfig(damp_s=0.2),
    )  # fmt: skip
    report = loop.run(0.1)
    assert report.ticks == 10 and len(driver.written) == 30
    for command in driver.written[:20]:
        assert not command.effort.any() and not command.kp.any() and command.kd.tolist() == [1.0, 1.0]


def test_nothing_moves_until_the_switch_is_held_and_the_run_ends_with_it(two_link: RobotSpec) -> None:
    driver, asked = FakeDriver(two_link), []

    def armed() -> bool:
        asked.append(driver.now)
        return 300_000_000 <= driver.now < 500_000_000

    loop = ControlLoop(
        Constant(two_link, 0.1, 0.1), driver, Safety(two_link, 0.01), MemoryRecorder("x", two_link), armed=armed
    )
    report = loop.run(10.0)
    assert (report.state, report.reason, driver.stopped) == ("damp", "user", ["user"])
    assert report.ticks == pytest.approx(20, abs=2)
    assert not any(c.effort.any() for c in driver.written[:29]) and driver.written[-1].effort.any()
    assert "state: damp (the dead-man switch was released)" in events(report)


def test_shadow_tells_how_far_the_policy_is_from_who_drives(two_link: RobotSpec) -> None:
    class Driven(FakeDriver):
        """Somebody else's controller asks for 0.3 and 0.1 N m, and the driver can see it."""

        def read(self, timeout_s: float) -> Sample:
            reading = super().read(timeout_s)
            theirs = JointCommand.of_effort(("elbow", "shoulder"), 0, np.array([0.1, 0.3]))
            return dataclasses.replace(reading, command=theirs)

    driver = Driven(two_link)
    loop = ControlLoop(
        Constant(two_link, 0.5, 0.1), driver, Safety(two_link, 0.01), MemoryRecorder("x", two_link),
        LoopConfig(shadow=True, ramp_s=0.0),
    )  # fmt: skip
    report = loop.run(0.3)
    assert driver.written == [] and driver.stopped == []  # not even a stop: another one drives
    assert report.shadow is not None and report.shadow["n"] == 29 and report.shadow["reference"] == "command"
    assert report.shadow["rms"] == pytest.approx({"shoulder": 0.2, "elbow": 0.0}, abs=1e-6)
    assert report.log is not None and len(report.log["shadow.effort"].t_ns) == 30

"""Hand-over: the torque goes from one controller's to the other's without a jump, and each knows the whole run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from robot.comparison import torque_of
from robot.config import ConfigError
from robot.driver import StaleState
from robot.handover import Handover, HandoverConfig, between
from robot.loop import ControlLoop
from robot.recorder import MemoryRecorder
from robot.safety import Safety
from robot.spec import RobotSpec
from robot.state import JointCommand, Joints, Sample
from tests.robot.fakes import FakeDriver
from tests.robot.test_loop import Constant


def sample(spec: RobotSpec, k: int) -> Sample:
    zero = np.zeros(len(spec.joints))
    joints = Joints(names=spec.joint_names, t_ns=k, position=zero, velocity=zero, effort=zero)
    return Sample(t_ns=k, joints=joints)


def test_torque_goes_over_in_proportion_at_every_state(two_link: RobotSpec) -> None:
    rng = np.random.default_rng(0)
    names = two_link.joint_names

    def command() -> JointCommand:
        position, velocity, effort = rng.normal(size=(3, 2))
        kp, kd = rng.uniform(0, 20, size=(2, 2))
        return JointCommand(names=names, t_ns=0, position=position, velocity=velocity, effort=effort, kp=kp, kd=kd)

    for _ in range(20):
        a, b = command(), command()
        a = dataclasses.replace(a, kp=np.zeros(2), kd=np.zeros(2)) if rng.random() < 0.3 else a
        q, v = rng.normal(size=(2, 2))
        for share in (0.0, 0.3, 1.0):
            expected = (1 - share) * torque_of(a, q, v) + share * torque_of(b, q, v)
            np.testing.assert_allclose(torque_of(between(a, b, share), q, v), expected, atol=1e-12)


def test_second_takes_over_at_its_time_without_a_jump(two_link: RobotSpec) -> None:
    first, second = Constant(two_link, 0.5, -0.2), Constant(two_link, -0.5, 0.2)
    both = Handover(first, second, HandoverConfig(at_s=0.1, over_s=0.2))
    driver = FakeDriver(two_link)
    report = ControlLoop(both, driver, Safety(two_link, 0.01), MemoryRecorder("x", two_link)).run(0.5)
    assert report.state == "damp" and both.share == 1.0
    sent = np.array([c.effort for c in driver.written])
    np.testing.assert_allclose(sent[6:10], np.tile([0.5, -0.2], (4, 1)))
    np.testing.assert_allclose(sent[-10:], np.tile([-0.5, 0.2], (10, 1)))
    assert np.abs(np.diff(sent[5:], axis=0)).max() <= 1.0 / 20 + 1e-9  # 1 N m over 0.2 s at 100 Hz
    assert report.log is not None
    actions = report.log["action"].values[:, 0]
    assert actions[0] == pytest.approx(0.5) and actions[-1] == pytest.approx(-0.5)


def test_the_one_that_is_not_needed_may_have_nothing_to_say(two_link: RobotSpec) -> None:
    class Blind(Constant):
        def act(self, sample: Sample) -> JointCommand:
            raise StaleState("no image yet")

    both = Handover(Constant(two_link, 0.1, 0.1), Blind(two_link, 0.0, 0.0), HandoverConfig(at_s=0.03, over_s=0.0))
    for k in range(3):
        np.testing.assert_allclose(both.act(sample(two_link, k)).effort, 0.1, rtol=1e-6)
    with pytest.raises(StaleState):
        both.act(sample(two_link, 4))


def test_two_robots_or_two_rates_are_refused(two_link: RobotSpec) -> None:
    first, second = Constant(two_link, 0.0, 0.0), Constant(two_link, 0.0, 0.0)
    second.period_ns *= 2
    with pytest.raises(ConfigError, match="one robot and one rate"):
        Handover(first, second, HandoverConfig())
    with pytest.raises(ConfigError, match="at least 0"):
        HandoverConfig(at_s=-1.0)

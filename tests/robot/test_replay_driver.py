"""ReplayDriver: the readings of a log, at their times, none twice."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from robot.config import ConfigError
from robot.driver import Driver, EndOfLog, StaleState, driver_options, open_driver
from robot.drivers.replay import ReplayDriver, samples
from robot.log import Channel, EpisodeLog, LogError
from robot.spec import RobotSpec
from tests.robot.driver_conformance import DriverConformance
from tests.robot.fakes import FakeDriver

MS = 1_000_000


def episode(spec: RobotSpec, n: int = 60) -> EpisodeLog:
    rng = np.random.default_rng(0)
    t = 1_000_000_000 + np.arange(n, dtype=np.int64) * 10 * MS + rng.integers(0, MS, n)
    names = spec.joint_names[::-1]  # recorded in another order
    position = np.stack([np.arange(n) + 0.5, np.arange(n)], axis=1)
    channels = [
        Channel("joint.position", "rad", names, t, position),
        Channel("joint.velocity", "rad/s", names, t[1:], position[1:] * 10),
        Channel("camera.side", "uint8", (), t[::4] - MS, np.zeros((len(t[::4]), 4, 4, 3), np.uint8)),
    ]
    return EpisodeLog("one", spec.name, spec.fingerprint(), {c.name: c for c in channels})


class TestReplayConformance(DriverConformance):
    @pytest.fixture
    def spec(self, two_link: RobotSpec) -> RobotSpec:
        return two_link

    @pytest.fixture
    def driver(self, spec: RobotSpec) -> Driver:
        log = episode(spec)
        whole = Channel("joint.velocity", "rad/s", spec.joint_names, log["joint.position"].t_ns, np.zeros((60, 2)))
        return ReplayDriver(dataclasses.replace(log, channels={**log.channels, "joint.velocity": whole}), spec)


class TestFakeConformance(DriverConformance):
    """The tests' own robot obeys too."""

    @pytest.fixture
    def spec(self, two_link: RobotSpec) -> RobotSpec:
        return two_link

    @pytest.fixture
    def driver(self, spec: RobotSpec) -> Driver:
        return FakeDriver(spec)


def test_samples_are_in_the_specs_order_with_the_newest_of_each_channel(two_link: RobotSpec) -> None:
    log = episode(two_link)
    found = list(samples(log, two_link))
    assert len(found) == 60
    np.testing.assert_array_equal(found[5].joints.position, [5.0, 5.5])
    np.testing.assert_array_equal(found[5].joints.velocity, [50.0, 55.0])
    assert np.isnan(found[0].joints.velocity).all() and np.isnan(found[5].joints.effort).all()
    assert found[5].images["side"][0] == log["camera.side"].t_ns[1]


def test_skips_to_the_newest_and_says_when_it_is_over(two_link: RobotSpec) -> None:
    driver = ReplayDriver(episode(two_link), two_link)
    driver.wait(driver.now_ns() + 95 * MS)
    assert driver.read(0.0).joints.position[0] in (8.0, 9.0)
    with pytest.raises(StaleState):
        driver.read(0.0)
    before = driver.now_ns()
    driver.read(0.02)  # waits for the next one, as a robot would make us
    assert before < driver.now_ns() <= before + 20 * MS
    driver.wait(driver.now_ns() + 10_000 * MS)
    driver.read(0.0)
    with pytest.raises(EndOfLog):
        driver.read(0.0)


def test_opens_by_name_from_a_file(two_link: RobotSpec, tmp_path: Path) -> None:
    path = episode(two_link).save(tmp_path / "a.mcap")
    assert isinstance(open_driver("replay", two_link, log=str(path)), ReplayDriver)
    assert set(driver_options("replay")) == {"log"}
    with pytest.raises(ConfigError, match="needs log=FILE"):
        open_driver("replay", two_link)
    with pytest.raises(ConfigError, match=r"has no option 'lgo'.*Did you mean 'log'"):
        open_driver("replay", two_link, lgo=str(path))
    with pytest.raises(ConfigError, match=r"driver 'reply' is unknown.*Did you mean 'replay'"):
        open_driver("reply", two_link)


def test_log_of_another_robot_is_refused(two_link: RobotSpec) -> None:
    other = dataclasses.replace(two_link, watchdog_s=1.0)
    with pytest.raises(LogError, match="replay a log of this robot"):
        ReplayDriver(episode(two_link), other)

"""The surrogate is a robot: reached as a Driver, repeatable by seed, and not what the prior believes."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from robot.config import ConfigError
from robot.driver import open_driver
from robot.state import JointCommand
from sim import randomization
from sim.driver import SimDriver
from sim.model import Model, RobotConfig
from sim.randomization import Uniform
from sim.surrogate import TRUTH, SurrogateDriver

PRIOR = Path(__file__).parents[2] / "configs" / "dr" / "simple_pendulum_default.yaml"
MS = 1_000_000


def drive(driver: SimDriver, steps: int = 150) -> npt.NDArray[np.float64]:
    """(steps,) angle under a fixed excitation."""
    begin, angles = driver.now_ns(), []
    for k in range(steps):
        driver.wait(begin + k * 10 * MS)
        angles.append(driver.read(0.0).joints.position[0])
        torque = np.array([1.2 * np.sign(np.sin(0.05 * k))])
        driver.write(JointCommand.of_effort(driver.spec.joint_names, driver.now_ns(), torque))
    return np.array(angles)


def test_it_is_opened_by_name_and_repeats_an_episode_by_its_seed(pendulum: RobotConfig) -> None:
    driver = open_driver("surrogate", pendulum.spec, seed=4)
    assert isinstance(driver, SurrogateDriver)
    first = drive(driver)
    driver.restart(5)
    second = drive(driver)
    driver.restart(4)
    np.testing.assert_array_equal(drive(driver), first)
    assert first[0] != second[0]


def test_every_episode_starts_hanging_within_a_twentieth_of_a_radian(pendulum: RobotConfig) -> None:
    driver = SurrogateDriver.from_config(pendulum.spec)
    starts = []
    for seed in range(40):
        driver.restart(seed)
        starts.append(driver.read(0.0).joints.position[0])
        driver.wait(driver.now_ns() + 1)
    assert np.abs(starts).max() <= 0.0505 and np.std(starts) > 0.02


def test_its_truth_is_the_one_that_was_agreed(pendulum: RobotConfig) -> None:
    model = Model(pendulum)
    truth = {name: float(value[0]) for name, value in TRUTH.center(model).items()}
    prior = randomization.load(PRIOR)
    damping = next(t.law for t in prior.terms if t.targets == ("joint/shoulder/damping",))
    assert isinstance(damping, Uniform)
    assert truth == pytest.approx(
        {
            "body/pendulum/mass": 1.2 * 0.6755,
            "body/pendulum/com": 1.1 * 0.5,
            "joint/shoulder/frictionloss": 0.14,
            "joint/shoulder/stribeck_ratio": 1.5,
            "joint/shoulder/damping": 3 * 0.5 * (damping.low + damping.high),
            "actuator/shoulder/gain": 0.8,
            "timing/command/delay": 0.020,
        }
    )


def test_its_truth_lies_outside_the_prior_in_every_quantity(pendulum: RobotConfig) -> None:
    model = Model(pendulum)
    drawn = randomization.load(PRIOR).draw(model, np.random.default_rng(0), 2000)
    for name, value in TRUTH.center(model).items():
        believed = drawn.get(name, np.array([model.nominal(name)]))
        assert not believed.min() <= value[0] <= believed.max(), name


def test_it_moves_otherwise_than_the_nominal_robot(pendulum: RobotConfig) -> None:
    surrogate = drive(SurrogateDriver.from_config(pendulum.spec, seed=1))
    nominal = drive(SimDriver.from_config(pendulum.spec, seed=1, start=(float(surrogate[0]),)))
    assert np.abs(surrogate - nominal)[50:].max() > 0.5


def test_readings_and_commands_have_the_steps_of_the_can_bus(pendulum: RobotConfig) -> None:
    driver = SurrogateDriver.from_config(pendulum.spec)
    resolution = pendulum.spec.sensor("joint.position").resolution
    counts = drive(driver) / resolution - 0.5
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-6)
    sent = driver.write(JointCommand.of_effort(driver.spec.joint_names, driver.now_ns(), np.array([0.7]))).effort[0]
    assert 0.0 < abs(sent - 0.7) < 0.003


def test_it_stands_in_for_the_simple_pendulum_alone(double_pendulum: RobotConfig) -> None:
    with pytest.raises(ConfigError, match="'simple_pendulum'; it was asked for 'double_pendulum_c1'"):
        SurrogateDriver.from_config(double_pendulum.spec)


def test_nothing_that_it_hands_out_carries_the_truth(pendulum: RobotConfig) -> None:
    driver = SurrogateDriver.from_config(pendulum.spec)
    public = [name for name, _ in inspect.getmembers(driver) if not name.startswith("_")]
    assert set(public) == {
        "close", "from_config", "now_ns", "read", "restart", "spec", "stop", "wait", "write",
    }  # fmt: skip

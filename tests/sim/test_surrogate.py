"""The surrogate is a robot: reached as a Driver, repeatable by seed, and not what the prior believes."""

from __future__ import annotations

import dataclasses
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
from sim.model import Model, RobotConfig, find_robot, split
from sim.randomization import Uniform
from sim.surrogate import SurrogateDriver, record_episode
from sim.truths import DEMO, FAMILIES, truth

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
    truth = {name: float(value[0]) for name, value in DEMO.center(model).items()}
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
    for name, value in DEMO.center(model).items():
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


def test_without_a_number_the_simple_pendulum_is_the_demos_and_with_one_it_is_another(pendulum: RobotConfig) -> None:
    demo = drive(SurrogateDriver.from_config(pendulum.spec, seed=1))
    first, second = (drive(SurrogateDriver.from_config(pendulum.spec, truth=t, seed=1)) for t in (0, 1))
    assert np.abs(demo - first)[50:].max() > 0.02 and np.abs(first - second)[50:].max() > 0.02


@pytest.mark.parametrize("robot", list(FAMILIES))
def test_every_robot_has_fifty_truths_each_its_own_and_the_same_again(robot: str) -> None:
    model = Model(find_robot(robot))
    truths = [truth(model, seed) for seed in range(50)]
    assert truth(model, 17) == truths[17]
    values = [t.center(model) for t in truths]  # checks the ranges
    names = set(values[0]) & set(values[1])
    moved = [n for n in names if np.std([float(v[n][0]) for v in values if n in v]) > 0.0]
    assert len(moved) > 0.8 * len(names)
    unmodelled = {"joint.stribeck", "actuator.backlash", "supply.resistance", "timing.jitter", "motor.no_load_speed"}
    have = {f"{kind}.{quantity}" for (kind, quantity), _ in map(split, names)}
    assert len([u for u in unmodelled if any(h.startswith(u) for h in have)]) >= 2, have
    assert any(n.startswith("camera/") for n in names) and any(n.startswith("light/") for n in names)


@pytest.mark.parametrize("robot", list(FAMILIES))
def test_a_surrogate_moves_otherwise_than_the_nominal_robot_and_gives_logs(robot: str) -> None:
    config = find_robot(robot)
    log = record_episode(config, "chirp", 1.2, truth=3, seed=2, amplitude=0.15)
    position = log["joint.position"]
    assert log.fingerprint == config.spec.fingerprint() and len(position.t_ns) > 1.0 / config.spec.control_period_s
    assert np.isfinite(position.values).all() and np.ptp(position.values) > 0.01
    other = record_episode(config, "chirp", 1.2, truth=4, seed=2, amplitude=0.15)["joint.position"].values
    same = min(len(other), len(position.values))
    assert np.abs(other[:same] - position.values[:same]).max() > 1e-3
    assert not any("stribeck" in str(v) or "truth" in str(v) for v in log.meta.values())


def test_its_number_is_an_option_on_the_command_line_and_a_wrong_one_is_refused(pendulum: RobotConfig) -> None:
    driver = open_driver("surrogate", pendulum.spec, truth="17", seed="1")
    assert isinstance(driver, SurrogateDriver)
    with pytest.raises(ConfigError, match="numbered 0 to 49"):
        open_driver("surrogate", pendulum.spec, truth=50)
    unknown = dataclasses.replace(pendulum.spec, name="my_robot")
    with pytest.raises(ConfigError, match="no truths for robot 'my_robot'; it has: simple_pendulum"):
        SurrogateDriver.from_config(unknown, robot=pendulum)


def test_the_knocked_one_is_number_0_with_its_camera_turned_in_half_of_the_light(pendulum: RobotConfig) -> None:
    model = Model(pendulum)
    zero, knocked = (truth(model, which).center(model) for which in ("0", "knocked"))
    moved = {name for name in knocked if not np.array_equal(knocked[name], zero[name])}
    assert moved and all(name.startswith(("camera/", "light/")) for name in moved)
    assert abs(float(knocked["camera/side/roll"][0])) > 0.2  # more than the region of success forgives
    with pytest.raises(ConfigError, match="one more is named knocked"):
        open_driver("surrogate", pendulum.spec, truth="dropped")


def test_nothing_that_it_hands_out_carries_the_truth(pendulum: RobotConfig) -> None:
    driver = SurrogateDriver.from_config(pendulum.spec)
    public = [name for name, _ in inspect.getmembers(driver) if not name.startswith("_")]
    assert set(public) == {
        "close", "from_config", "now_ns", "read", "restart", "simulated", "spec", "stop", "wait", "write",
    }  # fmt: skip

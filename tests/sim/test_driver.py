"""SimDriver keeps the Driver contract on a simulated clock, and its physics is the plant's."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from robot.config import ConfigError
from robot.driver import Driver, DriverError, StaleState, open_driver
from robot.state import JointCommand
from sim.driver import SimDriver
from sim.model import Model, RobotConfig, find_robot
from sim.plant import Plant
from sim.randomization import NOMINAL, Point, Randomization, Term

MS = 1_000_000
CONFIGS = Path(__file__).parents[2] / "configs"
ROBOT = CONFIGS / "robot" / "simple_pendulum.yaml"
PUBLISHED = CONFIGS / "model" / "published_simple_pendulum_sac.yaml"


def law(**targets: float) -> Randomization:
    terms = tuple(Term(targets=(n.replace("__", "/"),), law=Point(values=(v,))) for n, v in targets.items())
    return Randomization(name="fixed", terms=terms)


def exact(robot: RobotConfig, **changes: Any) -> RobotConfig:
    """The same robot with sensors that read the truth, but for `changes`."""
    sensors = tuple(dataclasses.replace(s, **({"resolution": 0.0, "noise": 0.0} | changes)) for s in robot.spec.sensors)
    return dataclasses.replace(robot, spec=dataclasses.replace(robot.spec, sensors=sensors))


def effort(driver: SimDriver, *values: float) -> JointCommand:
    return JointCommand.of_effort(driver.spec.joint_names, driver.now_ns(), np.array(values))


def read(driver: SimDriver) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    joints = driver.read(0.0).joints
    return joints.position, joints.velocity, joints.effort


def drive(driver: SimDriver, steps: int, period_ns: int = 10 * MS) -> npt.NDArray[np.float64]:
    """(steps, 2) position and velocity of the first joint under a slow sine of torque."""
    rows, begin = [], driver.now_ns()
    for k in range(steps):
        driver.wait(begin + k * period_ns)
        position, velocity, _ = read(driver)
        rows.append([position[0], velocity[0]])
        torque = np.zeros(len(position))
        torque[0] = 1.2 * np.sin(0.05 * k)
        driver.write(effort(driver, *torque))
    return np.array(rows)


def test_it_is_a_driver_and_is_found_by_name(pendulum: RobotConfig) -> None:
    driver = open_driver("sim", pendulum.spec, seed=3, spread_rad=0.05)
    assert isinstance(driver, Driver) and isinstance(driver, SimDriver)
    assert driver.spec == pendulum.spec


def test_options_may_come_as_text_from_the_command_line(pendulum: RobotConfig) -> None:
    driver = open_driver("sim", pendulum.spec, robot=str(ROBOT), posterior=str(PUBLISHED), seed="3", start="[0.25]")
    assert driver.read(0.0).joints.position[0] == pytest.approx(0.25, abs=1e-3)
    with pytest.raises(ConfigError, match="seed"):
        open_driver("sim", pendulum.spec, seed="three")


def test_time_passes_only_in_wait(pendulum: RobotConfig) -> None:
    driver = SimDriver(pendulum)
    driver.read(0.0)
    driver.write(effort(driver, 1.0))
    assert driver.now_ns() == 0
    driver.wait(7_654_321)
    assert driver.now_ns() == 7_654_321
    driver.wait(5)
    assert driver.now_ns() == 7_654_321, "a moment that has passed does not turn the clock back"


def test_an_old_reading_is_stale_until_the_clock_moves(pendulum: RobotConfig) -> None:
    driver = SimDriver(pendulum)
    driver.read(0.0)
    with pytest.raises(StaleState, match="clock has not moved"):
        driver.read(0.1)
    driver.wait(1)
    assert driver.read(0.0).joints.t_ns == 1


def test_the_driver_moves_as_the_plant_does(double_pendulum: RobotConfig) -> None:
    robot = exact(double_pendulum)
    values = law(
        timing__command__delay=0.01, timing__command__lag=0.006, joint__shoulder__frictionloss=0.1,
        actuator__elbow__gain=0.8, body__lower__mass=0.7, sensor__elbow__offset=0.02,
    )  # fmt: skip
    driver = SimDriver(robot, values)
    model = Model(robot)
    plant = Plant(model, 1, timestep_s=0.001, nthread=1)
    plant.set(values.center(model))
    plant.reset(np.zeros((1, 2)), np.zeros((1, 2)))
    for k, u in enumerate(np.random.default_rng(0).uniform(-4, 4, (40, 2))):
        driver.wait(k * 10 * MS)
        position, velocity, _ = read(driver)
        np.testing.assert_allclose(position, plant.position[0] + plant.outer["sensor", "offset"][0], atol=1e-9)
        np.testing.assert_allclose(velocity, plant.velocity[0], atol=1e-8)
        driver.write(effort(driver, *u))
        plant.step(u[None])


def test_stribeck_friction_is_the_plants(pendulum: RobotConfig) -> None:
    values = law(joint__shoulder__frictionloss=0.2, joint__shoulder__stribeck_ratio=1.6)
    driver, model = SimDriver(exact(pendulum), values), Model(pendulum)
    plant = Plant(model, 1, timestep_s=0.001, nthread=1)
    plant.set(values.center(model))
    plant.reset(np.zeros((1, 1)), np.zeros((1, 1)))
    found = drive(driver, 80)
    for k in range(80):
        np.testing.assert_allclose(found[k], [plant.position[0, 0], plant.velocity[0, 0]], atol=1e-9)
        plant.step(np.array([[1.2 * np.sin(0.05 * k)]]))


@pytest.mark.parametrize("delay_ns", [0, 3 * MS, 12 * MS + 345])
def test_a_command_acts_exactly_its_delay_after_it_was_written(pendulum: RobotConfig, delay_ns: int) -> None:
    driver = SimDriver(exact(pendulum), law(timing__command__delay=delay_ns * 1e-9))
    driver.wait(1_234_567)
    driver.write(effort(driver, 1.0))
    driver.wait(1_234_567 + delay_ns)
    assert read(driver)[1] == 0.0
    driver.wait(driver.now_ns() + 1000)
    inertia = 0.6755 * 0.25 + 36 * 6.07e-5
    assert read(driver)[1] == pytest.approx(1e-6 / inertia, rel=1e-4)


def test_commands_at_any_moments_act_in_their_order(pendulum: RobotConfig) -> None:
    """Three pulses within one millisecond leave the sum of their impulses."""
    driver = SimDriver(exact(pendulum), law(timing__command__delay=0.0021))
    for t, torque in ((100, 1.0), (200_100, -0.5), (700_100, 0.0)):
        driver.wait(t)
        driver.write(effort(driver, torque))
    driver.wait(10 * MS)
    inertia = 0.6755 * 0.25 + 36 * 6.07e-5
    assert read(driver)[1] == pytest.approx((1.0 * 200e-6 - 0.5 * 500e-6) / inertia, rel=0.02)


def test_lag_is_a_first_order_response(pendulum: RobotConfig) -> None:
    driver = SimDriver(exact(pendulum), law(timing__command__lag=0.02))
    driver.write(effort(driver, 1.0))
    driver.wait(20 * MS)
    assert read(driver)[2] == pytest.approx(1 - np.exp(-1), abs=0.02)


def test_gains_hold_a_position_and_damp_a_motion(pendulum: RobotConfig) -> None:
    driver = SimDriver(exact(pendulum), start=(0.0,))
    zero = np.zeros(1)
    names = driver.spec.joint_names
    driver.write(
        JointCommand(
            names=names, t_ns=0, position=np.array([0.3]), velocity=zero, effort=zero, kp=zero + 20.0, kd=zero + 1.0
        )
    )
    driver.wait(3000 * MS)
    torque = 0.6755 * 9.81 * 0.5 * np.sin(0.3)
    assert read(driver)[0] == pytest.approx(0.3 - torque / 20.0, abs=0.02)
    swinging = SimDriver(exact(pendulum), start=(0.6,))
    swinging.wait(400 * MS)
    assert abs(read(swinging)[1]) > 1.0
    swinging.write(JointCommand.damping(names, 0, np.array([2.0])))
    swinging.wait(900 * MS)
    assert abs(read(swinging)[1]) < 0.5


def test_what_was_sent_is_within_the_limits_and_in_the_specs_order(double_pendulum: RobotConfig) -> None:
    driver = SimDriver(double_pendulum)
    command = JointCommand.of_effort(("elbow", "shoulder"), 0, np.array([1.0, -50.0]))
    sent = driver.write(command)
    assert sent.names == ("shoulder", "elbow")
    np.testing.assert_array_equal(sent.effort, [-6.0, 1.0])
    with pytest.raises(DriverError, match="'elbow' is not in both"):
        driver.write(JointCommand.of_effort(("shoulder", "wrist"), 0, np.zeros(2)))
    with pytest.raises(DriverError, match="not finite"):
        driver.write(JointCommand.of_effort(("shoulder", "elbow"), 0, np.array([0.0, np.nan])))


def test_commands_can_have_the_steps_of_a_can_frame(pendulum: RobotConfig) -> None:
    driver = SimDriver(pendulum, quantize_commands=True)
    step = pendulum.spec.sensor("joint.effort").resolution
    sent = float(driver.write(effort(driver, 0.5)).effort[0])
    assert sent != 0.5 and abs(sent - 0.5) <= step / 2 + 1e-12
    assert abs(float(driver.write(effort(driver, 9.0)).effort[0])) <= 1.5
    one = np.ones(1)
    command = JointCommand(
        names=driver.spec.joint_names,
        t_ns=0,
        position=1.5 * one,
        velocity=-2 * one,
        effort=0 * one,
        kp=20 * one,
        kd=one,
    )
    sent = driver.write(command)
    # 16 bits over 25 rad, 12 over 45 rad/s, 500 N m/rad and 5 N m s/rad
    counts = [sent.position / (25 / 65535), sent.velocity / (45 / 4095), sent.kp / (500 / 4095), sent.kd / (5 / 4095)]
    np.testing.assert_allclose(np.concatenate(counts), [3932.5, -182.5, 163.0, 819.0], atol=1.01)
    assert (sent.kp != 20.0).all()


def test_readings_have_counts_latency_and_noise(pendulum: RobotConfig) -> None:
    driver = SimDriver(pendulum, start=(0.4,))
    resolution = pendulum.spec.sensor("joint.position").resolution
    counts = drive(driver, 20)[:, 0] / resolution - 0.5
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-6)
    truth, late = SimDriver(exact(pendulum), start=(0.4,)), SimDriver(exact(pendulum, latency_s=0.0035), start=(0.4,))
    truth.wait(100 * MS)
    late.wait(100 * MS + 3_500_000)
    sample = late.read(0.0)
    assert sample.t_ns == 100 * MS + 3_500_000 and sample.joints.t_ns == 100 * MS
    np.testing.assert_allclose(sample.joints.position, read(truth)[0], atol=1e-6)
    noisy = SimDriver(exact(pendulum), law(**{"sensor__joint.velocity__noise": 0.3}))
    values = []
    for k in range(400):
        noisy.wait((k + 1) * MS)
        values.append(read(noisy)[1][0])
    assert np.std(values) == pytest.approx(0.3, rel=0.15)


def test_what_the_robot_does_not_measure_is_nan(pendulum: RobotConfig) -> None:
    spec = dataclasses.replace(pendulum.spec, sensors=pendulum.spec.sensors[:2])
    driver = SimDriver(dataclasses.replace(pendulum, spec=spec))
    assert np.isnan(read(driver)[2]).all()


def test_stop_brakes_with_the_actuators_safe_action_and_may_be_called_twice(pendulum: RobotConfig) -> None:
    driver = SimDriver(exact(pendulum), start=(2.5,))
    driver.write(effort(driver, 1.5))
    driver.wait(600 * MS)
    assert abs(read(driver)[1]) > 3.0
    driver.stop("fault")
    driver.stop("fault")
    driver.wait(8000 * MS)
    assert abs(read(driver)[1]) < 0.01
    driver.close()
    driver.close()
    driver.stop("done")
    with pytest.raises(DriverError, match="closed"):
        driver.read(0.0)


def test_hold_is_a_safe_action_too(pendulum: RobotConfig) -> None:
    actuator = dataclasses.replace(pendulum.spec.actuators[0], safe_action="hold", kp=40.0, kd=2.0, effort_limit=6.0)
    spec = dataclasses.replace(pendulum.spec, actuators=(actuator,))
    driver = SimDriver(exact(dataclasses.replace(pendulum, spec=spec)), start=(0.5,))
    driver.stop("user")
    driver.wait(2000 * MS)
    assert read(driver)[0] == pytest.approx(0.5, abs=0.06)


def test_the_same_seed_is_the_same_episode_and_restart_begins_a_new_one(pendulum: RobotConfig) -> None:
    driver = SimDriver(pendulum, seed=1, spread_rad=0.05)
    first = drive(driver, 50)
    driver.restart(2)
    second = drive(driver, 50)
    driver.restart(1)
    np.testing.assert_array_equal(drive(driver, 50), first)
    np.testing.assert_array_equal(drive(SimDriver(pendulum, seed=2, spread_rad=0.05), 50), second)
    assert np.abs(first - second).max() > 1e-3 and abs(first[0, 0]) <= 0.05 + 1e-3
    assert driver.now_ns() >= 3 * 490 * MS, "the clock runs on over restarts"


def test_a_posterior_file_and_a_wrong_start_are_checked(pendulum: RobotConfig, double_pendulum: RobotConfig) -> None:
    with pytest.raises(ConfigError, match="2 values for 1 joints"):
        SimDriver(pendulum, start=(0.0, 0.0))
    other = Randomization(name="other", robot="double_pendulum_c1")
    with pytest.raises(ConfigError, match="made for robot 'double_pendulum_c1'"):
        SimDriver.from_config(pendulum.spec, posterior=other)
    with pytest.raises(ConfigError, match="cannot be read"):
        SimDriver.from_config(pendulum.spec, posterior="no/such/file.yaml")
    heavy = SimDriver.from_config(exact(pendulum).spec, posterior=law(body__pendulum__mass=2.0), start=(1.0,))
    light = SimDriver.from_config(exact(pendulum).spec, start=(1.0,))
    for driver in (heavy, light):
        driver.write(effort(driver, 1.0))
        driver.wait(200 * MS)
    assert read(heavy)[0] < read(light)[0] - 0.05


def test_an_episode_of_six_seconds_takes_a_fraction_of_a_second(pendulum: RobotConfig) -> None:
    driver = SimDriver(pendulum, NOMINAL)
    begin = time.process_time()
    drive(driver, 600)
    assert time.process_time() - begin < 1.0  # 0.1 s on an idle core; the bound leaves room for a busy one


def test_a_robot_with_an_imu_reads_gravity_and_which_way_is_up() -> None:
    robot = find_robot("quadruped")
    driver = SimDriver(exact(robot))
    gains = np.array([[a.kp, a.kd] for a in robot.spec.actuators]).T
    zero = np.zeros(12)
    driver.write(
        JointCommand(
            names=robot.spec.joint_names, t_ns=0, position=robot.spec.default_pose, velocity=zero, effort=zero,
            kp=gains[0], kd=gains[1],
        )
    )  # fmt: skip
    driver.wait(1500 * MS)
    imu = driver.read(0.0).imu
    assert imu is not None and imu.orientation is not None and imu.t_ns == driver.now_ns()
    np.testing.assert_allclose(imu.gyro, 0.0, atol=0.1)
    assert np.linalg.norm(imu.accel) == pytest.approx(9.81, abs=0.3) and imu.accel[2] > 9.5
    assert abs(imu.orientation[0]) > 0.99


def test_a_picture_comes_once_at_the_cameras_rate_and_late_by_its_latency(pendulum: RobotConfig) -> None:
    camera = dataclasses.replace(pendulum.spec.cameras[0], latency_s=0.03)  # 50 Hz
    robot = dataclasses.replace(pendulum, spec=dataclasses.replace(pendulum.spec, cameras=(camera,)))
    driver = SimDriver(robot, cameras=(camera.name,), start=(1.0,))
    seen = {}
    for k in range(12):
        driver.wait(k * 10 * MS)
        for t, image in driver.read(0.0).images.values():
            seen[k] = (t, image)
    assert {k: t // MS for k, (t, _) in seen.items()} == {3: 0, 5: 20, 7: 40, 9: 60, 11: 80}
    first, last = seen[3][1], seen[11][1]
    assert first.shape == (camera.height, camera.width, 3) and first.dtype == np.uint8
    assert np.abs(first.astype(int) - last).max() > 50, "the pendulum has moved"
    slow = SimDriver(robot, law(**{f"camera__{camera.name}__latency": 0.08}), cameras=(camera.name,))
    slow.wait(79 * MS)
    assert slow.read(0.0).images == {}
    slow.wait(80 * MS)
    assert slow.read(0.0).images[camera.name][0] == 0
    blind = SimDriver(robot)
    blind.wait(100 * MS)
    assert blind.read(0.0).images == {}
    with pytest.raises(ConfigError, match="no camera 'top'"):
        SimDriver(robot, cameras=("top",))


def test_a_servo_told_to_go_limp_or_only_to_damp_does_so() -> None:
    robot = exact(find_robot("servo_bench"))
    limp, held = SimDriver(robot, start=(0.9,)), SimDriver(robot, start=(0.9,))
    damped = SimDriver(robot, start=(0.9,))
    limp.write(effort(limp, 0.0))
    damped.write(JointCommand.damping(damped.spec.joint_names, 0, np.array([0.3])))
    for driver in (limp, held, damped):
        driver.wait(150 * MS)
    states = [read(d) for d in (limp, held, damped)]
    assert states[0][0] < states[1][0] - 0.05, "limp falls faster than the servo gives way to the weight"
    q, v = (float(x[0]) for x in states[2][:2])
    # the weight against the damping asked for, the joint's own, and Coulomb friction
    assert v == pytest.approx(-(0.49 * 9.81 * 0.1 * np.sin(q) - 0.012833) / (0.3 + 0.0408864), rel=0.05)


def test_lost_and_late_commands_depend_on_the_seed_alone(pendulum: RobotConfig) -> None:
    values = law(timing__command__drop=0.3, timing__command__jitter=0.02)
    first = drive(SimDriver(exact(pendulum), values, seed=3), 60)
    np.testing.assert_array_equal(drive(SimDriver(exact(pendulum), values, seed=3), 60), first)
    assert np.abs(drive(SimDriver(exact(pendulum), values, seed=4), 60) - first).max() > 1e-3
    assert np.abs(drive(SimDriver(exact(pendulum)), 60) - first).max() > 1e-2


def test_forces_from_outside_act_in_the_driver_as_in_the_plant(pendulum: RobotConfig) -> None:
    values = law(body__pendulum__force_noise=2.0, body__pendulum__push=0.1, body__pendulum__push_rate=5.0)
    driver, model = SimDriver(exact(pendulum), values, seed=6), Model(exact(pendulum))
    plant = Plant(model, 1, timestep_s=0.001, nthread=1)
    plant.seed(6)
    plant.set(values.center(model))
    plant.reset(np.zeros((1, 1)), np.zeros((1, 1)))
    for k in range(60):
        driver.wait(k * 10 * MS)
        np.testing.assert_array_equal(read(driver)[0], plant.position[0])
        plant.step(np.zeros((1, 1)))
    assert abs(plant.position[0, 0]) > 0.01


def test_a_simulation_that_blows_up_is_a_fault_of_the_driver(pendulum: RobotConfig) -> None:
    driver = SimDriver(pendulum)
    driver._plant.qvel[:] = np.inf
    driver.wait(10 * MS)
    with pytest.raises(DriverError, match="unstable"):
        driver.read(0.0)

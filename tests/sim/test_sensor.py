"""Readings: late, noisy, biased, in counts, now and then far off; each simulation with parameters of its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from sim.model import Model, RobotConfig, find_robot
from sim.parameters import Parameters
from sim.plant import Plant
from sim.sensor import Faults, Sensors, quantize, whole_counts
from sim.targets import TARGETS

Array = npt.NDArray[np.float64]
N = 20000


@pytest.fixture(scope="module")
def quadruped() -> Model:
    """The robot with an IMU."""
    return Model(find_robot("quadruped"))


def readings(model: Model, values: dict[str, float], signal: str, true: Array, seconds: float = 0.0) -> Array:
    """(n, k) readings of `true` (n, k) with targets in force in all simulations; everything else is perfect."""
    plant = Plant(model, len(true), nthread=1)
    perfect = {f"sensor/{s}/{q}": 0.0 for q in ("noise", "resolution") for s in model.objects(("sensor", q))}
    plant.set({name: np.full(len(true), value) for name, value in (perfect | values).items()})
    faults = Faults(model, plant.outer, len(true))
    return faults.apply(signal, true, np.random.default_rng(0), slice(None), seconds)


def test_readings_fall_into_the_middle_of_counts_or_onto_whole_ones() -> None:
    np.testing.assert_allclose(quantize(np.array([0.0, 0.99, 1.0, -0.01]), 1.0), [0.5, 0.5, 1.5, -0.5])
    np.testing.assert_allclose(whole_counts(np.array([0.0, 0.4, 0.6, -0.6]), 1.0), [0.0, 0.0, 1.0, -1.0])
    for count in (quantize, whole_counts):
        np.testing.assert_array_equal(count(np.array([0.3, 0.3]), np.array([0.0, 0.0])), [0.3, 0.3])


def test_a_can_motor_at_rest_reads_half_a_count_and_a_servo_reads_zero(pendulum: RobotConfig) -> None:
    for model, expected in ((Model(pendulum), 0.01), (Model(find_robot("servo_bench")), 0.0)):
        read = readings(model, {"sensor/joint.velocity/resolution": 0.02}, "joint.velocity", np.zeros((1, 1)))
        assert read[0, 0] == pytest.approx(expected)


def test_noise_and_bias_have_the_stated_size(pendulum: RobotConfig) -> None:
    values = {"sensor/joint.velocity/noise": 0.2, "sensor/joint.velocity/bias": 0.05}
    read = readings(Model(pendulum), values, "joint.velocity", np.ones((N, 1)))
    assert read.std() == pytest.approx(0.2, rel=0.03) and read.mean() == pytest.approx(1.05, abs=0.01)


def test_the_joint_zero_is_added_to_angles_alone(double_pendulum: RobotConfig) -> None:
    model = Model(double_pendulum)
    values = {"sensor/elbow/offset": 0.3}
    np.testing.assert_allclose(readings(model, values, "joint.position", np.zeros((1, 2))), [[0.0, 0.3]])
    np.testing.assert_allclose(readings(model, values, "joint.velocity", np.zeros((1, 2))), [[0.0, 0.0]])


def test_outliers_come_with_their_probability_and_within_their_size(pendulum: RobotConfig) -> None:
    values = {"sensor/joint.position/outliers": 0.1, "sensor/joint.position/outlier_size": 0.4}
    read = readings(Model(pendulum), values, "joint.position", np.zeros((N, 1)))
    assert np.mean(read != 0.0) == pytest.approx(0.1, abs=0.01)
    assert 0.38 < np.abs(read).max() <= 0.4


def test_the_bias_of_a_gyro_walks_with_the_root_of_time_and_begins_anew(quadruped: Model) -> None:
    plant = Plant(quadruped, 2000, nthread=1)
    plant.set({"sensor/imu.gyro/bias_walk": 0.1, "sensor/imu.gyro/noise": 0.0})
    faults, rng = Faults(quadruped, plant.outer, 2000), np.random.default_rng(1)
    for _ in range(50):
        read = faults.apply("imu.gyro", np.zeros((2000, 3)), rng, slice(None), 0.02)
    assert read.std() == pytest.approx(0.1, rel=0.05), "after one second"
    faults.reset(np.arange(1000))
    read = faults.apply("imu.gyro", np.zeros((2000, 3)), rng, slice(None), 0.0)
    assert (read[:1000] == 0.0).all() and read[1000:].std() > 0.09


def test_an_orientation_stays_a_unit_quaternion_turned_by_the_noises_angle(quadruped: Model) -> None:
    true = np.tile([[0.6, 0.0, 0.8, 0.0]], (N, 1))
    read = readings(quadruped, {"sensor/imu.orientation/noise": 0.05}, "imu.orientation", true)
    np.testing.assert_allclose(np.linalg.norm(read, axis=1), 1.0, rtol=1e-12)
    angle = 2.0 * np.arccos(np.minimum(np.abs((read * true).sum(axis=1)), 1.0))
    assert np.sqrt(np.mean(angle**2)) == pytest.approx(0.05 * np.sqrt(3.0), rel=0.03)


def test_each_simulation_reads_its_own_past(pendulum: RobotConfig) -> None:
    """A position that grows by 1 a millisecond, read with delays of 0, 2.25 and 40 ms."""
    model = Model(pendulum)
    plant = Plant(model, 3, nthread=1)
    perfect = {f"sensor/{s}/{q}": 0.0 for q in ("noise", "resolution") for s in model.objects(("sensor", q))}
    plant.set(perfect | {"sensor/joint.position/delay": np.array([0.0, 0.00225, 0.04])})
    sensors = Sensors(model, plant.outer, 3, 0.001)
    assert sensors.delayed
    state = {s: np.zeros((3, 1)) for s in sensors.signals}
    sensors.reset(state, np.arange(3))
    for k in range(1, 101):
        sensors.push(state | {"joint.position": np.full((3, 1), float(k))})
    read = sensors.read(np.random.default_rng(0), ("joint.position",), slice(None))["joint.position"]
    np.testing.assert_allclose(read[:, 0], [100.0, 97.75, 60.0])
    sensors.reset({s: np.full((1, 1), 7.0) for s in sensors.signals}, np.array([2]))
    read = sensors.read(np.random.default_rng(0), ("joint.position",), np.array([2, 1]))["joint.position"]
    np.testing.assert_allclose(read[:, 0], [7.0, 97.75])


def test_without_delays_the_newest_state_is_enough_and_is_not_handed_out_to_be_changed(pendulum: RobotConfig) -> None:
    model = Model(pendulum)
    sensors = Sensors(model, Plant(model, 2, nthread=1).outer, 2, 0.001)
    assert not sensors.delayed
    sensors.push({s: np.ones((2, 1)) for s in sensors.signals})
    first = sensors.read(np.random.default_rng(0), sensors.signals, slice(None))
    for value in first.values():
        value[:] = 99.0
    again = sensors.read(np.random.default_rng(0), sensors.signals, slice(None))
    assert all((value < 2.0).all() for value in again.values())


def test_a_fault_of_one_simulation_is_not_felt_by_another(pendulum: RobotConfig) -> None:
    model = Model(pendulum)
    plant = Plant(model, 2, nthread=1)
    plant.set({"sensor/joint.position/outliers": np.array([1.0, 0.0])})
    read = Faults(model, plant.outer, 2).apply(
        "joint.position", np.zeros((2, 1)), np.random.default_rng(0), slice(None)
    )
    resolution = pendulum.spec.sensor("joint.position").resolution
    assert abs(read[0, 0]) > 0.01 and read[1, 0] == pytest.approx(0.5 * resolution)


def test_every_sensor_target_of_every_robot_changes_its_reading() -> None:
    for robot in ("simple_pendulum", "so101", "quadruped"):
        model = Model(find_robot(robot))
        rng = np.random.default_rng(2)
        for name in (n for n in model.available() if n.startswith("sensor/") and not n.endswith("/delay")):
            obj, quantity = name.split("/")[1:]
            signal = "joint.position" if quantity == "offset" else obj
            width = {"imu.gyro": 3, "imu.accel": 3, "imu.orientation": 4}.get(signal, len(model.spec.joints))
            true, found = rng.uniform(-1.0, 1.0, (1, width)), []
            target = TARGETS["sensor", quantity]
            needs = {f"sensor/{obj}/{q}": v for q, v in target.needs}
            for values in (needs, *(needs | {name: value} for value in target.probes(model.nominal(name)))):
                parameters = Parameters(model, Plant(model, 1, nthread=1).batch)
                parameters.set(values, np.arange(1))
                faults = Faults(model, parameters.outer, 1)
                found.append(faults.apply(signal, true, np.random.default_rng(3), slice(None), 0.02))
            assert max(np.abs(found[0] - other).max() for other in found[1:]) > 1e-4, name

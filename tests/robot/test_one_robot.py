"""What the robot's tick computes in plain numbers is what training computed in arrays."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from robot.monitor import Monitor
from robot.observation import FEATURES, ActionConfig, Observation, ObservationConfig, signals_in
from robot.one_robot import OneRobot
from robot.spec import RobotSpec, SensorSpec
from robot.state import Imu, Joints, Sample

MANY = ("joint_sin", "previous_action", "joint_position", "joint_change", "goal", "joint_velocity", "joint_cos")
NAMES = ("shoulder", "elbow")


def reading(rng: np.random.Generator) -> Sample:
    position, velocity, effort = rng.normal(0.0, 1.5, (3, 2))
    joints = Joints(names=NAMES, t_ns=0, position=position, velocity=velocity, effort=effort)
    turn = rng.normal(size=4)
    gyro, accel = rng.normal(size=(2, 3))
    return Sample(
        t_ns=3, joints=joints, imu=Imu(t_ns=0, gyro=gyro, accel=accel, orientation=turn / np.linalg.norm(turn))
    )


def able(spec: RobotSpec) -> RobotSpec:
    """The two-link arm with gains and every sensor."""
    stiff = tuple(dataclasses.replace(a, kp=20.0, kd=0.5) for a in spec.actuators)
    more = ("joint.effort", "imu.gyro", "imu.accel", "imu.orientation")
    have = {s.signal for s in spec.sensors}
    sensors = spec.sensors + tuple(SensorSpec(signal=s) for s in more if s not in have)
    return dataclasses.replace(spec, actuators=stiff, sensors=sensors)


@pytest.mark.parametrize("kind", ["effort", "position", "velocity"])
@pytest.mark.parametrize("features", [MANY, ("joint_effort",), ("joint_cos", "imu_gravity", "imu_gyro"), "history"])
def test_both_see_and_say_the_same(two_link: RobotSpec, kind: str, features: tuple[str, ...] | str) -> None:
    rng, spec = np.random.default_rng(1), able(two_link)
    history, shown = (2, MANY) if isinstance(features, str) else (0, features)
    goal = ("x", "y") if "goal" in shown else ()
    config = ObservationConfig(features=shown, goal=goal, history=history)
    action = ActionConfig(kind=kind, actuators=("elbow", "shoulder"), scale=(9.0, 2.0))  # type: ignore[arg-type]
    arrays, batch = Observation(spec, config, action), Observation(spec, config, action)
    inputs = batch.encode(signals_in(reading(rng), reading(rng).joints, np.zeros(2)))
    one = OneRobot(batch, inputs)
    for step in range(5):
        sample, wish = reading(rng), rng.normal(0.0, 1.2, (1, 2)).astype(np.float32)
        where = rng.normal(size=2) if goal else None
        expected = arrays.encode(signals_in(sample, sample.joints, where))
        one.encode(sample, sample.joints, where)
        for name, value in expected.items():
            np.testing.assert_allclose(inputs[name], value, rtol=1e-6, atol=1e-7, err_msg=f"step {step}: {name}")
        command, said = one.decode(wish, 7), arrays.to_command(arrays.decode(wish)[0], 7)
        for part in ("position", "velocity", "effort", "kp", "kd"):
            np.testing.assert_array_equal(getattr(command, part), getattr(said, part))
        if step == 2:
            one.reset(), arrays.reset()


def test_what_is_not_a_number_stays_so(two_link: RobotSpec) -> None:
    config = ObservationConfig(features=("joint_cos", "previous_action"))
    batch = Observation(two_link, config, ActionConfig(actuators=NAMES, scale=(1.0, 1.0)))
    one = OneRobot(batch, {"observation": np.zeros((1, 4), np.float32)})
    command = one.decode(np.array([[np.nan, 0.5]], np.float32), 0)
    assert np.isnan(command.effort[0]) and command.effort[1] == 0.5


def test_every_feature_of_single_numbers_says_what_its_arrays_say() -> None:
    rng = np.random.default_rng(2)
    value, rest = rng.normal(size=(2, 50))
    for name, feature in FEATURES.items():
        if feature.each is not None:
            value[:3] = [np.inf, -np.inf, np.nan]
            told = [feature.each(v, r) for v, r in zip(value.tolist(), rest.tolist(), strict=True)]
            with np.errstate(invalid="ignore"):
                expected = feature.compute(value[None], rest)[0]
            np.testing.assert_allclose(told, expected, rtol=1e-14, err_msg=name)


@pytest.mark.parametrize("size", [5, 40])  # in plain numbers, and in arrays
def test_the_monitors_distance_of_one_row_is_that_of_many(size: int) -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(300, size)) @ rng.normal(size=(size, size))
    region = Monitor.fit(tuple(map(str, range(size))), rows).observation
    found = [region.distance(row) for row in rows[:20].astype(np.float32)]
    np.testing.assert_allclose(found, region.distances(rows[:20].astype(np.float32)), rtol=1e-9)

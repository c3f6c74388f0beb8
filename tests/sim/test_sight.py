"""What an encoder would tell, without pictures: the true state, off by errors that were measured."""

from __future__ import annotations

import numpy as np
import pytest

from robot.config import ConfigError
from sim.model import Model, find_robot
from sim.plant import Plant
from sim.randomization import NOMINAL
from sim.sight import Coordinates, Sight, SightErrors
from sim.tasks import load_task
from sim.vecenv import BatchedEnv

TURNING = ("joint_cos/shoulder", "joint_sin/shoulder")


def errors(values: np.ndarray, states: tuple[str, ...] = TURNING, camera: str = "side") -> SightErrors:
    return SightErrors((camera,), states, np.asarray(values, np.float32))


def test_coordinates_are_read_back_from_what_is_told_of_them() -> None:
    rng = np.random.default_rng(0)
    for robot, states in (
        ("simple_pendulum", TURNING),
        ("so101", ("joint_position/elbow_flex", "body_position/cube/x", "body_position/cube/z")),
    ):
        model = Model(find_robot(robot))
        coordinates = Coordinates(model, states)
        qpos = rng.uniform(-3.0, 3.0, (5, model.mj.nq))
        told = coordinates.to_state(coordinates.of(qpos))
        assert told.shape == (5, len(states)) and told.dtype == np.float32
        again = coordinates.of_state(2.0 * told if robot == "simple_pendulum" else told)  # any length of cos and sin
        np.testing.assert_allclose(coordinates.difference(again, coordinates.of(qpos)), 0.0, atol=1e-6)


def test_angles_differ_by_at_most_half_a_turn() -> None:
    coordinates = Coordinates(Model(find_robot("simple_pendulum")), TURNING)
    np.testing.assert_allclose(coordinates.difference(np.array([[3.1]]), np.array([[-3.1]])), 6.2 - 2.0 * np.pi)


def test_a_state_that_the_robot_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="'joint_position/elbow', which robot 'simple_pendulum' does not have"):
        Coordinates(Model(find_robot("simple_pendulum")), ("joint_position/elbow",))


def test_it_is_as_late_as_the_camera_and_off_by_one_stretch_of_the_errors() -> None:
    model = Model(find_robot("simple_pendulum"))
    plant = Plant(model, 2, nthread=1)
    plant.set({"camera/side/latency": np.array([0.0, 0.06])})
    stretch = 0.01 * np.arange(100.0)[None, :, None]
    sight = Sight(model, errors(stretch), 2, 0.02)
    rng, angle, told = np.random.default_rng(0), 0.0, []
    sight.reset(np.zeros((2, 1)), np.arange(2))
    for age in range(20):
        sight.update(np.full(2, age), plant.outer, rng)
        told.append(np.arctan2(sight.inputs["sight"][:, 1], sight.inputs["sight"][:, 0]))
        angle += 0.05
        sight.push(np.full((2, 1), angle))
    late = np.array(told)
    # one step was pushed since: the present, off as the newest picture was
    believed = np.arctan2(sight.believed[:, 1], sight.believed[:, 0])
    np.testing.assert_allclose(believed - late[-1], [0.05, 4 * 0.05], atol=1e-5)
    steps = np.diff(late, axis=0)[5:]
    # the truth moves by 0.05 rad a step, the error by 0.01 more, but where the stretch begins again
    assert (np.isclose(steps, 0.06, atol=1e-5) | np.isclose(steps, 0.05 - 0.99, atol=1e-5)).all()
    np.testing.assert_allclose(sight.pictured["side"][:, 0], [19 * 0.05, 16 * 0.05])


def test_an_environment_tells_instead_of_drawing_also_to_a_task_without_cameras() -> None:
    robot = find_robot("simple_pendulum")
    for name, repeat in (("pendulum_swingup_pixels", 1), ("pendulum_swingup", 2)):
        env = BatchedEnv(load_task(name), robot, NOMINAL, 3, sight=errors(np.zeros((1, 1, 1))), seed=4, nthread=1)
        inputs = env.reset()
        assert set(inputs) == {"observation", "sight"} and set(env.observation_space.spaces) == set(inputs)  # type: ignore[union-attr]
        for _ in range(4 * repeat):
            inputs = env.step(np.ones((3, 1))).inputs
        angle = env.state.position[:, 0]
        np.testing.assert_allclose(inputs["sight"], np.stack([np.cos(angle), np.sin(angle)], axis=1), atol=1e-6)

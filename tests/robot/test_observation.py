"""Observation: what the policy sees is the same in training and on the robot."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from robot.config import ConfigError
from robot.observation import FEATURES, ActionConfig, Observation, ObservationConfig, signals_of
from robot.spec import RobotSpec
from robot.state import Joints, Sample

FEATURES_USED = ("joint_position", "joint_cos", "joint_sin", "joint_velocity", "previous_action")
ACTION = ActionConfig(actuators=("shoulder", "elbow"), scale=(2.0, 1.0))


def make(spec: RobotSpec, batch: int = 1, **config: object) -> Observation:
    fields = {"features": FEATURES_USED, "history": 3} | config
    return Observation(spec, ObservationConfig(**fields), ACTION, batch)  # type: ignore[arg-type]


def signals(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    return {name: rng.normal(size=(n, 2)) for name in ("joint.position", "joint.velocity", "joint.effort")}


def test_components_are_named_in_order(two_link: RobotSpec) -> None:
    observation = make(two_link, features=("joint_velocity", "goal", "previous_action"), goal=("x", "y"))
    assert observation.components == (
        "velocity/shoulder",
        "velocity/elbow",
        "goal/x",
        "goal/y",
        "previous_action/shoulder",
        "previous_action/elbow",
    )
    assert observation.signals == ("joint.velocity", "goal")
    assert (observation.size, observation.action_size, observation.history_size) == (6, 2, 8)


def test_values_are_what_the_names_say(two_link: RobotSpec) -> None:
    x = signals(np.random.default_rng(0), 1)
    observation = make(two_link)
    named = dict(zip(observation.components, observation.encode(x)["observation"][0], strict=True))
    assert named["position/elbow"] == pytest.approx(x["joint.position"][0, 1] - 0.5)  # from the default pose
    assert named["cos/shoulder"] == pytest.approx(np.cos(x["joint.position"][0, 0]))
    assert named["sin/elbow"] == pytest.approx(np.sin(x["joint.position"][0, 1]))
    assert named["previous_action/elbow"] == 0.0


def test_every_feature_of_the_table_has_a_measurable_signal() -> None:
    from robot.spec import SIGNALS

    assert {f.signal for f in FEATURES.values()} <= {*SIGNALS, "goal"}


def test_batch_and_single_agree_to_the_bit(two_link: RobotSpec) -> None:
    n, rng = 5, np.random.default_rng(1)
    many, singles = make(two_link, n), [make(two_link) for _ in range(n)]
    for _ in range(6):
        x, action = signals(rng, n), rng.normal(size=(n, 2))
        inputs, command = many.encode(x), many.decode(action)
        for i, one in enumerate(singles):
            alone = one.encode({k: v[i : i + 1] for k, v in x.items()})
            for name, value in alone.items():
                np.testing.assert_array_equal(value[0], inputs[name][i])
            np.testing.assert_array_equal(one.decode(action[i : i + 1])[0], command[i])


def test_history_holds_observation_and_the_action_that_followed(two_link: RobotSpec) -> None:
    observation, rng = make(two_link), np.random.default_rng(2)
    rows = []
    for step in range(5):
        inputs = observation.encode(signals(rng, 1))
        np.testing.assert_array_equal(inputs["history_mask"][0], [float(step > 2), float(step > 1), float(step > 0)])
        expected = np.zeros((3, observation.history_size), np.float32)
        kept = rows[-3:]
        if kept:
            expected[-len(kept) :] = kept
        np.testing.assert_array_equal(inputs["history"][0], expected)
        action = rng.uniform(-1, 1, (1, 2))
        observation.decode(action)
        rows.append(np.concatenate([inputs["observation"][0], action[0].astype(np.float32)]))


def test_reset_forgets_only_the_robots_named(two_link: RobotSpec) -> None:
    observation, rng = make(two_link, 3), np.random.default_rng(3)
    for _ in range(2):
        observation.encode(signals(rng, 3))
        observation.decode(np.ones((3, 2)))
    observation.reset(np.array([1]))
    inputs = observation.encode(signals(rng, 3))
    np.testing.assert_array_equal(inputs["history_mask"].sum(axis=1), [2, 0, 2])
    assert not inputs["history"][1].any() and inputs["history"][0].any()
    np.testing.assert_array_equal(inputs["observation"][:, -2:], [[1, 1], [0, 0], [1, 1]])


def test_inputs_stay_valid_after_the_next_call(two_link: RobotSpec) -> None:
    observation, rng = make(two_link), np.random.default_rng(4)
    first = observation.encode(signals(rng, 1))
    copies = {k: v.copy() for k, v in first.items()}
    observation.decode(np.ones((1, 2)))
    observation.encode(signals(rng, 1))
    for name, value in copies.items():
        np.testing.assert_array_equal(first[name], value)


def test_decode_scales_and_clips_to_the_robot(two_link: RobotSpec) -> None:
    observation = make(two_link)
    np.testing.assert_allclose(observation.decode(np.array([[0.5, -0.25]])), [[1.0, -0.25]])
    np.testing.assert_allclose(observation.decode(np.array([[7.0, -7.0]])), [[2.0, -1.0]])
    strong = ActionConfig(actuators=("shoulder",), scale=(50.0,))
    only = Observation(two_link, ObservationConfig(features=("joint_velocity",)), strong)
    np.testing.assert_allclose(only.decode(np.array([[1.0]])), [[2.0, 0.0]])  # the limit wins; others get 0


def test_position_action_moves_from_the_default_pose_within_travel(two_link: RobotSpec) -> None:
    stiff = tuple(dataclasses.replace(a, kind="position_pd", kp=20.0, kd=0.5) for a in two_link.actuators)
    spec = dataclasses.replace(two_link, actuators=stiff)
    action = ActionConfig(kind="position", actuators=("elbow",), scale=(4.0,))
    observation = Observation(spec, ObservationConfig(features=("joint_position",)), action)
    np.testing.assert_allclose(observation.decode(np.array([[0.25]])), [[0.0, 1.5]])
    values = observation.decode(np.array([[1.0]]))
    np.testing.assert_allclose(values, [[0.0, 2.0]])
    command = observation.to_command(values[0], 7)
    np.testing.assert_array_equal(command.kp, [20.0, 20.0])
    assert command.t_ns == 7 and not command.effort.any()


def test_unmeasurable_signal_is_refused_at_construction(two_link: RobotSpec) -> None:
    with pytest.raises(ConfigError, match=r"does not measure 'imu\.gyro'.*It measures: joint\.position"):
        make(two_link, features=("imu_gyro",))


def test_wrong_names_are_refused_with_the_nearest(two_link: RobotSpec) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'joint_cos'"):
        make(two_link, features=("joint_coz",))
    with pytest.raises(ConfigError, match="Did you mean 'side'"):
        make(two_link, cameras=("sidde",))
    with pytest.raises(ConfigError, match="Did you mean 'elbow'"):
        Observation(
            two_link, ObservationConfig(features=("joint_cos",)), ActionConfig(actuators=("elbov",), scale=(1.0,))
        )
    with pytest.raises(ConfigError, match="layout is version 2"):
        ObservationConfig(layout=2, features=("joint_cos",))


def test_permuted_robot_gives_the_same_observation(two_link: RobotSpec) -> None:
    def sample(order: tuple[int, int]) -> Sample:
        names, values = np.array(["shoulder", "elbow"]), np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        position, velocity, effort = values[:, order]
        return Sample(
            t_ns=0,
            joints=Joints(names=tuple(names[list(order)]), t_ns=0, position=position, velocity=velocity, effort=effort),
        )

    straight, swapped = (make(two_link).encode(signals_of(sample(o), two_link)) for o in ((0, 1), (1, 0)))
    np.testing.assert_array_equal(straight["observation"], swapped["observation"])
    with pytest.raises(KeyError, match="wrist"):
        sample((0, 1)).joints.ordered(("wrist",))


def test_the_change_of_an_angle_is_that_since_the_control_step_before(two_link: RobotSpec) -> None:
    """However often a step is encoded; nothing at an episode's first step, of the robots that begin one."""
    observation = make(two_link, batch=2, features=("joint_change",), history=0)

    def change(angle: float) -> np.ndarray:
        return observation.encode({"joint.position": np.full((2, 2), angle)})["observation"]

    assert not change(0.5).any() and not change(0.6).any()
    observation.decode(np.zeros((2, 2)))
    np.testing.assert_allclose(change(0.9), 0.3, atol=1e-6)
    np.testing.assert_allclose(change(0.9), 0.3, atol=1e-6)
    observation.decode(np.zeros((2, 2)))
    observation.reset(np.array([1]))
    np.testing.assert_allclose(change(1.0), [[0.1, 0.1], [0.0, 0.0]], atol=1e-6)
    assert observation.signals == ("joint.position",)
    assert observation.components == ("change/shoulder", "change/elbow")

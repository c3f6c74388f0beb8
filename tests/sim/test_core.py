"""What the tasks are shown, and what the core does when a simulation breaks."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from robot.config import ConfigError
from robot.observation import gravity_direction
from sim.model import find_robot
from sim.randomization import NOMINAL
from sim.tasks import load_task, names
from sim.tasks.quadruped import body_velocity
from sim.vecenv import BatchedEnv


def make(task: str, n: int, **options: object) -> BatchedEnv:
    goal = load_task(task)
    return BatchedEnv(goal, find_robot(goal.robot), NOMINAL, n, **({"nthread": 1, "seed": 3} | options))  # type: ignore[arg-type]


def actions(env: BatchedEnv, steps: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (steps, env.num_envs, env.observation.action_size))


@pytest.mark.parametrize("task", names())
def test_the_reward_is_the_sum_of_its_named_terms_and_never_negative(task: str) -> None:
    env = make(task, 8)
    env.reset()
    total = np.zeros(8)
    for action in actions(env, 30):
        step = env.step(action)
        total += step.reward
        if task != "ant":
            assert step.reward.min() >= -1e-12
        if step.done.any():
            sums = sum(step.episode_terms.values())
            np.testing.assert_allclose(sums, step.episode_return, atol=1e-9)
            np.testing.assert_allclose(step.episode_return[step.done], total[step.done], atol=1e-9)
            total[step.done] = 0.0


@pytest.mark.parametrize("task", names())
def test_starts_are_what_the_task_says_and_do_not_move_the_robot_by_themselves(task: str) -> None:
    env = make(task, 64, start="evaluate")
    env.reset()
    limits = np.array([j.position_limits for j in env.spec.joints])
    position = env.plant.position
    assert ((position >= limits[:, 0] - 1e-9) & (position <= limits[:, 1] + 1e-9)).all()
    model, data = env.model.mj, mujoco.MjData(env.model.mj)
    deepest = 0.0
    for i in range(16):
        data.qpos[:] = env.plant.qpos[i]
        mujoco.mj_forward(model, data)
        deepest = min([deepest, *(data.contact[k].dist for k in range(data.ncon))])
    assert deepest > -0.006, "a start is inside of something"


@pytest.mark.parametrize("task", ["arm_lift", "quadruped_velocity"])
def test_an_unstable_simulation_ends_alone_and_is_counted(task: str) -> None:
    plain, broken = make(task, 6), make(task, 6)
    for env in (plain, broken):
        env.reset()
    for k, action in enumerate(actions(plain, 8)):
        if k == 4:
            broken.plant.qvel[2] = 1e12
        expected, found = plain.step(action), broken.step(action)
        others = [i for i in range(6) if i != 2]
        if k == 4:
            assert found.terminated.tolist() == [i == 2 for i in range(6)] and broken.unstable == 1
            assert found.reward[2] == 0.0 and not found.success[2]
            assert found.final_inputs is not None and np.isfinite(found.final_inputs["observation"]).all()
        if k <= 4:  # afterwards the restart has drawn from the shared stream
            np.testing.assert_array_equal(expected.reward[others], found.reward[others])
            np.testing.assert_array_equal(plain.plant.qpos[others], broken.plant.qpos[others])
    assert np.isfinite(broken.plant.qpos).all() and plain.unstable == 0 and broken.unstable == 1


def test_privileged_signals_are_apart_from_what_the_policy_sees() -> None:
    env = make("arm_push", 4, privileged=True)
    inputs = env.reset()
    assert inputs["privileged"].shape == (4, len(env.task.privileged_names))
    cube = env.task.privileged_names.index("cube/x")
    np.testing.assert_allclose(inputs["privileged"][:, cube], env.plant.qpos[:, env.model.mj.joint("cube").qposadr[0]])
    assert env.observation_space["privileged"].shape == (len(env.task.privileged_names),)
    assert not any("cube" in name for name in env.observation.components)
    assert set(make("arm_push", 1).reset()) == {"observation"}


def test_the_first_privileged_signals_are_of_the_new_episode() -> None:
    """mj_step leaves the tool's position one step behind; after a reset that step was of another episode."""
    env = make("arm_push", 4, privileged=True)
    for _ in range(2):
        inputs = env.reset()
        x = env.task.privileged_names.index("tool/x")
        data = mujoco.MjData(env.model.mj)
        data.qpos[:] = env.plant.qpos[1]
        mujoco.mj_kinematics(env.model.mj, data)
        np.testing.assert_allclose(inputs["privileged"][1, x : x + 3], data.site("grasp").xpos, atol=1e-6)
        for action in actions(env, 5):
            env.step(action)


def test_gravity_and_velocity_are_given_in_the_trunks_frame() -> None:
    env = make("quadruped_velocity", 5)
    env.reset()
    rng, data = np.random.default_rng(2), mujoco.MjData(env.model.mj)
    quaternion = rng.standard_normal((5, 4))
    env.plant.qpos[:, 3:7] = quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True)
    env.plant.qvel[:, :3] = rng.standard_normal((5, 3))
    for i in range(5):
        data.qpos[:] = env.plant.qpos[i]
        mujoco.mj_kinematics(env.model.mj, data)
        rotation = data.body("trunk").xmat.reshape(3, 3)
        np.testing.assert_allclose(gravity_direction(env.plant.qpos[:, 3:7])[i], rotation.T @ [0, 0, -1], atol=1e-12)
        np.testing.assert_allclose(body_velocity(env.state)[i], rotation.T @ env.plant.qvel[i, :3], atol=1e-12)


def test_a_quadruped_that_stands_still_follows_the_command_to_stand_and_no_other() -> None:
    env = make("quadruped_velocity", 16, start="evaluate", autoreset=False)
    env.reset()
    env.state.goal[:] = np.where(np.arange(16)[:, None] < 8, 0.0, [0.8, 0.0, 0.0])
    step = None
    for _ in range(env.task.steps):
        step = env.step(np.zeros((16, 12)))
    assert step is not None and step.success.tolist() == [True] * 8 + [False] * 8


def test_a_task_that_sends_torques_to_position_servos_is_refused() -> None:
    import dataclasses

    task = load_task("arm_reach")
    wrong = dataclasses.replace(task, action=dataclasses.replace(task.action, kind="effort"))
    with pytest.raises(ConfigError, match="sends effort to actuator 'shoulder_pan' of robot 'so101', which is of kind"):
        BatchedEnv(wrong, find_robot("so101"), NOMINAL, 1)


def test_the_last_action_and_command_of_an_episode_do_not_leak_into_the_next() -> None:
    env = make("arm_reach", 3)
    env.reset()
    for action in actions(env, 149):
        env.step(action)
    assert env.step(np.ones((3, 5))).truncated.all()
    env.step(np.zeros((3, 5)))
    assert not env.state.previous_action.any()
    assert np.abs(env.state.previous_command).max() > 0  # the arm's start pose: a servo rests in place


def test_a_camera_shows_the_state_of_its_latency_ago_at_its_own_rate() -> None:
    """30 pictures a second at 50 Hz: some steps repeat the picture; what is shown is the state of that moment."""
    import dataclasses

    from sim.render import Camera

    robot = find_robot("simple_pendulum")
    camera = dataclasses.replace(robot.spec.cameras[0], latency_s=0.05, rate_hz=25.0, width=32, height=32)
    robot = dataclasses.replace(robot, spec=dataclasses.replace(robot.spec, cameras=(camera,)))
    env = BatchedEnv(load_task("pendulum_swingup_pixels"), robot, NOMINAL, 2, nthread=1, start="evaluate")
    inputs, states, shown = env.reset(), [env.plant.qpos.copy()], []
    shown.append(inputs["image_side"])
    for _ in range(12):
        inputs = env.step(np.ones((2, 1))).inputs
        states.append(env.plant.qpos.copy())
        shown.append(inputs["image_side"])
    draw = Camera(env.model, camera.name, renderer="ray")
    for k, images in enumerate(shown):
        taken = int(max(k * 0.02 - 0.05, 0.0) * 25 + 1e-9) * 2  # the pictures are 2 control steps apart
        np.testing.assert_array_equal(images, draw.images(states[taken]).transpose(0, 3, 1, 2), err_msg=str(k))
    assert env.observation_space["image_side"].dtype == np.uint8 and "cos/shoulder" not in env.observation.components


def test_pictures_of_the_episode_before_are_not_seen_after_a_reset() -> None:
    env = make("pendulum_swingup_pixels", 3, start="evaluate")
    first = env.reset()["image_side"]
    for _ in range(30):
        env.step(np.ones((3, 1)))
    env.seed(3)
    again = env.reset(np.array([1]))["image_side"]
    assert not np.array_equal(again[0], first[0]) and np.abs(again[1].astype(int) - first[1].astype(int)).mean() < 2.0

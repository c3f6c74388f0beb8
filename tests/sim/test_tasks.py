"""Tasks as the contract states them, and the evaluation that counts their successes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from robot.config import ConfigError
from sim.evaluate import rollout_success
from sim.model import RobotConfig, find_robot
from sim.randomization import NOMINAL, Point, Randomization, Term
from sim.state import State
from sim.tasks import Task, load_task, wrapped
from sim.vecenv import BatchedEnv, Inputs

CONTRACT = {
    # task: episode [s], least control rate [Hz], hold [s], farthest evaluation start from hanging [rad]
    "pendulum_swingup": (6.0, 100, 1.0, 0.05),
    "pendubot_swingup": (10.0, 100, 0.0, 0.0),
    "acrobot_swingup": (10.0, 100, 0.0, 0.0),
}


TIMES = {
    # task: episode [s], least control rate [Hz], hold [s]
    **{name: row[:3] for name, row in CONTRACT.items()},
    "pendulum_swingup_pixels": (6.0, 50, 1.0),
    "arm_reach": (3.0, 50, 0.0),
    "arm_push": (6.0, 50, 0.0),
    "arm_lift": (6.0, 50, 1.0),
    "quadruped_velocity": (20.0, 50, 0.0),
}


@pytest.mark.parametrize("name", TIMES)
def test_tasks_have_the_contracts_times(name: str) -> None:
    task = load_task(name)
    assert (task.episode_s, round(1 / task.control_period_s), task.hold_s)[::2] == TIMES[name][::2]
    assert task.control_period_s <= 1 / TIMES[name][1] + 1e-12


@pytest.mark.parametrize(
    ("task", "shift", "expected"),
    [
        ("arm_reach", 0.019, True), ("arm_reach", 0.021, False),
        ("arm_push", 0.029, True), ("arm_push", 0.031, False),
    ],
)  # fmt: skip
def test_the_arms_goals_have_the_contracts_tolerance(task: str, shift: float, expected: bool) -> None:
    env = BatchedEnv(load_task(task), find_robot("so101"), NOMINAL, 4, start="evaluate", nthread=1)
    env.reset()
    state = env.state
    there = state.site("gripperframe") if task == "arm_reach" else state.pose("cube")[:, :2]
    away = np.zeros_like(there)
    away[:, 1] = shift
    state.goal[:] = there + away
    assert env.task.inside(state).tolist() == [expected] * 4


@pytest.mark.parametrize(("height", "expected"), [(0.0501, True), (0.0499, False)])
def test_a_lift_counts_from_where_the_cube_lay(height: float, expected: bool) -> None:
    env = BatchedEnv(load_task("arm_lift"), find_robot("so101"), NOMINAL, 2, start="evaluate", nthread=1)
    env.reset()
    resting = env.state.pose("cube")[:, 2].copy()
    env.state.pose("cube")[:, 2] += height
    np.testing.assert_allclose(resting, 0.0175)
    assert env.task.inside(env.state).tolist() == [expected] * 2


def test_every_goal_of_the_reach_is_reached_by_an_arm_that_is_sent_to_its_pose() -> None:
    """A scripted controller that knows the pose behind the goal succeeds: the task can be done, sag included."""
    from sim.tasks.arm import SCALE, reachable

    task, rng = load_task("arm_reach"), np.random.default_rng(5)
    env = BatchedEnv(task, find_robot("so101"), NOMINAL, 32, start="evaluate", autoreset=False, nthread=1)
    env.reset()
    poses, tools = reachable()
    chosen = rng.integers(len(poses), size=32)
    env.state.goal[:] = tools[chosen]
    default, correction = env.spec.default_pose[:5], np.zeros((32, 5))
    step = None
    for _ in range(task.steps):
        error = poses[chosen][:, :5] - env.plant.position[:, :5]
        correction = np.clip(correction + 0.05 * error, -0.5, 0.5)  # the servo has no integral of its own
        step = env.step((poses[chosen][:, :5] + correction - default) / np.array(SCALE))
    assert step is not None and step.success.mean() > 0.9


@pytest.mark.parametrize("name", CONTRACT)
def test_swing_ups_begin_where_the_contract_says(name: str) -> None:
    task = load_task(name)
    spread = CONTRACT[name][3]
    start = task.start(np.random.default_rng(0), 500)
    assert np.abs(start.position).max() <= spread and not start.velocity.any()
    assert spread == 0 or np.abs(start.position).max() > 0.9 * spread


def test_an_unknown_task_is_answered_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"pendubot_swingup, pendulum_swingup.*Did you mean 'pendubot_swingup'"):
        load_task("pendubot")


def test_only_the_shoulder_of_the_pendubot_is_driven() -> None:
    task = load_task("pendubot_swingup")
    env = BatchedEnv(task, find_robot(task.robot), NOMINAL, 3, nthread=1)
    env.reset()
    assert env.action_space.shape == (1,)
    env.step(np.ones((3, 1)))
    np.testing.assert_array_equal(env.plant.effort, [[6.0, 0.0]] * 3)


@pytest.mark.parametrize(
    ("angle", "speed", "expected"),
    [
        (np.pi, 0.0, True), (-np.pi + 0.19, 0.49, True), (3 * np.pi - 0.19, -0.49, True),
        (np.pi + 0.21, 0.0, False), (np.pi, 0.51, False), (0.0, 0.0, False),
    ],
)  # fmt: skip
def test_upright_is_counted_modulo_a_turn_and_within_the_contracts_bounds(
    angle: float, speed: float, expected: bool
) -> None:
    inside = load_task("pendulum_swingup").inside(State(np.array([[angle]]), np.array([[speed]])))
    assert inside.tolist() == [expected]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ((np.pi, 0.0, 0.0, 0.0), True), ((-np.pi + 0.34, 2 * np.pi - 0.34, 0.99, -0.99), True),
        ((np.pi + 0.36, 0.0, 0.0, 0.0), False), ((np.pi, 0.36, 0.0, 0.0), False),
        ((np.pi, 0.0, 1.01, 0.0), False), ((np.pi, 0.0, 0.0, -1.01), False), ((0.0, np.pi, 0.0, 0.0), False),
    ],
)  # fmt: skip
def test_the_pendubots_region(state: tuple[float, ...], expected: bool) -> None:
    inside = load_task("pendubot_swingup").inside(State(np.array([state[:2]]), np.array([state[2:]])))
    assert inside.tolist() == [expected]


@pytest.mark.parametrize("name", CONTRACT)
def test_rewards_are_never_negative_and_highest_at_rest_upright(name: str) -> None:
    """So that ending an episode early is never a gain."""
    task, rng = load_task(name), np.random.default_rng(0)
    joints = task.start(rng, 1).position.shape[1]
    position, velocity = rng.uniform(-7, 7, (2000, joints)), rng.uniform(-12, 12, (2000, joints))
    limit = find_robot(task.robot).spec.effort_limits
    now, before = (rng.uniform(-1, 1, (2000, joints)) * limit for _ in range(2))
    if joints == 2:
        passive = 1 if name == "pendubot_swingup" else 0
        now[:, passive] = before[:, passive] = 0.0
    reward = sum(task.reward(State(position, velocity, now, before)).values())
    upright, still = np.zeros((1, joints)), np.zeros((1, joints))
    upright[0, 0] = np.pi
    assert reward.min() >= 0.0
    assert sum(task.reward(State(upright, still, still, still)).values())[0] > reward.max()


@pytest.mark.parametrize("name", CONTRACT)
def test_training_starts_cover_hanging_upright_and_what_lies_between(name: str) -> None:
    task = load_task(name)
    start = task.explore(np.random.default_rng(0), 4000)
    angle = np.abs(wrapped(start.position[:, 0]))
    share = np.histogram(angle, [0, 0.25, 1.0, 2.0, 2.8, np.pi])[0] / 4000
    assert share[0] > 0.3 and (share > 0.05).all() and share[-1] > 0.15
    assert 0.04 < task.inside(State(start.position, start.velocity)).mean() < 0.35


def pump_and_hold(inputs: Inputs) -> npt.NDArray[np.float64]:
    """Swing up by energy, catch by proportional-derivative control; knows the nominal robot."""
    cos, sin, speed = inputs["observation"][:, :3].astype(float).T
    weight, inertia = 0.6755 * 9.81 * 0.5, 0.6755 * 0.25 + 36 * 6.07e-5
    error = np.arctan2(-sin, -cos)
    missing = 2 * weight - (0.5 * inertia * speed**2 + weight * (1 - cos))
    pump = np.sign(speed + 1e-3) * np.clip(3 * missing, -1.5, 1.5)
    hold = -12 * error - 2 * speed
    return (np.where(np.abs(error) < 0.35, hold, pump) / 1.5)[:, None]


def test_a_textbook_controller_swings_the_pendulum_up_and_doing_nothing_does_not(pendulum: RobotConfig) -> None:
    done = rollout_success(pump_and_hold, load_task("pendulum_swingup"), pendulum, NOMINAL, 20, 3, nthread=1)
    idle = rollout_success(
        lambda i: np.zeros((20, 1)), load_task("pendulum_swingup"), pendulum, NOMINAL, 20, 3, nthread=1
    )
    assert done.success.all() and not idle.success.any()
    assert done.returns.min() > 2 * idle.returns.max()


def test_a_motor_that_is_too_weak_fails_the_same_controller(pendulum: RobotConfig) -> None:
    weak = Randomization(name="weak", terms=(Term(targets=("actuator/shoulder/gain",), law=Point(values=(0.3,))),))
    failed = rollout_success(pump_and_hold, load_task("pendulum_swingup"), pendulum, weak, 10, 3, nthread=1)
    assert not failed.success.any()


def test_an_evaluation_is_repeatable_and_depends_on_its_seed(pendulum: RobotConfig) -> None:
    task: Task = load_task("pendulum_swingup")
    first, again, other = (
        rollout_success(pump_and_hold, task, pendulum, NOMINAL, 5, seed, nthread=1).returns for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_controller_with_history_begins_each_episode_with_an_empty_one(pendulum: RobotConfig) -> None:
    masks: list[float] = []

    def act(inputs: Inputs) -> npt.NDArray[np.float64]:
        masks.append(float(inputs["history_mask"].sum(axis=1).max()))
        assert inputs["history"].shape == (4, 5, 5)
        return np.zeros((4, 1))

    rollout_success(act, load_task("pendulum_swingup"), pendulum, NOMINAL, 4, seed=0, history=5, nthread=1)
    assert masks[:7] == [0, 1, 2, 3, 4, 5, 5] and len(masks) == 600


def test_a_simulation_that_failed_stays_failed_and_keeps_the_return_it_had(pendulum: RobotConfig) -> None:
    """Without autoreset the physics runs on after a failure; what happens then does not count."""
    strong = Randomization(name="strong", terms=(Term(targets=("actuator/shoulder/gain",), law=Point(values=(8.0,))),))
    spin = rollout_success(lambda i: np.ones((3, 1)), load_task("pendulum_swingup"), pendulum, strong, 3, 0, nthread=1)
    assert not spin.success.any() and spin.returns.max() < 20

"""What every face of the batched environment must do: autoreset, final observations, seeding, equality, delay."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium.utils.env_checker import check_env as check_gymnasium
from gymnasium.vector import AutoresetMode

from robot.config import ConfigError
from sim import randomization as randomizations
from sim.faces import GymVectorEnv, SingleEnv
from sim.model import RobotConfig, find_robot
from sim.randomization import NOMINAL, Point, Randomization, Term, Uniform
from sim.sb3 import SB3VecEnv
from sim.tasks import load_task, names
from sim.vecenv import BatchedEnv

DEFAULT = Path(__file__).parents[2] / "configs" / "dr" / "simple_pendulum_default.yaml"
DELAY = "timing/command/delay"


def short(steps: int, **changes: Any) -> Any:
    """The pendulum task with episodes of a few steps."""
    task = load_task("pendulum_swingup")
    seconds = steps * task.control_period_s
    return dataclasses.replace(task, episode_s=seconds, explore_s=seconds, hold_s=0.0, **changes)


def make(
    robot: RobotConfig, n: int, *, task: Any = None, law: Randomization | None = None, **options: Any
) -> BatchedEnv:
    law = randomizations.load(DEFAULT) if law is None else law
    return BatchedEnv(task or load_task("pendulum_swingup"), robot, law, n, **({"nthread": 1} | options))


def actions(steps: int, n: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, (steps, n, 1)).astype(np.float32)


def play(env: BatchedEnv, steps: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """(steps + 1, n, D) observations under random actions."""
    rows = [env.reset()["observation"]]
    rows += [env.step(action).inputs["observation"] for action in actions(steps, env.num_envs, seed)]
    return np.array(rows)


@pytest.mark.parametrize("task", names())
@pytest.mark.parametrize("history", [0, 4])
def test_the_single_face_passes_the_checkers_of_gymnasium_and_sb3(task: str, history: int) -> None:
    from stable_baselines3.common.env_checker import check_env as check_sb3

    env = gym.make(f"terrafirma/{task}-v0", history=history).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both warn about unbounded boxes and about 2-D histories
        check_gymnasium(env)
        check_sb3(env)


def test_importing_sim_is_enough_for_gym_make() -> None:
    code = "import gymnasium, sim; print(gymnasium.make('terrafirma/pendulum_swingup-v0').reset(seed=1)[0].shape)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "(4,)"


def test_the_three_faces_give_the_same_trajectories_for_the_same_seed(pendulum: RobotConfig) -> None:
    task = short(25)
    vector = GymVectorEnv(make(pendulum, 1, task=task, start="evaluate"))
    sb3 = SB3VecEnv(make(pendulum, 1, task=task, start="evaluate"))
    single = SingleEnv(task, robot=pendulum, randomization=DEFAULT, start="evaluate")
    sb3.seed(11)
    seen = [(vector.reset(seed=11)[0][0], sb3.reset()[0], single.reset(seed=11)[0])]
    for action in actions(70, 1):
        a, _, _, vector_cut, info = vector.step(action)
        b, _, sb3_done, sb3_infos = sb3.step(action)
        c, _, _, single_cut, _ = single.step(action[0])
        assert bool(vector_cut[0]) == bool(sb3_done[0]) == single_cut
        if single_cut:
            np.testing.assert_array_equal(info["final_obs"][0], c)
            np.testing.assert_array_equal(sb3_infos[0]["terminal_observation"], c)
            c = single.reset()[0]
        seen.append((a[0], b[0], c))
    rows = np.array(seen)
    np.testing.assert_array_equal(rows[:, 0], rows[:, 1])
    np.testing.assert_array_equal(rows[:, 0], rows[:, 2])
    assert vector.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP


def test_vector_and_sb3_faces_agree_on_rewards_ends_and_final_observations_with_history(pendulum: RobotConfig) -> None:
    vector = GymVectorEnv(make(pendulum, 6, task=short(9), history=3, stagger=True, seed=5))
    sb3 = SB3VecEnv(make(pendulum, 6, task=short(9), history=3, stagger=True, seed=5))
    vector.reset()
    sb3.reset()
    ended = 0
    for action in actions(30, 6):
        a, reward, terminated, truncated, info = vector.step(action)
        b, sb3_reward, done, infos = sb3.step(action)
        np.testing.assert_allclose(reward, sb3_reward, rtol=1e-6)
        np.testing.assert_array_equal(terminated | truncated, done)
        for name in ("observation", "history", "history_mask"):
            np.testing.assert_array_equal(a[name], b[name])
        for i in np.flatnonzero(done):
            ended += 1
            final = {name: value[i] for name, value in info["final_obs"].items()}
            assert infos[i]["TimeLimit.truncated"] == bool(truncated[i])
            for name, value in final.items():
                np.testing.assert_array_equal(value, infos[i]["terminal_observation"][name])
    assert ended >= 6 * 3


def test_sb3_learns_on_the_face_without_a_complaint(pendulum: RobotConfig) -> None:
    from stable_baselines3 import PPO

    env = SB3VecEnv(make(pendulum, 4, task=short(20), history=2))
    model = PPO("MultiInputPolicy", env, n_steps=32, batch_size=64, n_epochs=1, seed=1, device="cpu")
    model.learn(128)
    assert model.ep_info_buffer is not None and len(model.ep_info_buffer) >= 4
    assert {info["l"] for info in model.ep_info_buffer} == {20}


def test_the_sb3_face_is_a_vecenv_that_wrappers_can_ask(pendulum: RobotConfig) -> None:
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import VecEnv, VecNormalize

    env = SB3VecEnv(make(pendulum, 3))
    assert isinstance(env, VecEnv) and env.env_is_wrapped(Monitor) == [False] * 3
    assert env.get_attr("render_mode") == [None] * 3 and env.get_attr("num_envs", indices=[0]) == [3]
    assert [t.name for t in env.get_attr("task", indices=1)] == ["pendulum_swingup"]
    assert env.get_attr("spec", 0)[0].joint_names == ("shoulder",)
    assert VecNormalize(env).reset().shape == (3, 4)
    with pytest.raises(ValueError, match="autoreset"):
        SB3VecEnv(make(pendulum, 3, autoreset=False))


def test_final_inputs_are_those_of_an_environment_that_was_not_reset(pendulum: RobotConfig) -> None:
    plain = make(pendulum, 4, task=short(12), history=3, autoreset=False, seed=2)
    auto = make(pendulum, 4, task=short(12), history=3, seed=2)
    plain.reset()
    auto.reset()
    for action in actions(12, 4):
        expected, step = plain.step(action), auto.step(action)
    assert step.truncated.all() and step.final_inputs is not None
    for name, value in expected.inputs.items():
        np.testing.assert_array_equal(step.final_inputs[name], value)
    assert step.inputs["history_mask"].sum() == 0.0, "a new episode begins with an empty history"
    assert not np.allclose(step.inputs["observation"], step.final_inputs["observation"])


def test_only_the_simulations_that_ended_restart(pendulum: RobotConfig) -> None:
    env = make(pendulum, 8, task=short(40), stagger=True, history=2, seed=3)
    env.reset()
    for action in actions(39, 8):
        before = env._age.copy()
        step = env.step(action)
        np.testing.assert_array_equal(env._age, np.where(step.done, 0, before + 1))
        np.testing.assert_array_equal(step.inputs["history_mask"].sum(axis=1), np.minimum(env._age, 2))
        if step.final_inputs is not None:
            going = ~step.done
            np.testing.assert_array_equal(step.inputs["observation"][going], step.final_inputs["observation"][going])


def test_seeding_repeats_a_run_and_another_seed_does_not(pendulum: RobotConfig) -> None:
    env = make(pendulum, 5, task=short(15), seed=4)
    first = play(env, 40)
    env.seed(4)
    np.testing.assert_array_equal(play(env, 40), first)
    np.testing.assert_array_equal(play(make(pendulum, 5, task=short(15), seed=4), 40), first)
    assert not np.allclose(play(make(pendulum, 5, task=short(15), seed=5), 40), first)


def test_threads_do_not_change_a_trajectory(pendulum: RobotConfig) -> None:
    one, two = (play(make(pendulum, 32, seed=6, nthread=k), 50) for k in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_start_states_and_parameters_do_not_depend_on_the_actions(pendulum: RobotConfig) -> None:
    """So that two controllers can be compared episode by episode."""
    drawn = []
    for seed in (0, 1):
        env = make(pendulum, 8, task=short(10), seed=7, start="evaluate")
        play(env, 10, seed=seed)
        drawn.append((env.parameters[1], env.plant.position))
    np.testing.assert_array_equal(drawn[0][0], drawn[1][0])
    np.testing.assert_array_equal(drawn[0][1], drawn[1][1])


def law(target: str, value: Any) -> Randomization:
    return Randomization(name="one", terms=(Term(targets=(target,), law=Point(values=(value,))),))


@pytest.mark.parametrize(
    ("target", "value"),
    [
        ("body/pendulum/mass", 0.9),
        ("body/pendulum/com", 0.4),
        ("body/pendulum/inertia", 0.02),
        ("motor/shoulder/rotor_inertia", 3e-4),
        ("joint/shoulder/damping", 0.2),
        ("joint/shoulder/frictionloss", 0.3),
        ("world/gravity/gravity", 5.0),
        ("actuator/shoulder/gain", 0.5),
        ("actuator/shoulder/bias", 0.4),
        (DELAY, 0.03),
        ("timing/command/lag", 0.03),
        ("sensor/joint.velocity/noise", 0.5),
        ("sensor/shoulder/offset", 0.2),
    ],
)
def test_each_randomized_quantity_changes_what_is_observed(pendulum: RobotConfig, target: str, value: float) -> None:
    nominal = play(make(pendulum, 3, law=NOMINAL, start="evaluate"), 60)
    changed = play(make(pendulum, 3, law=law(target, value), start="evaluate"), 60)
    assert np.abs(changed - nominal)[20:].max() > 0.02


def test_stribeck_friction_holds_more_than_coulomb_friction(pendulum: RobotConfig) -> None:
    coulomb = law("joint/shoulder/frictionloss", 0.2)
    peak = dataclasses.replace(
        coulomb, terms=(*coulomb.terms, Term(targets=("joint/shoulder/stribeck_ratio",), law=Point(values=(3.0,))))
    )
    assert np.abs(play(make(pendulum, 3, law=coulomb), 60) - play(make(pendulum, 3, law=peak), 60)).max() > 0.02


def test_draws_do_not_pile_up_over_resets(pendulum: RobotConfig) -> None:
    scale = Term(targets=("body/pendulum/mass", "body/pendulum/com"), how="scale", law=Uniform(low=0.9, high=1.1))
    env = make(pendulum, 16, law=Randomization(name="scale", terms=(scale,)), task=short(3))
    env.reset()
    seen = []
    for action in actions(300, 16):
        env.step(action)
        seen.append(env.parameters[1])
        np.testing.assert_array_equal(env.plant.batch.expand("body_mass")[:, 1], env.parameters[1][:, 0])
    values = np.array(seen)
    assert 0.9 * 0.6755 <= values[..., 0].min() < 0.92 * 0.6755 and 1.08 * 0.6755 < values[..., 0].max() <= 1.1 * 0.6755
    assert values[..., 1].min() >= 0.45 and values[..., 1].max() <= 0.55


def test_parameters_stay_for_an_episode_and_change_with_the_next(pendulum: RobotConfig) -> None:
    env = make(pendulum, 4, task=short(5))
    env.reset()
    labels, first = env.parameters
    assert labels == randomizations.load(DEFAULT).targets
    for action in actions(4, 4):
        env.step(action)
    np.testing.assert_array_equal(env.parameters[1], first)
    env.step(actions(1, 4)[0])
    assert (env.parameters[1] != first).all()


@pytest.mark.parametrize("delay_s", [0.0, 0.01, 0.03])
def test_a_command_acts_exactly_its_delay_later(pendulum: RobotConfig, delay_s: float) -> None:
    env = make(pendulum, 1, law=law(DELAY, delay_s), start="evaluate")
    free = make(pendulum, 1, law=law(DELAY, delay_s), start="evaluate")
    env.reset()
    free.reset()
    moved = []
    for _ in range(6):
        env.step(np.ones((1, 1)))
        free.step(np.zeros((1, 1)))
        moved.append(abs(env.plant.velocity[0, 0] - free.plant.velocity[0, 0]) > 1e-9)
    assert moved.index(True) == round(delay_s / 0.01)


def test_a_delay_of_part_of_a_step_delays_the_impulse_by_as_much(pendulum: RobotConfig) -> None:
    speeds = []
    for delay_s in (0.0, 0.004, 0.01):
        env = make(pendulum, 1, law=law(DELAY, delay_s), start="evaluate")
        env.reset()
        env.step(np.ones((1, 1)))
        speeds.append(env.plant.velocity[0, 0])
    assert (speeds[1] - speeds[2]) / (speeds[0] - speeds[2]) == pytest.approx(0.6, abs=0.01)


def test_success_needs_the_whole_hold_and_ends_with_the_episode(pendulum: RobotConfig) -> None:
    task = dataclasses.replace(short(30), hold_s=0.2)
    env = make(pendulum, 3, task=task, law=NOMINAL, start="evaluate", autoreset=False)
    env.reset()
    for k in range(30):
        # 0: upright all along; 1: upright for the last 0.2 s; 2: comes one sample too late
        position = np.array([[np.pi], [np.pi if k >= 9 else 0.0], [np.pi if k >= 10 else 0.0]])
        env.plant.batch.bind("qpos")[:] = position
        env.plant.batch.bind("qvel")[:] = 0.0
        step = env.step(np.zeros((3, 1)))
        assert step.success.any() == (k == 29)
    assert step.success.tolist() == [True, True, False]


def test_an_episode_that_outruns_the_robots_velocity_limit_ends_as_failed(pendulum: RobotConfig) -> None:
    env = make(pendulum, 2, law=NOMINAL, start="evaluate", autoreset=False)
    env.reset()
    env.plant.batch.bind("qvel")[0] = 25.0
    step = env.step(np.zeros((2, 1)))
    assert step.terminated.tolist() == [True, False] and not step.truncated.any()


def test_sensors_give_counts_noise_and_latency(pendulum: RobotConfig) -> None:
    sensors = tuple(dataclasses.replace(s, latency_s=0.0125, noise=0.0) for s in pendulum.spec.sensors)
    late = dataclasses.replace(pendulum, spec=dataclasses.replace(pendulum.spec, sensors=sensors))
    task = load_task("pendulum_swingup")
    config = dataclasses.replace(task.observation, features=("joint_position",))
    env = make(late, 1, law=NOMINAL, task=dataclasses.replace(task, observation=config), start="evaluate")
    env.reset()
    truth, read = [float(env.plant.position[0, 0])], []
    for _ in range(40):
        read.append(float(env.step(np.ones((1, 1))).inputs["observation"][0, 0]))
        truth.append(float(env.plant.position[0, 0]))
    now = np.arange(1, 41) * 0.01
    expected = np.interp(now - 0.0125, np.arange(41) * 0.01, truth)
    resolution = late.spec.sensor("joint.position").resolution
    np.testing.assert_allclose(np.array(read)[2:], expected[2:], atol=3e-4 + resolution)
    counts = np.array(read) / resolution - 0.5
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-3)  # float32


def test_a_task_for_another_robot_is_refused_by_name(double_pendulum: RobotConfig) -> None:
    with pytest.raises(ConfigError, match=r"'pendulum_swingup' is for robot 'simple_pendulum'.*'double_pendulum_c1'"):
        make(double_pendulum, 1)
    with pytest.raises(ConfigError, match="made for robot 'simple_pendulum'"):
        make(double_pendulum, 1, task=load_task("pendubot_swingup"))


def test_shipped_robots_and_tasks_fit_together() -> None:
    for name in names():
        task = load_task(name)
        env = BatchedEnv(task, find_robot(task.robot), NOMINAL, 2, nthread=1)
        assert env.reset()["observation"].shape == (2, env.observation.size)
    with pytest.raises(ConfigError, match="Did you mean 'pendulum_swingup'"):
        load_task("pendulum_swing")
    with pytest.raises(ConfigError, match="Did you mean 'simple_pendulum'"):
        find_robot("simpel_pendulum")

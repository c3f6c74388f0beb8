"""The ant task is gymnasium's Ant-v5: states, rewards, ends and observations, contact forces included."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest

from sim.faces import GymVectorEnv
from sim.randomization import NOMINAL, Randomization, Term, Uniform
from sim.sb3 import SB3VecEnv
from sim.tasks.ant import ANT, ant_robot
from sim.vecenv import BatchedEnv, Step

pytest.importorskip("imageio", reason="gymnasium's MuJoCo environments import it")


def make(n: int, **options: Any) -> BatchedEnv:
    return BatchedEnv(ANT, ant_robot(), NOMINAL, n, privileged=True, **({"nthread": 2, "autoreset": False} | options))


def reference(seed: int) -> Any:
    """Gymnasium's environment without wrappers, after a reset."""
    env: Any = gym.make("Ant-v5").unwrapped
    env.reset(seed=seed)
    return env


def begin_at(env: BatchedEnv, i: int, other: Any) -> None:
    """Start simulation i where gymnasium's environment stands after its reset."""
    ids = np.array([i], dtype=np.intp)
    env.plant.batch.bind("qpos")[i], env.plant.batch.bind("qvel")[i] = other.data.qpos, other.data.qvel
    env.plant.batch.forward(ids.astype(np.int32))


def observed(env: BatchedEnv) -> npt.NDArray[np.float64]:
    """The 105 numbers before they become float32."""
    return ANT.privileged(env.state)


def test_two_hundred_steps_are_those_of_gymnasiums_ant() -> None:
    env, others = make(3), [reference(seed) for seed in (1, 2, 3)]
    env.reset()
    for i, other in enumerate(others):
        begin_at(env, i, other)
        np.testing.assert_array_equal(observed(env)[i], other._get_obs(), "before the first step")
    rng, touched = np.random.default_rng(0), 0.0
    for k in range(200):
        action = rng.uniform(-1.0, 1.0, (3, 8)).astype(np.float32)
        step = env.step(action)
        terms = ANT.reward(env.state)
        for i, other in enumerate(others):
            observation, reward, terminated, _, info = other.step(action[i].astype(np.float64))
            label = f"step {k} of simulation {i}"
            np.testing.assert_allclose(env.plant.qpos[i], other.data.qpos, rtol=0, atol=1e-9, err_msg=label)
            np.testing.assert_allclose(observed(env)[i], observation, rtol=0, atol=1e-9, err_msg=label)
            np.testing.assert_allclose(step.reward[i], reward, rtol=0, atol=1e-9, err_msg=label)
            assert step.terminated[i] == terminated, label
            for ours, theirs in (("forward", "forward"), ("survive", "survive"), ("control", "ctrl"), ("contact",) * 2):
                np.testing.assert_allclose(terms[ours][i], info[f"reward_{theirs}"], rtol=0, atol=1e-9, err_msg=label)
            touched += np.square(observation[27:]).sum() > 1.0
    assert touched > 100, "the ants must have stood on the floor for the contact forces to be compared"


def test_the_observation_names_each_of_its_numbers() -> None:
    env = make(2)
    assert env.reset()["privileged"].shape == (2, 105) == (2, len(set(ANT.privileged_names)))
    assert ANT.privileged_names[5 + 6] == "hip_4/position" and ANT.privileged_names[27 + 3] == "torso/force_x"


def play(env: BatchedEnv, steps: int) -> list[Step]:
    rng = np.random.default_rng(5)
    env.reset()
    return [env.step(rng.uniform(-1.0, 1.0, (env.num_envs, 8))) for _ in range(steps)]


def test_ants_that_fall_start_anew_without_the_contacts_of_the_episode_before() -> None:
    env = make(32, autoreset=True, seed=4)
    fallen = 0
    for step in play(env, 150):
        if step.final_inputs is not None:
            assert not step.inputs["privileged"][step.done, 27:].any()
            z = step.final_inputs["privileged"][step.terminated, 0]
            assert ((z < 0.2) | (z > 1.0)).all() and (step.inputs["privileged"][step.done, 0] > 0.6).all()
            fallen += int(step.done.sum())
    assert fallen > 5


def test_contact_forces_do_not_depend_on_the_threads() -> None:
    """The Batch's threads share what they compute in; a force left over from another simulation would show here."""
    runs = [
        np.array([(s.inputs["privileged"], s.reward[:, None] + 0 * s.inputs["privileged"]) for s in play(env, 80)])
        for env in (make(48, autoreset=True, nthread=k) for k in (1, 2))
    ]
    np.testing.assert_array_equal(runs[0], runs[1])


def test_an_ant_can_be_randomized_as_any_robot() -> None:
    heavy = Term(targets=("body/torso/mass",), how="scale", law=Uniform(low=2.0, high=3.0))
    law = Randomization(name="heavy", terms=(heavy,))
    env = BatchedEnv(ANT, ant_robot(), law, 8, seed=1, nthread=1)
    light = BatchedEnv(ANT, ant_robot(), NOMINAL, 8, seed=1, nthread=1)
    env.reset()
    light.reset()
    for _ in range(20):
        env.step(np.zeros((8, 8)))
        light.step(np.zeros((8, 8)))
    ratio = env.parameters[1][:, 0] / light.model.nominal("body/torso/mass")
    assert (ratio >= 2.0).all() and (ratio <= 3.0).all() and len(np.unique(ratio)) == 8
    assert np.abs(env.plant.qpos - light.plant.qpos).max() > 1e-3


def test_falls_and_time_limits_stay_apart_in_every_face() -> None:
    """Gymnasium's autoreset in the same step, and what SB3 bootstraps from."""
    task = dataclasses.replace(ANT, episode_s=2.0, explore_s=2.0)  # 40 steps: some fall before, some do not
    cores = [
        BatchedEnv(task, ant_robot(), NOMINAL, 24, seed=9, privileged=True, stagger=True, nthread=1) for _ in range(2)
    ]
    vector, sb3 = GymVectorEnv(cores[0]), SB3VecEnv(cores[1])
    vector.reset()
    sb3.reset()
    rng, fell, timed = np.random.default_rng(2), 0, 0
    for _ in range(160):
        action = rng.uniform(-1.0, 1.0, (24, 8)).astype(np.float32)
        seen, _, terminated, truncated, infos = vector.step(action)
        sb3_seen, _, done, sb3_infos = sb3.step(action)
        assert not (terminated & truncated).any()
        np.testing.assert_array_equal(done, terminated | truncated)
        for i in np.flatnonzero(done):
            final = infos["final_obs"]["privileged"][i]
            np.testing.assert_array_equal(sb3_infos[i]["terminal_observation"]["privileged"], final)
            assert sb3_infos[i]["TimeLimit.truncated"] == truncated[i]
            healthy = 0.2 <= final[0] <= 1.0  # the last observation is of the episode that ended ...
            assert healthy == truncated[i] and abs(seen["privileged"][i, 0] - 0.75) < 0.11  # ... the new one is not
        assert all(bool(infos["_final_obs"][i]) == bool(done[i]) for i in range(24)) if done.any() else infos == {}
        np.testing.assert_array_equal(seen["privileged"], sb3_seen["privileged"])
        fell, timed = fell + int(terminated.sum()), timed + int(truncated.sum())
    assert fell > 3 and timed > 20

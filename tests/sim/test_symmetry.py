"""The mirror image of a robot moves as the mirror image of its motion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from robot.config import ConfigError
from robot.observation import Observation
from sim.model import Model, find_robot
from sim.randomization import NOMINAL
from sim.state import Start
from sim.symmetry import Mirror, joint_signs, table
from sim.tasks import load_task
from sim.vecenv import BatchedEnv

Array = npt.NDArray[np.float64]
OFF = {"pendulum_swingup": 1e-5, "pendubot_swingup": 1e-5, "acrobot_swingup": 1e-5, "quadruped_velocity": 0.1}
"""The published trunk of the quadruped has its centre of mass 2 mm beside the middle, and its calves 1 mm each."""
TASKS = tuple(OFF)


def turned(values: Array, found: tuple[tuple[int, ...], tuple[float, ...]]) -> Array:
    return values[..., list(found[0])] * np.array(found[1])


def noiseless(name: str) -> BatchedEnv:
    task = load_task(name)
    robot = find_robot(task.robot)
    quiet = tuple(replace(s, noise=0.0, resolution=0.0) for s in robot.spec.sensors)
    robot = replace(robot, spec=replace(robot.spec, sensors=quiet))
    return BatchedEnv(
        task, robot, NOMINAL, 4, seed=3, privileged=bool(task.privileged_names), autoreset=False, nthread=1
    )


def mirrored(env: BatchedEnv, start: Start, mirror: Mirror) -> Start:
    """A start in the mirror; free bodies stand without a turn, so that their quaternion is its own image."""
    names, joints = env.spec.joint_names, table([f"position/{j}" for j in env.spec.joint_names], env.model, mirror)
    assert len(names) == len(joints[0])
    goal = None
    if start.goal is not None:
        goal = turned(start.goal, table([f"goal/{g}" for g in env.task.observation.goal], env.model, mirror))
    linear, angular = ([mirror.sign(a, rotation) for a in "xyz"] for rotation in (False, True))
    twists = {k: v * np.array([*linear, *angular]) for k, v in start.twists.items()}
    return Start(turned(start.position, joints), turned(start.velocity, joints), goal, start.poses, twists)


@pytest.mark.parametrize("name", TASKS)
def test_mirrored_rollouts_coincide(name: str) -> None:
    task, envs = load_task(name), [noiseless(name) for _ in range(2)]
    mirror = task.mirror
    assert mirror is not None
    start = task.explore(np.random.default_rng(0), 4)
    upright = {
        k: np.concatenate([v[:, :3] * [0, 0, 1], np.tile([1.0, 0, 0, 0], (4, 1))], 1) for k, v in start.poses.items()
    }
    start = replace(start, poses=upright)
    layout, model = envs[0].observation, envs[0].model
    shown = table(layout.components, model, mirror)
    action = table([f"previous_action/{a}" for a in layout.action.actuators], model, mirror)
    privileged = table(task.privileged_names, model, mirror)
    inputs = [envs[0].reset(start=start), envs[1].reset(start=mirrored(envs[1], start, mirror))]
    rng = np.random.default_rng(1)
    off, moved, rewards = [], [], []
    for _ in range(15):
        act = rng.uniform(-1.0, 1.0, (4, layout.action_size))
        outs = [envs[0].step(act), envs[1].step(turned(act, action))]
        inputs = [out.inputs for out in outs]
        images = [turned(inputs[0]["observation"], shown), *_told(inputs[0], privileged)]
        found = [inputs[1]["observation"], *_told(inputs[1], None)]
        off.append(np.concatenate([a - b for a, b in zip(images, found, strict=True)], axis=1))
        moved.append(
            np.concatenate(found, axis=1) - np.concatenate([inputs[0]["observation"], *_told(inputs[0], None)], 1)
        )
        rewards.append(np.abs(outs[0].reward - outs[1].reward))
    share = np.sqrt(np.mean(np.square(off)) / np.mean(np.square(moved)))
    assert share < OFF[name], "the mirror image of the motion, as a share of how far the two motions differ"
    assert np.max(rewards) < 5e-3 and np.sqrt(np.mean(np.square(moved))) > 0.1


def _told(inputs: dict[str, Array], privileged: tuple[tuple[int, ...], tuple[float, ...]] | None) -> list[Array]:
    if "privileged" not in inputs:
        return []
    return [inputs["privileged"] if privileged is None else turned(inputs["privileged"], privileged)]


def test_signs_follow_from_the_axes() -> None:
    model, mirror = Model(find_robot("quadruped")), load_task("quadruped_velocity").mirror
    assert mirror is not None
    signs = joint_signs(model, mirror)
    assert {signs[f"{leg}_hip"] for leg in ("FR", "FL", "RR", "RL")} == {-1.0}
    assert {signs[f"{leg}_{part}"] for leg in ("FR", "RL") for part in ("thigh", "calf")} == {1.0}
    names = ("position/FR_hip", "position/FL_hip", "gyro/x", "gyro/y", "gyro/z", "gravity/y", "goal/turning")
    assert table(names, model, mirror) == ((1, 0, 2, 3, 4, 5, 6), (-1.0, -1.0, -1.0, 1.0, -1.0, -1.0, -1.0))


def test_what_turns_with_a_joint_turns_in_every_feature() -> None:
    """A change of an angle is a velocity to whoever trusts angles alone, and has its sign."""
    task = load_task("pendubot_swingup")
    assert task.mirror is not None
    model = Model(find_robot(task.robot))
    layout = Observation(
        model.spec, replace(task.observation, features=("joint_cos", "joint_sin", "joint_change", "previous_action")),
        task.action,
    )  # fmt: skip
    index, signs = table(layout.components, model, task.mirror)
    assert index == tuple(range(7)) and signs == (1.0, 1.0, -1.0, -1.0, -1.0, -1.0, -1.0)


def test_a_robot_without_the_symmetry_is_refused() -> None:
    model = Model(find_robot("so101"))
    with pytest.raises(ConfigError, match="robot 'so101' is not symmetric: joint 'shoulder_lift'"):
        joint_signs(model, Mirror(normal="x"))
    with pytest.raises(ConfigError, match="has no joint 'RR_hip', the mirror image of 'FR_hip'"):
        joint_signs(
            Model(replace(find_robot("quadruped"), spec=_front(find_robot("quadruped").spec))),
            Mirror(normal="x", swaps=(("FR", "RR"),)),
        )
    with pytest.raises(ConfigError, match="needs component 'position/FL_hip', which is not there"):
        table(
            ("position/FR_hip",), Model(find_robot("quadruped")), Mirror(normal="y", swaps=(("FR", "FL"), ("RR", "RL")))
        )


def _front(spec):  # type: ignore[no-untyped-def]
    keep = [j for j in spec.joint_names if j.startswith("F")]
    return replace(
        spec,
        joints=tuple(j for j in spec.joints if j.name in keep),
        actuators=tuple(a for a in spec.actuators if a.joint in keep),
    )

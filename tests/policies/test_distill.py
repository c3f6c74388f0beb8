"""A student that sees does what a teacher with joint sensors would."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from policies.distill import DistillConfig, distill
from policies.encoders.vision import VisionEncoder
from policies.network import NetworkConfig
from policies.policy import Policy, PolicyCard
from policies.progress import Progress
from robot.config import ConfigError
from sim.model import RobotConfig
from sim.randomization import NOMINAL
from sim.sight import SightErrors
from sim.tasks import load_task
from sim.vecenv import BatchedEnv
from transfer.training import card_of

EXACT = SightErrors(("side",), ("joint_cos/shoulder", "joint_sin/shoulder"), np.zeros((1, 1, 1), np.float32))
FEW = DistillConfig(num_envs=16, rounds=4, steps=100, updates=250, batch=256, learning_rate=5e-3)


def lesson(robot: RobotConfig, seed: int = 0) -> BatchedEnv:
    return BatchedEnv(load_task("pendulum_swingup"), robot, NOMINAL, FEW.num_envs, seed=seed, sight=EXACT, nthread=1)


@pytest.fixture(scope="module")
def teacher(robot: RobotConfig) -> Policy:
    """It asks for more torque the faster the joint turns: what no single picture tells."""
    policy = Policy(card_of(load_task("pendulum_swingup"), robot, NetworkConfig(hidden=(8,)))).eval()
    with torch.no_grad():
        for weights in policy.actor.parameters():
            weights.zero_()
        policy.actor[0].weight[0, 2] = 0.1  # joint_velocity
        policy.actor[2].weight[0, 0] = 3.0
    return policy


@pytest.fixture(scope="module")
def student_card(robot: RobotConfig) -> PolicyCard:
    return card_of(load_task("pendulum_swingup_pixels"), robot, NetworkConfig(hidden=(32, 32), memory=3))


def test_the_student_learns_the_velocity_from_its_memory(
    robot: RobotConfig, teacher: Policy, student_card: PolicyCard, vision: VisionEncoder
) -> None:
    reports: list[Progress] = []
    student = distill(lesson(robot), teacher, student_card, vision, FEW, seed=0, report=reports.append)
    assert [r.done for r in reports] == [1, 2, 3, 4]
    env, act = lesson(robot, seed=9), student.episode()
    inputs, wrong, asked = env.reset(), [], []
    for step in range(40):
        layout_inputs = {"observation": env.observation.previous_action.astype(np.float32), "sight": inputs["sight"]}
        mine, theirs = act(layout_inputs), teacher.act(inputs)
        if step > 3:
            wrong.append(mine - theirs)
            asked.append(theirs)
        for _ in range(2):
            inputs = env.step(mine).inputs
    assert np.sqrt(np.mean(np.square(wrong))) < 0.5 * np.std(asked)
    assert torch.equal(student.vision.encoder.compress.weight, vision.compress.weight)  # type: ignore[union-attr]


def test_the_same_seed_gives_the_same_student(
    robot: RobotConfig, teacher: Policy, student_card: PolicyCard, vision: VisionEncoder
) -> None:
    short = replace(FEW, rounds=2, steps=10, updates=5)
    one, two = (distill(lesson(robot), teacher, student_card, vision, short, seed=3) for _ in range(2))
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


def test_a_teacher_of_another_rhythm_is_refused(
    robot: RobotConfig, teacher: Policy, student_card: PolicyCard, vision: VisionEncoder
) -> None:
    slower = replace(student_card, control_period_s=0.015)
    with pytest.raises(ConfigError, match=r"every 0.01 s; task 'pendulum_swingup_pixels' has .* every 0.015 s"):
        distill(lesson(robot), teacher, slower, vision, FEW, seed=0)

"""A robot, its task, and small encoders that the tests of policies share."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.encoders.physics import EncoderCard, EncoderConfig, PhysicsEncoder
from policies.encoders.vision import VisionCard, VisionConfig, VisionEncoder
from policies.encoders.windows import WindowData
from policies.network import NetworkConfig
from policies.policy import PolicyCard
from robot.observation import Observation
from sim.model import RobotConfig, load_robot
from sim.randomization import Randomization, Term, Uniform
from sim.tasks import Task, load_task
from transfer.windows import simulated_windows

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def robot() -> RobotConfig:
    return load_robot(CONFIGS / "robot" / "simple_pendulum.yaml")


@pytest.fixture(scope="session")
def task() -> Task:
    return load_task("pendulum_swingup")


@pytest.fixture(scope="session")
def wide() -> Randomization:
    """Pendulums of very different length and gain, so that a small encoder can tell them apart."""
    return Randomization(
        name="wide",
        terms=(
            Term(targets=("body/pendulum/com",), how="scale", law=Uniform(low=0.5, high=1.5)),
            Term(targets=("actuator/shoulder/gain",), law=Uniform(low=0.5, high=1.5)),
        ),
    )


@pytest.fixture(scope="session")
def small() -> EncoderConfig:
    return EncoderConfig(
        history=48, context=8, horizon=16, hidden=(32, 32), predictor=(32,), simulations=128, seconds=3.0, windows=24,
        grounding=150, updates=400, batch=96, learning_rate=4e-3,
    )  # fmt: skip


@pytest.fixture(scope="session")
def windows(task: Task, robot: RobotConfig, wide: Randomization, small: EncoderConfig) -> WindowData:
    return simulated_windows(task, robot, wide, small, seed=5, nthread=1)


@pytest.fixture(scope="session")
def encoder_card(task: Task, robot: RobotConfig, small: EncoderConfig) -> EncoderCard:
    layout = Observation(robot.spec, replace(task.observation, history=small.history), task.action)
    return EncoderCard.of(layout, small, task.control_period_s)


@pytest.fixture
def encoder(encoder_card: EncoderCard) -> PhysicsEncoder:
    torch.manual_seed(3)
    return PhysicsEncoder(encoder_card).eval()


@pytest.fixture(scope="session")
def vision(robot: RobotConfig) -> VisionEncoder:
    """An untrained vision encoder of the pendulum's camera."""
    config = VisionConfig(channels=(8, 8, 8), points=4, features=8)
    torch.manual_seed(4)
    return VisionEncoder(VisionCard.of(robot.spec, config, ("joint/shoulder", "body/pendulum"))).eval()


@pytest.fixture(scope="session")
def card(task: Task, robot: RobotConfig) -> PolicyCard:
    return PolicyCard(
        task=task.name,
        control_period_s=task.control_period_s,
        spec=robot.spec,
        observation=task.observation,
        action=task.action,
        network=NetworkConfig(hidden=(16, 16)),
    )


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)

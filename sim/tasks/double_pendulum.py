"""Swing up a double pendulum with one driven joint, and hold it upright.

The pendubot drives the shoulder alone, the acrobot the elbow: the other actuator is not in the action, so it is sent
0 N m.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from robot.observation import ActionConfig, ObservationConfig
from sim.state import Start, State
from sim.symmetry import Mirror
from sim.tasks import Array, Flags, Task, wrapped

UPRIGHT = np.array([np.pi, 0.0])
REGION = np.array([0.35, 0.35])
REGION_SPEED = np.array([1.0, 1.0])
LENGTHS = np.array([0.2, 0.3])
TORQUE_NM = 6.0


@dataclass(frozen=True, kw_only=True)
class DoublePendulumSwingup(Task):
    """From hanging at rest to upright, (π, 0) at rest, at the end of the episode."""

    def start(self, rng: np.random.Generator, n: int) -> Start:
        return Start(np.zeros((n, 2)), np.zeros((n, 2)))

    def explore(self, rng: np.random.Generator, n: int) -> Start:
        """40 % near hanging, 36 % anywhere, 24 % near upright."""
        kind, scale = rng.random((n, 1)), rng.random((n, 1))  # from easy to hold upright to hardly possible
        near, slow = scale * rng.uniform(-0.2, 0.2, (n, 2)), scale * rng.uniform(-0.5, 0.5, (n, 2))
        anywhere, fast = rng.uniform(-np.pi, np.pi, (n, 2)), rng.uniform(-8.0, 8.0, (n, 2))
        position = np.where(kind < 0.4, near, np.where(kind < 0.76, anywhere, UPRIGHT + near))
        velocity = np.where((kind < 0.4) | (kind >= 0.76), slow, fast)
        return Start(position, velocity)

    def reward(self, state: State) -> dict[str, Array]:
        """Height of the tip, bonuses for being near rest upright and for rest itself, and small costs of torque."""
        angles = np.cumsum(state.position, axis=1)
        error = np.square(wrapped(state.position - UPRIGHT)).sum(axis=1)
        speed = np.square(state.velocity).sum(axis=1)
        torque = np.square(self.torque(state) / TORQUE_NM).sum(axis=1)
        change = np.square(self.change(state, TORQUE_NM)).sum(axis=1)
        return {
            "height": 0.015 * (1.0 - np.cos(angles) @ LENGTHS / LENGTHS.sum()),
            "near": 0.05 * np.exp(-error / 0.5**2 - speed / 3.0**2),
            "rest": 0.1 * np.exp(-error / 0.2**2 - speed / 0.8**2),
            "torque": 0.002 * (1.0 - torque),
            "smoothness": 0.001 * (4.0 - change),
        }

    def inside(self, state: State) -> Flags:
        near = np.abs(wrapped(state.position - UPRIGHT)) < REGION
        return np.all(near & (np.abs(state.velocity) < REGION_SPEED), axis=1)


TASKS: dict[str, Task] = {
    "pendubot_swingup": DoublePendulumSwingup(
        name="pendubot_swingup",
        robot="double_pendulum_c1",
        episode_s=10.0,
        explore_s=3.0,
        control_period_s=0.01,
        hold_s=0.0,
        pose=(math.pi, 0.0),
        pose_within=(0.35, 0.35),
        pose_speed=(1.0, 1.0),
        observation=ObservationConfig(features=("joint_cos", "joint_sin", "joint_velocity", "previous_action")),
        action=ActionConfig(actuators=("shoulder",), scale=(TORQUE_NM,)),
        mirror=Mirror(normal="x"),
    ),
    "acrobot_swingup": DoublePendulumSwingup(
        name="acrobot_swingup",
        robot="double_pendulum_c1",
        episode_s=10.0,
        explore_s=3.0,
        control_period_s=0.01,
        hold_s=0.0,
        pose=(math.pi, 0.0),
        pose_within=(0.35, 0.35),
        pose_speed=(1.0, 1.0),
        pose_reach=(0.75, 0.75),  # on the way to rest the elbow swings out and back
        observation=ObservationConfig(features=("joint_cos", "joint_sin", "joint_velocity", "previous_action")),
        action=ActionConfig(actuators=("elbow",), scale=(TORQUE_NM,)),
        mirror=Mirror(normal="x"),
    ),
}

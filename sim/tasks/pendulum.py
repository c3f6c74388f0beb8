"""Swing up a pendulum whose motor is too weak to lift it at once, and hold it upright."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot.observation import ActionConfig, ObservationConfig
from sim.tasks import Array, Flags, Task, wrapped

START_RAD = 0.05
REGION_RAD, REGION_RAD_S = 0.2, 0.5
TORQUE_NM = 1.5


@dataclass(frozen=True, kw_only=True)
class PendulumSwingup(Task):
    """From hanging to upright (π), within 0.2 rad and slower than 0.5 rad/s for the last second."""

    def start(self, rng: np.random.Generator, n: int) -> tuple[Array, Array]:
        return rng.uniform(-START_RAD, START_RAD, (n, 1)), np.zeros((n, 1))

    def explore(self, rng: np.random.Generator, n: int) -> tuple[Array, Array]:
        """Half hanging, a third anywhere on the way up, the rest near upright."""
        position, velocity = self.start(rng, n)
        kind = rng.random((n, 1))
        anywhere = rng.uniform(-np.pi, np.pi, (n, 1)), rng.uniform(-6.0, 6.0, (n, 1))
        upright = np.pi + rng.uniform(-0.3, 0.3, (n, 1)), rng.uniform(-1.0, 1.0, (n, 1))
        position = np.where(kind < 0.5, position, np.where(kind < 0.83, anywhere[0], upright[0]))
        velocity = np.where(kind < 0.5, velocity, np.where(kind < 0.83, anywhere[1], upright[1]))
        return position, velocity

    def reward(self, position: Array, velocity: Array, effort: Array, previous_effort: Array) -> Array:
        """Height, a bonus for resting upright, and small costs of torque and of its changes."""
        error, speed = wrapped(position[:, 0] - np.pi), velocity[:, 0]
        height = 0.5 * (1.0 + np.cos(error))
        rest = np.exp(-np.square(error / 0.25) - np.square(speed / 0.8))
        torque = np.square(effort[:, 0] / TORQUE_NM)
        change = np.square((effort - previous_effort)[:, 0] / TORQUE_NM)
        return 0.1 * (0.4 * height + rest + 0.05 * (1.0 - torque) + 0.02 * (4.0 - change))

    def inside(self, position: Array, velocity: Array) -> Flags:
        return (np.abs(wrapped(position[:, 0] - np.pi)) < REGION_RAD) & (np.abs(velocity[:, 0]) < REGION_RAD_S)


TASKS: dict[str, Task] = {
    "pendulum_swingup": PendulumSwingup(
        name="pendulum_swingup",
        robot="simple_pendulum",
        episode_s=6.0,
        explore_s=3.0,
        control_period_s=0.01,
        hold_s=1.0,
        observation=ObservationConfig(features=("joint_cos", "joint_sin", "joint_velocity", "previous_action")),
        action=ActionConfig(actuators=("shoulder",), scale=(TORQUE_NM,)),
    )
}

"""Swing up a pendulum whose motor is too weak to lift it at once, and hold it upright.

`pendulum_swingup_pixels` is the same with a camera and no joint sensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot.observation import ActionConfig, ObservationConfig
from sim.state import Start, State
from sim.symmetry import Mirror
from sim.tasks import Array, Flags, Task, wrapped

START_RAD = 0.05
REGION_RAD, REGION_RAD_S = 0.2, 0.5
TORQUE_NM = 1.5


@dataclass(frozen=True, kw_only=True)
class PendulumSwingup(Task):
    """From hanging to upright (π), within 0.2 rad and slower than 0.5 rad/s for the last second."""

    def start(self, rng: np.random.Generator, n: int) -> Start:
        return Start(rng.uniform(-START_RAD, START_RAD, (n, 1)), np.zeros((n, 1)))

    def explore(self, rng: np.random.Generator, n: int) -> Start:
        """Half hanging, a third anywhere on the way up, the rest near upright."""
        hanging = self.start(rng, n)
        kind = rng.random((n, 1))
        anywhere = rng.uniform(-np.pi, np.pi, (n, 1)), rng.uniform(-6.0, 6.0, (n, 1))
        upright = np.pi + rng.uniform(-0.3, 0.3, (n, 1)), rng.uniform(-1.0, 1.0, (n, 1))
        position = np.where(kind < 0.5, hanging.position, np.where(kind < 0.83, anywhere[0], upright[0]))
        velocity = np.where(kind < 0.5, hanging.velocity, np.where(kind < 0.83, anywhere[1], upright[1]))
        return Start(position, velocity)

    def reward(self, state: State) -> dict[str, Array]:
        """Height, a bonus for resting upright, and small costs of torque and of its changes."""
        error, speed = wrapped(state.position[:, 0] - np.pi), state.velocity[:, 0]
        torque = np.square(self.torque(state)[:, 0] / TORQUE_NM)
        change = np.square(self.change(state, TORQUE_NM)[:, 0])
        return {
            "height": 0.02 * (1.0 + np.cos(error)),
            "rest": 0.1 * np.exp(-np.square(error / 0.25) - np.square(speed / 0.8)),
            "torque": 0.005 * (1.0 - torque),
            "smoothness": 0.002 * (4.0 - change),
        }

    def privileged(self, state: State) -> Array:
        angle = state.position
        values = np.concatenate([np.cos(angle), np.sin(angle), state.velocity], axis=1)
        return values[:, : len(self.privileged_names)]

    def inside(self, state: State) -> Flags:
        error = np.abs(wrapped(state.position[:, 0] - np.pi))
        return (error < REGION_RAD) & (np.abs(state.velocity[:, 0]) < REGION_RAD_S)


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
        mirror=Mirror(normal="x"),
    ),
    "pendulum_swingup_pixels": PendulumSwingup(
        name="pendulum_swingup_pixels",
        robot="simple_pendulum",
        episode_s=6.0,
        explore_s=3.0,
        control_period_s=0.02,
        hold_s=1.0,
        privileged_names=("cos", "sin", "velocity"),
        observation=ObservationConfig(features=("previous_action",), cameras=("side",)),
        action=ActionConfig(actuators=("shoulder",), scale=(TORQUE_NM,)),
        mirror=Mirror(normal="x", flips=("sin", "velocity")),
    ),
}

"""Turn the flywheel to half a turn and stop there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot.observation import ActionConfig, ObservationConfig
from sim.state import Start, State
from sim.tasks import Array, Flags, Task, wrapped

GOAL = np.pi


@dataclass(frozen=True, kw_only=True)
class Turn(Task):
    """From rest anywhere near 0 to π, within 0.2 rad and slower than 0.5 rad/s for the last half second."""

    def start(self, rng: np.random.Generator, n: int) -> Start:
        return Start(rng.uniform(-0.1, 0.1, (n, 1)), np.zeros((n, 1)))

    def explore(self, rng: np.random.Generator, n: int) -> Start:
        """Anywhere, at any speed on the way."""
        return Start(rng.uniform(-np.pi, np.pi, (n, 1)), rng.uniform(-4.0, 4.0, (n, 1)))

    def reward(self, state: State) -> dict[str, Array]:
        near = 0.5 * (1.0 + np.cos(state.position[:, 0] - GOAL))
        return {"near": 0.1 * near, "rest": 0.1 * near * np.exp(-np.square(state.velocity[:, 0]))}

    def inside(self, state: State) -> Flags:
        near = np.abs(wrapped(state.position[:, 0] - GOAL)) < 0.2
        return near & (np.abs(state.velocity[:, 0]) < 0.5)


TASKS: dict[str, Task] = {
    "flywheel_turn": Turn(
        name="flywheel_turn",
        robot="flywheel",
        episode_s=3.0,
        explore_s=1.5,
        control_period_s=0.02,
        hold_s=0.5,
        observation=ObservationConfig(features=("joint_cos", "joint_sin", "joint_velocity", "previous_action")),
        action=ActionConfig(actuators=("shaft",), scale=(0.1,)),
    )
}

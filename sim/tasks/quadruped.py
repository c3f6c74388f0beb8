"""A quadruped that walks as it is told: forward and sideways velocity and turning rate.

The policy sees joints, IMU and the command; the trunk's own velocity, which no sensor measures, is privileged. Rough
ground is a matter of the randomization (`dr=quadruped_rough`), not of the task.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot.observation import ActionConfig, ObservationConfig, gravity_direction
from sim.state import Start, State
from sim.symmetry import Mirror
from sim.tasks import Array, Flags, Task

TRUNK = "trunk"
LEGS = ("FR", "FL", "RR", "RL")
JOINTS = tuple(f"{leg}_{part}" for leg in LEGS for part in ("hip", "thigh", "calf"))
STANCE = np.array([0.0, 0.9, -1.8] * 4)
"""[rad] the default pose, hip, thigh and calf of each leg."""
STANDING_M, FALLEN_M = 0.287, 0.15
FALLEN_TILT = 0.5
"""Cosine of the tilt below which the robot has fallen."""
COMMANDS = np.array([[-0.5, 1.0], [-0.3, 0.3], [-0.7, 0.7]])
"""Range of forward and sideways velocity [m/s] and of the turning rate [rad/s]."""
STILL_SHARE = 0.1
PERIOD_S = 0.02


def body_velocity(state: State) -> Array:
    """(n, 3) velocity of the trunk in its own frame [m/s]."""
    w, *xyz = state.pose(TRUNK)[:, 3:].T
    axis, velocity = np.stack(xyz, axis=1), state.twist(TRUNK)[:, :3]
    turned = 2.0 * np.cross(-axis, velocity)
    return velocity + w[:, None] * turned + np.cross(-axis, turned)


@dataclass(frozen=True, kw_only=True)
class QuadrupedVelocity(Task):
    """No fall in 20 s, and a mean error of the planar velocity of at most 0.2 m/s."""

    def start(self, rng: np.random.Generator, n: int) -> Start:
        """Standing, with a command of its own for each."""
        return self._standing(rng, n, spread=0.05)

    def explore(self, rng: np.random.Generator, n: int) -> Start:
        """Standing less well."""
        start = self._standing(rng, n, spread=0.2)
        return Start(start.position, start.velocity, start.goal, start.poses, {TRUNK: rng.uniform(-0.4, 0.4, (n, 6))})

    def _standing(self, rng: np.random.Generator, n: int, spread: float) -> Start:
        goal = rng.uniform(COMMANDS[:, 0], COMMANDS[:, 1], (n, 3)) * (rng.random((n, 1)) >= STILL_SHARE)
        position = STANCE + rng.uniform(-spread, spread, (n, 12))
        turn, zero = rng.uniform(-np.pi, np.pi, n), np.zeros(n)
        height = zero + STANDING_M + 0.1 * spread
        pose = np.column_stack([zero, zero, height, np.cos(turn / 2), zero, zero, np.sin(turn / 2)])
        return Start(position, np.zeros((n, 12)), goal, {TRUNK: pose})

    def reward(self, state: State) -> dict[str, Array]:
        """Following the command, less what makes walking rough; `floor` lifts the sum to 0 where it would be below."""
        velocity, turning = body_velocity(state), state.twist(TRUNK)[:, 3:]
        tilt = gravity_direction(state.pose(TRUNK)[:, 3:])[:, :2]
        height = state.pose(TRUNK)[:, 2] - 0.27
        terms = {
            "velocity": 1.5 * np.exp(-np.square(state.goal[:, :2] - velocity[:, :2]).sum(axis=1) / 0.1),
            "turning": 0.75 * np.exp(-np.square(state.goal[:, 2] - turning[:, 2]) / 0.1),
            "bounce": -0.5 * np.square(velocity[:, 2]),
            "wobble": -0.03 * np.square(turning[:, :2]).sum(axis=1),
            "tilt": -2.0 * np.square(tilt).sum(axis=1),
            "height": -10.0 * np.square(height),
            "pose": -0.05 * np.square(state.position - STANCE).sum(axis=1),
            "torque": -1e-4 * np.square(state.effort).sum(axis=1),
            "smoothness": -0.02 * np.square(state.action - state.previous_action).sum(axis=1),
        }
        terms["floor"] = np.maximum(0.0, -sum(terms.values(), np.zeros(len(height))))
        return {name: PERIOD_S * value for name, value in terms.items()}

    def inside(self, state: State) -> Flags:
        return ~self.terminated(state)

    def terminated(self, state: State) -> Flags:
        """Fallen: the trunk is low, or tilted by more than 60 degrees."""
        pose = state.pose(TRUNK)
        return (pose[:, 2] < FALLEN_M) | (-gravity_direction(pose[:, 3:])[:, 2] < FALLEN_TILT)

    def error(self, state: State) -> Array:
        """(n,) error of the planar velocity [m/s]."""
        return np.sqrt(np.square(state.goal[:, :2] - body_velocity(state)[:, :2]).sum(axis=1))

    def privileged(self, state: State) -> Array:
        touch = np.concatenate([state.sensor(f"{leg}_touch") for leg in LEGS], axis=1)
        return np.concatenate([body_velocity(state), state.pose(TRUNK)[:, 2:3], 0.01 * touch], axis=1)


TASKS: dict[str, Task] = {
    "quadruped_velocity": QuadrupedVelocity(
        name="quadruped_velocity",
        robot="quadruped",
        episode_s=20.0,
        explore_s=10.0,
        control_period_s=PERIOD_S,
        hold_s=0.0,
        error_limit=0.2,
        fields=("sensordata",),
        privileged_names=(
            *(f"velocity/{c}" for c in "xyz"),
            "height",
            *(f"touch/{leg}" for leg in LEGS),
        ),
        observation=ObservationConfig(
            features=(
                "imu_gyro",
                "imu_gravity",
                "imu_accel",
                "goal",
                "joint_position",
                "joint_velocity",
                "joint_effort",
                "previous_action",
            ),
            goal=("forward", "sideways", "turning"),
        ),
        action=ActionConfig(kind="position", actuators=JOINTS, scale=(0.3, 0.5, 0.5) * 4),
        mirror=Mirror(
            normal="y",
            swaps=(("FR", "FL"), ("RR", "RL")),
            flips=("goal/sideways", "goal/turning", "velocity/y"),
        ),
    )
}

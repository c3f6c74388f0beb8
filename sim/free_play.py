"""A task that asks nothing: for robots that have none, so that an encoder can be pretrained for any robot.

The observation is what every such robot measures of its joints and of its attitude; the actions drive all of its
actuators over their whole range.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot.observation import ActionConfig, ObservationConfig
from robot.spec import RobotSpec
from sim.state import Start, State
from sim.tasks import Array, Flags, Task

EPISODE_S = 10.0
UNLIMITED_RAD = 1.5
"""Reach of a joint without limits from its default position, of starts and of position commands."""
START_SPEED = 0.1
"""Largest speed of a start, as a share of the joint's limit."""
IMU = {"imu.gyro": "imu_gyro", "imu.orientation": "imu_gravity"}


@dataclass(frozen=True, kw_only=True)
class FreePlay(Task):
    """Nothing to gain and nowhere to be."""

    low: tuple[float, ...]
    """[rad] lowest start of each joint."""
    high: tuple[float, ...]
    speed: tuple[float, ...]
    """[rad/s] largest start speed of each joint."""

    def start(self, rng: np.random.Generator, n: int) -> Start:
        return self.explore(rng, n)

    def explore(self, rng: np.random.Generator, n: int) -> Start:
        """Anywhere within the middle of the travel, slowly moving."""
        shape, speed = (n, len(self.low)), np.array(self.speed)
        return Start(rng.uniform(self.low, self.high, shape), rng.uniform(-speed, speed, shape))

    def reward(self, state: State) -> dict[str, Array]:
        return {"none": np.zeros(len(state.position))}

    def inside(self, state: State) -> Flags:
        return np.ones(len(state.position), dtype=bool)


def free_play(spec: RobotSpec) -> FreePlay:
    """The task of that kind for a robot."""
    low, high = np.array([j.position_limits for j in spec.joints]).T
    bounded = np.isfinite(low) & np.isfinite(high)
    low, high = (np.where(bounded, limit, spec.default_pose) for limit in (low, high))
    reach, middle = np.where(bounded, 0.5 * (high - low), UNLIMITED_RAD), 0.5 * (low + high)
    positions = ("joint_position",) if bounded.all() else ("joint_cos", "joint_sin")
    measured = {s.signal for s in spec.sensors}
    imu = tuple(feature for signal, feature in IMU.items() if signal in measured)
    servo = spec.actuators[0].kind == "position_pd"
    scale = reach[spec.driven] if servo else spec.effort_limits[spec.driven]
    return FreePlay(
        name=f"free_play/{spec.name}",
        robot=spec.name,
        episode_s=EPISODE_S,
        explore_s=EPISODE_S,
        control_period_s=spec.control_period_s,
        hold_s=0.0,
        observation=ObservationConfig(features=(*imu, *positions, "joint_velocity", "previous_action")),
        action=ActionConfig(
            kind="position" if servo else "effort",
            actuators=tuple(a.name for a in spec.actuators),
            scale=tuple(float(s) for s in scale),
        ),
        low=tuple((middle - 0.6 * reach).tolist()),
        high=tuple((middle + 0.6 * reach).tolist()),
        speed=tuple(START_SPEED * j.velocity_limit for j in spec.joints),
    )

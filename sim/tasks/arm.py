"""A small arm: bring the tool to a point, push a cube to a place on the table, lift it.

The policy's own observation is what the arm measures and the goal; where the cube is, only cameras tell. A critic or
a teacher sees it in the privileged signals.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import mujoco
import numpy as np

from robot.observation import ActionConfig, ObservationConfig
from sim.model import Model, find_robot
from sim.state import Start, State
from sim.tasks import Array, Flags, Task

ROBOT = "so101"
TOOL, GRASP, CUBE = "gripperframe", "grasp", "cube"
REACHED_M, PUSHED_M, LIFTED_M = 0.02, 0.03, 0.05
HALF_CUBE_M = 0.0175
CLEARANCE_M = 0.03
POOL, POOL_SEED = 4096, 20_240
ARM = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll")
SCALE = (1.95, 2.35, 2.1, 3.1, 2.85)
"""[rad] from the default pose to the far end of each joint's travel."""


@functools.cache
def reachable() -> tuple[Array, Array]:
    """Poses that touch nothing, (POOL, 6) [rad], and where the tool is in them, (POOL, 3) [m].

    Made once a process: goals and starts are drawn from it, so every goal can be reached and no start is in the table.
    """
    model = Model(find_robot(ROBOT))
    data, rng = mujoco.MjData(model.mj), np.random.default_rng(POOL_SEED)
    low, high = np.array([j.position_limits for j in model.spec.joints]).T
    low, high = low + 0.1 * (high - low), high - 0.1 * (high - low)
    cube = int(model.mj.joint(CUBE).qposadr[0])
    tool, tips = model.mj.site(TOOL).id, [model.mj.site(TOOL).id, model.mj.site(GRASP).id]
    bodies = [model.mj.body(name).id for name in ("wrist", "gripper", "moving_jaw", "lower_arm")]
    poses, tools = np.empty((POOL, len(low))), np.empty((POOL, 3))
    kept = 0
    while kept < POOL:
        pose = rng.uniform(low, high)
        data.qpos[model.qpos_index], data.qpos[cube + 2] = pose, 10.0  # the cube is out of the way
        mujoco.mj_kinematics(model.mj, data)
        mujoco.mj_collision(model.mj, data)
        lowest = min(data.site_xpos[tips, 2].min(), data.xpos[bodies, 2].min())
        in_front = data.site_xpos[tool, 0] > 0.05
        if lowest > CLEARANCE_M and in_front and data.ncon == 0:
            poses[kept], tools[kept] = pose, data.site_xpos[tool]
            kept += 1
    return poses, tools


def random_pose(rng: np.random.Generator, n: int) -> Array:
    """(n, 6) poses that touch nothing [rad]."""
    return reachable()[0][rng.integers(POOL, size=n)]


def on_table(rng: np.random.Generator, n: int) -> Array:
    """(n, 2) places on the table within the arm's comfortable reach [m]."""
    radius, angle = rng.uniform(0.18, 0.30, n), rng.uniform(-0.8, 0.8, n)
    return np.stack([0.04 + radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def cube_pose(rng: np.random.Generator, place: Array) -> Array:
    """(n, 7) the cube lying at (n, 2) places [m], turned at random."""
    turn, zero = rng.uniform(-np.pi / 4, np.pi / 4, len(place)), np.zeros(len(place))
    return np.column_stack([place, zero + HALF_CUBE_M, np.cos(turn / 2), zero, zero, np.sin(turn / 2)])


def gap(a: Array, b: Array) -> Array:
    """(n,) distance between points (n, k) [m]."""
    return np.sqrt(np.square(a - b).sum(axis=1))


def effort_terms(state: State) -> dict[str, Array]:
    """Rewards of slow joints and of targets that do not jump; without them a policy trembles about its goal."""
    change = np.square(state.action - state.previous_action).mean(axis=1)
    return {
        "slowness": 0.02 / (1.0 + np.square(state.velocity).mean(axis=1)),
        "smoothness": 0.03 / (1.0 + 30.0 * change),
    }


@dataclass(frozen=True, kw_only=True)
class ArmReach(Task):
    """The tool within 2 cm of the goal at the end; goal and start are random poses."""

    def start(self, rng: np.random.Generator, n: int) -> Start:
        position = random_pose(rng, n)
        return Start(position, np.zeros_like(position), goal=reachable()[1][rng.integers(POOL, size=n)])

    def explore(self, rng: np.random.Generator, n: int) -> Start:
        """As the evaluation: a whole reach is short enough."""
        return self.start(rng, n)

    def reward(self, state: State) -> dict[str, Array]:
        """Nearness on three scales, and small costs."""
        distance = gap(state.site(TOOL), state.goal)
        return {
            "far": 0.02 * np.exp(-distance / 0.3),
            "near": 0.04 * np.exp(-distance / 0.08),
            "there": 0.06 * np.exp(-distance / 0.02),
        } | effort_terms(state)

    def inside(self, state: State) -> Flags:
        return gap(state.site(TOOL), state.goal) < REACHED_M


@dataclass(frozen=True, kw_only=True)
class ArmWithCube(Task):
    """What pushing and lifting share: where the cube may lie, and what is privileged."""

    def explore(self, rng: np.random.Generator, n: int) -> Start:
        """As the evaluation, but half of the arms begin with the tool near the cube."""
        start = self.start(rng, n)
        poses, tools = reachable()
        near = np.square(tools[None, :256] - start.poses[CUBE][:, None, :3]).sum(axis=2).argmin(axis=1)
        position = np.where(rng.random((n, 1)) < 0.5, poses[near], start.position)
        return Start(position, start.velocity, start.goal, start.poses)

    def privileged(self, state: State) -> Array:
        cube, tool = state.pose(CUBE), state.site(GRASP)
        return np.concatenate([cube, state.twist(CUBE), tool, cube[:, :3] - tool], axis=1)


@dataclass(frozen=True, kw_only=True)
class ArmPush(ArmWithCube):
    """The cube within 3 cm of a place on the table at the end."""

    def start(self, rng: np.random.Generator, n: int) -> Start:
        position = random_pose(rng, n)
        return Start(position, np.zeros_like(position), on_table(rng, n), {CUBE: cube_pose(rng, on_table(rng, n))})

    def reward(self, state: State) -> dict[str, Array]:
        """The tool behind the cube, the cube near the goal and there, and small costs."""
        cube = state.pose(CUBE)[:, :3]
        left = gap(cube[:, :2], state.goal)
        behind = cube.copy()
        behind[:, :2] += 0.03 * (cube[:, :2] - state.goal) / np.maximum(left, 1e-3)[:, None]
        return {
            "approach": 0.02 * np.exp(-gap(state.site(GRASP), behind) / 0.1),
            "push": 0.05 * np.exp(-left / 0.1),
            "there": 0.08 * np.exp(-np.square(left / 0.02)),
        } | effort_terms(state)

    def inside(self, state: State) -> Flags:
        return gap(state.pose(CUBE)[:, :2], state.goal) < PUSHED_M


@dataclass(frozen=True, kw_only=True)
class ArmLift(ArmWithCube):
    """The cube at least 5 cm above where it lay, for the last second."""

    def start(self, rng: np.random.Generator, n: int) -> Start:
        position = random_pose(rng, n)
        return Start(position, np.zeros_like(position), poses={CUBE: cube_pose(rng, on_table(rng, n))})

    def reward(self, state: State) -> dict[str, Array]:
        """The cube between the jaws, its height, its being lifted, and small costs."""
        cube = state.pose(CUBE)[:, :3]
        height = np.clip(cube[:, 2] - HALF_CUBE_M, 0.0, LIFTED_M + 0.02)
        return {
            "approach": 0.02 * np.exp(-gap(state.site(GRASP), cube) / 0.08),
            "grasp": 0.02 * np.exp(-np.square(gap(state.site(GRASP), cube) / 0.02)),
            "height": height,
            "lifted": np.where(height >= LIFTED_M, 0.08, 0.0),
        } | effort_terms(state)

    def inside(self, state: State) -> Flags:
        return state.pose(CUBE)[:, 2] - HALF_CUBE_M >= LIFTED_M


OBSERVED = ("joint_position", "joint_velocity", "goal", "previous_action")
CUBE_SIGNALS = (
    *(f"cube/{c}" for c in ("x", "y", "z", "qw", "qx", "qy", "qz", "vx", "vy", "vz", "wx", "wy", "wz")),
    *(f"tool/{c}" for c in "xyz"),
    *(f"tool_to_cube/{c}" for c in "xyz"),
)
REACH = ActionConfig(kind="position", actuators=ARM, scale=SCALE)
GRIP = ActionConfig(kind="position", actuators=(*ARM, "gripper"), scale=(*SCALE, 1.25))

TASKS: dict[str, Task] = {
    "arm_reach": ArmReach(
        name="arm_reach",
        robot=ROBOT,
        episode_s=3.0,
        explore_s=3.0,
        control_period_s=0.02,
        hold_s=0.0,
        fields=("site_xpos",),
        observation=ObservationConfig(features=OBSERVED, goal=("x", "y", "z")),
        action=REACH,
    ),
    "arm_push": ArmPush(
        name="arm_push",
        robot=ROBOT,
        episode_s=6.0,
        explore_s=6.0,
        control_period_s=0.02,
        hold_s=0.0,
        fields=("site_xpos",),
        privileged_names=CUBE_SIGNALS,
        observation=ObservationConfig(features=OBSERVED, goal=("x", "y")),
        action=GRIP,
    ),
    "arm_lift": ArmLift(
        name="arm_lift",
        robot=ROBOT,
        episode_s=6.0,
        explore_s=6.0,
        control_period_s=0.02,
        hold_s=1.0,
        fields=("site_xpos",),
        privileged_names=CUBE_SIGNALS,
        observation=ObservationConfig(features=("joint_position", "joint_velocity", "previous_action")),
        action=GRIP,
    ),
}

"""Gymnasium's Ant-v5 in the batched environment: the yardstick against other simulators, not a robot that ships.

It stands over the ant.xml of the gymnasium that is installed, and gives that environment's states, rewards, ends
and observations (its 105 numbers are `privileged`: no ant measures its torso's velocity or its contact forces).
    env = BatchedEnv(ANT, ant_robot(), NOMINAL, 1024, privileged=True)
Source: gymnasium/envs/mujoco/ant_v5.py with its default arguments.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from importlib import resources

import numpy as np

from robot.observation import ActionConfig, ObservationConfig
from robot.spec import ActuatorSpec, JointSpec, RobotSpec, SensorSpec
from sim import contact_forces
from sim.model import RobotConfig, SimConfig
from sim.state import Start, State
from sim.tasks import Array, Flags, Task

LEGS = (1, 2, 3, 4)
JOINTS = tuple(f"{part}_{leg}" for leg in LEGS for part in ("hip", "ankle"))
DRIVEN = tuple(f"{part}_{leg}" for leg in (4, 1, 2, 3) for part in ("hip", "ankle"))
"""In the order of gymnasium's actions."""
BODIES = (
    "torso",
    *(f"{name}" for leg, side in zip(LEGS, ("front_left", "front_right", "back", "right_back"), strict=True)
      for name in (f"{side}_leg", f"aux_{leg}", f"foot_{leg}")),
)  # fmt: skip
FLOOR = "floor"
TORSO = 1
"""Row of `xpos`; 0 is the world."""
HIP_RANGE, ANKLE_RANGE = (-30.0, 30.0), (30.0, 70.0)
"""[degree]; those of ankles 2 and 3 are negated."""
TORQUE_NM = 150.0
TIMESTEP_S, FRAME_SKIP = 0.01, 5
HEALTHY_Z = (0.2, 1.0)
START_HEIGHT, START_NOISE = 0.75, 0.1
CONTROL_COST, CONTACT_COST = 0.5, 5e-4


@dataclass(frozen=True, kw_only=True)
class Ant(Task):
    """Run along x without falling or flipping over."""

    def start(self, rng: np.random.Generator, n: int) -> Start:
        """The pose of the MJCF and rest, both with noise."""
        place = np.array([0.0, 0.0, START_HEIGHT, 1.0, 0.0, 0.0, 0.0])
        position = rng.uniform(-START_NOISE, START_NOISE, (n, 7 + len(JOINTS)))
        velocity = START_NOISE * rng.standard_normal((n, 6 + len(JOINTS)))
        # the quaternion keeps its noise, as in gymnasium: MuJoCo normalizes it where it is used
        return Start(
            position[:, 7:], velocity[:, 6:], poses={"root": place + position[:, :7]}, twists={"root": velocity[:, :6]}
        )

    def explore(self, rng: np.random.Generator, n: int) -> Start:
        return self.start(rng, n)

    def reward(self, state: State) -> dict[str, Array]:
        """Speed of the torso along x [m/s], 1 for being healthy, and costs of control and of contact."""
        moved = state.fields["xpos"][:, TORSO, 0] - state.fields_before["xpos"][:, TORSO, 0]
        contact = _contact(state)
        return {
            "forward": moved / self.control_period_s,
            "survive": self.inside(state).astype(np.float64),
            "control": -CONTROL_COST * np.square(state.action).sum(axis=1),
            "contact": -CONTACT_COST * np.einsum("ij,ij->i", contact, contact),
        }

    def inside(self, state: State) -> Flags:
        """Whether the ant is healthy; staying so to the end of the episode is its success."""
        height = state.qpos[:, 2]
        return (height >= HEALTHY_Z[0]) & (height <= HEALTHY_Z[1])

    def terminated(self, state: State) -> Flags:
        return ~self.inside(state)

    def privileged(self, state: State) -> Array:
        """(n, 105) gymnasium's observation: qpos without x and y, qvel, contact forces on the bodies."""
        return np.concatenate([state.qpos[:, 2:], state.qvel, _contact(state)], axis=1)


def _contact(state: State) -> Array:
    """(n, 78) torque and force on each body about the ant's centre of mass [N m], [N], clipped to [-1, 1]."""
    forces = np.clip(state.fields["cfrc_ext"][:, TORSO:], -1.0, 1.0).reshape(len(state.qpos), -1)
    if not state.age.all():  # none before the first step, as in gymnasium
        forces[state.age == 0] = 0.0
    return forces


def ant_robot() -> RobotConfig:
    """The ant as a robot with eight torque motors; its MJCF is gymnasium's own, with names where that has none."""
    contact_forces.register()
    return RobotConfig(
        spec=RobotSpec(
            name="ant",
            joints=tuple(_joint(name) for name in JOINTS),
            actuators=tuple(ActuatorSpec(name=name, joint=name, effort_limit=TORQUE_NM) for name in JOINTS),
            sensors=(SensorSpec(signal="joint.position"), SensorSpec(signal="joint.velocity")),
            control_period_s=TIMESTEP_S * FRAME_SKIP,
        ),
        model=SimConfig(mjcf=_mjcf(), timestep_s=TIMESTEP_S),
    )


def _joint(name: str) -> JointSpec:
    low, high = HIP_RANGE if name.startswith("hip") else ANKLE_RANGE
    if name in ("ankle_2", "ankle_3"):
        low, high = -high, -low
    return JointSpec(
        name=name,
        position_limits=(math.radians(low), math.radians(high)),
        default_position=math.radians(0.5 * (low + high)),
        velocity_limit=math.inf,
    )


def _mjcf() -> str:
    """Gymnasium's ant.xml, made ready: motors commanded in N m and named, contact forces after every step.

    What only costs time is left out, and nothing else: camera, light, and the search for contacts among the ant's own
    geoms, which the file lets touch the floor alone. Each is therefore named as a pair with the floor.
    """
    source = resources.files("gymnasium") / "envs" / "mujoco" / "assets" / "ant.xml"
    root = ElementTree.fromstring(source.read_text())
    root.append(ElementTree.fromstring(contact_forces.EXTENSION))
    for parent in [*root.iter()]:
        for child in [c for c in parent if c.tag in ("camera", "light")]:
            parent.remove(child)
    for leg, foot in zip(LEGS, (b for b in root.iter("body") if "name" not in b.attrib), strict=True):
        foot.set("name", f"foot_{leg}")
    for motor in root.iter("motor"):
        # the same torque to the last bit: 1 x (150 u) for 150 x u
        torque = float(motor.get("gear", "1"))
        motor.set("name", motor.get("joint", ""))
        motor.set("gear", "1")
        motor.set("ctrlrange", f"{-torque} {torque}")
    _pair_with_floor(root)
    return ElementTree.tostring(root, encoding="unicode")


def _pair_with_floor(root: ElementTree.Element) -> None:
    """Contacts by name instead of by search, with the parameters that MuJoCo would combine from the file's default."""
    default = next(root.iter("default")).find("geom")
    assert default is not None
    slide, spin, roll = default.get("friction", "").split()
    pairs = ElementTree.SubElement(root, "contact")
    for geom in [g for g in root.iter("geom") if g.get("name") not in (None, FLOOR)]:
        ElementTree.SubElement(
            pairs,
            "pair",
            geom1=FLOOR,
            geom2=geom.get("name", ""),
            condim=default.get("condim", ""),
            friction=f"{slide} {slide} {spin} {roll} {roll}",
            margin=str(2.0 * float(default.get("margin", "0"))),  # of both geoms
        )
    for geom in root.iter("geom"):
        geom.set("contype", "0")
        geom.set("conaffinity", "0")


def _names() -> tuple[str, ...]:
    pose = ("root/z", "root/qw", "root/qx", "root/qy", "root/qz")
    twist = tuple(f"root/{kind}{axis}" for kind in ("v", "w") for axis in "xyz")
    forces = tuple(f"{body}/{kind}_{axis}" for body in BODIES for kind in ("torque", "force") for axis in "xyz")
    return (
        *pose,
        *(f"{joint}/position" for joint in JOINTS),
        *twist,
        *(f"{joint}/velocity" for joint in JOINTS),
        *forces,
    )


ANT = Ant(
    name="ant",
    robot="ant",
    episode_s=50.0,
    explore_s=50.0,
    control_period_s=TIMESTEP_S * FRAME_SKIP,
    hold_s=0.0,
    fields=("xpos", "cfrc_ext"),
    privileged_names=_names(),
    keeps_before=True,
    observation=ObservationConfig(features=("joint_position", "joint_velocity")),
    action=ActionConfig(actuators=DRIVEN, scale=(TORQUE_NM,) * len(DRIVEN)),
)
TASKS: dict[str, Task] = {}
"""Not listed among the tasks: its robot is not one of ours. Import ANT and ant_robot()."""

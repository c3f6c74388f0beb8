"""Any MJCF or URDF that MuJoCo loads, as a robot: a RobotSpec is derived from it, and every guess is a sentence.

derive() reads, write() leaves a YAML to edit; `robot_of` is what `robot=mjcf path=FILE` means. What has to be changed
in the model itself (names, units of motors, motors that a URDF cannot state) is in sim/mjcf_edits.py. What cannot be
driven joint by joint is refused with the reason. To learn another property: a `_function` here and its sentence.
"""

from __future__ import annotations

import math
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import mujoco
import numpy as np
import numpy.typing as npt

from robot import config, files
from robot.config import ConfigError
from robot.spec import SIGNALS, ActuatorSpec, CameraSpec, JointSpec, RobotSpec, SensorSpec
from sim import mjcf_edits as edits
from sim.mjcf_edits import Drive
from sim.model import Model, RobotConfig, SimConfig

Array = npt.NDArray[np.float64]

HINGE, SLIDE = int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE)
SPEED_LIMIT = {"rad": 20.0, "m": 2.0}
"""Guess of a joint's speed limit [rad/s or m/s]: no MJCF states one."""
GRAVITY_MARGIN = 3.0
"""Guess of an effort limit: so many times the torque that holds the joint's load stretched out level."""
PERIOD_S = {"position_pd": 0.02, "torque": 0.01, "velocity": 0.02, "dcmotor": 0.005}
"""Guess of the control period [s] by the kind of the motors."""
PIXELS = 96
"""Guess of a camera's width and height where the file has none."""


@dataclass(frozen=True, slots=True)
class Derived:
    """A robot derived from a model file."""

    config: RobotConfig
    """`model.mjcf` is the file, or the text of an edited copy with absolute paths to its assets."""
    guesses: tuple[str, ...]
    """What the file does not say and was assumed, and what was changed; a sentence each."""


@dataclass(slots=True)
class _Reading:
    """A model file while a robot is derived from it."""

    path: Path
    spec: mujoco.MjSpec
    model: mujoco.MjModel
    said: list[str] = field(default_factory=list)
    speeds: dict[str, float] = field(default_factory=dict)
    """Joint -> speed limit, where a URDF states one."""

    def refuse(self, reason: str) -> ConfigError:
        return ConfigError(f"{self.path}: cannot be made a robot: {reason}")


def derive(path: Path) -> Derived:
    """The robot in a model file; ConfigError says why there is none."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "compiler attribute")  # of the file's author, not of its user
        return _derive(path)


def _derive(path: Path) -> Derived:
    path = Path(path).expanduser().resolve()
    reading = _read(path)
    edits.give_names(reading.spec, reading.model, reading.said)
    reading.model = reading.spec.compile()
    drives = edits.read_drives(reading.spec, reading.model, reading.said, reading.refuse)
    joints = _joints(reading)
    if not drives:
        edits.add_motors(reading.spec, reading.model, joints, reading.said, reading.refuse)
        reading.model = reading.spec.compile()
        drives = edits.read_drives(reading.spec, reading.model, reading.said, reading.refuse)
    sensors = _sensors(reading)
    reading.model = reading.spec.compile()
    text = edits.text_of(reading.spec, path) if edits.changed(reading.said) else str(path)
    kinds = [d.kind for d in drives]
    period = _period(reading, kinds)
    spec = RobotSpec(
        name=edits.plain_name(reading.spec.modelname if _is_named(reading.spec) else path.stem),
        joints=tuple(_joint(reading, j) for j in joints),
        actuators=tuple(_actuator(reading, d) for d in sorted(drives, key=lambda d: joints.index(d.joint))),
        sensors=sensors,
        cameras=_cameras(reading),
        control_period_s=period,
    )
    robot = RobotConfig(spec=spec, model=SimConfig(mjcf=text, timestep_s=float(reading.model.opt.timestep)))
    Model(robot)  # what the simulator refuses is refused here
    return Derived(robot, tuple(edits.sentences(reading.said)))


def robot_of(path: Path) -> RobotConfig:
    """The robot that `robot=mjcf path=FILE` means, without a file in between."""
    return derive(path).config


def write(derived: Derived, out: Path) -> Path:
    """Write `<name>.yaml`, with the guesses above it, into the folder `out`, and an edited model beside it.

    Returns the YAML's path: `robot=<that path>` and find_robot() take it. Edit it, above all the limits.
    """
    robot = derived.config
    if robot.model.mjcf.lstrip().startswith("<"):
        model = Path(out).resolve() / f"{robot.spec.name}.xml"
        files.write_text(model, robot.model.mjcf)
        robot = replace(robot, model=replace(robot.model, mjcf=str(model)))
    head = "".join(f"# {sentence}\n" for sentence in derived.guesses)
    path = Path(out) / f"{robot.spec.name}.yaml"
    files.write_text(path, f"# Derived from a model file; check what was guessed:\n{head}{config.dump_yaml(robot)}")
    return path


def _read(path: Path) -> _Reading:
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file; path= is an MJCF or URDF.")
    try:
        spec = mujoco.MjSpec.from_file(str(path))
        model = spec.compile()
    except (ValueError, mujoco.FatalError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: MuJoCo cannot load it ({reason}).") from error
    reading = _Reading(path, spec, model)
    if not any(t in (HINGE, SLIDE) for t in model.jnt_type):
        raise reading.refuse("it has no hinge or slide joint.")
    if path.suffix == ".urdf":
        for joint in ElementTree.parse(path).getroot().iter("joint"):
            limit = joint.find("limit")
            if limit is not None and float(limit.get("velocity", 0.0)) > 0.0:
                reading.speeds[str(joint.get("name"))] = float(limit.get("velocity", 0.0))
    return reading


def _is_named(spec: mujoco.MjSpec) -> bool:
    return spec.modelname not in ("", "MuJoCo Model")


def _joints(reading: _Reading) -> list[str]:
    """The joints that a controller measures, in the file's order: driven ones, and those of the same mechanism."""
    model = reading.model
    driven = {int(model.actuator_trnid[i, 0]) for i in range(model.nu) if model.actuator_trntype[i] in edits.ONE_JOINT}
    trees = {int(model.body_rootid[model.jnt_bodyid[j]]) for j in driven}
    chosen, left = [], []
    for j in range(model.njnt):
        name, body = model.joint(j).name, int(model.jnt_bodyid[j])
        movable = model.jnt_type[j] in (HINGE, SLIDE)
        base = model.body_parentid[body] == 0 and j not in driven and model.body_jntnum[body] > 1
        if movable and not base and (not driven or int(model.body_rootid[body]) in trees):
            chosen.append(name)
        else:
            left.append(name)
    if left:
        why = "free, ball, of the base, or of things that no actuator moves"
        reading.said.append(f"Joints left out of the robot ({why}): {', '.join(left)}.")
    if not chosen:
        raise reading.refuse(f"none of its joints is one that a controller could drive ({', '.join(left)}).")
    return chosen


def _joint(reading: _Reading, name: str) -> JointSpec:
    model = reading.model
    j = model.joint(name).id
    unit = "rad" if model.jnt_type[j] == HINGE else "m"
    limits = (float(model.jnt_range[j, 0]), float(model.jnt_range[j, 1])) if model.jnt_limited[j] else None
    position = float(_home(reading)[model.jnt_qposadr[j]])
    if limits and not limits[0] <= position <= limits[1]:
        inside = min(max(position, limits[0]), limits[1])
        reading.said.append(
            f"Joint '{name}': that pose, {position:g}, is outside its limits; {inside:g} is its default."
        )
        position = inside
    speed = reading.speeds.get(name)
    if speed is None:
        speed = SPEED_LIMIT[unit]
        reading.said.append(f"Joint '{name}': no speed limit is stated; {speed:g} {unit}/s is a guess.")
    return JointSpec(
        name=name,
        unit="rad" if unit == "rad" else "m",
        position_limits=limits or (-math.inf, math.inf),
        velocity_limit=speed,
        default_position=position,
    )


def _home(reading: _Reading) -> Array:
    """(nq,) the keyframe `home`, or the pose in which the file is written."""
    model = reading.model
    has_home = "home" in [model.key(i).name for i in range(model.nkey)]
    sentence = f"The default pose is {'the keyframe home' if has_home else 'that of the file'}."
    if sentence not in reading.said:
        reading.said.append(sentence)
    return np.asarray(model.key("home").qpos if has_home else model.qpos0)


def _actuator(reading: _Reading, drive: Drive) -> ActuatorSpec:
    limit = drive.effort_limit
    if not math.isfinite(limit):
        limit = _gravity_limit(reading.model, drive.joint)
        reading.said.append(
            f"Actuator '{drive.name}': no force limit is stated; {limit:.3g}, {GRAVITY_MARGIN:g} times what holds "
            "the joint's load stretched out level, is a guess."
        )
    damp = drive.kind == "torque"
    return ActuatorSpec(
        name=drive.name,
        joint=drive.joint,
        kind=drive.kind,
        effort_limit=limit,
        kp=drive.kp,
        kd=drive.kd,
        safe_action="hold" if drive.kind == "position_pd" else "damp" if damp else "zero",
        safe_kd=float(f"{limit / SPEED_LIMIT['rad']:.3g}") if damp else 1.0,
    )


def _gravity_limit(model: mujoco.MjModel, joint: str) -> float:
    """GRAVITY_MARGIN x weight x lever arm of all that hangs on a joint (of a slide: its weight)."""
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    j = model.joint(joint).id
    body = int(model.jnt_bodyid[j])
    weight = float(model.body_subtreemass[body]) * 9.81
    arm = float(np.linalg.norm(data.subtree_com[body] - data.xanchor[j])) if model.jnt_type[j] == HINGE else 1.0
    return float(f"{max(GRAVITY_MARGIN * weight * arm, 0.01):.3g}")


def _sensors(reading: _Reading) -> tuple[SensorSpec, ...]:
    reading.said.append("Joint positions and velocities are taken as measured, without noise, steps or latency.")
    found = edits.name_imu(reading.spec, reading.model, reading.said)
    signals = ("joint.position", "joint.velocity", *(s for s in SIGNALS if s in found))
    return tuple(SensorSpec(signal=s) for s in signals)


def _cameras(reading: _Reading) -> tuple[CameraSpec, ...]:
    model, cameras, left = reading.model, [], []
    for i in range(model.ncam):
        name = model.cam(i).name
        if model.cam_mode[i] != int(mujoco.mjtCamLight.mjCAMLIGHT_FIXED):
            left.append(name)
            continue
        width, height = (int(x) for x in model.cam_resolution[i])
        if min(width, height) <= 1:
            width = height = PIXELS
            reading.said.append(f"Camera '{name}': no resolution is stated; {PIXELS} x {PIXELS} is a guess.")
        cameras.append(CameraSpec(name=name, width=width, height=height, fovy_deg=float(model.cam_fovy[i])))
    if left:
        reading.said.append(f"Cameras that follow something are not the robot's: {', '.join(left)} left out.")
    return tuple(cameras)


def _period(reading: _Reading, kinds: Sequence[str]) -> float:
    step = float(reading.model.opt.timestep)
    wanted = min(PERIOD_S[kind] for kind in kinds)
    period = round(max(1, round(wanted / step)) * step, 9)
    reading.said.append(f"The control period of {period:g} s is a guess; it must be a multiple of {step:g} s.")
    return period

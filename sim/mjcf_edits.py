"""What sim/mjcf.py changes in a model so that it can be a robot: names, the units of its motors, missing motors.

The edited model moves as the file's does, to the six digits that MuJoCo writes into files; only its inputs have
other names and units. In MuJoCo an actuator's force = gain x ctrl + bias0 + bias1 x length + bias2 x velocity, where
length is gear x joint position, and the joint feels gear x force (its documentation, "Computation: actuation model").
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import mujoco
import numpy as np

Refuse = Callable[[str], Exception]
Kind = Literal["torque", "position_pd", "velocity", "dcmotor"]

CHANGED = "Changed: "
"""How sentences about an edit begin."""
GAIN, BIAS, TRN, DYN = mujoco.mjtGain, mujoco.mjtBias, mujoco.mjtTrn, mujoco.mjtDyn
ONE_JOINT = (int(TRN.mjTRN_JOINT), int(TRN.mjTRN_JOINTINPARENT))
"""Transmissions from one actuator to one joint."""
OTHER_GAINS = {
    GAIN.mjGAIN_AFFINE: "a damper or cylinder",
    GAIN.mjGAIN_MUSCLE: "a muscle",
    GAIN.mjGAIN_SO3: "an orientation servo",
    GAIN.mjGAIN_PID: "a PID servo of several inputs",
    GAIN.mjGAIN_USER: "programmed by a user",
}
IMU = {
    mujoco.mjtSensor.mjSENS_GYRO: "imu.gyro",
    mujoco.mjtSensor.mjSENS_ACCELEROMETER: "imu.accel",
    mujoco.mjtSensor.mjSENS_FRAMEQUAT: "imu.orientation",
}


@dataclass(frozen=True, slots=True)
class Drive:
    """One actuator as terrafirma drives it."""

    name: str
    joint: str
    kind: Kind
    kp: float
    """[N m/rad or N/m]"""
    kd: float
    effort_limit: float
    """[N m or N]; infinite where the file states none."""


def plain_name(name: str) -> str:
    """A name for files and targets: lower case, digits, underscores."""
    return re.sub(r"\W+", "_", name.strip()).strip("_").lower() or "robot"


def changed(said: list[str]) -> bool:
    """Whether any sentence tells of an edit."""
    return any(s.startswith(CHANGED) for s in said)


def sentences(said: list[str]) -> list[str]:
    """The sentences, edits first; the same guess about many joints in one sentence."""
    grouped: dict[str, list[str]] = {}
    for sentence in said:
        match = re.match(r"(Changed: )?(Joint|Actuator|Camera) '([^']*)':? (.*)", sentence)
        key = f"{match[1] or ''}{match[2]}s {{}}: {match[4]}" if match else sentence
        grouped.setdefault(key, []).append(match[3] if match else "")
    out = [key.replace("{}", ", ".join(names), 1) for key, names in grouped.items()]
    return sorted(out, key=lambda s: not s.startswith(CHANGED))


def text_of(spec: mujoco.MjSpec, path: Path) -> str:
    """The edited model as text that loads from anywhere: folders of meshes and textures are absolute."""
    folder = path.parent
    spec.meshdir = str((folder / spec.meshdir).resolve())
    spec.texturedir = str((folder / spec.texturedir).resolve())
    return str(spec.to_xml())


def give_names(spec: mujoco.MjSpec, model: mujoco.MjModel, said: list[str]) -> None:
    """Name what has no name, and take slashes out of names: targets are called kind/name/quantity."""
    actuators = [mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_JOINT, int(i)) for i in model.actuator_trnid[:, 0]]
    for kind, elements in (
        ("body", spec.bodies),
        ("joint", spec.joints),
        ("geom", spec.geoms),
        ("camera", spec.cameras),
        ("actuator", spec.actuators),
    ):
        taken = {e.name for e in elements}
        given = []
        for i, element in enumerate(elements):
            name = element.name.replace("/", "_")
            if not name and kind == "geom":
                continue  # an unnamed geom is only not a target
            if not name:
                name = (actuators[i] if kind == "actuator" else "") or f"{kind}_{i}"
            if name == element.name:
                continue
            while name in taken:
                name += "_"
            taken.add(name)
            element.name = name
            given.append(name)
        if given:
            said.append(f"{CHANGED}names were given or lost their slashes: {kind} {', '.join(given)}.")


def add_motors(spec: mujoco.MjSpec, model: mujoco.MjModel, joints: list[str], said: list[str], refuse: Refuse) -> None:
    """Give a model without actuators, as every URDF is, a torque motor a joint.

    Only where each joint states its force limit (URDF: <limit effort>; MJCF: actuatorfrcrange).
    """
    ids = {j: model.joint(j).id for j in joints}
    limits = {j: float(np.abs(model.jnt_actfrcrange[i]).max()) for j, i in ids.items() if model.jnt_actfrclimited[i]}
    missing = [j for j in joints if not limits.get(j)]
    if missing:
        raise refuse(
            f"it has no actuators, and joint '{missing[0]}' states no force limit from which to make one; "
            "add an <actuator> section, or limits of effort."
        )
    for joint in joints:
        motor = spec.add_actuator(name=joint, target=joint, trntype=TRN.mjTRN_JOINT)
        motor.set_to_motor()
        motor.forcerange, motor.forcelimited = [-limits[joint], limits[joint]], 1
        said.append(f"{CHANGED}Joint '{joint}': a torque motor was made, for the file has no actuators.")


def read_drives(spec: mujoco.MjSpec, model: mujoco.MjModel, said: list[str], refuse: Refuse) -> list[Drive]:
    """Every actuator as one of the four kinds, its input put into the kind's own unit; refuses what is none."""
    drives: list[Drive] = []
    for i, element in enumerate(spec.actuators):
        drive = _drive(element, model, i, said, refuse)
        twice = next((d.name for d in drives if d.joint == drive.joint), None)
        if twice:
            raise refuse(f"joint '{drive.joint}' has two actuators, '{twice}' and '{drive.name}'; keep one.")
        drives.append(drive)
    return drives


def _drive(element: Any, model: mujoco.MjModel, i: int, said: list[str], refuse: Refuse) -> Drive:
    name = model.actuator(i).name
    if model.actuator_trntype[i] not in ONE_JOINT:
        what = TRN(int(model.actuator_trntype[i])).name.removeprefix("mjTRN_").lower()
        raise refuse(f"actuator '{name}' drives a {what}; terrafirma drives one joint with one actuator.")
    j = int(model.actuator_trnid[i, 0])
    joint = model.joint(j).name
    if mujoco.mjtJoint(int(model.jnt_type[j])) not in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE):
        raise refuse(f"actuator '{name}' drives '{joint}', a free or ball joint; only hinges and slides can be.")
    gain, bias, dynamics = (
        kind(int(values[i]))
        for kind, values in (
            (GAIN, model.actuator_gaintype),
            (BIAS, model.actuator_biastype),
            (DYN, model.actuator_dyntype),
        )
    )
    if gain in OTHER_GAINS or bias not in (BIAS.mjBIAS_NONE, BIAS.mjBIAS_AFFINE, BIAS.mjBIAS_DCMOTOR):
        raise refuse(f"actuator '{name}' is {OTHER_GAINS.get(gain, 'of a kind')} that terrafirma does not drive.")
    if dynamics in (DYN.mjDYN_FILTER, DYN.mjDYN_FILTEREXACT):
        said.append(f"Actuator '{name}': its filter of {model.actuator_dynprm[i, 0]:g} s stays in the model.")
    elif dynamics not in (DYN.mjDYN_NONE, DYN.mjDYN_DCMOTOR):
        what = dynamics.name.removeprefix("mjDYN_").lower()
        raise refuse(f"actuator '{name}' has the dynamics '{what}'; none and filters are known.")
    if gain == GAIN.mjGAIN_DCMOTOR:
        if model.actuator_gear[i, 0] != 1.0:
            raise refuse(f"actuator '{name}' is a dcmotor with a gear; state its constants at the joint.")
        return Drive(name, joint, "dcmotor", 0.0, 0.0, _stall(model, i))
    return _linear_drive(element, model, i, name, joint, said, refuse)


def _stall(model: mujoco.MjModel, i: int) -> float:
    """[N m] of a DC motor at the largest voltage that its ctrlrange allows."""
    resistance, constant = model.actuator_gainprm[i, :2]
    volts = float(np.abs(model.actuator_ctrlrange[i]).max()) if model.actuator_ctrllimited[i] else math.inf
    return min(_force_limit(model, i), volts * float(constant / resistance))


def _linear_drive(
    element: Any, model: mujoco.MjModel, i: int, name: str, joint: str, said: list[str], refuse: Refuse
) -> Drive:
    """A motor, position or velocity servo; its ctrl becomes N m, rad or rad/s at the joint."""
    gear, gain = float(model.actuator_gear[i, 0]), float(model.actuator_gainprm[i, 0])
    affine = model.actuator_biastype[i] == int(BIAS.mjBIAS_AFFINE)
    constant, stiff, damped = (float(x) for x in model.actuator_biasprm[i, :3]) if affine else (0.0, 0.0, 0.0)
    if constant or gain == 0.0 or gear == 0.0 or stiff > 0.0 or damped > 0.0:
        raise refuse(
            f"actuator '{name}' has gain {gain:g}, gear {gear:g} and bias {constant:g} {stiff:g} {damped:g}, "
            "which is neither a motor nor a servo."
        )
    kp, kd = -stiff * gear**2, -damped * gear**2  # at the joint
    kind: Kind = "position_pd" if kp else "velocity" if math.isclose(-damped, gain) else "torque"
    # what one unit of the old ctrl is in the kind's unit
    unit = gain * gear / {"position_pd": kp or 1.0, "velocity": kd or 1.0, "torque": 1.0}[kind]
    limit = _force_limit(model, i)
    if kind == "torque" and model.actuator_ctrllimited[i]:
        limit = min(limit, float(np.abs(model.actuator_ctrlrange[i]).max() * abs(unit)))
    if not (math.isclose(unit, 1.0) and gear == 1.0):
        _rescale(element, model, i, unit, gear, (kp, kd, kind))
        said.append(
            f"{CHANGED}Actuator '{name}': one unit of its input was {unit:.6g} {_UNIT[kind]}; it takes those now."
        )
    return Drive(name, joint, kind, kp, kd, limit)


_UNIT = {"torque": "N m", "position_pd": "rad", "velocity": "rad/s", "dcmotor": "V"}


def _force_limit(model: mujoco.MjModel, i: int) -> float:
    """Largest force at the joint that the actuator's and the joint's own limits allow."""
    j, limit = int(model.actuator_trnid[i, 0]), math.inf
    if model.actuator_forcelimited[i]:
        limit = float(np.abs(model.actuator_forcerange[i] * model.actuator_gear[i, 0]).max())
    if model.jnt_actfrclimited[j]:
        limit = min(limit, float(np.abs(model.jnt_actfrcrange[j]).max()))
    return limit


def _rescale(
    element: Any, model: mujoco.MjModel, i: int, unit: float, gear: float, servo: tuple[float, float, Kind]
) -> None:
    """Write the actuator at gear 1 with its input in the new unit."""
    kp, kd, kind = servo
    gainprm, biasprm = np.array(model.actuator_gainprm[i]), np.array(model.actuator_biasprm[i])
    gainprm[0] = {"position_pd": kp, "velocity": kd, "torque": 1.0}[kind]
    biasprm[:3] = 0.0, -kp, -kd
    element.gainprm, element.biasprm = gainprm, biasprm
    element.gear = [1.0, *model.actuator_gear[i, 1:]]
    element.inheritrange = 0.0
    for name, factor in (("ctrl", unit), ("act", unit), ("force", gear)):
        if getattr(model, f"actuator_{name}limited")[i]:
            setattr(element, f"{name}range", np.sort(getattr(model, f"actuator_{name}range")[i] * factor))
            setattr(element, f"{name}limited", 1)
    element.armature, element.damping = element.armature * gear**2, element.damping * gear**2


def name_imu(spec: mujoco.MjSpec, model: mujoco.MjModel, said: list[str]) -> set[str]:
    """The IMU signals that the model's sensors give, each by the first sensor of its type, renamed for it."""
    found: set[str] = set()
    for i, element in enumerate(spec.sensors):
        signal = IMU.get(mujoco.mjtSensor(int(model.sensor_type[i])))
        if signal is None or signal in found:
            continue
        found.add(signal)
        wanted = signal.replace(".", "_")
        if element.name != wanted:
            said.append(f"{CHANGED}sensor '{element.name}' is called {wanted} and read as {signal}.")
            element.name = wanted
    return found

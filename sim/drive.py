"""How actuators can be driven: by torque, position or velocity, natively or by a loop that a torque motor closes.

A torque motor that takes gains with each command (MIT mode) holds a position with kp and kd, or a velocity with kd, at
the rate of its own loop. In the simulation that is MuJoCo's servo in the place of its motor; to the controller the
robot stays what it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import mujoco
import numpy as np
import numpy.typing as npt

from robot.config import ConfigError
from robot.observation import ActionConfig
from robot.spec import ActuatorSpec, RobotSpec

if TYPE_CHECKING:
    from sim.model import RobotConfig

NATIVE = {"torque": "effort", "position_pd": "position", "velocity": "velocity", "dcmotor": "effort"}
"""Kind of an actuator -> kind of the actions that drive it as it is; a dcmotor gets the volts that hold the torque."""
SERVO: dict[str, Literal["position_pd", "velocity"]] = {"position": "position_pd", "velocity": "velocity"}


def check_action(action: ActionConfig, spec: RobotSpec, task: str) -> None:
    """ConfigError when an action asks of an actuator what that cannot do."""
    for actuator in spec.actuators:
        if actuator.name in action.actuators and (why := _refusal(action, actuator)):
            raise ConfigError(
                f"task '{task}' sends {action.kind} to actuator '{actuator.name}' of robot '{spec.name}', {why}."
            )


def _refusal(action: ActionConfig, actuator: ActuatorSpec) -> str:
    """Why this actuator cannot be driven so; empty where it can."""
    native = NATIVE[actuator.kind]
    if action.kind == native:
        own = actuator.kp, actuator.kd
        if actuator.kind == "position_pd" and action.gains(actuator) != own:
            return f"whose own loop has kp {own[0]:g} and kd {own[1]:g}: leave action.kp and action.kd out"
        return ""
    if actuator.kind != "torque":
        return f"which is of kind {actuator.kind} and takes {native} alone"
    gain = action.gains(actuator)[action.kind == "velocity"]
    if gain > 0.0:
        return ""
    name = "kd" if action.kind == "velocity" else "kp"
    return f"a torque motor that needs {name} above 0 for this: give action.{name}, or {name} in the robot's YAML"


def as_driven(robot: RobotConfig, action: ActionConfig) -> RobotConfig:
    """The robot to simulate: torque motors that close a loop are servos there, of those gains."""
    if action.kind == "effort":
        return robot

    def driven(actuator: ActuatorSpec) -> ActuatorSpec:
        if actuator.kind != "torque" or actuator.name not in action.actuators:
            return actuator
        kp, kd = action.gains(actuator)
        return replace(actuator, kind=SERVO[action.kind], kp=kp, kd=kd)

    return replace(robot, spec=replace(robot.spec, actuators=tuple(driven(a) for a in robot.spec.actuators)))


def close_loops(mj: mujoco.MjModel, spec: RobotSpec) -> None:
    """A plain motor in the MJCF of which the spec says that it is a servo becomes one, of its gains and limit."""
    for actuator in spec.actuators:
        row = mj.actuator(actuator.name).id
        plain = mj.actuator_biastype[row] == int(mujoco.mjtBias.mjBIAS_NONE)
        if not plain or actuator.kind not in SERVO.values():
            continue
        kp = actuator.kp if actuator.kind == "position_pd" else 0.0
        mj.actuator_gainprm[row, 0] = kp or actuator.kd
        mj.actuator_biastype[row] = int(mujoco.mjtBias.mjBIAS_AFFINE)
        mj.actuator_biasprm[row, :3] = 0.0, -kp, -actuator.kd
        mj.actuator_forcelimited[row], mj.actuator_ctrllimited[row] = True, False
        mj.actuator_forcerange[row] = -actuator.effort_limit, actuator.effort_limit


def idle(action: ActionConfig, spec: RobotSpec) -> npt.NDArray[np.intp]:
    """Joints whose torque motor rests while others follow positions: what decode() says of them is no torque."""
    others = [a.kind == "torque" and action.kind != "effort" and a.name not in action.actuators for a in spec.actuators]
    return spec.driven[np.array(others, dtype=bool)]

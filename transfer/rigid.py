"""The equations of motion of robots with one or two turning joints, written out as trigonometric polynomials.

M(q) a + c(q, v) = B u - D v - friction: every entry of the mass matrix M is a polynomial in the joints' cosines and
sines, and of the bias c (gravity, Coriolis, centrifugal) one times 1 or a product of two velocities. The coefficients
are read off the simulator at random states, and are exact. An encoder that carries them (policies/encoders/motion.py)
need not learn what the nominal robot would do.
"""

from __future__ import annotations

from collections.abc import Mapping

import mujoco
import numpy as np
import numpy.typing as npt
import torch

from policies.encoders.motion import products, terms
from robot.observation import ActionConfig, ObservationConfig
from sim.model import Model, RobotConfig
from sim.plant import Plant

Array = npt.NDArray[np.float64]

JOINTS = 2
"""Most joints: each one multiplies the terms by five."""
STATES, EXACT = 600, 1e-8


def equations_of_motion(
    robot: RobotConfig, observation: ObservationConfig, action: ActionConfig, parameters: Mapping[str, float]
) -> dict[str, Array] | None:
    """Field of policies.encoders.motion.Motion -> coefficients; None for a robot that moves in another way,
    or whose observation does not show cosine and sine of every joint.

    `parameters`: target -> value; what is not named is at the robot's nominal.
    """
    model, spec = Model(robot), robot.spec
    count = len(spec.joints)
    if not {"joint_cos", "joint_sin"} <= set(observation.features):
        return None
    if count > JOINTS or model.mj.nv != count or any(a.kind != "torque" for a in spec.actuators):
        return None
    plant = Plant(model, 1, nthread=1)
    plant.set({name: np.array([value]) for name, value in parameters.items()})
    mj = plant.batch.get_model(0)
    data, rng = mujoco.MjData(mj), np.random.default_rng(0)
    position, velocity = rng.uniform(-np.pi, np.pi, (STATES, count)), rng.uniform(-5.0, 5.0, (STATES, count))
    mass, bias = np.empty((STATES, count, count)), np.empty((STATES, count))
    for i in range(STATES):
        data.qpos[model.qpos_index], data.qvel[model.dof_index] = position[i], velocity[i]
        mujoco.mj_forward(mj, data)
        mass[i] = _mass_matrix(mj, data)[np.ix_(model.dof_index, model.dof_index)]
        bias[i] = data.qfrc_bias[model.dof_index]
    angles = torch.from_numpy(position)
    still = terms(torch.cos(angles), torch.sin(angles))
    moving = products(still, torch.from_numpy(velocity)).numpy()
    of_mass, of_bias = _fitted(still.numpy(), mass.reshape(STATES, -1)), _fitted(moving, bias)
    if of_mass is None or of_bias is None:
        return None
    return {
        "mass": of_mass,
        "bias": of_bias,
        "damping": mj.dof_damping[model.dof_index].copy(),
        "friction": mj.dof_frictionloss[model.dof_index].copy(),
        "drive": _drive(model, mj, action),
    }


def _mass_matrix(mj: mujoco.MjModel, data: mujoco.MjData) -> Array:
    mass, column = np.empty((mj.nv, mj.nv)), np.empty(mj.nv)
    for i, unit in enumerate(np.eye(mj.nv)):
        mujoco.mj_mulM(mj, data, column, unit)
        mass[i] = column
    return mass


def _fitted(known: Array, values: Array) -> Array | None:
    """Coefficients with which the terms `known` give the values; None when they do not."""
    coefficients = np.asarray(np.linalg.lstsq(known, values, rcond=None)[0])
    return coefficients if np.abs(known @ coefficients - values).max() < EXACT else None


def _drive(model: Model, mj: mujoco.MjModel, action: ActionConfig) -> Array:
    """(A, n_joints) torque at the joints of an action of 1 [N m]."""
    data, names = mujoco.MjData(mj), [a.name for a in model.spec.actuators]
    drive = np.empty((len(action.actuators), len(model.spec.joints)))
    for i, (name, scale) in enumerate(zip(action.actuators, action.scale, strict=True)):
        data.ctrl[:] = 0.0
        data.ctrl[model.ctrl_index[names.index(name)]] = scale
        mujoco.mj_forward(mj, data)
        drive[i] = data.qfrc_actuator[model.dof_index]
    return drive

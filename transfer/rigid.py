"""The equations of motion of robots with one or two turning joints, written out as trigonometric polynomials.

M(q) a + c(q, v) = B u - D v - friction: every entry of the mass matrix M is a polynomial in the joints' cosines and
sines, and of the bias c (gravity, Coriolis, centrifugal) one times 1 or a product of two velocities. The coefficients
are read off the simulator at random states, and are exact; how they change with the parameters is a regression over
draws of the randomization. An encoder that carries them (policies/encoders/motion.py) need not learn what the nominal
robot would do, nor what a heavier one would.
"""

from __future__ import annotations

from collections.abc import Mapping

import mujoco
import numpy as np
import numpy.typing as npt
import torch

from policies.encoders.motion import SLOPES, products, terms
from robot.observation import ActionConfig, ObservationConfig
from sim.model import Model, RobotConfig
from sim.plant import Plant
from sim.randomization import Randomization

Array = npt.NDArray[np.float64]

JOINTS = 2
"""Most joints: each one multiplies the terms by five."""
STATES, EXACT = 2, 1e-8
"""States for each coefficient that is read off them, and the largest error with which they agree."""
FEWEST = 40
"""States of a robot with few coefficients."""
DRAWS = 12
"""Robots for each parameter, that the slopes are fitted on."""
DELAY = "timing/command/delay"


def parametric(
    robot: RobotConfig,
    observation: ObservationConfig,
    action: ActionConfig,
    randomization: Randomization,
    names: tuple[str, ...],
    middle: Array,
) -> dict[str, Array] | None:
    """Buffer of policies.encoders.foreseen.Foreseen -> value: the equations in the middle of `randomization`, and their
    slopes by each of the targets `names`, which are at `middle` (P,) there; None as equations_of_motion().
    """
    reader = _Reader.of(robot, observation, action)
    if reader is None or not names:
        return None
    drawn = randomization.draw(reader.model, np.random.default_rng(0), DRAWS * (len(names) + 1))
    read = [reader({n: float(v[i]) for n, v in drawn.items()}) for i in range(DRAWS * (len(names) + 1))]
    if any(r is None for r in read):
        return None
    away = np.stack([drawn[n] for n in names], axis=1) - middle
    size = np.maximum(away.std(axis=0), 1e-12)
    known = np.column_stack([np.ones(len(away)), away / size])
    made: dict[str, Array] = {}
    for key in read[0] or {}:
        values = np.stack([r[key] for r in read if r is not None])
        fitted = np.linalg.lstsq(known, values.reshape(len(values), -1), rcond=None)[0]
        made[key] = fitted[0].reshape(values.shape[1:])
        made[key + SLOPES] = np.moveaxis((fitted[1:] / size[:, None]).reshape(-1, *values.shape[1:]), 0, -1)
    return made


def equations_of_motion(
    robot: RobotConfig, observation: ObservationConfig, action: ActionConfig, parameters: Mapping[str, float]
) -> dict[str, Array] | None:
    """Field of policies.encoders.motion.Motion -> coefficients, and `delay` [s]; None for a robot that moves in another
    way, or whose observation does not show cosine and sine of every joint.

    `parameters`: target -> value; what is not named is at the robot's nominal.
    """
    reader = _Reader.of(robot, observation, action)
    return None if reader is None else reader(parameters)


class _Reader:
    """Reads the coefficients of one robot after another off the simulator."""

    def __init__(self, model: Model, action: ActionConfig) -> None:
        self.model, self.action, self.plant = model, action, Plant(model, 1, nthread=1)
        rng, count = np.random.default_rng(0), len(model.spec.joints)
        self.states = max(STATES * 5**count * (1 + count * (count + 1) // 2), FEWEST)
        self.position = rng.uniform(-np.pi, np.pi, (self.states, count))
        self.velocity = rng.uniform(-5.0, 5.0, (self.states, count))
        angles = torch.from_numpy(self.position)
        still = terms(torch.cos(angles), torch.sin(angles))
        self.still, self.moving = still.numpy(), products(still, torch.from_numpy(self.velocity)).numpy()
        self.inverse = np.linalg.pinv(self.still), np.linalg.pinv(self.moving)

    @classmethod
    def of(cls, robot: RobotConfig, observation: ObservationConfig, action: ActionConfig) -> _Reader | None:
        model, spec = Model(robot), robot.spec
        count = len(spec.joints)
        if not {"joint_cos", "joint_sin"} <= set(observation.features):
            return None
        if count > JOINTS or model.mj.nv != count or any(a.kind != "torque" for a in spec.actuators):
            return None
        return cls(model, action)

    def __call__(self, parameters: Mapping[str, float]) -> dict[str, Array] | None:
        model = self.model
        self.plant.set({name: np.array([value]) for name, value in parameters.items()})
        mj = self.plant.batch.get_model(0)
        data, count = mujoco.MjData(mj), len(model.spec.joints)
        mass, bias = np.empty((self.states, count * count)), np.empty((self.states, count))
        units, joints = np.eye(mj.nv), np.ix_(model.dof_index, model.dof_index)
        for i in range(self.states):
            data.qpos[model.qpos_index], data.qvel[model.dof_index] = self.position[i], self.velocity[i]
            mujoco.mj_forward(mj, data)
            mass[i] = _mass_matrix(mj, data, units)[joints].ravel()
            bias[i] = data.qfrc_bias[model.dof_index]
        of_mass, of_bias = self.inverse[0] @ mass, self.inverse[1] @ bias
        left = np.abs(self.still @ of_mass - mass).max(), np.abs(self.moving @ of_bias - bias).max()
        if max(left) > EXACT:
            return None
        return {
            "mass": of_mass,
            "bias": of_bias,
            "damping": mj.dof_damping[model.dof_index].copy(),
            "friction": mj.dof_frictionloss[model.dof_index].copy(),
            "drive": _drive(model, mj, self.action),
            "delay": np.array(parameters.get(DELAY, 0.0)),
        }


def _mass_matrix(mj: mujoco.MjModel, data: mujoco.MjData, units: Array) -> Array:
    """(nv, nv), a row for each of the unit vectors."""
    mass = np.empty((mj.nv, mj.nv))
    for row, unit in zip(mass, units, strict=True):
        mujoco.mj_mulM(mj, data, row, unit)
    return mass


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

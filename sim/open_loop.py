"""Open-loop prediction by one simulator: from what a policy saw and then did, what it would see next.

The base that encoders predict on top of: whatever the simulator already knows, the network need not learn, and the
context carries what differs. It starts from the measured state, so it is made in the same way for a simulated robot
and for a recorded one. To let it start from another signal: a row in `_read_joints`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import mujoco
import numpy as np
import numpy.typing as npt

from robot.config import ConfigError
from robot.observation import ActionConfig, Observation, ObservationConfig
from sim.actuator import units_per_effort
from sim.model import Model, RobotConfig
from sim.plant import Plant

Array = npt.NDArray[np.float64]
Float = npt.NDArray[np.float32]

CHUNK = 2048
"""Windows that are simulated together."""


def missing(robot: RobotConfig, observation: ObservationConfig, action: ActionConfig) -> str:
    """Which part of the robot's state an observation does not show, in words; empty when it shows enough."""
    components = Observation(robot.spec, replace(observation, history=0, cameras=()), action).components
    for joint in robot.spec.joint_names:
        if f"position/{joint}" not in components and {f"cos/{joint}", f"sin/{joint}"} - set(components):
            return f"the position of joint '{joint}'"
        if f"velocity/{joint}" not in components:
            return f"the velocity of joint '{joint}'"
    mj = Model(robot).mj
    free = mj.jnt_bodyid[mj.jnt_type == int(mujoco.mjtJoint.mjJNT_FREE)]
    return "where its base is" if np.isin(mj.body_parentid, free).any() else ""


class OpenLoop:
    """A robot with one set of parameters, run from many measured states at once."""

    def __init__(
        self,
        robot: RobotConfig,
        observation: ObservationConfig,
        action: ActionConfig,
        control_period_s: float,
        parameters: Mapping[str, float],
        nthread: int = 0,
    ) -> None:
        """`parameters`: target -> value; what is not named is at the robot's nominal.

        ConfigError when the observation does not show the state (see missing()), or for an unknown target.
        """
        unseen = missing(robot, observation, action)
        if unseen:
            raise ConfigError(
                f"robot '{robot.spec.name}': the observation does not show {unseen}, where a simulation must start."
            )
        self.parameters, self.period_s = dict(parameters), control_period_s
        self._model = Model(robot)
        self._config, self._action, self._nthread = replace(observation, history=0, cameras=()), action, nthread
        self._units = units_per_effort(self._model)
        self._prepare(1)

    def __call__(self, observation: Float, earlier: Float, given: Float, action: Float) -> Float:
        """(N, F, D) observations after each action, as sensors without noise would read them.

        observation (N, D) at the present; earlier (N, L, A) the actions before it, oldest first, and given (N, L)
        1 where there was one; action (N, F, A) from the present on.
        """
        self._prepare(min(max(len(action), 1), CHUNK))
        out = np.empty((len(action), action.shape[1], observation.shape[1]), np.float32)
        for start in range(0, len(action), CHUNK):
            rows = slice(start, start + CHUNK)
            count = len(action[rows])
            arrays = (_filled(a[rows], self._layout.batch) for a in (observation, earlier, given, action))
            out[rows] = self._predict(*arrays)[:count]
        return out

    def _prepare(self, count: int) -> None:
        """`count` simulations side by side."""
        self._layout = Observation(self._model.spec, self._config, self._action, count)
        self._plant = Plant(self._model, count, period_s=self.period_s, nthread=self._nthread)
        self._plant.set({name: np.full(count, value) for name, value in self.parameters.items()})
        self._offset = self._plant.outer["sensor", "offset"]

    def _predict(self, observation: Array, earlier: Array, given: Array, action: Array) -> Float:
        position, velocity = self._read_joints(observation)
        plant, layout = self._plant, self._layout
        plant.reset(position - self._offset, velocity)
        rest = plant.rest_command(position - self._offset)
        for k in range(earlier.shape[1]):  # on their way to the motors when the window begins
            command = layout.decode(earlier[:, k]) * self._units
            plant.line.push(np.where(given[:, k, None] > 0.0, command, rest))
        goals = [i for i, name in enumerate(layout.components) if name.startswith("goal/")]
        out = np.empty((len(action), action.shape[1], observation.shape[1]), np.float32)
        for k in range(action.shape[1]):
            plant.step(layout.decode(action[:, k]) * self._units)
            signals = plant.truth() | {"goal": observation[:, goals]}
            signals["joint.position"] = signals["joint.position"] + self._offset
            out[:, k] = layout.encode(signals)["observation"]
        return out

    def _read_joints(self, observation: Array) -> tuple[Array, Array]:
        """(n, n_joints) positions [rad] and velocities [rad/s] as measured."""
        spec, column = self._layout.spec, {name: i for i, name in enumerate(self._layout.components)}
        position = np.empty((len(observation), len(spec.joints)))
        velocity = np.empty_like(position)
        for j, name in enumerate(spec.joint_names):
            if f"position/{name}" in column:
                position[:, j] = observation[:, column[f"position/{name}"]] + spec.default_pose[j]
            else:
                sine, cosine = (observation[:, column[f"{f}/{name}"]] for f in ("sin", "cos"))
                position[:, j] = np.arctan2(sine, cosine)
            velocity[:, j] = observation[:, column[f"velocity/{name}"]]
        return position, velocity


def _filled(rows: npt.NDArray[np.floating], count: int) -> Array:
    """Repeated up to `count` rows."""
    return np.asarray(np.resize(rows, (count, *rows.shape[1:])), dtype=np.float64)

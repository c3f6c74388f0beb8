"""Sight: what a vision encoder would tell of n simulations, without a picture being drawn.

Drawing and encoding pictures is what training on cameras spends its time on. Here the true state at the moment of the
picture is given instead, off by errors that the encoder was measured to make (transfer/sight.py) on rendered episodes
that it was not trained on. Errors are replayed in whole stretches of one episode: the bias of one appearance stays
through an episode, what is correlated in time stays so, and rare gross errors come as rarely and last as long. What is
lost is the errors' dependence on the state, which is why policies are always judged on rendered pictures.

States are named as a VisionCard names them: joint_cos/<j>, joint_sin/<j>, joint_position/<j>, body_position/<b>/<axis>.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from robot.config import ConfigError
from sim.frames import Array, Ids, Outer, Shutter
from sim.model import Model

SIGHT = "sight"
"""Name of the input that stands for the pictures."""
AXES = ("x", "y", "z")


class Coordinates:
    """What the state components of an encoder say about qpos: an angle for each cos and sin, else the value itself."""

    def __init__(self, model: Model, states: tuple[str, ...]) -> None:
        """ConfigError for a component that this robot does not have."""
        self.states = states
        self.names = tuple(s.replace("joint_cos/", "joint_angle/") for s in states if not s.startswith("joint_sin/"))
        self._address = np.array([_address(model, name) for name in self.names], dtype=np.intp)
        self._angle = np.array([name.startswith("joint_angle/") for name in self.names])
        self._value = [states.index(n) for n in self.names if n in states]
        turning = [n.removeprefix("joint_angle/") for n in self.names if n not in states]
        self._cos, self._sin = ([states.index(f"joint_{f}/{j}") for j in turning] for f in ("cos", "sin"))

    def of(self, qpos: Array) -> Array:
        """(n, C) coordinates [rad] or [m] of states (n, nq)."""
        return qpos[:, self._address]

    def moved(self, qpos: Array, change: Array) -> Array:
        """(n, nq) states with their coordinates off by (n, C)."""
        made = qpos.copy()
        made[:, self._address] += change
        return made

    def to_state(self, coordinates: Array) -> npt.NDArray[np.float32]:
        """(n, S) state components of coordinates (n, C)."""
        state = np.empty((len(coordinates), len(self.states)), np.float32)
        angle = coordinates[:, self._angle]
        state[:, self._cos], state[:, self._sin] = np.cos(angle), np.sin(angle)
        state[:, self._value] = coordinates[:, ~self._angle]
        return state

    def of_state(self, state: npt.NDArray[Any]) -> Array:
        """(n, C) coordinates of state components (n, S), cosines and sines of any common length."""
        coordinates = np.empty((len(state), len(self.names)))
        coordinates[:, self._angle] = np.arctan2(state[:, self._sin], state[:, self._cos])
        coordinates[:, ~self._angle] = state[:, self._value]
        return coordinates

    def difference(self, a: Array, b: Array) -> Array:
        """a - b, angles in [-π, π)."""
        return np.where(self._angle, (a - b + np.pi) % (2.0 * np.pi) - np.pi, a - b)


def _address(model: Model, coordinate: str) -> int:
    """Where a coordinate stands in qpos."""
    kind, _, rest = coordinate.partition("/")
    mj, (name, _, axis) = model.mj, rest.partition("/")
    if kind in ("joint_angle", "joint_position"):
        index = mujoco.mj_name2id(mj, mujoco.mjtObj.mjOBJ_JOINT, name)
        if index >= 0:
            return int(mj.jnt_qposadr[index])
    elif kind == "body_position" and axis in AXES:
        index = mujoco.mj_name2id(mj, mujoco.mjtObj.mjOBJ_BODY, name)
        if index >= 0 and mj.jnt_type[mj.body_jntadr[index]] == mujoco.mjtJoint.mjJNT_FREE:
            return int(mj.jnt_qposadr[mj.body_jntadr[index]]) + AXES.index(axis)
    raise ConfigError(f"the vision encoder tells '{coordinate}', which robot '{model.spec.name}' does not have.")


@dataclass(frozen=True, slots=True)
class SightErrors:
    """How far off an encoder was in rendered episodes: what it told minus the truth."""

    cameras: tuple[str, ...]
    states: tuple[str, ...]
    """Components of what the encoder tells."""
    values: npt.NDArray[np.float32]
    """(E, T, C) over E episodes of T control steps, of the coordinates [rad] or [m]."""


class Sight(Shutter):
    """The encoder's word for n simulations stepped together; its clock is that of the encoder's first camera."""

    def __init__(self, model: Model, errors: SightErrors, n: int, period_s: float) -> None:
        super().__init__(model, errors.cameras[:1], n, period_s)
        self._coordinates = Coordinates(model, errors.states)
        self._errors = errors.values
        self._episode, self._begin = np.zeros(n, np.intp), np.zeros(n, np.intp)
        self.inputs: dict[str, npt.NDArray[Any]] = {SIGHT: np.zeros((n, len(errors.states)), np.float32)}
        """sight -> (n, S): what is told now. Replaced, not written into, by update()."""
        self._fresh = np.ones(n, dtype=bool)
        self._error = np.zeros((n, self._errors.shape[2]))

    @property
    def believed(self) -> npt.NDArray[np.float32]:
        """(n, S) the present state, off by the error of the newest picture: told by an encoder without latency."""
        return self._coordinates.to_state(self._coordinates.of(self._past[0]) + self._error)

    def believed_qpos(self, qpos: Array) -> Array:
        """(n, nq) present states `qpos`, off by that error in what the encoder tells."""
        return self._coordinates.moved(qpos, self._error)

    def reset(self, qpos: Array, ids: Ids) -> None:
        """Some simulations begin anew in these states, (len(ids), nq)."""
        super().reset(qpos, ids)
        self._fresh[ids] = True

    def update(self, age: npt.NDArray[np.int64], outer: Outer, rng: np.random.Generator) -> None:
        """Tell what has changed; `age` (n,) counts the control steps of each episode, `outer` is the plant's."""
        episodes, steps, _ = self._errors.shape
        fresh = np.flatnonzero(self._fresh)
        if len(fresh):
            self._episode[fresh], self._begin[fresh] = rng.integers(0, [[episodes], [steps]], (2, len(fresh)))
            self._fresh[fresh] = False
        for _, new, qpos in self.taken(age, outer):
            self._error[new] = self._errors[self._episode[new], (self._begin[new] + age[new]) % steps]
            told = self.inputs[SIGHT].copy()
            told[new] = self._coordinates.to_state(self._coordinates.of(qpos) + self._error[new])
            self.inputs[SIGHT] = told

"""What lies between the physics and a reading: joint zero, latency, noise, quantization. Batched numpy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from robot.spec import RobotSpec

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]

JOINT_SIGNALS = ("joint.position", "joint.velocity", "joint.effort")


def quantize(value: Array, resolution: float) -> Array:
    """Round to the middle of the nearest count, as a 2^n-1 scale over a symmetric range does (zero reads half a count).

    `resolution` is the step in the value's unit; 0 leaves the value as it is. Matches the MIT CAN logs, whose
    zero reads plus or minus half a count.
    """
    if resolution <= 0.0:
        return value
    return (np.floor(value / resolution) + 0.5) * resolution


def read(value: Array, resolution: float, noise: Array | float, rng: np.random.Generator) -> Array:
    """A noisy, quantized reading of `value` (n, n_joints); `noise` is a standard deviation that broadcasts."""
    if np.count_nonzero(noise):
        value = value + noise * rng.standard_normal(value.shape)
    return quantize(value, resolution)


class JointSensors:
    """The joint sensors of n simulations: what they measured, and how long ago.

    States are handed in at every physics step; a reading is the state `latency_s` ago, between two steps by
    linear interpolation.
    """

    def __init__(self, spec: RobotSpec, n: int, timestep_s: float) -> None:
        self._sensors = {s.signal: s for s in spec.sensors if s.signal in JOINT_SIGNALS}
        steps = {name: s.latency_s / timestep_s for name, s in self._sensors.items()}
        self._whole = {name: int(np.floor(x + 1e-9)) for name, x in steps.items()}
        self._part = {name: max(0.0, x - self._whole[name]) for name, x in steps.items()}
        depth = max(self._whole.values(), default=0) + 2
        self.delayed = max(steps.values(), default=0.0) > 1e-9
        """Whether states are needed at every physics step; if not, the newest is enough."""
        self._past = {name: np.zeros((depth, n, len(spec.joints))) for name in self._sensors}

    @property
    def signals(self) -> tuple[str, ...]:
        """Those of JOINT_SIGNALS that this robot measures."""
        return tuple(self._sensors)

    def reset(self, state: Mapping[str, Array], ids: Ids) -> None:
        """Some simulations have always been in this state: signal -> (len(ids), n_joints)."""
        for name, past in self._past.items():
            past[:, ids] = state[name]

    def push(self, state: Mapping[str, Array]) -> None:
        """The state after one more physics step: signal -> (n, n_joints)."""
        for name, past in self._past.items():
            if self.delayed:
                past[1:] = past[:-1].copy()
            past[0] = state[name]

    def read(
        self,
        offset: Array,
        noise: Mapping[str, Array],
        rng: np.random.Generator,
        wanted: tuple[str, ...],
        ids: Ids | slice,
    ) -> dict[str, Array]:
        """Readings of the wanted signals: signal -> (len(ids), n_joints).

        offset (n, n_joints) is the joint zero [rad]; noise: signal -> (n, 1) standard deviation.
        """
        readings = {}
        for name in wanted:
            past, whole, part = self._past[name], self._whole[name], self._part[name]
            value = past[whole, ids]
            if part:
                value = value + part * (past[whole + 1, ids] - value)
            if name == "joint.position":
                value = value + offset[ids]
            readings[name] = read(value, self._sensors[name].resolution, noise[name][ids], rng)
        return readings

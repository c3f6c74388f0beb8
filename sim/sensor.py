"""What lies between the physics and a reading: joint zero, latency, noise, bias, outliers, quantization. Batched numpy.

`Faults` is what is wrong with a reading, used alike by the batched environment and by the simulated driver; `Sensors`
adds how old it is, for simulations that are stepped together. To add a fault: a row in sim/targets/sensing.py, a line
in `Faults.apply`, and a test.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from sim.model import Model
from sim.targets.sensing import MAX_DELAY_S

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]
Outer = Mapping[tuple[str, str], Array]

JOINT_SIGNALS = ("joint.position", "joint.velocity", "joint.effort")
ORIENTATION = "imu.orientation"
WIDTH = {"imu.gyro": 3, "imu.accel": 3, ORIENTATION: 4}
"""Components of the signals that have not one for each joint."""


def quantize(value: Array, resolution: Array | float) -> Array:
    """Round to the middle of the nearest count, as a 2^n-1 scale over a symmetric range does (zero reads half a count).

    `resolution` is the step in the value's unit; 0 leaves the value as it is. Matches the MIT CAN logs, whose
    zero reads plus or minus half a count.
    """
    step = np.where(np.asarray(resolution) > 0.0, resolution, 1.0)
    return np.where(np.asarray(resolution) > 0.0, (np.floor(value / step) + 0.5) * step, value)


def whole_counts(value: Array, resolution: Array | float) -> Array:
    """Round to the nearest whole count, as a servo's registers do: zero reads zero."""
    step = np.where(np.asarray(resolution) > 0.0, resolution, 1.0)
    return np.where(np.asarray(resolution) > 0.0, np.round(value / step) * step, value)


class Faults:
    """What is wrong with the readings of n simulations, from the outer targets of sim/targets/sensing.py."""

    def __init__(self, model: Model, outer: Outer, n: int) -> None:
        """`outer` is read live; refresh() says that it has changed."""
        self._outer, self._offset = outer, outer["sensor", "offset"]
        self._count = quantize if any(a.kind == "torque" for a in model.spec.actuators) else whole_counts
        self._column = {
            (q, s): i
            for kind, q in outer
            if kind == "sensor" and q != "offset"
            for i, s in enumerate(model.objects((kind, q)))
        }
        width = len(model.spec.joints)
        self._walk = {s: np.zeros((n, WIDTH.get(s, width))) for q, s in self._column if q == "bias_walk"}
        self.refresh()

    def refresh(self) -> None:
        """Take up changed targets: what is at nothing everywhere costs nothing."""
        self._on = {key for key in self._column if self._of(*key, slice(None)).any()}

    def _of(self, quantity: str, signal: str, ids: Ids | slice) -> Array:
        """(len(ids), 1) a quantity in force."""
        column = self._column[quantity, signal]
        return self._outer["sensor", quantity][ids, column : column + 1]

    def reset(self, ids: Ids | slice) -> None:
        """A new episode: biases that walk begin at nothing again."""
        for walk in self._walk.values():
            walk[ids] = 0.0

    def apply(
        self, signal: str, value: Array, rng: np.random.Generator, ids: Ids | slice, elapsed_s: float = 0.0
    ) -> Array:
        """Readings of the true `value` (len(ids), k), `elapsed_s` after the ones before."""
        if signal == "joint.position":
            value = value + self._offset[ids]
        if signal == ORIENTATION:
            return self._turned(value, rng, ids)
        on = self._on
        if ("bias", signal) in on:
            value = value + self._of("bias", signal, ids)
        if ("bias_walk", signal) in on:
            walk = self._walk[signal]
            drift = self._of("bias_walk", signal, ids) * np.sqrt(elapsed_s)
            walk[ids] += drift * rng.standard_normal(value.shape)
            value = value + walk[ids]
        if ("noise", signal) in on:
            value = value + self._of("noise", signal, ids) * rng.standard_normal(value.shape)
        if ("outliers", signal) in on:
            hit = rng.random(value.shape) < self._of("outliers", signal, ids)
            size = self._of("outlier_size", signal, ids) * rng.uniform(-1.0, 1.0, value.shape)
            value = np.where(hit, value + size, value)
        if ("resolution", signal) in on:
            value = self._count(value, self._of("resolution", signal, ids))
        return value

    def _turned(self, quaternion: Array, rng: np.random.Generator, ids: Ids | slice) -> Array:
        """(n, 4) w x y z turned by small random angles about the sensor's axes."""
        if ("noise", ORIENTATION) not in self._on:
            return quaternion
        w, x, y, z = quaternion.T
        a, b, c = (0.5 * self._of("noise", ORIENTATION, ids) * rng.standard_normal((len(quaternion), 3))).T
        turned = np.stack([w - x * a - y * b - z * c, x + w * a + y * c - z * b, y + w * b + z * a - x * c,
                           z + w * c + x * b - y * a], axis=1)  # fmt: skip
        return np.asarray(turned / np.linalg.norm(turned, axis=1, keepdims=True))


class Sensors:
    """The sensors of n simulations that are stepped together: what they measured, and how long ago.

    States are handed in at every physics step while some reading is late (`delayed`), else at every reading; a reading
    is the state `latency` ago, between two steps by linear interpolation.
    """

    def __init__(self, model: Model, outer: Outer, n: int, step_s: float) -> None:
        """`outer` as in Faults; `step_s` is the time between two physics steps."""
        self._faults, self._outer, self._step, self._n = Faults(model, outer, n), outer, step_s, n
        joints = len(model.spec.joints)
        self._latency = {s.signal: s.latency_s for s in model.spec.sensors}
        self._delay = {s: i for i, s in enumerate(model.objects(("sensor", "delay")))}
        longest = max(self._latency.values(), default=0.0)
        self._short, self._long = int(np.ceil(longest / step_s)) + 2, int(np.ceil((longest + MAX_DELAY_S) / step_s)) + 2
        self._past = {s: np.zeros((self._short, n, WIDTH.get(s, joints))) for s in self._latency}
        self._newest, self._rows = 0, np.arange(n)
        self.refresh()

    @property
    def signals(self) -> tuple[str, ...]:
        """What this robot measures."""
        return tuple(self._past)

    def refresh(self) -> None:
        """Take up changed targets; the simulations that they changed are to be reset()."""
        self._faults.refresh()
        delay = self._outer["sensor", "delay"]
        if delay.any() and len(next(iter(self._past.values()))) < self._long:
            self._past = {s: np.repeat(p[self._newest][None], self._long, axis=0) for s, p in self._past.items()}
            self._newest = 0
        self._whole, self._part = {}, {}
        for signal, latency in self._latency.items():
            steps = (latency + delay[:, self._delay[signal]]) / self._step
            self._whole[signal] = whole = np.floor(steps + 1e-9).astype(np.intp)
            self._part[signal] = np.maximum(steps - whole, 0.0)
        self.delayed = any(w.any() or p.any() for w, p in zip(self._whole.values(), self._part.values(), strict=True))
        """Whether states are needed at every physics step; if not, the newest is enough."""

    def reset(self, state: Mapping[str, Array], ids: Ids) -> None:
        """Some simulations have always been in this state: signal -> (len(ids), k)."""
        for name, past in self._past.items():
            past[:, ids] = state[name]
        self._faults.reset(ids)

    def push(self, state: Mapping[str, Array]) -> None:
        """The state after one more physics step: signal -> (n, k)."""
        depth = len(next(iter(self._past.values())))
        self._newest = (self._newest + 1) % depth
        for name, past in self._past.items():
            past[self._newest] = state[name]

    def read(
        self, rng: np.random.Generator, wanted: tuple[str, ...], ids: Ids | slice, elapsed_s: float = 0.0
    ) -> dict[str, Array]:
        """Readings of the wanted signals, `elapsed_s` after the ones before: signal -> (len(ids), k)."""
        return {s: self._faults.apply(s, self._late(s, ids), rng, ids, elapsed_s) for s in wanted}

    def _late(self, signal: str, ids: Ids | slice) -> Array:
        past, rows = self._past[signal], self._rows[ids]
        if not self.delayed:
            return np.array(past[self._newest, ids])
        at = (self._newest - self._whole[signal][ids]) % len(past)
        value, part = past[at, rows], self._part[signal][ids, None]
        if part.any():
            older = past[at - 1, rows]
            value = np.where(part > 0.0, value + part * (older - value), value)
            if signal == ORIENTATION:
                value /= np.linalg.norm(value, axis=1, keepdims=True)
        return value

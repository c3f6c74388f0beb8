"""Frames: what the cameras of n simulations show at each control step, at their own rate and with their latency.

A camera takes a picture `rate_hz` times a second from the start of the episode on; it can be seen `latency_s` later,
and until the next one comes. Only pictures that change are drawn, by the ray renderer: for many small pictures it is
several times faster than software GL. sim/sight.py has the same clock and draws nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from robot.spec import CameraSpec
from sim.model import Model
from sim.targets.sensing import MAX_LATENCY_S

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]
Outer = Mapping[tuple[str, str], Array]
NEVER = -1


class Shutter:
    """When n simulations' cameras take pictures, and in which state each simulation then was."""

    def __init__(self, model: Model, names: tuple[str, ...], n: int, period_s: float) -> None:
        """`period_s` is the control period."""
        self._specs = {c.name: c for c in model.spec.cameras if c.name in names}
        self._period = period_s
        self._column = {name: model.objects(("camera", "latency")).index(name) for name in names}
        age = MAX_LATENCY_S + max((1.0 / c.rate_hz for c in self._specs.values()), default=0.0)
        self._past = np.zeros((int(np.ceil(age / period_s)) + 2 if names else 0, n, model.mj.nq))
        self._shown = {name: np.full(n, NEVER) for name in names}
        self.pictured = {name: np.zeros((n, model.mj.nq)) for name in names}
        """Camera -> (n, nq) the states that its newest visible pictures show: labels, never an input of a policy."""

    def reset(self, qpos: Array, ids: Ids) -> None:
        """Some simulations begin anew in these states, (len(ids), nq)."""
        self._past[:, ids] = qpos
        for shown in self._shown.values():
            shown[ids] = NEVER

    def push(self, qpos: Array) -> None:
        """The states after one more control step, (n, nq)."""
        if self._shown:
            self._past[1:] = self._past[:-1].copy()
            self._past[0] = qpos

    def taken(self, age: npt.NDArray[np.int64], outer: Outer) -> Iterator[tuple[str, Ids, Array]]:
        """(camera, simulations, their states (k, nq)) of the pictures that have become visible since the last call.

        `age` (n,) counts the control steps of each episode, `outer` is the plant's.
        """
        for name, shown in self._shown.items():
            step = self._step_of(self._specs[name], outer["camera", "latency"][:, self._column[name]], age)
            new = np.flatnonzero(step != shown)
            if len(new):
                self.pictured[name][new] = self._past[age[new] - step[new], new]
                shown[new] = step[new]
                yield name, new, self.pictured[name][new]

    def _step_of(self, camera: CameraSpec, latency_s: Array, age: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(n,) the control step at or before the moment when the newest visible picture was taken; 0 at first."""
        visible_s = np.maximum(age * self._period - latency_s, 0.0)
        taken_s = np.floor(visible_s * camera.rate_hz + 1e-9) / camera.rate_hz
        return np.floor(taken_s / self._period + 1e-9).astype(np.int64)


class Frames(Shutter):
    """The cameras that a policy sees, of n simulations stepped together."""

    def __init__(self, model: Model, names: tuple[str, ...], n: int, period_s: float, nthread: int = 0) -> None:
        """`period_s` is the control period."""
        from sim.render import Camera
        from sim.visual import Visual

        super().__init__(model, names, n, period_s)
        visual = Visual(model, nthread) if names else None
        self._cameras = {name: Camera(model, name, renderer="ray", nthread=nthread, visual=visual) for name in names}
        self.inputs: dict[str, npt.NDArray[Any]] = {
            f"image_{name}": np.zeros((n, 3, c.height, c.width), np.uint8) for name, c in self._cameras.items()
        }
        """image_<camera> -> (n, 3, height, width) RGB uint8: what is seen now. Replaced, not written into."""

    def update(self, age: npt.NDArray[np.int64], outer: Outer, rng: np.random.Generator) -> None:
        """Draw what has changed; arguments as in taken()."""
        for name, new, states in self.taken(age, outer):
            rows = {key: values[new] for key, values in outer.items()}
            images = self.inputs[f"image_{name}"].copy()
            images[new] = self._cameras[name].images(states, rows, rng).transpose(0, 3, 1, 2)
            self.inputs[f"image_{name}"] = images

"""Eyes: the cameras of one simulated robot on a clock of nanoseconds, for sim/driver.py.

A camera exposes `rate_hz` times a second; the picture arrives `latency_s` later, and is drawn only when it is read. The
cameras of simulations that are stepped together are in sim/frames.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError, nearest
from sim.model import Model
from sim.render import Camera

Array = npt.NDArray[np.float64]
Picture = tuple[int, npt.NDArray[np.uint8]]
NEVER_NS = 2**62


class Eyes:
    """The cameras in use; pictures that nobody read in time are never drawn."""

    def __init__(self, model: Model, names: tuple[str, ...], outer: Mapping[tuple[str, str], Array]) -> None:
        """`outer` is read live for latencies and appearance. ConfigError for a camera that the robot lacks."""
        self._specs = {c.name: c for c in model.spec.cameras}
        if unknown := [n for n in names if n not in self._specs]:
            raise ConfigError(
                f"robot '{model.spec.name}' has no camera '{unknown[0]}'. {nearest(unknown[0], list(self._specs))}"
            )
        self._cameras = {name: Camera(model, name) for name in names}
        self._outer, listed = outer, model.objects(("camera", "latency"))
        self._latency = {name: outer["camera", "latency"][:, listed.index(name)] for name in names}
        self.restart(0, np.zeros((1, model.mj.nq)))

    def restart(self, now_ns: int, qpos: Array, seed: int = 0) -> None:
        """An episode begins: every camera exposes now."""
        self._begin, self._rng = now_ns, np.random.default_rng(seed)
        self._count = dict.fromkeys(self._cameras, 0)
        self._under_way: dict[str, list[tuple[int, Array]]] = {name: [] for name in self._cameras}
        self.look(now_ns, qpos)

    @property
    def next_ns(self) -> int:
        """When the next exposure is."""
        return min((self._time_of(name) for name in self._cameras), default=NEVER_NS)

    def _time_of(self, name: str) -> int:
        return self._begin + round(self._count[name] * 1e9 / self._specs[name].rate_hz)

    def look(self, now_ns: int, qpos: Array) -> None:
        """Expose the cameras whose time it is; `qpos` (1, nq) is the state now."""
        for name in self._cameras:
            if self._time_of(name) <= now_ns:
                self._under_way[name].append((now_ns, np.array(qpos)))
                self._count[name] += 1

    def see(self, now_ns: int) -> dict[str, Picture]:
        """The newest picture of each camera that has arrived since the last call: (time of exposure, uint8 HWC)."""
        seen = {}
        for name, pictures in self._under_way.items():
            latency = round(float(self._latency[name][0]) * 1e9)
            arrived = [i for i, (t, _) in enumerate(pictures) if t + latency <= now_ns]
            if arrived:
                t, qpos = pictures[arrived[-1]]
                seen[name] = t, self._cameras[name].images(qpos, self._outer, self._rng)[0]
                del pictures[: arrived[-1] + 1]
        return seen

"""What the emulated motors of all three protocols share: where their troubles come from, and what they remember."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from sim.emulators.faults import Faults
from sim.emulators.world import World

ROOM_C = 31.0
HOT_C = 110.0
RESTART_NS = 250_000_000
"""How long a motor is away after a brown-out."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the host sent: bytes, and for CAN the identifier."""

    data: bytes
    id: int = -1


@dataclass(frozen=True, slots=True)
class Reply:
    """What a motor answers, and what a motor that nobody knows would say in its place."""

    joint: int
    data: bytes
    foreign: bytes


class Motors(Protocol):
    """One protocol's motors."""

    def receive(self, request: Request, now_ns: int) -> list[Reply]:
        """Act on what came, and answer."""
        ...

    def tick(self, now_ns: int) -> None:
        """What motors do by themselves: restart, stop by their own watchdog."""
        ...

    def restart(self) -> None:
        """Switch all motors off and on again."""
        ...


@dataclass
class Record:
    """What really happened, for whoever checks it: rows of (t_ns, joint, numbers…)."""

    states: list[tuple[int, int, float, float, float]] = field(default_factory=list)
    """Each answer: position [rad], velocity [rad/s], effort [N m] of the joint, unquantized."""
    orders: list[tuple[int, int, float, float, float, float, float, float]] = field(default_factory=list)
    """Each order as understood: position, velocity, effort, kp, kd in the joint's sense, and whether it has power."""

    def save(self, path: str) -> None:
        """Write both as arrays of an npz file."""
        np.savez(
            path, states=np.array(self.states or np.zeros((0, 5))), orders=np.array(self.orders or np.zeros((0, 8)))
        )


@dataclass
class Body:
    """The common part of a bus's motors: the world, the troubles, and the record."""

    world: World
    faults: Faults
    record: Record = field(default_factory=Record)

    def __post_init__(self) -> None:
        self.rest()

    def rest(self) -> None:
        """Begin again, without troubles and without a past."""
        n = len(self.world.wires.ids)
        self.faults.clear()
        self.record.states.clear()
        self.record.orders.clear()
        self.world.rest()
        self._away_until = [0] * n
        self._frozen: dict[int, tuple[float, float, float]] = {}
        self._down = [False] * n

    def sense(self, k: int, now_ns: int) -> tuple[float, float, float]:
        """What motor k measures now, in its own sense."""
        if self.faults.on("frozen", k, now_ns):
            return self._frozen.setdefault(k, self.world.motor(k))
        self._frozen.pop(k, None)
        j = self.world.joints
        self.record.states.append((now_ns, k, float(j.position[k]), float(j.velocity[k]), float(j.effort[k])))
        return self.world.motor(k)

    def temperature(self, k: int, now_ns: int) -> float:
        """[°C]."""
        return HOT_C if self.faults.on("hot", k, now_ns) else ROOM_C

    def away(self, k: int, now_ns: int) -> bool:
        """Whether motor k hears nothing now."""
        return now_ns < self._away_until[k] or self.faults.on("bus_off", k, now_ns) is not None

    def tick(self, now_ns: int, forget: Callable[[int], None]) -> None:
        """Begin brown-outs, in which `forget(k)` is called, and turn motors against themselves."""
        for k in range(len(self._down)):
            down = self.faults.on("brown_out", k, now_ns) is not None
            if down and not self._down[k]:
                self._away_until[k] = now_ns + RESTART_NS
                forget(k)
                self.order(k, now_ns, False)
            self._down[k] = down
            self.world.reversed[k] = -1.0 if self.faults.on("wrong_direction", k, now_ns) else 1.0

    def order(self, k: int, now_ns: int, power: bool, **what: float) -> None:
        """Pass an order on to the world, and record it in the joint's sense."""
        wires = self.world.wires
        sense, zero = wires.direction[k], wires.zero[k]
        self.world.order(k, **what)
        position = sense * (what.get("position", 0.0) - zero)
        velocity, effort = sense * what.get("velocity", 0.0), sense * what.get("effort", 0.0)
        kp, kd = what.get("kp", 0.0), what.get("kd", 0.0)
        self.record.orders.append((now_ns, k, position, velocity, effort, kp, kd, float(power)))

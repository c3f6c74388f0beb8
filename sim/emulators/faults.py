"""What can go wrong on a bus and in a motor, on request and deterministic by seed.

To add a kind: its row in KINDS, and the place that asks `Faults.on` for it: here for what happens to answers, in the
motors' files for what happens to motors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KINDS = {
    "lost": "answers do not come; amount: share of them",
    "late": "answers come late; amount: seconds",
    "corrupt": "bits of answers flip, or their end is missing; amount: share of them",
    "duplicated": "answers come twice",
    "stale": "the answer before comes first, then the true one",
    "frozen": "answers repeat one state",
    "foreign": "a motor that nobody knows answers, too",
    "echo": "what the host sends comes back to it",
    "noise": "bytes come that are nothing (serial)",
    "bus_off": "the bus is dead; CAN controllers say so",
    "unplugged": "the port is gone (serial)",
    "brown_out": "a motor restarts, and has forgotten what it was told",
    "hot": "a motor reports more than 100 °C",
    "wrapped": "a servo's position is a turn of its encoder off (MIT motors wrap by themselves)",
    "wrong_direction": "a motor turns against its torque",
}
"""kind -> what happens."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One trouble, for a while."""

    kind: str
    joint: int | None
    """Index of the joint whose motor has it; None: all."""
    until_ns: int
    amount: float


@dataclass(frozen=True, slots=True, order=True)
class Answer:
    """Bytes for the host, and when they go out [ns]."""

    due_ns: int
    order: int
    joint: int
    """Whose; -1 for nobody's."""
    data: bytes


class Faults:
    """The troubles of one emulated bus, and what they do to answers."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._faults: list[Fault] = []
        self._before: dict[int, bytes] = {}
        self._count = 0

    def add(self, fault: Fault) -> None:
        """Begin a trouble."""
        self._faults.append(fault)

    def clear(self) -> None:
        """End all troubles."""
        self._faults.clear()

    def on(self, kind: str, joint: int, now_ns: int) -> Fault | None:
        """The trouble of this kind that a joint's motor has now."""
        self._faults = [f for f in self._faults if f.until_ns > now_ns]
        return next((f for f in self._faults if f.kind == kind and f.joint in (None, joint)), None)

    def answer(self, joint: int, data: bytes, now_ns: int, foreign: bytes) -> list[Answer]:
        """What comes of a motor's answer on its way to the host; `foreign` is what an unknown motor would say."""
        before, self._before[joint] = self._before.get(joint), data
        if self.on("bus_off", joint, now_ns) or self._happens("lost", joint, now_ns):
            return []
        if self._happens("corrupt", joint, now_ns):
            data = self._corrupt(data)
        parts = [data]
        if self.on("stale", joint, now_ns) and before is not None:
            parts.insert(0, before)
        if self.on("duplicated", joint, now_ns):
            parts.append(data)
        if self.on("foreign", joint, now_ns):
            parts.insert(0, foreign)
        if self.on("noise", joint, now_ns):
            noise = self._rng.integers(0, 256, int(self._rng.integers(1, 12)), dtype=np.uint8)
            parts.insert(0, noise.tobytes() + b"\xff\xff")
        late = self.on("late", joint, now_ns)
        due = now_ns + (round(late.amount * 1e9) if late else 0)
        return [self.plain(joint, part, due) for part in parts]

    def plain(self, joint: int, data: bytes, due_ns: int) -> Answer:
        """Bytes that go out as they are, after those made before."""
        self._count += 1
        return Answer(due_ns, self._count, joint, data)

    def _happens(self, kind: str, joint: int, now_ns: int) -> bool:
        fault = self.on(kind, joint, now_ns)
        return fault is not None and self._rng.random() < fault.amount

    def _corrupt(self, data: bytes) -> bytes:
        if self._rng.random() < 0.3:
            return data[: int(self._rng.integers(0, len(data)))]
        changed = bytearray(data)
        for _ in range(int(self._rng.integers(1, 4))):
            changed[int(self._rng.integers(0, len(changed)))] ^= 1 << int(self._rng.integers(0, 8))
        return bytes(changed)

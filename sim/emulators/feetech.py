"""STS3215 servos on a serial bus, emulated: a register table each, which requests read and write."""

from __future__ import annotations

import numpy as np

from robot.drivers import feetech_protocol as sts
from robot.drivers.feetech_protocol import BROADCAST, COUNTS, REGISTERS, FeetechError, Frame
from robot.drivers.wiring import MIDDLE, RAD_PER_COUNT
from sim.emulators.motors import HOT_C, Body, Reply, Request

SIZE = 90
DEFAULTS = {
    "model": 777, "response_level": 1, "max_temperature": 70, "max_voltage": 80, "min_voltage": 40, "max_torque": 1000,
    "phase": 0x0C, "torque_limit": 1000, "lock": 1, "present_voltage": 74,
}  # fmt: skip
MAX_TORQUE_C = 70
"""Above this a servo reports over-temperature."""


class FeetechServos:
    """Servos in position mode."""

    def __init__(self, body: Body, gains: tuple[tuple[float, float, float], ...]) -> None:
        """`gains`: kp, kd and the damping when damped, of each servo."""
        self._body, self._gains = body, gains
        self._ids = {id: k for k, id in enumerate(body.world.wires.ids)}
        self.tables = [bytearray(SIZE) for _ in gains]
        self._parser = sts.Parser()
        self._waiting: dict[int, tuple[int, bytes]] = {}
        """Servo -> (address, data) of a REG_WRITE that waits for ACTION."""
        for k, id in enumerate(body.world.wires.ids):
            for name, value in (DEFAULTS | {"id": id}).items():
                self._set(k, name, value)

    def receive(self, request: Request, now_ns: int) -> list[Reply]:
        """As Motors."""
        replies = []
        for frame in self._parser.feed(request.data):
            for k in self._addressed(frame):
                if not self._body.away(k, now_ns):
                    replies += self._act(k, frame, now_ns)
        return replies

    def tick(self, now_ns: int) -> None:
        """As Motors."""
        self._body.tick(now_ns, self._forget)

    def restart(self) -> None:
        """As Motors; the supply has recovered."""
        for k in range(len(self.tables)):
            self._forget(k)
            self._set(k, "present_voltage", DEFAULTS["present_voltage"])

    def _addressed(self, frame: Frame) -> list[int]:
        if frame.code == sts.SYNC_READ:
            return [self._ids[id] for id in frame.parameters[2:] if id in self._ids]
        if frame.id == BROADCAST:
            return list(self._ids.values())
        return [self._ids[frame.id]] if frame.id in self._ids else []

    def _act(self, k: int, frame: Frame, now_ns: int) -> list[Reply]:
        p, quiet = frame.parameters, frame.id == BROADCAST
        if frame.code == sts.PING:
            return [self._reply(k, b"", now_ns)]
        if frame.code in (sts.READ, sts.SYNC_READ) and len(p) >= 2:
            self._measure(k, now_ns)
            return [self._reply(k, bytes(self.tables[k][p[0] : p[0] + p[1]]), now_ns)]
        if frame.code == sts.SYNC_WRITE and len(p) >= 2:
            size, id = p[1], self._body.world.wires.ids[k]
            for at in range(2, len(p) - size, size + 1):
                if p[at] == id:
                    self._write(k, p[0], p[at + 1 : at + 1 + size], now_ns)
        elif frame.code == sts.WRITE and p:
            self._write(k, p[0], p[1:], now_ns)
        elif frame.code == sts.REG_WRITE and p:
            self._waiting[k] = (p[0], p[1:])
        elif frame.code == sts.ACTION and k in self._waiting:
            self._write(k, *self._waiting.pop(k), now_ns)
        return [] if quiet or not self._get(k, "response_level") else [self._reply(k, b"", now_ns)]

    def _write(self, k: int, address: int, data: bytes, now_ns: int) -> None:
        if address + len(data) > SIZE or address + len(data) > REGISTERS["present_position"].address:
            return
        self.tables[k][address : address + len(data)] = data
        if self._get(k, "torque_enable") == sts.SET_MIDDLE:
            self._set(k, "torque_enable", 0)
            shown = self._get(k, "present_position") + self._get(k, "homing_offset")
            self._set(k, "homing_offset", int(np.clip(shown - MIDDLE, -2047, 2047)))
        self._drive(k, now_ns)

    def _drive(self, k: int, now_ns: int) -> None:
        kp, kd, damping = self._gains[k]
        torque = self._get(k, "torque_enable")
        true = self._body.world.motor(k)[0]
        goal = true + (self._get(k, "goal_position") - self._count(k, true, now_ns)) * RAD_PER_COUNT
        if torque == sts.TORQUE_ON:
            self._body.order(k, now_ns, True, position=goal, kp=kp, kd=kd)
        else:
            damped = torque == sts.TORQUE_DAMPED
            self._body.order(k, now_ns, damped, kd=damping if damped else 0.0)

    def _count(self, k: int, position: float, now_ns: int) -> int:
        """The position that the servo reports: within one turn, its homing offset taken off."""
        off = COUNTS if self._body.faults.on("wrapped", k, now_ns) else 0
        return (round(position / RAD_PER_COUNT) + MIDDLE - self._get(k, "homing_offset")) % COUNTS + off

    def _measure(self, k: int, now_ns: int) -> None:
        position, velocity, _ = self._body.sense(k, now_ns)
        self._set(k, "present_position", self._count(k, position, now_ns))
        self._set(k, "present_velocity", int(np.clip(round(velocity / RAD_PER_COUNT), -32767, 32767)))
        self._set(k, "present_temperature", round(self._body.temperature(k, now_ns)))
        self._set(k, "status", self._error(k, now_ns))

    def _error(self, k: int, now_ns: int) -> int:
        hot = self._body.temperature(k, now_ns) >= HOT_C
        return (0x01 if self._get(k, "present_voltage") < self._get(k, "min_voltage") else 0) | (0x04 if hot else 0)

    def _reply(self, k: int, data: bytes, now_ns: int) -> Reply:
        id = self._body.world.wires.ids[k]
        made = sts.encode(Frame(id, self._error(k, now_ns), data))
        return Reply(k, made, sts.encode(Frame(120, 0, data)))

    def _forget(self, k: int) -> None:
        """Restart: RAM as at power-up, and a supply that has not recovered."""
        self.tables[k][40:70] = bytes(30)
        for name in ("torque_limit", "lock"):
            self._set(k, name, DEFAULTS[name])
        self._set(k, "present_voltage", 36)
        self._body.world.order(k)

    def _set(self, k: int, name: str, value: int) -> None:
        register = REGISTERS[name]
        try:
            data = sts.encode_value(value, register)
        except FeetechError:
            return
        self.tables[k][register.address : register.address + register.size] = data

    def _get(self, k: int, name: str) -> int:
        register = REGISTERS[name]
        return sts.decode_value(bytes(self.tables[k][register.address : register.address + register.size]), register)

"""X-series Dynamixel servos on a serial bus, emulated: a control table each, with indirect addresses and watchdog."""

from __future__ import annotations

from robot.drivers import dynamixel_protocol as dxl
from robot.drivers.dynamixel_protocol import BROADCAST, COUNTS, REGISTERS, STATUS, Packet
from robot.drivers.wiring import MIDDLE, RAD_PER_COUNT
from sim.emulators.motors import HOT_C, Body, Reply, Request

SIZE = 256
INDIRECT, DATA, PLACES = 168, 208, 20
"""Of the XL330: where indirect addresses and their data begin, and how many there are."""
SPEED_UNIT = 0.0239808
"""[rad/s]: 0.229 rpm."""
DEFAULTS = {
    "model": 1200, "firmware": 50, "operating_mode": 3, "temperature_limit": 70, "max_voltage": 70, "min_voltage": 35,
    "pwm_limit": 885, "current_limit": 1750, "max_position": 4095, "input_voltage": 50, "goal_pwm": 885,
    "goal_current": 1750,
}  # fmt: skip
GOALS = range(REGISTERS["goal_pwm"].address, REGISTERS["goal_position"].address + 4)
ACCESS = 7


class DynamixelServos:
    """Servos in position mode."""

    def __init__(self, body: Body, gains: tuple[tuple[float, float], ...], mode: int = 3) -> None:
        """`gains`: kp and kd of each servo; `mode`: 3 position, 4 extended, 5 current-based position."""
        self._body, self._gains = body, gains
        self._ids = {id: k for k, id in enumerate(body.world.wires.ids)}
        self.tables = [bytearray(SIZE) for _ in gains]
        self._parser = dxl.Parser()
        self._heard_ns = [0] * len(gains)
        for k, id in enumerate(body.world.wires.ids):
            self.tables[k][7] = id
            for name, value in (DEFAULTS | {"operating_mode": mode}).items():
                self._set(k, name, value)

    def receive(self, request: Request, now_ns: int) -> list[Reply]:
        """As Motors."""
        replies = []
        for packet in self._parser.feed(request.data):
            for k in self._addressed(packet):
                if not self._body.away(k, now_ns):
                    self._heard_ns[k] = now_ns
                    replies += self._act(k, packet, now_ns)
        return replies

    def tick(self, now_ns: int) -> None:
        """As Motors: a servo whose bus watchdog runs out stops where it is."""
        self._body.tick(now_ns, self._forget)
        for k in range(len(self.tables)):
            limit = self._get(k, "bus_watchdog")
            if limit > 0 and self._heard_ns[k] and now_ns - self._heard_ns[k] > limit * 20_000_000:
                self._set(k, "bus_watchdog", -1)
                here = self._count(k, self._body.world.motor(k)[0], now_ns)
                self._set(k, "goal_position", here)
                self._drive(k, now_ns)

    def restart(self) -> None:
        """As Motors."""
        for k in range(len(self.tables)):
            self._forget(k)

    def _addressed(self, packet: Packet) -> list[int]:
        if packet.instruction == dxl.SYNC_READ:
            return [self._ids[id] for id in packet.parameters[4:] if id in self._ids]
        if packet.id == BROADCAST:
            return list(self._ids.values())
        return [self._ids[packet.id]] if packet.id in self._ids else []

    def _act(self, k: int, packet: Packet, now_ns: int) -> list[Reply]:
        p = packet.parameters
        if packet.instruction == dxl.PING:
            return [self._reply(k, 0, bytes(self.tables[k][0:2] + self.tables[k][6:7]), now_ns)]
        if packet.instruction in (dxl.READ, dxl.SYNC_READ) and len(p) >= 4:
            self._measure(k, now_ns)
            address, count = int.from_bytes(p[:2], "little"), int.from_bytes(p[2:4], "little")
            return [self._reply(k, 0, bytes(self.tables[k][a] for a in self._places(k, address, count)), now_ns)]
        if packet.instruction == dxl.SYNC_WRITE and len(p) >= 4:
            address, size = int.from_bytes(p[:2], "little"), int.from_bytes(p[2:4], "little")
            for at in range(4, len(p) - size, size + 1):
                if p[at] == self._body.world.wires.ids[k]:
                    self._write(k, address, p[at + 1 : at + 1 + size], now_ns)
            return []
        error = 2
        if packet.instruction == dxl.WRITE and len(p) >= 2:
            error = self._write(k, int.from_bytes(p[:2], "little"), p[2:], now_ns)
        elif packet.instruction == dxl.REBOOT:
            error = 0
            self._forget(k)
            self._set(k, "hardware_error", 0)
        return [] if packet.id == BROADCAST else [self._reply(k, error, b"", now_ns)]

    def _places(self, k: int, address: int, count: int) -> list[int]:
        """The table's places behind addresses; the indirect data's are where their addresses point."""
        places = []
        for a in range(address, min(address + count, SIZE)):
            if DATA <= a < DATA + PLACES:
                at = INDIRECT + 2 * (a - DATA)
                a = min(int.from_bytes(self.tables[k][at : at + 2], "little"), SIZE - 1)
            places.append(a)
        return places

    def _write(self, k: int, address: int, data: bytes, now_ns: int) -> int:
        """The error of the status packet."""
        indirect = INDIRECT <= address < INDIRECT + 2 * PLACES
        if address + len(data) > SIZE or address < 7:
            return ACCESS
        if (address < 64 or indirect) and self._get(k, "torque_enable"):
            return ACCESS
        if address in GOALS and self._get(k, "bus_watchdog") < 0:
            return ACCESS
        for a, byte in zip(self._places(k, address, len(data)), data, strict=True):
            self.tables[k][a] = byte
        self._drive(k, now_ns)
        return 0

    def _drive(self, k: int, now_ns: int) -> None:
        kp, kd = self._gains[k]
        true = self._body.world.motor(k)[0]
        goal = true + (self._get(k, "goal_position") - self._count(k, true, now_ns)) * RAD_PER_COUNT
        on = bool(self._get(k, "torque_enable"))
        self._body.order(k, now_ns, on, position=goal, kp=kp if on else 0.0, kd=kd if on else 0.0)

    def _count(self, k: int, position: float, now_ns: int) -> int:
        off = COUNTS if self._body.faults.on("wrapped", k, now_ns) else 0
        return round(position / RAD_PER_COUNT) + MIDDLE + off

    def _measure(self, k: int, now_ns: int) -> None:
        position, velocity, _ = self._body.sense(k, now_ns)
        celsius = self._body.temperature(k, now_ns)
        self._set(k, "present_position", self._count(k, position, now_ns))
        self._set(k, "present_velocity", round(velocity / SPEED_UNIT))
        self._set(k, "temperature", round(celsius))
        if celsius >= HOT_C:  # a servo that overheats shuts its torque down until it is rebooted
            self._set(k, "hardware_error", 0x04)
            self._set(k, "torque_enable", 0)
            self._drive(k, now_ns)

    def _reply(self, k: int, error: int, data: bytes, now_ns: int) -> Reply:
        alert = dxl.ALERT if self._get(k, "hardware_error") else 0
        parameters = bytes([error | alert]) + bytes(data)
        id = self._body.world.wires.ids[k]
        made = dxl.encode(Packet(id, STATUS, parameters))
        return Reply(k, made, dxl.encode(Packet(120, STATUS, parameters)))

    def _forget(self, k: int) -> None:
        """Restart: RAM as at power-up."""
        self.tables[k][64:] = bytes(SIZE - 64)
        for name in ("input_voltage", "goal_pwm", "goal_current"):
            self._set(k, name, DEFAULTS[name])
        self._body.world.order(k)

    def _set(self, k: int, name: str, value: int) -> None:
        register = REGISTERS[name]
        self.tables[k][register.address : register.address + register.size] = dxl.encode_value(value, register)

    def _get(self, k: int, name: str) -> int:
        register = REGISTERS[name]
        return dxl.decode_value(bytes(self.tables[k][register.address : register.address + register.size]), register)

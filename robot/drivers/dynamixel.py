"""DynamixelDriver: X-series servos (Protocol 2.0) on their serial bus, through PositionServos.

The servos' indirect addresses are set so that one sync read a cycle brings torque state, hardware errors, bus watchdog,
position, speed, voltage and temperature of all. While a goal may come, the servos' own bus watchdog is on: a host that
falls silent leaves them holding. Goal current (or PWM, where a servo has no current control) bounds their torque.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from robot.driver import DriverError, StaleState
from robot.drivers import dynamixel_protocol as dxl
from robot.drivers.dynamixel_protocol import COUNTS, REGISTERS, Packet
from robot.drivers.feetech import check_servos
from robot.drivers.serial_bus import RECENT, Lengths, SerialBus
from robot.drivers.servos import PositionServos, ServoState
from robot.drivers.wiring import Wiring, wiring
from robot.spec import RobotSpec

INDIRECT = {1190: (168, 208), 1200: (168, 208), 1060: (168, 224), 1090: (168, 224)}
"""Model -> where its indirect addresses and their data begin: XL330-M077, XL330-M288, XL430-W250, 2XL430-W250."""
FIELDS = (
    "torque_enable", "hardware_error", "bus_watchdog", "present_velocity", "present_position", "input_voltage",
    "temperature",
)  # fmt: skip
SPARE = RECENT + 1
"""Bytes at the end that only make the lengths differ from cycle to cycle."""
SPEED_UNIT = 0.229 * 2.0 * np.pi / 60.0
"""[rad/s] of one count."""
POSITION, EXTENDED, CURRENT_POSITION = 3, 4, 5
TURNS = 256
"""Turns to either side that the modes EXTENDED and CURRENT_POSITION count."""
GREET_S = 0.2
TRIES = 4


class DynamixelServos:
    """Protocol 2.0 as robot.drivers.servos.ServoBus."""

    can_damp = False

    def __init__(self, bus: SerialBus, wires: Wiring, torque_limit: float, watchdog_s: float, hot_c: float) -> None:
        """DriverError unless every servo answers, is of a known model and in a position mode."""
        self._bus, self._wires, self._hot_c = bus, wires, hot_c
        self._lengths = Lengths()
        self._watchdog = min(127, max(1, round(watchdog_s / 0.02))) if watchdog_s else 0
        addresses = [a for f in FIELDS for a in range(REGISTERS[f].address, sum(REGISTERS[f][:2]))]
        self._size, spare = len(addresses), [REGISTERS["moving"].address] * SPARE
        self._layout = b"".join(a.to_bytes(2, "little") for a in addresses + spare)
        self.lowest, self.highest = np.zeros(len(wires.ids)), np.full(len(wires.ids), COUNTS - 1.0)
        self._data_at = [self._greet(k, name, torque_limit) for k, name in enumerate(wires.names)]
        if len(set(self._data_at)) > 1:
            raise DriverError("servos of different series are on one bus; their indirect data are at different places")
        self.multi_turn = bool((self.highest >= COUNTS).all())

    def state(self, timeout_s: float) -> ServoState:
        """As ServoBus."""
        sent_ns, blocks = self._read(self._data_at[0], self._size, timeout_s)
        rows = []
        for name, (error, block) in zip(self._wires.names, blocks, strict=True):
            values = self._fields(block)
            self._examine(name, error, values)
            rows.append([values[n] for n in ("present_position", "present_velocity", "temperature", "input_voltage")])
        position, velocity, temperature, decivolts = np.array(rows, dtype=float).T
        return ServoState(sent_ns, position, velocity * SPEED_UNIT, temperature, 0.1 * decivolts)

    def positions(self, timeout_s: float) -> dict[int, int]:
        """As ServoBus."""
        _, packets = self._ask(self._data_at[0], self._size, timeout_s, self._wires.ids)
        return {id: self._fields(p.data)["present_position"] for id, p in packets.items()}

    def settings(self) -> list[tuple[int, int]]:
        """As ServoBus."""
        return list(zip(self._registers("torque_enable"), self._registers("goal_position"), strict=True))

    def tell_goals(self, goals: Mapping[int, int]) -> None:
        """As ServoBus."""
        self._tell("goal_position", goals)

    def tell_torque(self, torques: Mapping[int, int]) -> None:
        """As ServoBus; the bus watchdog goes on and off with the torque."""
        self._tell("bus_watchdog", {id: self._watchdog if on else 0 for id, on in torques.items()})
        self._tell("torque_enable", torques)

    def close(self) -> None:
        """As ServoBus."""
        self._bus.close()

    def _greet(self, k: int, name: str, torque_limit: float) -> int:
        """Check one servo, bound its torque, lay out its indirect data; where those begin."""
        id = self._wires.ids[k]
        place = f"joint '{name}' (id {id} on '{self._bus.port}')"

        def register(which: str) -> int:
            return self._registers(which, (id,))[0]

        def put(which: str, value: int) -> None:
            self._write(id, REGISTERS[which].address, dxl.encode_value(value, REGISTERS[which]))

        if (model := register("model")) not in INDIRECT:
            known = ", ".join(map(str, INDIRECT))
            raise DriverError(f"{place}: model {model} is none that this driver knows ({known})")
        if error := register("hardware_error"):
            raise DriverError(f"{place} reports: {dxl.hardware_faults(error)}; reboot it or switch it off and on")
        if (mode := register("operating_mode")) not in (POSITION, EXTENDED, CURRENT_POSITION):
            raise DriverError(f"{place} is in operating mode {mode}; set register 11 to 3, 4 or 5, a position mode")
        offset, wanted = register("homing_offset"), self._wires.homing_offset[k]
        if wanted is not None and offset != wanted:
            raise DriverError(f"{place} has homing offset {offset}, its calibration {wanted}: calibrate it again")
        if mode == POSITION:
            self.lowest[k], self.highest[k] = register("min_position"), register("max_position")
        else:
            self.lowest[k], self.highest[k] = -TURNS * COUNTS, TURNS * COUNTS
        put("bus_watchdog", 0)  # clears one that has tripped since the last run; goals are read-only then
        bound, most = ("goal_current", "current_limit") if mode == CURRENT_POSITION else ("goal_pwm", "pwm_limit")
        put(bound, int(torque_limit * register(most)))
        addresses, data = INDIRECT[model]
        self._write(id, addresses, self._layout)
        return data

    def _fields(self, block: bytes) -> dict[str, int]:
        values, at = {}, 0
        for name in FIELDS:
            register = REGISTERS[name]
            values[name] = dxl.decode_value(block[at : at + register.size], register)
            at += register.size
        return values

    def _examine(self, name: str, error: int, values: Mapping[str, int]) -> None:
        """DriverError when a servo reports a fault, is hot, or has stopped by its bus watchdog."""
        told = dxl.hardware_faults(values["hardware_error"])
        if told or error & dxl.ALERT:
            volts = 0.1 * values["input_voltage"]
            raise DriverError(f"servo of joint '{name}' reports: {told or 'a hardware error'} (at {volts:.1f} V)")
        if values["temperature"] > self._hot_c:
            raise DriverError(f"servo of joint '{name}' has {values['temperature']} °C; hot_c is {self._hot_c:g}")
        if values["bus_watchdog"] < 0:
            raise DriverError(f"servo of joint '{name}' has stopped by its bus watchdog: the host was silent too long")

    def _read(
        self, address: int, size: int, timeout_s: float, ids: tuple[int, ...] = ()
    ) -> tuple[int, list[tuple[int, bytes]]]:
        """When it was asked [ns], and (error, at least `size` bytes) of each id (default: of every servo).

        StaleState names those that did not answer.
        """
        ids = ids or self._wires.ids
        sent_ns, packets = self._ask(address, size, timeout_s, ids)
        missing = [f"'{self._wires.named(id)[0]}' (id {id})" for id in ids if id not in packets]
        if missing:
            raise StaleState(f"no answer in time from {', '.join(missing)}")
        return sent_ns, [(packets[id].error, packets[id].data) for id in ids]

    def _ask(self, address: int, size: int, timeout_s: float, ids: tuple[int, ...]) -> tuple[int, dict[int, Packet]]:
        """When registers were asked for [ns], and the packets of the servos that answered."""
        count = self._lengths.next(size)

        def fits(packet: Packet) -> bool:
            return packet.instruction == dxl.STATUS and len(packet.parameters) == count + 1

        return self._bus.ask(dxl.sync_read(ids, address, count), ids, fits, timeout_s)

    def _insist(self, address: int, size: int, ids: tuple[int, ...] = ()) -> list[bytes]:
        """Read registers, and again while an answer is missing; outside the loop there is time for it."""
        for left in reversed(range(TRIES)):
            try:
                return [block[:size] for _, block in self._read(address, size, GREET_S, ids)[1]]
            except StaleState as error:
                if not left:
                    raise DriverError(f"{error}: check power, ids, wiring and baud rate") from error
        raise AssertionError

    def _registers(self, name: str, ids: tuple[int, ...] = ()) -> list[int]:
        register = REGISTERS[name]
        return [dxl.decode_value(b, register) for b in self._insist(register.address, register.size, ids)]

    def _write(self, id: int, address: int, data: bytes) -> None:
        """Write, and see that the servo took it: by what it holds then, for an acknowledgement may be an older one."""
        for _ in range(TRIES):
            self._bus.tell(dxl.sync_write({id: data}, address))
            if self._insist(address, len(data), (id,)) == [data]:
                return
        raise DriverError(
            f"joint '{self._wires.named(id)[0]}' (id {id} on '{self._bus.port}') does not take register {address}: "
            "its torque is on from an earlier run; switch it off and on"
        )

    def _tell(self, name: str, values: Mapping[int, int]) -> None:
        register = REGISTERS[name]
        self._bus.tell(
            dxl.sync_write({id: dxl.encode_value(v, register) for id, v in values.items()}, register.address)
        )


class DynamixelDriver:
    """Opens X-series servos as a driver."""

    @classmethod
    def from_config(
        cls,
        spec: RobotSpec,
        *,
        port: str = "/dev/ttyUSB0",
        baud: int = 1_000_000,
        ids: tuple[int, ...] | None = None,
        direction: tuple[int, ...] | None = None,
        zero: tuple[float, ...] | None = None,
        calibration: Path | None = None,
        torque_limit: float = 1.0,
        watchdog_s: float = 0.1,
        hot_c: float = 65.0,
        settle_s: float = 1.0,
        release: Literal["hold", "off"] = "hold",
    ) -> PositionServos:
        """`torque_limit`: share of the servo's current (or PWM) limit; `watchdog_s`: silence after which the servos
        stop by themselves, in steps of 0.02 s, 0 never; `release`: what becomes of the joints at close().
        """
        check_servos(spec, torque_limit)
        wires = wiring(spec, ids, direction, zero, calibration)
        bus = SerialBus(port, baud, dxl.Parser(120))
        try:
            servos = DynamixelServos(bus, wires, torque_limit, watchdog_s, hot_c)
            turn = np.inf if servos.multi_turn else 2.0 * np.pi
            return PositionServos(spec, servos, wires, turn=turn, settle_s=settle_s, release=release)
        except BaseException:
            bus.close()
            raise

"""FeetechDriver: STS3215 servos on their serial bus, through PositionServos.

One sync read a cycle brings position, speed, voltage, temperature and status of all servos, one sync write takes the
goals. Only RAM registers are written; what is in the EEPROM (id, mode, homing offset) is checked, never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from robot.config import ConfigError
from robot.driver import DriverError, StaleState
from robot.drivers import feetech_protocol as sts
from robot.drivers.feetech_protocol import COUNTS, REGISTERS
from robot.drivers.serial_bus import Lengths, SerialBus
from robot.drivers.servos import PositionServos, ServoState
from robot.drivers.wiring import RAD_PER_COUNT, Wiring, wiring
from robot.spec import RobotSpec

MODELS = {777: "STS3215", 2825: "STS3250"}
BLOCK, BLOCK_SIZE = 56, 10
"""The feedback registers: position, velocity, load, voltage, temperature, a flag, status."""
GREET_S = 0.2
TRIES = 4
HIGH_RESOLUTION_SPEED = 0x04
"""Bit of `phase`: speeds count single counts a second, not fifties."""


class FeetechServos:
    """The STS protocol as robot.drivers.servos.ServoBus."""

    can_damp = True

    def __init__(self, bus: SerialBus, wires: Wiring, torque_limit: float, acceleration: int, hot_c: float) -> None:
        """DriverError unless every servo answers, is in position mode and has the homing offset of its calibration."""
        self._bus, self._wires, self._hot_c = bus, wires, hot_c
        self._lengths = Lengths()  # an echoed sync read is from the broadcast id: it fits no servo
        n = len(wires.ids)
        self.lowest, self.highest = np.zeros(n), np.full(n, COUNTS - 1.0)
        self._unit = np.array([self._greet(name, id) for name, id in zip(wires.names, wires.ids, strict=True)])
        """Counts/s that one count of a speed register means."""
        share = sts.encode_value(round(1000 * torque_limit), REGISTERS["torque_limit"])
        self._tell("torque_limit", dict.fromkeys(wires.ids, share))
        self._tell("acceleration", dict.fromkeys(wires.ids, bytes([acceleration])))

    def state(self, timeout_s: float) -> ServoState:
        """As ServoBus."""
        sent_ns, blocks = self._read(BLOCK, BLOCK_SIZE, timeout_s)
        for name, (error, block) in zip(self._wires.names, blocks, strict=True):
            self._examine(name, error | sts.field(block, BLOCK, "status"), block)
        names = ("present_position", "present_velocity", "present_temperature", "present_voltage")
        rows = np.array([[sts.field(b, BLOCK, n) for n in names] for _, b in blocks], dtype=float)
        position, velocity, temperature, decivolts = rows.T
        return ServoState(sent_ns, position, velocity * self._unit * RAD_PER_COUNT, temperature, 0.1 * decivolts)

    def positions(self, timeout_s: float) -> dict[int, int]:
        """As ServoBus."""
        _, frames = self._ask(BLOCK, BLOCK_SIZE, timeout_s, self._wires.ids)
        return {id: sts.field(f.parameters, BLOCK, "present_position") for id, f in frames.items()}

    def settings(self) -> list[tuple[int, int]]:
        """As ServoBus."""
        start = REGISTERS["torque_enable"].address
        blocks = self._insist(start, 4)
        return [(sts.field(b, start, "torque_enable"), sts.field(b, start, "goal_position")) for b in blocks]

    def tell_goals(self, goals: Mapping[int, int]) -> None:
        """As ServoBus."""
        self._tell("goal_position", {i: sts.encode_value(g, REGISTERS["goal_position"]) for i, g in goals.items()})

    def tell_torque(self, torques: Mapping[int, int]) -> None:
        """As ServoBus."""
        self._tell("torque_enable", {i: bytes([t]) for i, t in torques.items()})

    def close(self) -> None:
        """As ServoBus."""
        self._bus.close()

    def _greet(self, name: str, id: int) -> float:
        """Check one servo's model, mode and homing offset; how many counts/s one count of its speed means."""
        place = f"joint '{name}' (id {id} on '{self._bus.port}')"

        def register(which: str) -> int:
            address, size, _ = REGISTERS[which]
            return sts.field(self._insist(address, size, (id,))[0], address, which)

        if (model := register("model")) not in MODELS:
            raise DriverError(f"{place}: model {model} is none that this driver knows ({', '.join(MODELS.values())})")
        if mode := register("mode"):
            raise DriverError(f"{place} is in mode {mode}; set register 33 to 0, position")
        offset, wanted = register("homing_offset"), self._wires.homing_offset[self._wires.ids.index(id)]
        if wanted is not None and offset != wanted:
            raise DriverError(f"{place} has homing offset {offset}, its calibration {wanted}: calibrate it again")
        return 1.0 if register("phase") & HIGH_RESOLUTION_SPEED else 50.0

    def _insist(self, address: int, size: int, ids: tuple[int, ...] = ()) -> list[bytes]:
        """Read registers, and again while an answer is missing; outside the loop there is time for it."""
        for left in reversed(range(TRIES)):
            try:
                return [block for _, block in self._read(address, size, GREET_S, ids)[1]]
            except StaleState as error:
                if not left:
                    raise DriverError(f"{error}: check power, ids, wiring and baud rate") from error
        raise AssertionError

    def _read(
        self, address: int, size: int, timeout_s: float, ids: tuple[int, ...] = ()
    ) -> tuple[int, list[tuple[int, bytes]]]:
        """When it was asked [ns], and (error, at least `size` bytes) of each id (default: of every servo).

        StaleState names those that did not answer.
        """
        ids = ids or self._wires.ids
        sent_ns, frames = self._ask(address, size, timeout_s, ids)
        missing = [f"'{self._wires.named(id)[0]}' (id {id})" for id in ids if id not in frames]
        if missing:
            raise StaleState(f"no answer in time from {', '.join(missing)}")
        return sent_ns, [(frames[id].code, frames[id].parameters) for id in ids]

    def _ask(self, address: int, size: int, timeout_s: float, ids: tuple[int, ...]) -> tuple[int, dict[int, Any]]:
        """When registers were asked for [ns], and the frames of the servos that answered."""
        count = self._lengths.next(size)
        request = sts.sync_read(ids, address, count)
        return self._bus.ask(request, ids, lambda f: len(f.parameters) == count, timeout_s)

    def _examine(self, name: str, error: int, block: bytes) -> None:
        """DriverError when a servo reports a fault or is hot."""
        if told := sts.faults(error):
            volts = 0.1 * sts.field(block, BLOCK, "present_voltage")
            raise DriverError(f"servo of joint '{name}' reports: {told} (at {volts:.1f} V)")
        temperature = sts.field(block, BLOCK, "present_temperature")
        if temperature > self._hot_c:
            raise DriverError(f"servo of joint '{name}' has {temperature} °C; hot_c is {self._hot_c:g}")

    def _tell(self, register: str, data: Mapping[int, bytes]) -> None:
        self._bus.tell(sts.sync_write(data, REGISTERS[register].address))


class FeetechDriver:
    """Opens STS3215 servos as a driver."""

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
        acceleration: int = 254,
        hot_c: float = 65.0,
        settle_s: float = 1.0,
        release: Literal["hold", "damp", "off"] = "damp",
    ) -> PositionServos:
        """`torque_limit`: share of the servo's torque; `acceleration`: of its profile, in 8.8 deg/s², 0 unlimited;
        `release`: what becomes of the joints when the driver is closed.
        """
        check_servos(spec, torque_limit)
        if not 0 <= acceleration <= 254:
            raise ConfigError(f"acceleration={acceleration}: it must be from 0 to 254.")
        wires = wiring(spec, ids, direction, zero, calibration)
        bus = SerialBus(port, baud, sts.Parser(BLOCK_SIZE + 5))
        try:
            servos = FeetechServos(bus, wires, torque_limit, acceleration, hot_c)
            return PositionServos(spec, servos, wires, turn=2.0 * np.pi, settle_s=settle_s, release=release)
        except BaseException:
            bus.close()
            raise


def check_servos(spec: RobotSpec, torque_limit: float) -> None:
    """ConfigError when an actuator is no position servo, or the share of torque none."""
    for actuator in spec.actuators:
        if actuator.kind != "position_pd":
            raise ConfigError(
                f"robot '{spec.name}': actuator '{actuator.name}' is of kind '{actuator.kind}'; this driver moves "
                "position servos (position_pd)."
            )
    if not 0.0 < torque_limit <= 1.0:
        raise ConfigError(f"torque_limit={torque_limit}: it is a share of the servo's torque, above 0 and at most 1.")

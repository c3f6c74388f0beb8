"""MIT mini-cheetah CAN frames (T-Motor, CubeMars AK series): bytes to numbers and back, no I/O.

A motor answers every command frame with one state frame and applies
kp (position - q) + kd (velocity - v) + torque. Quantities are unsigned integers over their range, truncated, most
significant bit first; classic CAN 2.0A, 1 Mbit/s, the command's identifier is the motor's, the answer's the host's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from robot.driver import DriverError

ENABLE = bytes.fromhex("fffffffffffffffc")
DISABLE = bytes.fromhex("fffffffffffffffd")
SET_ZERO = bytes.fromhex("fffffffffffffffe")
"""Makes the present position the motor's zero; takes up to 1.5 s."""

ERRORS = {
    1: "over-temperature of the motor",
    2: "over-current",
    3: "over-voltage",
    4: "under-voltage",
    5: "encoder fault",
    6: "over-temperature of its electronics",
    7: "rotor blocked",
}
"""Error byte of firmware that sends one; a number that is not listed is a fault all the same."""


class MitError(DriverError):
    """A frame is no frame of this protocol."""


@dataclass(frozen=True, slots=True)
class Range:
    """What one motor's integers stand for: every quantity but the gains is symmetric about 0."""

    position: float
    """[rad]."""
    velocity: float
    """[rad/s]."""
    torque: float
    """[N m]."""
    kp: float = 500.0
    """[N m/rad], from 0."""
    kd: float = 5.0
    """[N m s/rad], from 0."""


MOTORS = {
    "AK80-6_V1.0": Range(95.5, 45.0, 18.0),
    "AK80-6_V1.1": Range(12.5, 22.5, 12.0),
    "AK80-6_V2": Range(12.5, 76.0, 12.0),
    "AK80-9_V1.1": Range(12.5, 22.5, 18.0),
    "AK80-9_V2": Range(12.5, 25.64, 18.0),
    "AK70-10": Range(12.5, 50.0, 24.0),
}
"""motor and firmware -> its ranges."""


class Command(NamedTuple):
    """A command frame, in the motor's own sense of rotation."""

    position: float
    velocity: float
    kp: float
    kd: float
    torque: float


class State(NamedTuple):
    """A state frame, in the motor's own sense of rotation."""

    motor: int
    position: float
    velocity: float
    torque: float
    temperature: float | None
    """[°C]; None from firmware that does not send it."""
    error: int


def to_raw(value: float, low: float, high: float, bits: int) -> int:
    """trunc((x - min) (2^n - 1) / (max - min)), the value clipped to its range first. MitError if it is no number."""
    if value != value:
        raise MitError("a command is NaN; nothing was sent")
    return int((min(max(value, low), high) - low) * ((1 << bits) - 1) / (high - low))


def from_raw(raw: int, low: float, high: float, bits: int) -> float:
    """The inverse, exact at both ends."""
    return raw * (high - low) / ((1 << bits) - 1) + low


def encode_command(command: Command, motor: Range) -> bytes:
    """8 bytes: position 16, velocity 12, kp 12, kd 12, torque 12 bits."""
    m = motor
    position = to_raw(command.position, -m.position, m.position, 16)
    velocity = to_raw(command.velocity, -m.velocity, m.velocity, 12)
    kp, kd = to_raw(command.kp, 0.0, m.kp, 12), to_raw(command.kd, 0.0, m.kd, 12)
    torque = to_raw(command.torque, -m.torque, m.torque, 12)
    return (position << 48 | velocity << 36 | kp << 24 | kd << 12 | torque).to_bytes(8, "big")


def decode_command(data: bytes, motor: Range) -> Command:
    """The numbers of a command frame; MitError unless it has 8 bytes."""
    if len(data) != 8:
        raise MitError(f"a command frame has 8 bytes, this one {len(data)}")
    bits, m = int.from_bytes(data, "big"), motor
    return Command(
        from_raw(bits >> 48, -m.position, m.position, 16),
        from_raw(bits >> 36 & 0xFFF, -m.velocity, m.velocity, 12),
        from_raw(bits >> 24 & 0xFFF, 0.0, m.kp, 12),
        from_raw(bits >> 12 & 0xFFF, 0.0, m.kd, 12),
        from_raw(bits & 0xFFF, -m.torque, m.torque, 12),
    )


def encode_state(state: State, motor: Range) -> bytes:
    """6 bytes, or 8 where the temperature is given."""
    m = motor
    bits = to_raw(state.position, -m.position, m.position, 16) << 24
    bits |= to_raw(state.velocity, -m.velocity, m.velocity, 12) << 12
    bits |= to_raw(state.torque, -m.torque, m.torque, 12)
    data = bytes([state.motor]) + bits.to_bytes(5, "big")
    if state.temperature is None:
        return data
    return data + bytes([min(max(round(state.temperature), 0), 255), state.error])


def decode_state(data: bytes, motor: Range) -> State:
    """The numbers of a state frame; MitError unless it has 6 or 8 bytes."""
    if len(data) not in (6, 8):
        raise MitError(f"a state frame has 6 or 8 bytes, this one {len(data)}")
    bits, m = int.from_bytes(data[1:6], "big"), motor
    return State(
        data[0],
        from_raw(bits >> 24, -m.position, m.position, 16),
        from_raw(bits >> 12 & 0xFFF, -m.velocity, m.velocity, 12),
        from_raw(bits & 0xFFF, -m.torque, m.torque, 12),
        float(data[6]) if len(data) == 8 else None,
        data[7] if len(data) == 8 else 0,
    )

"""Feetech SMS/STS frames ("protocol 0", servos such as the STS3215): bytes to frames and back, no I/O.

FF FF id length code parameters checksum; length counts what follows it, the checksum is the inverted sum. There is no
byte stuffing, so FF FF may stand inside data: a frame is one only if header, length and checksum agree, and where they
do not, the search goes on one byte later. Words are little-endian; signed ones are sign and magnitude.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from robot.driver import DriverError

PING, READ, WRITE, REG_WRITE, ACTION, RECOVER = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
SYNC_READ, SYNC_WRITE = 0x82, 0x83
BROADCAST = 0xFE
COUNTS = 4096
"""Encoder counts a turn."""
MAX_FRAME = 250
TORQUE_OFF, TORQUE_ON, TORQUE_DAMPED, SET_MIDDLE = 0, 1, 2, 128
"""Values of `torque_enable`; SET_MIDDLE makes the present position read 2048, and is kept over power-off."""

STATUS = {
    0x01: "supply voltage outside its limits",
    0x02: "encoder fault",
    0x04: "over-temperature",
    0x08: "over-current",
    0x20: "overload",
}
"""Bits of a reply's error byte. They tell of the servo, not of the request: the data beside them is valid."""


class FeetechError(DriverError):
    """Bytes or values that are none of this protocol."""


class Register(NamedTuple):
    """A place in the servo's table."""

    address: int
    size: int
    sign_bit: int | None = None
    """Which bit is the sign; None for an unsigned one."""


REGISTERS = {
    "model": Register(3, 2),
    "id": Register(5, 1),
    "return_delay": Register(7, 1),
    "response_level": Register(8, 1),
    "max_temperature": Register(13, 1),
    "max_voltage": Register(14, 1),
    "min_voltage": Register(15, 1),
    "max_torque": Register(16, 2),
    "phase": Register(18, 1),
    "homing_offset": Register(31, 2, 11),
    "mode": Register(33, 1),
    "torque_enable": Register(40, 1),
    "acceleration": Register(41, 1),
    "goal_position": Register(42, 2, 15),
    "goal_pwm": Register(44, 2, 10),
    "goal_velocity": Register(46, 2, 15),
    "torque_limit": Register(48, 2),
    "lock": Register(55, 1),
    "present_position": Register(56, 2, 15),
    "present_velocity": Register(58, 2, 15),
    "present_load": Register(60, 2, 10),
    "present_voltage": Register(62, 1),
    "present_temperature": Register(63, 1),
    "status": Register(65, 1),
    "moving": Register(66, 1),
    "present_current": Register(69, 2, 15),
}


class Frame(NamedTuple):
    """A request (`code` is the instruction) or a reply (`code` is the error bits)."""

    id: int
    code: int
    parameters: bytes


def encode(frame: Frame) -> bytes:
    """A frame's bytes; FeetechError when it does not fit."""
    if not 0 <= frame.id <= BROADCAST or not 0 <= frame.code <= 0xFF:
        raise FeetechError(f"id {frame.id} and code {frame.code} do not fit into a byte of this protocol")
    body = bytes([frame.id, len(frame.parameters) + 2, frame.code]) + frame.parameters
    if len(body) + 3 > MAX_FRAME:
        raise FeetechError(f"a frame of {len(body) + 3} bytes; at most {MAX_FRAME} can be sent")
    return b"\xff\xff" + body + bytes([~sum(body) & 0xFF])


def ping(id: int) -> bytes:
    return encode(Frame(id, PING, b""))


def read(id: int, address: int, count: int) -> bytes:
    return encode(Frame(id, READ, bytes([address, count])))


def write(id: int, address: int, data: bytes, instruction: int = WRITE) -> bytes:
    """WRITE, or REG_WRITE, which waits for ACTION."""
    return encode(Frame(id, instruction, bytes([address]) + data))


def sync_read(ids: Iterable[int], address: int, count: int) -> bytes:
    """One reply from each id, in this order."""
    return encode(Frame(BROADCAST, SYNC_READ, bytes([address, count, *ids])))


def sync_write(data: Mapping[int, bytes], address: int) -> bytes:
    """id -> bytes of the same number each; nobody answers."""
    sizes = {len(d) for d in data.values()}
    if len(sizes) != 1:
        raise FeetechError("a sync write needs data of one length for at least one servo")
    body = b"".join(bytes([id]) + d for id, d in data.items())
    return encode(Frame(BROADCAST, SYNC_WRITE, bytes([address, sizes.pop()]) + body))


def encode_value(value: int, register: Register) -> bytes:
    """A register's bytes; FeetechError when the value is too large for it."""
    bit = register.sign_bit
    top = (1 << bit) - 1 if bit is not None else (1 << 8 * register.size) - 1
    if abs(value) > top or (bit is None and value < 0):
        raise FeetechError(f"{value} does not fit into register {register.address}, whose largest is {top}")
    raw = abs(value) | (1 << bit if bit is not None and value < 0 else 0)
    return raw.to_bytes(register.size, "little")


def decode_value(data: bytes, register: Register) -> int:
    """A register's value; minus zero is 0. FeetechError when the bytes are too few or too many."""
    if len(data) != register.size:
        raise FeetechError(f"register {register.address} has {register.size} bytes, the data {len(data)}")
    raw, bit = int.from_bytes(data, "little"), register.sign_bit
    if bit is None:
        return raw
    magnitude = raw & ((1 << bit) - 1)
    return -magnitude if raw >> bit & 1 else magnitude


def field(block: bytes, start: int, name: str) -> int:
    """A register's value out of a block that was read from address `start`; FeetechError when it is not in it."""
    register = REGISTERS[name]
    first = register.address - start
    if first < 0 or first + register.size > len(block):
        raise FeetechError(f"register '{name}' is not within the {len(block)} bytes read at {start}")
    return decode_value(block[first : first + register.size], register)


class Parser:
    """Bytes in, frames out, whatever stands between them. Works for requests and for replies."""

    def __init__(self, max_parameters: int = MAX_FRAME - 6) -> None:
        """A header that announces more than `max_parameters` is taken for noise, so that it cannot swallow frames."""
        self._longest = max_parameters + 2
        self._buffer = bytearray()
        self.skipped = 0
        """Bytes that belonged to no frame."""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete."""
        self._buffer += data
        buffer, frames, at = self._buffer, [], 0
        while True:
            found = buffer.find(b"\xff\xff", at)
            if found < 0:
                end = len(buffer) - (1 if buffer[-1:] == b"\xff" else 0)  # it may be half a header
                self.skipped += max(0, end - at)
                at = max(at, end)
                break
            self.skipped += found - at
            at = found
            if len(buffer) < at + 4:
                break
            id, length = buffer[at + 2], buffer[at + 3]
            end = at + length + 4
            if id == 0xFF or not 2 <= length <= self._longest:
                at, self.skipped = at + 1, self.skipped + 1
            elif len(buffer) < end:
                break
            elif ~sum(buffer[at + 2 : end - 1]) & 0xFF != buffer[end - 1]:
                at, self.skipped = at + 1, self.skipped + 1
            else:
                frames.append(Frame(id, buffer[at + 4], bytes(buffer[at + 5 : end - 1])))
                at = end
        del buffer[:at]
        return frames

    def clear(self) -> None:
        """Forget an unfinished frame; after a timeout what comes next is a new one."""
        self.skipped += len(self._buffer)
        self._buffer.clear()


def faults(error: int) -> str:
    """What an error byte tells, or an empty text."""
    return ", ".join(text for bit, text in STATUS.items() if error & bit)

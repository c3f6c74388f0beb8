"""Dynamixel Protocol 2.0 packets: bytes to packets and back, no I/O.

FF FF FD 00 id length instruction parameters CRC; length counts what follows it. After each FF FF FD within instruction
and parameters an FD is stuffed; CRC-16 (polynomial 0x8005, init 0) and length are of the stuffed bytes. All numbers are
little-endian, signed ones two's complement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from robot.driver import DriverError

PING, READ, WRITE, REG_WRITE, ACTION = 0x01, 0x02, 0x03, 0x04, 0x05
FACTORY_RESET, REBOOT, CLEAR, STATUS = 0x06, 0x08, 0x10, 0x55
SYNC_READ, SYNC_WRITE, FAST_SYNC_READ = 0x82, 0x83, 0x8A
BULK_READ, BULK_WRITE = 0x92, 0x93
BROADCAST = 0xFE
ALERT = 0x80
"""Bit of a status packet's error: the servo has a hardware error; register 70 tells which."""
COUNTS = 4096
"""Encoder counts a turn."""
MAX_PACKET = 1024
HEADER = b"\xff\xff\xfd\x00"

RESULTS = {
    1: "result fail", 2: "unknown instruction", 3: "CRC", 4: "value out of range", 5: "wrong length",
    6: "beyond a limit", 7: "not accessible (read-only, undefined, or torque on)",
}  # fmt: skip
"""Low bits of a status packet's error."""
HARDWARE = {0x01: "input voltage", 0x04: "overheating", 0x08: "encoder", 0x10: "electrical shock", 0x20: "overload"}
"""Bits of register 70."""


class DynamixelError(DriverError):
    """Bytes or values that are none of this protocol."""


class Register(NamedTuple):
    """A place in the control table."""

    address: int
    size: int
    signed: bool = False


REGISTERS = {
    "model": Register(0, 2),
    "firmware": Register(6, 1),
    "operating_mode": Register(11, 1),
    "homing_offset": Register(20, 4, True),
    "temperature_limit": Register(31, 1),
    "max_voltage": Register(32, 2),
    "min_voltage": Register(34, 2),
    "pwm_limit": Register(36, 2),
    "current_limit": Register(38, 2),
    "max_position": Register(48, 4),
    "min_position": Register(52, 4),
    "torque_enable": Register(64, 1),
    "hardware_error": Register(70, 1),
    "bus_watchdog": Register(98, 1, True),
    "goal_pwm": Register(100, 2, True),
    "goal_current": Register(102, 2, True),
    "goal_velocity": Register(104, 4, True),
    "goal_position": Register(116, 4, True),
    "moving": Register(122, 1),
    "present_current": Register(126, 2, True),
    "present_velocity": Register(128, 4, True),
    "present_position": Register(132, 4, True),
    "input_voltage": Register(144, 2),
    "temperature": Register(146, 1),
}


def _table() -> tuple[int, ...]:
    entries = []
    for i in range(256):
        crc = i << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x8005 if crc & 0x8000 else 0)) & 0xFFFF
        entries.append(crc)
    return tuple(entries)


CRC_TABLE = _table()


def crc16(data: Iterable[int], crc: int = 0) -> int:
    """CRC-16/UMTS of bytes, continued from `crc`."""
    for byte in data:
        crc = (crc << 8 ^ CRC_TABLE[crc >> 8 ^ byte]) & 0xFFFF
    return crc


class Packet(NamedTuple):
    """A request or, with instruction STATUS, a reply whose first parameter is the error."""

    id: int
    instruction: int
    parameters: bytes

    @property
    def error(self) -> int:
        """A status packet's error byte; DynamixelError for another packet."""
        if self.instruction != STATUS or not self.parameters:
            raise DynamixelError("this packet is no status packet with an error byte")
        return self.parameters[0]

    @property
    def data(self) -> bytes:
        """A status packet's bytes after the error."""
        return self.parameters[1:]


def stuff(body: bytes) -> bytes:
    """An FD after each FF FF FD."""
    return body.replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")


def unstuff(body: bytes) -> bytes:
    """The inverse of stuff()."""
    return body.replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")


def encode(packet: Packet) -> bytes:
    """A packet's bytes; DynamixelError when it does not fit."""
    if not 0 <= packet.id <= BROADCAST or packet.id == 0xFD:
        raise DynamixelError(f"id {packet.id} cannot be used; 0 to 252 and {BROADCAST} can")
    body = stuff(bytes([packet.instruction]) + packet.parameters)
    raw = HEADER + bytes([packet.id]) + (len(body) + 2).to_bytes(2, "little") + body
    if len(raw) + 2 > MAX_PACKET:
        raise DynamixelError(f"a packet of {len(raw) + 2} bytes; at most {MAX_PACKET} can be sent")
    return raw + crc16(raw).to_bytes(2, "little")


def ping(id: int) -> bytes:
    return encode(Packet(id, PING, b""))


def read(id: int, address: int, count: int) -> bytes:
    return encode(Packet(id, READ, _words(address, count)))


def write(id: int, address: int, data: bytes, instruction: int = WRITE) -> bytes:
    """WRITE, or REG_WRITE, which waits for ACTION."""
    return encode(Packet(id, instruction, _words(address) + data))


def sync_read(ids: Iterable[int], address: int, count: int, instruction: int = SYNC_READ) -> bytes:
    """SYNC_READ: one status from each id in this order; FAST_SYNC_READ: one for all (decode_fast)."""
    return encode(Packet(BROADCAST, instruction, _words(address, count) + bytes(ids)))


def sync_write(data: Mapping[int, bytes], address: int) -> bytes:
    """id -> bytes of the same number each; nobody answers."""
    sizes = {len(d) for d in data.values()}
    if len(sizes) != 1:
        raise DynamixelError("a sync write needs data of one length for at least one servo")
    body = b"".join(bytes([id]) + d for id, d in data.items())
    return encode(Packet(BROADCAST, SYNC_WRITE, _words(address, sizes.pop()) + body))


def bulk_read(wanted: Mapping[int, tuple[int, int]]) -> bytes:
    """id -> (address, count), each its own."""
    return encode(Packet(BROADCAST, BULK_READ, b"".join(bytes([id]) + _words(*w) for id, w in wanted.items())))


def bulk_write(data: Mapping[int, tuple[int, bytes]]) -> bytes:
    """id -> (address, bytes), each its own."""
    body = b"".join(bytes([id]) + _words(address, len(d)) + d for id, (address, d) in data.items())
    return encode(Packet(BROADCAST, BULK_WRITE, body))


def decode_fast(packet: bytes, ids: Sequence[int], count: int) -> dict[int, tuple[int, bytes]]:
    """id -> (error, data) of the whole bytes of a fast sync read's answer, which is not stuffed.

    Behind each servo's data stands a CRC of everything so far, earlier CRCs included. DynamixelError when a length,
    an id or one of these does not agree.
    """
    size = count + 4
    if len(packet) != 8 + len(ids) * size or packet[:5] != HEADER + b"\xfe" or packet[7] != STATUS:
        raise DynamixelError(f"this is no fast answer of {len(ids)} servos with {count} bytes each")
    found = {}
    for k, id in enumerate(ids):
        at = 8 + k * size
        if packet[at + 1] != id:
            raise DynamixelError(f"servo {packet[at + 1]} answers in the place of {id}")
        if crc16(packet[: at + size - 2]) != int.from_bytes(packet[at + size - 2 : at + size], "little"):
            raise DynamixelError(f"the CRC behind servo {id} is wrong")
        found[id] = (packet[at], packet[at + 2 : at + 2 + count])
    return found


def encode_value(value: int, register: Register) -> bytes:
    """A register's bytes; DynamixelError when the value is too large for it."""
    try:
        return value.to_bytes(register.size, "little", signed=register.signed)
    except OverflowError as error:
        raise DynamixelError(f"{value} does not fit into register {register.address}") from error


def decode_value(data: bytes, register: Register) -> int:
    """A register's value; DynamixelError when the bytes are too few or too many."""
    if len(data) != register.size:
        raise DynamixelError(f"register {register.address} has {register.size} bytes, the data {len(data)}")
    return int.from_bytes(data, "little", signed=register.signed)


class Parser:
    """Bytes in, packets out, whatever stands between them. Works for requests and for status packets."""

    def __init__(self, max_parameters: int = MAX_PACKET - 10) -> None:
        """A header that announces more than `max_parameters`, stuffed, is noise: it cannot swallow packets."""
        self._longest = max_parameters + 3
        self._buffer = bytearray()
        self.skipped = 0
        """Bytes that belonged to no packet."""

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that these bytes complete."""
        self._buffer += data
        buffer, packets, at = self._buffer, [], 0
        while True:
            found = buffer.find(HEADER, at)
            if found < 0:
                end = len(buffer) - _half_header(buffer)
                self.skipped += max(0, end - at)
                at = max(at, end)
                break
            self.skipped += found - at
            at = found
            if len(buffer) < at + 7:
                break
            id, length = buffer[at + 4], buffer[at + 5] | buffer[at + 6] << 8
            end = at + length + 7
            if id in (0xFD, 0xFF) or not 3 <= length <= self._longest:
                at, self.skipped = at + 1, self.skipped + 1
            elif len(buffer) < end:
                break
            elif crc16(buffer[at : end - 2]) != buffer[end - 2] | buffer[end - 1] << 8:
                at, self.skipped = at + 1, self.skipped + 1
            else:
                body = unstuff(bytes(buffer[at + 7 : end - 2]))
                packets.append(Packet(id, body[0], body[1:]))
                at = end
        del buffer[:at]
        return packets

    def clear(self) -> None:
        """Forget an unfinished packet; after a timeout what comes next is a new one."""
        self.skipped += len(self._buffer)
        self._buffer.clear()


def _words(*values: int) -> bytes:
    return b"".join(v.to_bytes(2, "little") for v in values)


def _half_header(buffer: bytearray) -> int:
    """How many bytes at the end may begin a header."""
    return next((n for n in (3, 2, 1) if buffer[-n:] == HEADER[:n]), 0)


def hardware_faults(bits: int) -> str:
    """What register 70 tells, or an empty text."""
    return ", ".join(text for bit, text in HARDWARE.items() if bits & bit)

"""Feetech frames: the golden bytes F1 to F22, sign and magnitude, and a parser that finds its way back."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.drivers import feetech_protocol as sts
from robot.drivers.feetech_protocol import REGISTERS, FeetechError, Frame, Parser


def value(name: str, number: int) -> bytes:
    return sts.encode_value(number, REGISTERS[name])


REQUESTS = {
    "F1 ping id 1": (sts.ping(1), "FF FF 01 02 01 FB"),
    "F2 read model number": (sts.read(1, 3, 2), "FF FF 01 04 02 03 02 F3"),
    "F3 read position": (sts.read(1, 56, 2), "FF FF 01 04 02 38 02 BE"),
    "F5 read block": (sts.read(1, 56, 15), "FF FF 01 04 02 38 0F B1"),
    "F6 torque on": (sts.write(1, 40, value("torque_enable", 1)), "FF FF 01 04 03 28 01 CE"),
    "F7 goal 2048": (sts.write(1, 42, value("goal_position", 2048)), "FF FF 01 05 03 2A 00 08 C4"),
    "F8 goal velocity -500": (sts.write(1, 46, value("goal_velocity", -500)), "FF FF 01 05 03 2E F4 81 53"),
    "F9 four in one write": (
        sts.write(1, 41, b"\x32" + value("goal_position", 2048) + b"\0\0" + value("goal_velocity", 1000)),
        "FF FF 01 0A 03 29 32 00 08 00 00 E8 03 A3",
    ),
    "F10 reg write": (sts.write(1, 42, value("goal_position", 1024), sts.REG_WRITE), "FF FF 01 05 04 2A 00 04 C7"),
    "F11 action": (sts.encode(Frame(sts.BROADCAST, sts.ACTION, b"")), "FF FF FE 02 05 FA"),
    "F12 unlock EEPROM": (sts.write(1, 55, b"\0"), "FF FF 01 04 03 37 00 C0"),
    "F13 lock EEPROM": (sts.write(1, 55, b"\1"), "FF FF 01 04 03 37 01 BF"),
    "F14 homing offset -100": (sts.write(1, 31, value("homing_offset", -100)), "FF FF 01 05 03 1F 64 08 6B"),
    "F15 calibrate middle": (sts.write(1, 40, bytes([sts.SET_MIDDLE])), "FF FF 01 04 03 28 80 4F"),
    "F16 sync write": (
        sts.sync_write({1: value("goal_position", 2048), 2: value("goal_position", 4095)}, 42),
        "FF FF FE 0A 83 2A 02 01 00 08 02 FF 0F 2F",
    ),
    "F17 sync read": (sts.sync_read((1, 2), 56, 2), "FF FF FE 06 82 38 02 01 02 3C"),
    "F20 factory reset": (sts.encode(Frame(1, sts.RECOVER, b"")), "FF FF 01 02 06 F6"),
    "F21 broadcast ping": (sts.ping(sts.BROADCAST), "FF FF FE 02 01 FE"),
    "F22 set id to 7": (sts.write(1, 5, value("id", 7)), "FF FF 01 04 03 05 07 EB"),
}
REPLIES = {
    "F1, F6 to F20 acknowledged": ("FF FF 01 02 00 FC", [Frame(1, 0, b"")]),
    "F2 model 777": ("FF FF 01 04 00 09 03 EE", [Frame(1, 0, b"\x09\x03")]),
    "F3 position 2048": ("FF FF 01 04 00 00 08 F2", [Frame(1, 0, b"\x00\x08")]),
    "F4 position -42": ("FF FF 01 04 00 2A 80 50", [Frame(1, 0, b"\x2a\x80")]),
    "F17 two replies": (
        "FF FF 01 04 00 00 08 F2 FF FF 02 04 00 D2 04 23",
        [Frame(1, 0, b"\x00\x08"), Frame(2, 0, b"\xd2\x04")],
    ),
    "F18 overload flagged": ("FF FF 01 04 20 00 08 D2", [Frame(1, 0x20, b"\x00\x08")]),
    "F19 overload and heat": ("FF FF 01 02 24 D8", [Frame(1, 0x24, b"")]),
    "F21 broadcast ping": ("FF FF 01 02 00 FC FF FF 02 02 00 FB", [Frame(1, 0, b""), Frame(2, 0, b"")]),
}


@pytest.mark.parametrize("name", list(REQUESTS))
def test_golden_requests(name: str) -> None:
    made, golden = REQUESTS[name]
    assert made.hex(" ").upper() == golden
    (frame,) = Parser().feed(made)  # the emulator reads requests with the same parser
    assert sts.encode(frame) == made


@pytest.mark.parametrize("name", list(REPLIES))
def test_golden_replies(name: str) -> None:
    data, frames = REPLIES[name]
    assert Parser().feed(bytes.fromhex(data)) == frames


def test_golden_block_f5_and_values() -> None:
    reply = bytes.fromhex("FF FF 01 11 00 2A 80 64 80 2C 04 4A 1F 00 00 00 00 00 14 00 B2")
    (frame,) = Parser().feed(reply)
    names = ("present_position", "present_velocity", "present_load", "present_voltage", "present_temperature", "status")
    assert [sts.field(frame.parameters, 56, n) for n in names] == [-42, -100, -44, 74, 31, 0]
    assert sts.field(frame.parameters, 56, "present_current") == 20
    assert sts.faults(0x24) == "over-temperature, overload" and sts.faults(0) == ""


@pytest.mark.parametrize(
    ("name", "number", "data"),
    [
        ("goal_position", -42, "2A 80"),
        ("goal_velocity", -500, "F4 81"),
        ("present_load", -44, "2C 04"),
        ("homing_offset", -100, "64 08"),
    ],
)
def test_signs_and_magnitudes(name: str, number: int, data: str) -> None:
    assert value(name, number).hex(" ").upper() == data
    assert sts.decode_value(bytes.fromhex(data), REGISTERS[name]) == number


def test_minus_zero_is_zero_and_too_large_a_value_is_refused() -> None:
    assert sts.decode_value(b"\x00\x80", REGISTERS["present_position"]) == 0
    for name, number in (("homing_offset", 2048), ("goal_position", -32768), ("torque_enable", -1), ("id", 256)):
        with pytest.raises(FeetechError, match="does not fit"):
            value(name, number)


@given(st.sampled_from([r for r in REGISTERS.values() if r.sign_bit]), st.integers(-2047, 2047))
def test_signed_values_come_back(register: sts.Register, number: int) -> None:
    number = max(-((1 << (register.sign_bit or 0)) - 1), min(number, (1 << (register.sign_bit or 0)) - 1))
    assert sts.decode_value(sts.encode_value(number, register), register) == number


FRAMES = st.builds(Frame, st.integers(0, 253), st.integers(0, 255), st.binary(max_size=20))


@given(st.lists(st.one_of(FRAMES, st.binary(max_size=6)), max_size=8), st.randoms(use_true_random=False))
def test_every_frame_is_found_however_the_bytes_arrive(parts: list[Frame | bytes], rng: random.Random) -> None:
    """Whole frames in pieces, with noise between that holds no byte of a header."""
    noise_free = [p if isinstance(p, Frame) else p.replace(b"\xff", b"\x00") for p in parts]
    stream = b"".join(sts.encode(p) if isinstance(p, Frame) else p for p in noise_free)
    parser, found, at = Parser(), [], 0
    while at < len(stream):
        step = rng.randint(1, 9)
        found += parser.feed(stream[at : at + step])
        at += step
    assert found == [p for p in noise_free if isinstance(p, Frame)]


@pytest.mark.parametrize("trouble", ["noise", "flipped", "truncated", "claims too much"])
def test_the_parser_finds_the_next_frame_after_trouble(trouble: str) -> None:
    good = bytes.fromhex("FF FF 01 04 00 00 08 F2")
    before = {
        "noise": b"\x00\xff\x13",
        "flipped": good[:-1] + b"\xf3",
        "truncated": good[:5],
        "claims too much": b"\xff\xff\x01\xf0",
    }[trouble]
    parser = Parser(max_parameters=15)
    frames = parser.feed(before + good + good)
    assert frames[-1] == Frame(1, 0, b"\x00\x08")
    assert parser.skipped >= (2 if trouble == "noise" else 3)


def test_an_echoed_read_request_is_not_as_long_as_its_reply() -> None:
    """The maker's SDK takes the echo of F3 for a reply; three bytes asked for make the two differ."""
    (echo,) = Parser().feed(sts.read(1, 56, 2))
    assert len(echo.parameters) == 2  # just as long as the answer: value 568, error 2
    (echo,) = Parser().feed(sts.read(1, 2, 3))
    assert len(echo.parameters) != 3


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_random_bytes_raise_nothing_but_the_protocols_own_error(chunks: list[bytes]) -> None:
    parser = Parser(15)
    for chunk in chunks:
        for frame in parser.feed(chunk):
            try:
                sts.field(frame.parameters, 56, "present_position")
                sts.encode(frame)
            except FeetechError:
                pass
    assert len(parser._buffer) < 22  # what is kept is at most one unfinished frame

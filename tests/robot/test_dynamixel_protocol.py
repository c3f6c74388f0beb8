"""Dynamixel packets: the golden bytes G1 to G22, byte stuffing, CRC, and a parser that finds its way back."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.drivers import dynamixel_protocol as dxl
from robot.drivers.dynamixel_protocol import REGISTERS, STATUS, DynamixelError, Packet, Parser


def value(name: str, number: int) -> bytes:
    return dxl.encode_value(number, REGISTERS[name])


SPOT = ("0000", "8005", "800F", "000A", "801B", "001E", "0014", "8011")
STUFFED = b"\xff\xff\xfd\x00"
REQUESTS = {
    "G1 ping 1": (dxl.ping(1), "FF FF FD 00 01 03 00 01 19 4E"),
    "G2 broadcast ping": (dxl.ping(0xFE), "FF FF FD 00 FE 03 00 01 31 42"),
    "G3 read position": (dxl.read(1, 132, 4), "FF FF FD 00 01 07 00 02 84 00 04 00 1D 15"),
    "G4 read (126,10)": (dxl.read(1, 126, 10), "FF FF FD 00 01 07 00 02 7E 00 0A 00 36 F9"),
    "G5 torque on": (dxl.write(1, 64, value("torque_enable", 1)), "FF FF FD 00 01 06 00 03 40 00 01 DB 66"),
    "G6 goal 2048": (
        dxl.write(1, 116, value("goal_position", 2048)),
        "FF FF FD 00 01 09 00 03 74 00 00 08 00 00 42 89",
    ),
    "G7 goal -1024": (
        dxl.write(1, 116, value("goal_position", -1024)),
        "FF FF FD 00 01 09 00 03 74 00 00 FC FF FF DC 85",
    ),
    "G8 reg write 1024": (
        dxl.write(1, 116, value("goal_position", 1024), dxl.REG_WRITE),
        "FF FF FD 00 01 09 00 04 74 00 00 04 00 00 C1 0E",
    ),
    "G9 action": (dxl.encode(Packet(0xFE, dxl.ACTION, b"")), "FF FF FD 00 FE 03 00 05 2A C2"),
    "G10 stuffed write": (dxl.write(1, 116, STUFFED), "FF FF FD 00 01 0A 00 03 74 00 FF FF FD FD 00 21 E7"),
    "G11 read of what is stuffed": (dxl.read(1, 116, 4), "FF FF FD 00 01 07 00 02 74 00 04 00 35 D5"),
    "G12 data FF FF FD FD": (
        dxl.write(1, 116, b"\xff\xff\xfd\xfd"),
        "FF FF FD 00 01 0A 00 03 74 00 FF FF FD FD FD 2C 65",
    ),
    "G13 reboot": (dxl.encode(Packet(1, dxl.REBOOT, b"")), "FF FF FD 00 01 03 00 08 2F 4E"),
    "G14 clear multi-turn": (
        dxl.encode(Packet(1, dxl.CLEAR, b"\x01DXL\x22")),
        "FF FF FD 00 01 08 00 10 01 44 58 4C 22 B1 DC",
    ),
    "G15 factory reset but id and baud": (
        dxl.encode(Packet(1, dxl.FACTORY_RESET, b"\2")),
        "FF FF FD 00 01 04 00 06 02 AB E6",
    ),
    "G15 factory reset but id": (
        dxl.encode(Packet(1, dxl.FACTORY_RESET, b"\1")),
        "FF FF FD 00 01 04 00 06 01 A1 E6",
    ),
    "G16 sync write": (
        dxl.sync_write({1: value("goal_position", 2048), 2: value("goal_position", 4095)}, 116),
        "FF FF FD 00 FE 11 00 83 74 00 04 00 01 00 08 00 00 02 FF 0F 00 00 2F C0",
    ),
    "G17 sync read": (dxl.sync_read((1, 2), 132, 4), "FF FF FD 00 FE 09 00 82 84 00 04 00 01 02 CE FA"),
    "G18 fast sync read": (
        dxl.sync_read((1, 2), 132, 4, dxl.FAST_SYNC_READ),
        "FF FF FD 00 FE 09 00 8A 84 00 04 00 01 02 4D 72",
    ),
    "G20 write while torque is on": (
        dxl.write(1, 11, value("operating_mode", 3)),
        "FF FF FD 00 01 06 00 03 0B 00 03 48 E3",
    ),
    "G21 bulk read": (
        dxl.bulk_read({1: (144, 2), 2: (146, 1)}),
        "FF FF FD 00 FE 0D 00 92 01 90 00 02 00 02 92 00 01 00 1A 05",
    ),
    "G22 bulk write": (
        dxl.bulk_write({1: (32, b"\xa0\x00"), 2: (31, b"\x50")}),
        "FF FF FD 00 FE 10 00 93 01 20 00 02 00 A0 00 02 1F 00 01 00 50 B7 68",
    ),
}
G3 = "FF FF FD 00 01 08 00 55 00 00 08 00 00 1C 38"
REPLIES = {
    "G1": ("FF FF FD 00 01 07 00 55 00 B0 04 32 A6 D4", [Packet(1, STATUS, b"\0\xb0\x04\x32")]),
    "G2": (
        "FF FF FD 00 01 07 00 55 00 B0 04 32 A6 D4 FF FF FD 00 02 07 00 55 00 B0 04 32 AC E4",
        [Packet(1, STATUS, b"\0\xb0\x04\x32"), Packet(2, STATUS, b"\0\xb0\x04\x32")],
    ),
    "G3": (G3, [Packet(1, STATUS, b"\0\x00\x08\0\0")]),
    "G4": (
        "FF FF FD 00 01 0E 00 55 00 CE FF F6 FF FF FF 00 08 00 00 0A 8F",
        [Packet(1, STATUS, bytes.fromhex("00 CE FF F6 FF FF FF 00 08 00 00"))],
    ),
    "G5 to G8, G13, G14": ("FF FF FD 00 01 04 00 55 00 A1 0C", [Packet(1, STATUS, b"\0")]),
    "G11 stuffed": ("FF FF FD 00 01 09 00 55 00 FF FF FD FD 00 D8 9C", [Packet(1, STATUS, b"\0" + STUFFED)]),
    "G17": (
        G3 + " FF FF FD 00 02 08 00 55 00 D2 04 00 00 6B DA",
        [Packet(1, STATUS, b"\0\x00\x08\0\0"), Packet(2, STATUS, b"\0\xd2\x04\0\0")],
    ),
    "G19 alert": ("FF FF FD 00 01 08 00 55 80 00 08 00 00 1F 84", [Packet(1, STATUS, b"\x80\x00\x08\0\0")]),
    "G20 access": ("FF FF FD 00 01 04 00 55 07 B0 8C", [Packet(1, STATUS, b"\7")]),
}


@pytest.mark.parametrize("name", list(REQUESTS))
def test_golden_requests(name: str) -> None:
    made, golden = REQUESTS[name]
    assert made.hex(" ").upper() == golden
    (packet,) = Parser().feed(made)  # the emulator reads requests with the same parser
    assert dxl.encode(packet) == made


@pytest.mark.parametrize("name", list(REPLIES))
def test_golden_replies(name: str) -> None:
    data, packets = REPLIES[name]
    assert Parser().feed(bytes.fromhex(data)) == packets
    assert b"".join(dxl.encode(p) for p in packets) == bytes.fromhex(data)


def test_golden_block_g4_alert_g19_and_errors() -> None:
    (packet,) = Parser().feed(bytes.fromhex(REPLIES["G4"][0]))
    block = packet.data
    assert dxl.decode_value(block[:2], REGISTERS["present_current"]) == -50
    assert dxl.decode_value(block[2:6], REGISTERS["present_velocity"]) == -10
    assert dxl.decode_value(block[6:], REGISTERS["present_position"]) == 2048
    (alert,) = Parser().feed(bytes.fromhex(REPLIES["G19 alert"][0]))
    assert alert.error & dxl.ALERT and dxl.decode_value(alert.data, REGISTERS["present_position"]) == 2048
    assert "torque on" in dxl.RESULTS[7]
    with pytest.raises(DynamixelError):
        _ = Packet(1, dxl.PING, b"").error


def test_golden_fast_sync_read_g18() -> None:
    reply = bytes.fromhex("FF FF FD 00 FE 11 00 55 00 01 00 08 00 00 E4 C3 00 02 D2 04 00 00 2A 3D")
    found = dxl.decode_fast(reply, (1, 2), 4)
    assert {i: (e, int.from_bytes(d, "little")) for i, (e, d) in found.items()} == {1: (0, 2048), 2: (0, 1234)}
    for k in range(len(reply)):
        with pytest.raises(DynamixelError):
            dxl.decode_fast(reply[:k] + bytes([reply[k] ^ 1]) + reply[k + 1 :], (1, 2), 4)


def test_crc_check_values() -> None:
    assert dxl.crc16(b"123456789") == 0xFEE8
    assert [f"{x:04X}" for x in dxl.CRC_TABLE[:8]] == list(SPOT)
    assert dxl.CRC_TABLE[255] == 0x0202 and sum(dxl.CRC_TABLE) == 4325248


@given(st.binary(max_size=60).map(lambda b: b.replace(b"\x01", b"\xff\xff\xfd")))
def test_stuffing_comes_undone_and_hides_every_header(body: bytes) -> None:
    assert dxl.unstuff(dxl.stuff(body)) == body
    assert dxl.HEADER not in dxl.stuff(body)


PACKETS = st.builds(
    Packet, st.integers(0, 252), st.integers(1, 254), st.binary(max_size=20).map(lambda b: b.replace(b"\2", STUFFED))
)


@given(st.lists(st.one_of(PACKETS, st.binary(max_size=6)), max_size=8), st.randoms(use_true_random=False))
def test_every_packet_is_found_however_the_bytes_arrive(parts: list[Packet | bytes], rng: random.Random) -> None:
    clean = [p if isinstance(p, Packet) else p.replace(b"\xff", b"\x00") for p in parts]
    stream = b"".join(dxl.encode(p) if isinstance(p, Packet) else p for p in clean)
    parser, found, at = Parser(), [], 0
    while at < len(stream):
        step = rng.randint(1, 9)
        found += parser.feed(stream[at : at + step])
        at += step
    assert found == [p for p in clean if isinstance(p, Packet)]


@pytest.mark.parametrize("trouble", ["noise", "flipped", "truncated", "claims too much"])
def test_the_parser_finds_the_next_packet_after_trouble(trouble: str) -> None:
    good = bytes.fromhex(G3)
    before = {
        "noise": b"\x00\xff\xff\xfd\xfd",
        "flipped": good[:-1] + b"\x39",
        "truncated": good[:9],
        "claims too much": dxl.HEADER + b"\x01\xff\x02",
    }[trouble]
    parser = Parser(max_parameters=20)
    assert parser.feed(before + good + good)[-1] == Packet(1, STATUS, b"\0\x00\x08\0\0")
    assert parser.skipped >= 5


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_random_bytes_raise_nothing_but_the_protocols_own_error(chunks: list[bytes]) -> None:
    parser = Parser(15)
    for chunk in chunks:
        for packet in parser.feed(chunk):
            try:
                _ = packet.error
                dxl.encode(packet)
            except DynamixelError:
                pass
        with contextlib.suppress(DynamixelError):
            dxl.decode_fast(chunk, (1, 2), 4)
    assert len(parser._buffer) < 40

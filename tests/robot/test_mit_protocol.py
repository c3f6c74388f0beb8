"""MIT-mode CAN frames: golden bytes of AK80-6 V1.1, ranges, and whatever else may come off a bus."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.drivers import mit_protocol as mit
from robot.drivers.mit_protocol import Command, MitError, State

AK80_6 = mit.MOTORS["AK80-6_V1.1"]


@pytest.mark.parametrize(
    ("numbers", "golden"),
    [
        ((0, 0, 0, 0, 0), "7f ff 7f f0 00 00 07 ff"),
        ((0, 0, 0, 0, 1.0), "7f ff 7f f0 00 00 08 aa"),
        ((0, 0, 0, 0, -5), "7f ff 7f f0 00 00 04 aa"),
        ((0, 0, 0, 1.0, 0), "7f ff 7f f0 00 33 37 ff"),
        ((1.5, -2, 20, 1.5, 0.25), "8f 5b 74 90 a3 4c c8 2a"),
        ((12.5, 22.5, 500, 5, 12), "ff ff ff ff ff ff ff ff"),
        ((math.inf, 1e9, 1e9, 1e9, 1e9), "ff ff ff ff ff ff ff ff"),
        ((-12.5, -22.5, 0, 0, -12), "00 00 00 00 00 00 00 00"),
    ],
)
def test_golden_command_frames(numbers: tuple[float, ...], golden: str) -> None:
    assert mit.encode_command(Command(*numbers), AK80_6).hex(" ") == golden


@pytest.mark.parametrize(
    ("data", "numbers"),
    [
        ("01 7f ff 7f f7 ff", (1, -1.907e-4, -5.494e-3, -2.930e-3)),
        ("01 80 00 80 08 00", (1, +1.907e-4, +5.494e-3, +2.930e-3)),
        ("02 8f 5c 6d 39 c2", (2, 1.500153, -3.302198, 2.640293)),
    ],
)
def test_golden_state_frames(data: str, numbers: tuple[float, ...]) -> None:
    state = mit.decode_state(bytes.fromhex(data), AK80_6)
    assert state[:4] == pytest.approx(numbers, abs=6e-7)
    assert state.temperature is None and state.error == 0


def test_special_frames_are_those_of_the_motor() -> None:
    assert [f.hex() for f in (mit.ENABLE, mit.DISABLE, mit.SET_ZERO)] == ["ff" * 7 + x for x in ("fc", "fd", "fe")]


def test_a_longer_state_frame_tells_temperature_and_error() -> None:
    state = mit.decode_state(bytes.fromhex("01 80 00 80 08 00 2d 01"), AK80_6)
    assert (state.temperature, state.error) == (45.0, 1) and "over-temperature" in mit.ERRORS[state.error]


def test_one_count_is_what_the_bench_logs_show() -> None:
    a, b = (mit.decode_state(bytes.fromhex(f"01 80 0{k} 80 08 0{k}"), AK80_6) for k in (0, 1))
    assert b.position - a.position == pytest.approx(3.815e-4, rel=1e-3)
    assert b.torque - a.torque == pytest.approx(5.861e-3, rel=1e-3)


@given(
    st.sampled_from(list(mit.MOTORS.values())), st.tuples(*[st.floats(-1, 1)] * 3), st.tuples(*[st.floats(0, 1)] * 2)
)
def test_command_and_state_come_back_within_one_count(
    motor: mit.Range, signed: tuple[float, ...], gains: tuple[float, ...]
) -> None:
    p, v, t = signed[0] * motor.position, signed[1] * motor.velocity, signed[2] * motor.torque
    wanted = Command(p, v, gains[0] * motor.kp, gains[1] * motor.kd, t)
    got = mit.decode_command(mit.encode_command(wanted, motor), motor)
    tops = (2 * motor.position, 2 * motor.velocity, motor.kp, motor.kd, 2 * motor.torque)
    for a, b, top, bits in zip(wanted, got, tops, (16, 12, 12, 12, 12), strict=True):
        assert -1e-9 * top <= a - b <= top / (2**bits - 1) * (1 + 1e-9)  # truncated, so never above what was asked
    state = mit.decode_state(mit.encode_state(State(3, p, v, t, 40.4, 0), motor), motor)
    assert abs(state.position - p) <= 2 * motor.position / 65535 * (1 + 1e-9) and state.temperature == 40.0


def test_nan_is_never_encoded() -> None:
    with pytest.raises(MitError, match="NaN"):
        mit.encode_command(Command(0, 0, 0, 0, math.nan), AK80_6)


@given(st.binary(max_size=12))
def test_random_bytes_raise_nothing_but_the_protocols_own_error(data: bytes) -> None:
    for decode, sizes in ((mit.decode_state, (6, 8)), (mit.decode_command, (8,))):
        try:
            decode(data, AK80_6)
        except MitError:
            assert len(data) not in sizes

"""Random bytes to the parsers of all three wire protocols: nothing comes of them but frames or the protocol's error.

    python tests/benchmarks/fuzz_protocols.py [STRINGS]      default 1000000 a parser

Half of the strings are noise, the other half true frames with bytes that were flipped, cut, repeated or exchanged.
tests/robot/test_fuzz_protocols.py runs a few.
"""

from __future__ import annotations

import contextlib
import random
import sys
import time
from collections.abc import Callable

from robot.drivers import dynamixel_protocol as dxl
from robot.drivers import feetech_protocol as sts
from robot.drivers import mit_protocol as mit

MOTOR = mit.MOTORS["AK80-6_V1.1"]
LONGEST = 40


def _mit(data: bytes) -> None:
    for decode in (mit.decode_state, mit.decode_command):
        with contextlib.suppress(mit.MitError):
            decode(data, MOTOR)


class _Feetech:
    def __init__(self) -> None:
        self.parser = sts.Parser(15)

    def __call__(self, data: bytes) -> None:
        for frame in self.parser.feed(data):
            try:
                sts.field(frame.parameters, 56, "present_position")
                sts.encode(frame)
            except sts.FeetechError:
                pass
        assert len(self.parser._buffer) < 22, "bytes pile up"


class _Dynamixel:
    def __init__(self) -> None:
        self.parser = dxl.Parser(120)

    def __call__(self, data: bytes) -> None:
        for packet in self.parser.feed(data):
            try:
                _ = packet.error, packet.data
                dxl.encode(packet)
            except dxl.DynamixelError:
                pass
        with contextlib.suppress(dxl.DynamixelError):
            dxl.decode_fast(data, (1, 2), 4)
        assert len(self.parser._buffer) < 140, "bytes pile up"


PARSERS: dict[str, tuple[Callable[[], Callable[[bytes], None]], bytes]] = {
    "mit": (lambda: _mit, bytes.fromhex("028f5c6d39c2")),
    "feetech": (_Feetech, bytes.fromhex("ffff011100 2a8064802c044a1f00000000001400b2")),
    "dynamixel": (_Dynamixel, bytes.fromhex("fffffd00010e005500cefff6ffffff000800000a8f")),
}
"""protocol -> its parser, and a true frame."""


def damaged(frame: bytes, rng: random.Random) -> bytes:
    """A true frame with something done to it, or noise."""
    if rng.random() < 0.5:
        return rng.randbytes(rng.randrange(LONGEST))
    data = bytearray(frame)
    for _ in range(rng.randrange(3)):
        at = rng.randrange(len(data))
        what = rng.randrange(4)
        if what == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif what == 1:
            del data[at:]
            data += frame[: rng.randrange(len(frame))] or b"\xff"
        elif what == 2:
            data[at:at] = data[:at]
        else:
            data[at] = rng.randrange(256)
    return bytes(data[:200])


def fuzz(protocol: str, strings: int, seed: int) -> None:
    """Feed them; raises whatever the parser raises beyond its own error."""
    make, frame = PARSERS[protocol]
    parse, rng = make(), random.Random(seed)
    for _ in range(strings):
        data = damaged(frame, rng)
        try:
            parse(data)
        except Exception as error:
            raise AssertionError(f"{protocol}: {data.hex(' ')} raises {error!r}") from error


def main(words: list[str]) -> int:
    """Fuzz each protocol."""
    strings = int(words[0]) if words else 1_000_000
    for protocol in PARSERS:
        begin = time.monotonic()
        fuzz(protocol, strings, seed=0)
        print(f"{protocol}: {strings} strings, nothing but its own error, {time.monotonic() - begin:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A port that is read in one go, for python-can, which asks an slcan adapter for one byte after the other."""

from __future__ import annotations

from robot.drivers.read_ahead import ReadAhead


class Port:
    """A port that counts how often the system is asked."""

    timeout = 0.0005

    def __init__(self, data: bytes) -> None:
        self.data, self.calls = data, 0

    @property
    def in_waiting(self) -> int:
        self.calls += 1
        return len(self.data)

    def read(self, size: int) -> bytes:
        self.calls += 1
        got, self.data = self.data[:size], self.data[size:]
        return got

    def reset_input_buffer(self) -> None:
        self.data = b""


def test_bytes_come_in_order_and_the_system_is_asked_once_for_all_of_them() -> None:
    port = Port(b"t0018AABBCCDD\rt002")
    ahead = ReadAhead(port)
    assert ahead.in_waiting == 18
    frame = b"".join(ahead.read(1) for _ in range(14))
    assert frame == b"t0018AABBCCDD\r" and ahead.in_waiting == 4
    assert port.calls == 4  # what waits, a byte, what else waits, and that
    assert ahead.read(99) == b"t002" and ahead.timeout == 0.0005
    port.data = b"z"
    assert ahead.in_waiting == 1 and ahead.read() == b"z"
    assert ahead.read() == b"" and ahead.in_waiting == 0


def test_what_was_read_ahead_is_thrown_away_with_what_waits() -> None:
    port = Port(b"old and more")
    ahead = ReadAhead(port)
    assert ahead.read() == b"o"
    port.data = b"later"
    ahead.reset_input_buffer()
    assert ahead.in_waiting == 0 and ahead.read() == b""

"""ReadAhead: a serial port that is read in one go, for a reader that asks for one byte after the other.

python-can reads the answers of an slcan adapter so, with a select() and a read() for each of the 22 bytes of a frame:
half a millisecond of every cycle of two motors.
"""

from __future__ import annotations

from typing import Any


class ReadAhead:
    """Stands for a pyserial port; what it does not do itself, the port does."""

    def __init__(self, port: Any) -> None:
        self._port, self._ahead, self._at = port, b"", 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    @property
    def in_waiting(self) -> int:
        """Bytes that can be read without waiting; the system is asked only when all that was read is handed out."""
        left = len(self._ahead) - self._at
        return left or int(self._port.in_waiting)

    def read(self, size: int = 1) -> bytes:
        """Up to `size` bytes; the port's timeout is waited for only when there is none."""
        if self._at == len(self._ahead):
            self._ahead, self._at = self._port.read(1), 0
            if self._ahead and (more := self._port.in_waiting):
                self._ahead += self._port.read(more)
        data = self._ahead[self._at : self._at + size]
        self._at += len(data)
        return bytes(data)

    def reset_input_buffer(self) -> None:
        """Forget what has come."""
        self._ahead, self._at = b"", 0
        self._port.reset_input_buffer()

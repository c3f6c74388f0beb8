"""A half-duplex servo bus on a serial port: one question, then its answers, and nothing else counts.

What an earlier question left behind is thrown away before the next is sent, and an answer must come from a servo that
was asked and have the length that was asked for. The drivers ask for another length each time (Lengths), so that an
answer that comes late fits no later question; and they ask by sync reads, whose echo from an adapter is no answer.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Any, Protocol

from robot.driver import DriverError

RECENT = 4
"""Answers that are this many questions late are still told from new ones; what is later was thrown away."""


class Lengths:
    """Chooses how many bytes to ask for, so that no answer to one of the last questions fits the next."""

    def __init__(self) -> None:
        self._recent = deque[int](maxlen=RECENT)

    def next(self, least: int) -> int:
        """`least`, or up to RECENT + 1 more."""
        count = next(n for n in itertools.count(least) if n not in self._recent)
        self._recent.append(count)
        return count


class Answer(Protocol):
    """A frame of either servo protocol."""

    @property
    def id(self) -> int: ...


class Parser(Protocol):
    """The incremental parser of either servo protocol."""

    def feed(self, data: bytes) -> list[Any]: ...

    def clear(self) -> None: ...


class SerialBus:
    """A serial port and a parser of what comes from it."""

    def __init__(self, port: str, baud: int, parser: Parser) -> None:
        """DriverError when the port cannot be opened, or another process has it."""
        import termios

        import serial

        self.port, self._parser = port, parser
        self._errors = (OSError, termios.error)  # serial.SerialException is an OSError
        self.odd = 0
        """Answers that fitted no question."""
        try:
            self._serial = serial.Serial(port, baud, timeout=0.002, write_timeout=0.5, exclusive=True)
        except (OSError, ValueError) as error:
            raise DriverError(f"serial port '{port}' cannot be opened at {baud} baud: {error}") from error

    def tell(self, data: bytes) -> None:
        """Send what nobody answers."""
        try:
            self._serial.write(data)
        except self._errors as error:
            raise DriverError(f"serial port '{self.port}' does not send: {error}") from error

    def ask(
        self, request: bytes, ids: Collection[int], fits: Callable[[Any], bool], timeout_s: float
    ) -> tuple[int, dict[int, Any]]:
        """When the question was out [ns], and id -> answer of those that came in time and fit it."""
        try:
            self._serial.reset_input_buffer()
        except self._errors as error:
            raise DriverError(f"serial port '{self.port}' is gone: {error}") from error
        self._parser.clear()
        self.tell(request)
        sent_ns = time.monotonic_ns()
        until = sent_ns + round(timeout_s * 1e9)
        answers: dict[int, Any] = {}
        while len(answers) < len(ids):
            for frame in self._parser.feed(self._receive()):
                if frame.id in ids and frame.id not in answers and fits(frame):
                    answers[frame.id] = frame
                else:
                    self.odd += 1
            if time.monotonic_ns() >= until:
                break
        return sent_ns, answers

    def _receive(self) -> bytes:
        try:
            data: bytes = self._serial.read(max(1, self._serial.in_waiting))
        except self._errors as error:
            raise DriverError(f"serial port '{self.port}' does not receive: {error}") from error
        return data

    def close(self) -> None:
        """Release the port."""
        with contextlib.suppress(*self._errors):  # it may be gone already
            self._serial.close()

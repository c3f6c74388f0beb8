"""The ends of a bus on the emulator's side: a pseudo-terminal, slcan on one, or a python-can bus."""

from __future__ import annotations

import contextlib
import os
import tty
from pathlib import Path
from typing import Any, Protocol

from robot.config import ConfigError
from sim.emulators.motors import Request

BUS_OFF_FRAME = 0x40


class Line(Protocol):
    """Where requests come from and answers go."""

    def fileno(self) -> int:
        """For select(); -1 while there is no port."""
        ...

    def receive(self) -> list[Request]:
        """What has come; does not wait."""
        ...

    def send(self, data: bytes) -> None:
        """One answer."""
        ...

    def echo(self, request: Request) -> None:
        """What came, back to where it came from."""
        ...

    def fail(self) -> None:
        """Say that the bus is off, where it can be said."""
        ...

    def close(self) -> None:
        """Take the port away."""
        ...


class Pty:
    """A pseudo-terminal under a name that stays: a symbolic link."""

    def __init__(self, link: Path) -> None:
        self._link, self._master = link, -1
        self.open()

    def open(self) -> None:
        """Make the port; after close() it is another one under the same name."""
        if self._master >= 0:
            return
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        with contextlib.suppress(FileNotFoundError):
            self._link.unlink()
        self._link.symlink_to(os.ttyname(self._slave))

    def fileno(self) -> int:
        return self._master

    def receive(self) -> list[Request]:
        data = self._read()
        return [Request(data)] if data else []

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # nobody listens, or the buffer is full: bytes get lost, as on a wire
            os.write(self._master, data)

    def echo(self, request: Request) -> None:
        self.send(request.data)

    def fail(self) -> None:
        """A serial bus that is dead says nothing."""

    def close(self) -> None:
        if self._master >= 0:
            with contextlib.suppress(FileNotFoundError):
                self._link.unlink()
            os.close(self._slave)
            os.close(self._master)
            self._master = -1

    def _read(self) -> bytes:
        try:
            return os.read(self._master, 65536)
        except OSError:
            return b""


class Slcan:
    """A serial CAN adapter (Lawicel's protocol, as slcand and python-can speak it) on a pseudo-terminal."""

    def __init__(self, link: Path, host: int = 0) -> None:
        self.pty, self._host = Pty(link), host
        self._buffer, self._open = bytearray(), False

    def open(self) -> None:
        self.pty.open()

    def fileno(self) -> int:
        return self.pty.fileno()

    def receive(self) -> list[Request]:
        self._buffer += b"".join(r.data for r in self.pty.receive())
        *lines, rest = bytes(self._buffer).split(b"\r")
        self._buffer = bytearray(rest)
        requests = [self._line(line) for line in lines]
        return [r for r in requests if r is not None]

    def send(self, data: bytes) -> None:
        if self._open:
            self.pty.send(b"t%03X%d%s\r" % (self._host, len(data), data.hex().upper().encode()))

    def echo(self, request: Request) -> None:
        self.pty.send(b"t%03X%d%s\r" % (request.id, len(request.data), request.data.hex().upper().encode()))

    def fail(self) -> None:
        """An slcan adapter has no word for it."""

    def close(self) -> None:
        self._open = False
        self.pty.close()

    def _line(self, line: bytes) -> Request | None:
        """Obey one line; the frame that it carries, if it does."""
        if line[:1] == b"t" and self._open:
            try:
                size = int(line[4:5])
                data = bytes.fromhex(line[5:].decode())
                if len(data) == size:
                    return Request(data, int(line[1:4], 16))
            except ValueError:
                pass
            self.pty.send(b"\a")
        elif line[:1] in (b"O", b"C"):
            self._open = line[:1] == b"O"
            self.pty.send(b"\r")
        return None


class PythonCan:
    """A bus of python-can: `udp_multicast`, or `socketcan` where the kernel has vcan."""

    def __init__(self, interface: str, channel: str, host: int = 0) -> None:
        import can

        self._can, self._host = can, host
        name, _, port = channel.partition(":")
        options: dict[str, Any] = {"fd": False} if interface == "udp_multicast" else {}
        options |= {"port": int(port)} if port else {}
        try:
            self._bus = can.Bus(name, interface, **options)
        except (can.CanError, OSError, RuntimeError) as error:
            raise ConfigError(f"bus={interface} channel={channel}: cannot be opened ({error}).") from error

    def open(self) -> None:
        """It stays open."""

    def fileno(self) -> int:
        return int(self._bus.fileno())

    def receive(self) -> list[Request]:
        requests = []
        while (m := self._bus.recv(0.0)) is not None:
            if m.arbitration_id != self._host and not m.is_error_frame:  # a multicast's own answers come back
                requests.append(Request(bytes(m.data), m.arbitration_id))
        return requests

    def send(self, data: bytes) -> None:
        self._put(self._host, data)

    def echo(self, request: Request) -> None:
        """Frames that come back as they went; their identifier is not the host's."""

    def fail(self) -> None:
        message = self._can.Message(
            arbitration_id=BUS_OFF_FRAME, data=bytes(8), is_error_frame=True, is_extended_id=False
        )
        with contextlib.suppress(self._can.CanError):
            self._bus.send(message)

    def close(self) -> None:
        self._bus.shutdown()

    def _put(self, id: int, data: bytes) -> None:
        message = self._can.Message(arbitration_id=id, data=data[:8], is_extended_id=False)
        with contextlib.suppress(self._can.CanError):
            self._bus.send(message)

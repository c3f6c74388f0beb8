"""One classic CAN bus through python-can: SocketCAN, slcan adapters, UDP multicast. Every failure is a DriverError."""

from __future__ import annotations

import errno
import time
from typing import Any

from robot.driver import DriverError
from robot.drivers.read_ahead import ReadAhead

BUS_OFF = 0x40
"""Bit of an error frame's identifier (linux/can/error.h)."""
MOST = 1000
"""Frames to others that are passed over in one call, however many come."""
_BROKEN = (ValueError, IndexError, UnicodeDecodeError)
"""What python-can raises for a line of an slcan adapter that is garbled."""


class CanBus:
    """Sends and receives frames with 11-bit identifiers."""

    def __init__(self, interface: str, channel: str, bitrate: int, host: int) -> None:
        """Frames to `host` are received. DriverError when the interface cannot be opened."""
        import can

        self._can, self.channel, self._host = can, channel, host
        options: dict[str, Any] = {}
        if interface == "slcan":  # python-can waits 2 s for an Arduino to boot; adapters need no such time
            options = {"tty_baudrate": 1_000_000, "sleep_after_open": 0.05, "bitrate": bitrate, "timeout": 0.0005}
        elif interface == "udp_multicast":
            channel, _, port = channel.partition(":")
            options = {"fd": False} | ({"port": int(port)} if port else {})
        elif interface != "socketcan":  # SocketCAN's bit rate is set with `ip link`
            options = {"bitrate": bitrate}
        try:
            self._bus = can.Bus(interface=interface, channel=channel, **options)
            self._port: Any = None
            if interface == "slcan":
                self._port = ReadAhead(self._bus.serialPortOrig)  # type: ignore[attr-defined]
                self._bus.serialPortOrig = self._port  # type: ignore[attr-defined]
        except (can.CanError, OSError, RuntimeError, ValueError, NotImplementedError) as error:
            raise DriverError(f"CAN interface {interface} '{self.channel}' cannot be opened: {error}") from error

    def send(self, id: int, data: bytes, patience_s: float = 0.005) -> None:
        """Send one frame. A queue that is full (ENOBUFS) is tried again for `patience_s`."""
        message = self._can.Message(arbitration_id=id, data=data, is_extended_id=False)
        until = time.monotonic() + patience_s
        while True:
            try:
                self._bus.send(message)
                return
            except (self._can.CanError, OSError) as error:
                code = getattr(error, "error_code", None) or getattr(error, "errno", None)
                if code == errno.ENOBUFS and time.monotonic() < until:
                    time.sleep(0.0005)
                    continue
                why = "its queue is full (ENOBUFS): nothing on the bus acknowledges" if code == errno.ENOBUFS else error
                raise DriverError(f"CAN '{self.channel}' does not send: {why}") from error

    def receive(self, timeout_s: float) -> bytes | None:
        """The data of the next frame to the host, or None; DriverError when the bus is off or the interface gone."""
        until = time.monotonic() + timeout_s
        for _ in range(MOST):
            left = max(0.0, until - time.monotonic())
            try:
                if left == 0.0 and self._port is not None and not self._port.in_waiting:
                    return None  # python-can would wait for a byte all the same
                message = self._bus.recv(left)
            except _BROKEN:
                continue
            except (self._can.CanError, OSError) as error:
                raise DriverError(f"CAN '{self.channel}' does not receive: {error}") from error
            if message is not None and message.is_error_frame:
                if message.arbitration_id & BUS_OFF:
                    raise DriverError(f"CAN '{self.channel}' is off after too many errors: check wiring and bit rate")
                continue
            if message is not None and message.arbitration_id == self._host and not message.is_extended_id:
                return bytes(message.data)
            if message is None and left == 0.0:
                return None
        return None

    def close(self) -> None:
        """Release the interface."""
        try:
            self._bus.shutdown()
        except (self._can.CanError, OSError):  # it is gone; python-can's slcan then leaves the port open
            self._bus._is_shutdown = True
            if self._port is not None:
                self._port.close()

"""Words to systemd: ready, alive, stopping. Source: sd_notify(3), whose protocol is a datagram to $NOTIFY_SOCKET."""

from __future__ import annotations

import os
import socket
import time

ENDING_S = 60
"""How long damping, and closing the log, may take once a run is over [s]; the watchdog waits so long for the end."""


class Notifier:
    """Silent where no service manager listens."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            self._address = "\0" + address[1:] if address.startswith("@") else address
        self._every_ns = int(os.environ.get("WATCHDOG_USEC", "0")) * 1000 // 4
        self._next_ns = 0

    def say(self, words: str) -> None:
        """`READY=1`, `STATUS=…`; never waits and never fails."""
        if self._socket is not None:
            try:
                self._socket.sendto(words.encode(), self._address)
            except OSError:
                return

    def alive(self) -> None:
        """To be called once a tick; feeds the watchdog four times in each of its periods."""
        if self._every_ns and (now := time.monotonic_ns()) >= self._next_ns:
            self._next_ns = now + self._every_ns
            self.say("WATCHDOG=1")

    def ending(self) -> None:
        """The run is over and no tick feeds the watchdog any more: it must not kill what is damping a robot."""
        if self._every_ns:
            self.say(f"WATCHDOG_USEC={ENDING_S * 1_000_000}\nWATCHDOG=1")
        self.say("STOPPING=1")

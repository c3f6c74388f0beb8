"""Dead-man switches: while a person does not hold one, nothing moves.

    deadman=file:/sys/class/gpio/gpio17/value      a file that reads 1 while it is held (a GPIO pin, or a test)
    deadman=joystick:/dev/input/js0                the first button of a joystick (/dev/input/js0:5: the sixth)
    deadman=udp:9000                               datagrams "1" to this port, at least every 0.1 s

Each is a function that tells, without waiting, whether the switch is held; a file, device or sender that is gone means
no.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from robot.config import ConfigError

Held = Callable[[], bool]

HEARTBEAT_S = 0.1
"""A UDP sender that was silent for longer holds nothing [s]."""
_EVENT = struct.Struct("IhBB")
"""Linux joystick API: time [ms], value, type, number."""


def open_switch(text: str) -> Held:
    """The switch that `kind:where` names; ConfigError when there is no such kind or it cannot be opened."""
    kind, _, where = text.partition(":")
    if kind not in SWITCHES or not where:
        raise ConfigError(f"deadman={text}: not one of file:PATH, joystick:DEVICE[:BUTTON], udp:PORT.")
    try:
        return SWITCHES[kind](where)
    except (OSError, ValueError) as error:
        raise ConfigError(f"deadman={text}: cannot be opened ({error}).") from error


def _file(where: str) -> Held:
    path = Path(where)
    path.read_bytes()

    def held() -> bool:
        try:
            return path.read_bytes().strip() == b"1"
        except OSError:
            return False

    return held


def _joystick(where: str) -> Held:
    device, colon, number = where.rpartition(":")
    if not colon or not number.isdigit():
        device, number = where, "0"
    handle, button = os.open(device, os.O_RDONLY | os.O_NONBLOCK), int(number)
    state = {"held": False, "gone": False}

    def held() -> bool:
        while not state["gone"]:
            try:
                data = os.read(handle, _EVENT.size)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if len(data) < _EVENT.size:
                state["gone"] = True
                break
            _, value, kind, which = _EVENT.unpack(data)
            if kind & 0x01 and which == button:  # 0x80 is added to what was so before we looked
                state["held"] = bool(value)
        return state["held"] and not state["gone"]

    return held


def _udp(where: str) -> Held:
    port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    port.bind(("", int(where)))
    port.setblocking(False)
    heard = [-1.0]

    def held() -> bool:
        while True:
            try:
                message = port.recv(64)
            except BlockingIOError:
                break
            heard[0] = time.monotonic() if message.strip() == b"1" else -1.0
        return heard[0] >= 0 and time.monotonic() - heard[0] <= HEARTBEAT_S

    return held


SWITCHES: dict[str, Callable[[str], Held]] = {"file": _file, "joystick": _joystick, "udp": _udp}

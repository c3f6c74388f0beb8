"""Dead-man switches: held is held, and whatever is gone is not."""

from __future__ import annotations

import os
import socket
import struct
import time
from pathlib import Path

import pytest

from robot import deadman
from robot.config import ConfigError
from robot.deadman import open_switch


def test_file_is_held_while_it_reads_1(tmp_path: Path) -> None:
    pin = tmp_path / "value"
    pin.write_text("0\n")
    held = open_switch(f"file:{pin}")
    assert not held()
    pin.write_text("1\n")
    assert held()
    pin.unlink()
    assert not held()


def test_joystick_button_counts_until_the_device_is_gone(tmp_path: Path) -> None:
    device = tmp_path / "js0"
    os.mkfifo(device)
    held = open_switch(f"joystick:{device}:2")
    writer = os.open(device, os.O_WRONLY)
    press = struct.Struct("IhBB")

    def event(value: int, kind: int, button: int) -> bool:
        os.write(writer, press.pack(0, value, kind, button))
        return held()

    assert not event(1, 0x01, 0)  # another button
    assert not event(1, 0x02, 2)  # an axis
    assert event(1, 0x81, 2)  # the state before we looked
    assert not event(0, 0x01, 2)
    assert event(1, 0x01, 2)
    os.close(writer)
    assert not held()


def test_sender_must_go_on_sending(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setattr(deadman, "HEARTBEAT_S", 1e9)
    held = open_switch(f"udp:{port}")
    assert not held()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:

        def told(message: bytes, expected: bool) -> bool:
            sender.sendto(message, ("127.0.0.1", port))
            end = time.monotonic() + 5.0
            while held() is not expected and time.monotonic() < end:
                time.sleep(0.001)
            return held()

        assert told(b"1", True)
        assert not told(b"0", False)
        assert told(b"1", True)
    monkeypatch.setattr(deadman, "HEARTBEAT_S", 0.0)
    assert not held()


@pytest.mark.parametrize("text", ["file", "file:/nowhere/value", "pedal:1", "udp:x", "joystick:/nowhere/js0"])
def test_switch_that_cannot_be_opened_is_a_usage_error(text: str) -> None:
    with pytest.raises(ConfigError, match=f"deadman={text}"):
        open_switch(text)

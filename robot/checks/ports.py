"""What a robot hangs on: CAN interfaces, serial ports, cameras; which there are, and what this user may open."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from robot.checks import Host, Look, Seen

ARPHRD_CAN = "280"
"""Type of a CAN interface in sysfs; source: linux/if_arp.h."""
SERIAL = ("dev/ttyUSB*", "dev/ttyACM*", "dev/ttyAMA*", "dev/ttyTHS*")
LATENCY_MS = 1
"""An FTDI chip hands bytes over after so many milliseconds at best; Linux begins with 16."""


def can(host: Host) -> Seen:
    """CAN interfaces of the kernel, and whether they are up."""
    found = {p.parent.name: host.text(f"sys/class/net/{p.parent.name}/operstate") for p in _can(host)}
    if not found:
        return Seen("no interface; an slcan adapter is a serial port")
    told = ", ".join(f"{name} {'down' if state == 'down' else 'up'}" for name, state in found.items())
    down = next((name for name, state in found.items() if state == "down"), None)
    return Seen(told, f"sudo ip link set {down} up type can bitrate 1000000" if down else "")


def _can(host: Host) -> list[Path]:
    return [p for p in host.found("sys/class/net/*/type") if p.read_text().strip() == ARPHRD_CAN]


def serial(host: Host) -> Seen:
    """Serial ports that a person may have plugged in."""
    ports = [p for pattern in SERIAL for p in host.found(pattern)]
    if not ports:
        return Seen("no port")
    fix = _right_to(ports)
    if fix:
        return Seen(f"{_names(ports)}: some may not be opened by this user", fix)
    slow = [p for p in ports if int(host.text(f"sys/bus/usb-serial/devices/{p.name}/latency_timer") or 0) > LATENCY_MS]
    if slow:
        file = f"/sys/bus/usb-serial/devices/{slow[0].name}/latency_timer"
        return Seen(f"{_names(ports)}: {slow[0].name} holds bytes back for {host.text(file[1:])} ms",
                    f"echo {LATENCY_MS} | sudo tee {file}")  # fmt: skip
    return Seen(_names(ports))


def cameras(host: Host) -> Seen:
    """Cameras by their names; `doctor camera=N` looks through one."""
    nodes = [p for p in host.found("dev/video*") if host.text(f"sys/class/video4linux/{p.name}/index") in ("", "0")]
    if not nodes:
        return Seen("none")
    names = ", ".join(f"{p.name} ({host.text(f'sys/class/video4linux/{p.name}/name') or 'no name'})" for p in nodes)
    return Seen(names, _right_to(nodes))


def _names(paths: list[Path]) -> str:
    return ", ".join(p.name for p in paths)


def _right_to(paths: list[Path], may: Callable[[Path, int], bool] = os.access) -> str:
    """The line that gives this user the right to read and write the first that it may not; empty where it may all."""
    refused = next((p for p in paths if not may(p, os.R_OK | os.W_OK)), None)
    if refused is None:
        return ""
    try:
        import grp

        group = grp.getgrgid(refused.stat().st_gid).gr_name
    except (ImportError, KeyError, OSError):
        group = "dialout"
    if group == "root":
        return f"sudo chmod a+rw {refused}; it belongs to no group that one could join"
    return f"sudo usermod -aG {group} $USER, and log in again"


LOOKS: dict[str, Look] = {"CAN": can, "serial ports": serial, "cameras": cameras}

"""What a recording needs: a disk that keeps up, and clocks that can be believed."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import shutil
import tempfile
import time

from robot.checks import Host, Look, Seen

BLOCK, BLOCKS = 1 << 20, 8
"""So many bytes are written and synced, so many times."""
SLOW_MB_S = 20.0
"""Two cameras of 640 x 480 at 30 Hz, compressed, are 5 to 10 MB/s; readings of joints are next to nothing."""
LITTLE_GB = 2.0
GOOD = ("tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page", "xen")
"""Clock sources that are read without leaving the process."""
_UNSYNC = 0x0040  # STA_UNSYNC of adjtimex(2)


def disk(host: Host) -> Seen:
    """How fast the folder of the runs takes bytes that must be there after a power cut, and how much room there is."""
    block, worst = os.urandom(BLOCK), 0.0
    begin = time.perf_counter()
    with tempfile.TemporaryFile(dir=host.out) as file:
        for _ in range(BLOCKS):
            before = time.perf_counter()
            file.write(block)
            file.flush()
            os.fsync(file.fileno())
            worst = max(worst, time.perf_counter() - before)
    rate = 1e-6 * BLOCK * BLOCKS / (time.perf_counter() - begin)
    free = 1e-9 * shutil.disk_usage(host.out).free
    told = f"{rate:.0f} MB/s to {host.out.resolve()}, {free:.1f} GB free, a write took up to {1e3 * worst:.0f} ms"
    if free < LITTLE_GB:
        return Seen(told, "make room, or give out=DIR on another disk")
    return Seen(told, "" if rate >= SLOW_MB_S else "record cameras to a faster disk: out=DIR")


class _Timex(ctypes.Structure):
    """The head of struct timex, with room for the rest; source: adjtimex(2)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def synchronized(host: Host) -> Seen:
    """Whether the kernel's clock is disciplined by NTP or PTP. Runs pace themselves by another, which never jumps."""
    try:
        clock = _Timex()
        if ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6").adjtimex(ctypes.byref(clock)) < 0:
            return Seen("not told by this system")
    except (OSError, AttributeError):
        return Seen("not told by this system")
    if clock.status & _UNSYNC:
        fix = "sudo timedatectl set-ntp true, or sudo apt-get install -y chrony"
        return Seen("the wall clock is not synchronized: recordings of two machines will not match in time", fix)
    return Seen(f"the wall clock is synchronized, to within {1e-3 * clock.maxerror:.0f} ms")


def source(host: Host) -> Seen:
    """What the kernel counts time with."""
    folder = "sys/devices/system/clocksource/clocksource0"
    now, known = host.text(f"{folder}/current_clocksource"), host.text(f"{folder}/available_clocksource")
    if not now or now in GOOD:
        return Seen(now or "not told by this system")
    better = next((name for name in GOOD if name in known.split()), None)
    fix = f"echo {better} | sudo tee /{folder}/current_clocksource" if better else "boot with tsc=reliable"
    return Seen(f"{now}, which takes microseconds to read", fix)


LOOKS: dict[str, Look] = {"disk": disk, "time": synchronized, "clock source": source}

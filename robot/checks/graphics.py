"""Whether cameras in simulation can be drawn with GL: EGL opens a device as MuJoCo does, without importing MuJoCo."""

from __future__ import annotations

import ctypes
from typing import Any

from robot.checks import Host, Look, Seen
from robot.checks.software import installed

LINE = "sudo apt-get install -y libegl1 libgl1-mesa-dri, or renderer=ray, which needs no GL"
_PLATFORM_DEVICE, _VENDOR = 0x313F, 0x3053  # EGL_EXT_platform_device, EGL_VENDOR
_DEVICES = 10


def egl(host: Host) -> Seen:
    """The first device that EGL can initialize. It stays open: a renderer of this process may be using it."""
    if not installed("mujoco"):
        return Seen("not looked at; only cameras in simulation need it")
    try:
        library = ctypes.CDLL("libEGL.so.1")
    except OSError:
        return Seen("libEGL.so.1 is missing", LINE)
    count = ctypes.POINTER(ctypes.c_int)
    library.eglInitialize.argtypes = [ctypes.c_void_p, count, count]
    library.eglQueryString.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.eglQueryString.restype = ctypes.c_char_p
    devices = _devices(library)
    for device in devices:
        display = _display(library, device)
        major, minor = ctypes.c_int(), ctypes.c_int()
        if display and library.eglInitialize(display, ctypes.byref(major), ctypes.byref(minor)):
            vendor = (library.eglQueryString(display, _VENDOR) or b"unknown").decode()
            return Seen(f"EGL {major.value}.{minor.value} of {vendor}, {len(devices)} device(s)")
    return Seen(f"libEGL is there, and none of its {len(devices)} devices opens: it has no driver", LINE)


def _extension(library: Any, name: bytes, restype: Any, *argtypes: Any) -> Any:
    """A function that EGL gives by its name; None where it lacks the extension."""
    library.eglGetProcAddress.restype, library.eglGetProcAddress.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    address = library.eglGetProcAddress(name)
    return ctypes.CFUNCTYPE(restype, *argtypes)(address) if address else None


def _devices(library: Any) -> list[int]:
    """EGL_EXT_device_enumeration."""
    handles, count = (ctypes.c_void_p * _DEVICES)(), ctypes.c_int()
    ask = _extension(
        library, b"eglQueryDevicesEXT", ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)
    )
    if ask is None or not ask(_DEVICES, handles, ctypes.byref(count)):
        return []
    return [int(handle) for handle in handles[: count.value] if handle]


def _display(library: Any, device: int) -> int | None:
    get = _extension(
        library, b"eglGetPlatformDisplayEXT", ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p
    )
    return get(_PLATFORM_DEVICE, device, None) if get is not None else None


LOOKS: dict[str, Look] = {"graphics": egl}

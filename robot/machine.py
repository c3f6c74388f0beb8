"""What kind of processor this is, as far as the rounding of a network depends on it, and which opset a file wants."""

from __future__ import annotations

import functools
import platform
from collections.abc import Iterator
from pathlib import Path

OPSETS = (13, 21)
"""Versions of ONNX's operators that every supported onnxruntime (1.18 and later) computes."""
_LEVELS = {
    "x86_64": ("avx512_vnni", "avx512f", "avx2", "sse4_2"),
    "aarch64": ("asimddp", "asimd"),
}
"""Instruction sets by which onnxruntime chooses its kernels, the best one first."""


@functools.cache
def cpu_class() -> str:
    """`x86_64-avx2`, `aarch64-asimddp`, …: machines of one class round alike."""
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    flags = _flags()
    level = next((f for f in _LEVELS.get(machine, ()) if f in flags), None)
    return machine if level is None else f"{machine}-{level}"


def _flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            return set(value.split())
    return set()


def opsets_of(onnx: bytes) -> dict[str, int]:
    """Domain -> version of the operators that an ONNX file uses; the standard domain is "".

    Reads ModelProto.opset_import (field 8: domain is 1, version is 2) without the onnx package. ValueError when the
    bytes are no protobuf message.
    """
    found: dict[str, int] = {}
    for field, value in _fields(onnx):
        if field == 8 and isinstance(value, bytes):
            parts = dict(_fields(value))
            domain, version = parts.get(1, b""), parts.get(2, 0)
            if isinstance(domain, bytes) and isinstance(version, int):
                found[domain.decode()] = version
    return found


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field, value) of a protobuf message; source: protobuf.dev, Encoding."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        field, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield field, value
        elif kind == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("a field is longer than the file")
            yield field, data[at : at + size]
            at += size
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number does not end")

"""One row of a channel as a message of ROS 2, and back: what stands in an episode's MCAP.

Numbers are `float64[]`, so NaN survives; texts and pictures are the standard messages (robot/pictures.py).
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from robot import pictures

VALUES = ("terrafirma_msgs/msg/Values", b"float64[] values\n")
TEXT = ("std_msgs/msg/String", b"string data\n")
"""Name and definition of a message of numbers, and of one of text."""
PICTURES = {pictures.RAW[0]: pictures.decode_raw, pictures.COMPRESSED[0]: pictures.decode_compressed}
"""Schema -> what reads its messages."""


def encode(value: Any, t_ns: int = 0) -> bytes:
    """One row as a CDR message (OMG CDR, little endian: values are aligned to their size after the header)."""
    if isinstance(value, str):
        data = value.encode() + b"\0"
        return pictures.CDR + struct.pack("<I", len(data)) + data
    if value.dtype == np.uint8:
        return pictures.encode_raw(value, t_ns)
    # sequence length, then four bytes of padding: doubles are aligned to eight
    return pictures.CDR + struct.pack("<II", value.size, 0) + np.asarray(value, "<f8").tobytes()


def decode(schema: str, data: bytes) -> Any:
    """The inverse; ValueError or struct.error for a message that is damaged."""
    if schema == TEXT[0]:
        (size,) = struct.unpack_from("<I", data, 4)
        return data[8 : 8 + size - 1].decode()
    if schema in PICTURES:
        return PICTURES[schema](data)
    (size,) = struct.unpack_from("<I", data, 4)
    return np.frombuffer(data, "<f8", size, 12)

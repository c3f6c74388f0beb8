"""Pictures as ROS 2 messages in CDR: raw ones, and compressed ones where OpenCV is installed.

Small pictures, as policies see them, are compressed without loss (PNG), so that a replay shows the policy what it saw;
larger ones as JPEG.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]

_LINE = b"=" * 80
_HEADER = (
    _LINE
    + b"\nMSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n"
    + _LINE
    + b"\nMSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
)
RAW = (
    "sensor_msgs/msg/Image",
    b"std_msgs/Header header\nuint32 height\nuint32 width\nstring encoding\nuint8 is_bigendian\nuint32 step\n"
    b"uint8[] data\n" + _HEADER,
)
COMPRESSED = (
    "sensor_msgs/msg/CompressedImage",
    b"std_msgs/Header header\nstring format\nuint8[] data\n" + _HEADER,
)
"""Schema name and definition."""
CDR = b"\x00\x01\x00\x00"
"""Head of a message in little-endian CDR; alignment counts from behind it."""
ENCODINGS = {1: b"mono8", 3: b"rgb8"}
"""Channels of a picture -> name of its encoding."""
LOSSLESS_PIXELS = 128 * 128
"""Pictures up to this size are kept exactly."""
JPEG_QUALITY = 95
_RAW_HEAD = struct.Struct("<iIIsxxxIII6sB1xII")
"""sec, nanosec, frame_id (empty: length 1, NUL), height, width, encoding (length, text), bigendian, step, length."""
_STAMP = struct.Struct("<iIIsxxx")
"""sec, nanosec, frame_id (empty)."""


def can_compress() -> bool:
    """Whether OpenCV is installed."""
    try:
        import cv2  # noqa: F401
    except ImportError:
        return False
    return True


def encode_raw(picture: Picture, t_ns: int) -> bytes:
    """A picture (height, width, 1 or 3), RGB, as sensor_msgs/Image."""
    height, width, channels = picture.shape
    name = ENCODINGS[channels]
    seconds, nanoseconds = divmod(t_ns, 1_000_000_000)
    head = _RAW_HEAD.pack(
        seconds, nanoseconds, 1, b"\0", height, width, len(name) + 1, name, 0, width * channels, picture.size
    )
    return CDR + head + picture.tobytes()


def decode_raw(data: bytes) -> Picture:
    """The inverse; ValueError or struct.error for a damaged message."""
    *_, height, width, _, _, _, step, size = _RAW_HEAD.unpack_from(data, 4)
    return np.frombuffer(data, np.uint8, size, 4 + _RAW_HEAD.size).reshape(height, width, step // width)


def encode_compressed(picture: Picture, t_ns: int) -> bytes:
    """A picture (height, width, 1 or 3), RGB, as sensor_msgs/CompressedImage in PNG or JPEG."""
    import cv2

    small = picture.shape[0] * picture.shape[1] <= LOSSLESS_PIXELS
    shown = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.shape[2] == 3 else picture
    options = [] if small else [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    done, coded = cv2.imencode(".png" if small else ".jpg", shown, options)
    if not done:
        raise ValueError(f"a picture of shape {picture.shape} cannot be compressed")
    name = b"png\0" if small else b"jpeg\0"
    head = _STAMP.pack(*divmod(t_ns, 1_000_000_000), 1, b"\0") + struct.pack("<I", len(name)) + name
    head += bytes(-len(head) % 4)
    return CDR + head + struct.pack("<I", coded.size) + coded.tobytes()


def decode_compressed(data: bytes) -> Picture:
    """The inverse; ValueError or struct.error for a damaged message, ImportError without OpenCV."""
    import cv2

    at = 4 + _STAMP.size
    (length,) = struct.unpack_from("<I", data, at)
    at += 4 + length
    at += -(at - 4) % 4
    (size,) = struct.unpack_from("<I", data, at)
    coded = np.frombuffer(data, np.uint8, size, at + 4)
    found = cv2.imdecode(coded, cv2.IMREAD_UNCHANGED) if size else None
    if found is None or found.dtype != np.uint8:
        raise ValueError("a compressed picture cannot be decoded")
    picture = cv2.cvtColor(found, cv2.COLOR_BGR2RGB) if found.ndim == 3 else found[..., None]
    return np.asarray(picture, dtype=np.uint8)

"""Pictures in topics as camera channels: raw ones (sensor_msgs/Image, or shaped like it) and compressed ones."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from robot.log import Channel
from transfer.formats.topic_series import stamps_of
from transfer.formats.topics import Bag, Block, SourceError, Topic

MEMORY = 1 << 30
"""Most bytes that the pictures of one camera may take."""
PIXELS = 1 << 26
"""Most pixels of a compressed picture."""
_FORWARD, _BACKWARD = slice(0, 3), slice(2, None, -1)
RAW = {"rgb8": (3, _FORWARD), "bgr8": (3, _BACKWARD), "mono8": (1, slice(0, 1)), "8UC1": (1, slice(0, 1)),
       "8UC3": (3, _BACKWARD), "rgba8": (4, _FORWARD), "bgra8": (4, _BACKWARD)}  # fmt: skip
"""Encoding -> bytes of a pixel, and which of them are red, green and blue (8UC3 is OpenCV's, and so BGR)."""
TYPES = ("Image", "CompressedImage", "RawImage")
"""How the names of types of pictures end."""


def is_picture(topic: Topic) -> bool:
    """Whether a topic holds pictures, by the name of its type."""
    return topic.type.replace(".", "/").rpartition("/")[2] in TYPES


class Pictures:
    """One camera while it is read."""

    def __init__(self, camera: str, own_stamps: bool) -> None:
        self.camera, self.damaged = camera, 0
        self._own = own_stamps
        self._times: list[int] = []
        self._room: npt.NDArray[np.uint8] = np.zeros((0, 0, 0, 3), np.uint8)

    def read(self, bag: Bag, topic: Topic) -> Channel:
        """All pictures of a topic; SourceError where they cannot be read, differ in size or take too much memory."""
        for block in bag.blocks(topic):
            own = stamps_of(block) if self._own else None
            times = own if own is not None and (own > 0).all() else block.t_ns
            for i in range(len(block.rows)):
                self._add(int(times[i]), block, i, topic.count or 0)
        if not self._times and self.damaged:
            raise SourceError(f"none of its {self.damaged} pictures can be decoded")
        times, values = np.array(self._times, np.int64), self._room[: len(self._times)]
        if not (np.diff(times) >= 0).all():
            order = np.argsort(times, kind="stable")
            times, values = times[order], values[order]
        return Channel(f"camera.{self.camera}", "uint8", (), times, values)

    def _add(self, t_ns: int, block: Block, row: int, count: int) -> None:
        try:
            picture = _picture(block, row)
        except (ValueError, KeyError, TypeError, IndexError):
            self.damaged += 1
            return
        have = len(self._times)
        if have and picture.shape != self._room.shape[1:]:
            raise SourceError(f"its pictures have different sizes ({self._room.shape[1:]} and {picture.shape})")
        if have == len(self._room):
            rows = max(count, 2 * have, 16)
            if rows * picture.nbytes > MEMORY:
                size = f"{max(count, have + 1)} pictures of {picture.shape[1]} x {picture.shape[0]}"
                raise SourceError(f"its {size} take more than {MEMORY >> 20} MiB; cut the recording into parts")
            grown = np.empty((rows, *picture.shape), np.uint8)
            if have:
                grown[:have] = self._room
            self._room = grown
        self._room[have] = picture
        self._times.append(t_ns)


def _picture(block: Block, row: int) -> npt.NDArray[np.uint8]:
    """(height, width, 1 or 3), RGB; ValueError where it is damaged, SourceError where its encoding is not read."""
    data = np.ascontiguousarray(block.numbers["data"][row], dtype=np.uint8)
    if "encoding" not in block.texts:
        return _decoded(data)
    encoding = block.texts["encoding"][0]
    if encoding not in RAW:
        raise SourceError(f"its pictures are in '{encoding[:40]}'; read are {', '.join(RAW)}")
    size, order = RAW[encoding]
    height, width, step = (int(block.numbers[n][row]) for n in ("height", "width", "step"))
    if not (width > 0 and height > 0 and width * size <= step and step * height == data.size):
        raise ValueError("a picture has another size than it says")
    whole = data.reshape(height, step)[:, : width * size].reshape(height, width, size)
    return whole[:, :, order]


def _decoded(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A compressed picture, the size of which its header says before it is unpacked."""
    import cv2

    height, width = _size(data.tobytes())
    if not 0 < height * width <= PIXELS:
        raise ValueError("a picture has no size, or too large a one")
    try:
        found: Any = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError("a picture cannot be decoded") from error
    if found is None or found.dtype != np.uint8:
        raise ValueError("a picture cannot be decoded")
    if found.ndim == 2:
        return np.asarray(found[:, :, None], np.uint8)
    return np.ascontiguousarray(found[:, :, 2::-1])


def _size(data: bytes) -> tuple[int, int]:
    """Height and width that a PNG or JPEG declares; ValueError where it is neither."""
    if data.startswith(b"\x89PNG\r\n") and len(data) > 24:
        width, height = struct.unpack_from(">II", data, 16)
        return height, width
    at = 2
    while data.startswith(b"\xff\xd8") and at + 9 < len(data):
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # the start of a frame
            height, width = struct.unpack_from(">HH", data, at + 5)
            return height, width
        at += 2 + size
    raise ValueError("a picture is neither PNG nor JPEG")

"""HDF5 episodes of ALOHA and ACT: one file an episode, 14 joints of two arms, cameras, no clock.

Source: T. Zhao et al., ACT (RSS 2023), record_episodes.py and constants.py: joints in rad, grippers as a share of their
travel (0 closed, 1 open), one row each 20 ms. Later recorders add `effort` and JPEG pictures padded to one length.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from robot.log import Channel
from robot.spec import RobotSpec
from transfer.dataset import Finding
from transfer.formats import Recording, hdf5, sources
from transfer.formats.hdf5 import Hdf5Refused
from transfer.formats.layout import nanoseconds
from transfer.formats.robomimic import pictures_of
from transfer.formats.sources import FRAME, Clock, Pictures, Source, flat, refused, size_told, table_of, unmapped
from transfer.screen import finding

FORMAT = "ALOHA HDF5"
PERIOD_S = 0.02
"""DT of constants.py."""
ARM = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
JOINTS = tuple(f"{side}_{joint}" for side in ("left", "right") for joint in ARM)
"""Order of qpos, qvel and action."""
ARRAYS = {"observations/qpos": "rad", "observations/qvel": "rad/s", "observations/effort": "", "action": "rad"}
"""Data set -> unit of the joints, where the recorder's code says it."""
IMAGES = "observations/images"
SHARE = "a share of the gripper's travel, 0 closed and 1 open"


def detect(path: Path) -> bool:
    """An HDF5 file with /observations/qpos."""
    return hdf5.is_hdf5(path) and hdf5.has(path, "observations/qpos")


def read(path: Path, spec: RobotSpec) -> Iterator[Recording]:
    """What is wrong with the file, or a map to confirm."""
    return unmapped(episodes(path), spec)


def episodes(path: Path) -> Iterator[Source]:
    """The one episode of a file."""
    try:
        with hdf5.opened(path) as file:
            yield _episode(file, path)
    except Hdf5Refused as error:
        yield refused(path.stem, FORMAT, error.kind, str(error))


def _episode(file: Any, path: Path) -> Source:
    columns, units, rows = dict[str, np.ndarray](), dict[str, str](), None
    for name, unit in ARRAYS.items():
        if name.endswith("effort") and not hdf5.link_of(file, name):
            continue
        values = hdf5.array(file, name)
        if values.ndim != 2 or (rows is not None and len(values) != rows):
            raise Hdf5Refused("incomplete", f"{name} has the shape {values.shape} beside {rows} rows of qpos.")
        rows = len(values)
        names = JOINTS if values.shape[1] == len(JOINTS) else [str(k) for k in range(values.shape[1])]
        for column, cells in flat(name, values, names).items():
            columns[column] = cells
            units[column] = SHARE if column.endswith("gripper") else unit
    if not rows:
        raise Hdf5Refused("empty", "it has no rows.")
    columns[FRAME] = np.arange(rows)
    clock = Clock(
        column=FRAME,
        scale=PERIOD_S,
        nominal=f"the file has no clock; rows are {PERIOD_S} s apart, as ALOHA's code has it.",
    )
    compressed = bool(file.attrs.get("compress", False))
    return Source(
        name=path.stem,
        format=FORMAT,
        table=table_of(columns),
        units={c: u for c, u in units.items() if u},
        clock=clock,
        cameras=tuple(hdf5.children(file, IMAGES)),
        pictures=_pictures(file, compressed),
        meta={"simulated": str(bool(file.attrs.get("sim", False)))},
    )


def _pictures(file: Any, compressed: bool) -> Callable[[Collection[str]], Pictures]:
    def read(wanted: Collection[str]) -> Pictures:
        names = {c: f"{IMAGES}/{c}" for c in wanted}
        return _jpegs(file, names) if compressed else pictures_of(file, names, PERIOD_S)

    return read


def _jpegs(file: Any, names: dict[str, str]) -> Pictures:
    """Cameras whose pictures are JPEG files (n, bytes) padded with zeros."""
    channels, findings, left = dict[str, Channel](), list[Finding](), sources.MEMORY
    for camera, name in names.items():
        try:
            values = _unpacked(hdf5.array(file, name), name, left)
        except Hdf5Refused as error:
            kind = error.kind if error.kind in ("too_large", "outside") else "damaged_video"
            findings.append(finding(kind, f"camera.{camera}", "file", f"{error} The camera is left out."))
            continue
        left -= values.nbytes
        t_ns = nanoseconds(np.arange(len(values)).astype(np.float64), PERIOD_S)
        channels[camera] = Channel(f"camera.{camera}", "uint8", (), t_ns, values)
    return channels, tuple(findings)


def _unpacked(rows: np.ndarray, name: str, left: int) -> np.ndarray:
    """(n, h, w, 3) of JPEG files that all say that they have the size of the first one."""
    import cv2

    sizes = {_jpeg_size(row.tobytes()) for row in rows} if rows.ndim == 2 else set()
    if len(sizes) != 1 or not (size := sizes.pop()):
        raise Hdf5Refused("damaged_video", f"{name} has no JPEG pictures of one size.")
    if len(rows) * size[0] * size[1] * 3 > left:
        raise Hdf5Refused("too_large", f"with {name} the pictures would take more than {size_told(sources.MEMORY)}.")
    images = np.empty((len(rows), *size, 3), np.uint8)
    for k, row in enumerate(rows):
        picture = cv2.imdecode(np.ascontiguousarray(row, np.uint8), cv2.IMREAD_COLOR)
        if picture is None or picture.shape != images.shape[1:]:
            raise Hdf5Refused("damaged_video", f"{name}: picture {k + 1} of {len(rows)} cannot be decoded.")
        images[k] = picture[:, :, ::-1]
    return images


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Height and width by the header of a JPEG file (ISO/IEC 10918-1, B.2: start of frame), before it is unpacked."""
    place = 2
    while data[:2] == b"\xff\xd8" and place + 9 < len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(data[place + k : place + k + 2], "big") for k in (5, 7))
            return (height, width) if height and width else None
        place += 2 + length
    return None

"""A camera's lens from pictures of a chessboard, and its place from boards whose place is known.

The lens: Zhang's method (Z. Zhang, "A flexible new technique for camera calibration", PAMI 22(11), 2000), as OpenCV
has it, with three radial and two tangential coefficients of distortion. The place: each picture of a board that stands
at a known pose gives one of the camera (perspective-n-point); they are averaged, and their spread is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from robot.config import ConfigError
from robot.drivers.camera import Lens

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]

LEAST = 5
"""Pictures from which a lens can be told."""
FLIP = np.diag([1.0, -1.0, -1.0])
"""OpenCV's camera looks along +z with y downwards, MuJoCo's along -z with y upwards."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """A chessboard: corners between its squares, and how large these are."""

    columns: int = 9
    """Inner corners along its x axis."""
    rows: int = 6
    """Inner corners along its y axis. One of the two is odd and the other even, so that the board has one way up."""
    square_m: float
    """[m]"""

    def __post_init__(self) -> None:
        if min(self.columns, self.rows) < 3 or not self.square_m > 0.0:
            raise ConfigError("board: needs at least 3 x 3 inner corners, and square_m above 0.")
        if (self.columns + self.rows) % 2 == 0:
            raise ConfigError(
                f"board: {self.columns} x {self.rows} inner corners look the same upside down; one number must be even "
                "and the other odd."
            )

    @property
    def points(self) -> npt.NDArray[np.float32]:
        """(columns x rows, 3) corners in the board's frame [m]. At its origin is the corner from which the next square
        towards the middle is black; z points into the board, when x runs to the right and y downwards."""
        grid = np.mgrid[0 : self.columns, 0 : self.rows].T.reshape(-1, 2) * self.square_m
        return np.column_stack([grid, np.zeros(len(grid))]).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Pose:
    """Where something is."""

    position: Array
    """(3,) [m]"""
    rotation: Array
    """(3, 3) its axes, in columns."""


def corners(image: Image, board: Board) -> npt.NDArray[np.float32] | None:
    """(columns x rows, 2) pixels of the board's corners, to a part of a pixel; None where it is not wholly in view."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    found, at = cv2.findChessboardCornersSB(grey, (board.columns, board.rows), None, cv2.CALIB_CB_ACCURACY)
    if not found:
        return None
    grid = np.asarray(at, np.float32).reshape(board.rows, board.columns, 2)
    cells = grid[:-1, :-1] + grid[1:, 1:] + grid[:-1, 1:] + grid[1:, :-1]
    column, row = np.moveaxis(np.rint(cells / 4.0).astype(int), -1, 0)
    light = grey[row.clip(0, grey.shape[0] - 1), column.clip(0, grey.shape[1] - 1)].astype(float)
    sign = (-1.0) ** np.add.outer(np.arange(board.rows - 1), np.arange(board.columns - 1))
    if (light * sign).mean() > (light.mean() * sign).mean():  # the first inner square is white: upside down
        grid = grid[::-1, ::-1]
    return np.ascontiguousarray(grid.reshape(-1, 2))


def lens_of(found: Sequence[npt.NDArray[np.float32]], board: Board, width: int, height: int) -> tuple[Lens, float]:
    """The lens that explains the corners of several pictures, and by how much it is off [pixel, RMS]."""
    if len(found) < LEAST:
        raise ConfigError(
            f"the board is wholly in view in {len(found)} pictures; {LEAST} are needed, from several sides."
        )
    points = [board.points] * len(found)
    corners = [at.reshape(-1, 1, 2) for at in found]
    error, matrix, distortion, _, _ = cv2.calibrateCamera(points, corners, (width, height), None, None)
    lens = Lens(
        width=width, height=height, fx=float(matrix[0, 0]), fy=float(matrix[1, 1]), cx=float(matrix[0, 2]),
        cy=float(matrix[1, 2]), distortion=tuple(float(d) for d in np.ravel(distortion)[:5]),
    )  # fmt: skip
    return lens, float(error)


def place_of(
    found: Sequence[npt.NDArray[np.float32]], boards: Sequence[Pose], board: Board, lens: Lens
) -> tuple[Pose, float, float]:
    """Where the camera is, in the frame of the boards' poses and with MuJoCo's axes.

    Also the spread of the single pictures' answers about it: standard deviations of position [m] and of angle [rad].
    """
    places = [_place(at, pose, board, lens) for at, pose in zip(found, boards, strict=True)]
    position = np.mean([p.position for p in places], axis=0)
    u, _, vt = np.linalg.svd(np.sum([p.rotation for p in places], axis=0))  # the chordal mean of rotations
    rotation = u @ np.diag([1.0, 1.0, float(np.linalg.det(u @ vt))]) @ vt
    apart = [float(np.linalg.norm(p.position - position)) for p in places]
    turned = [float(np.linalg.norm(cv2.Rodrigues(rotation.T @ p.rotation)[0])) for p in places]
    return Pose(position, rotation), _rms(apart), _rms(turned)


def _place(at: npt.NDArray[np.float32], pose: Pose, board: Board, lens: Lens) -> Pose:
    good, turn, shift = cv2.solvePnP(board.points, at, lens.matrix, np.array(lens.distortion))
    if not good:
        raise ConfigError("a picture of the board tells no pose; leave it out.")
    rotation = cv2.Rodrigues(turn)[0]  # board -> camera
    position = -rotation.T @ shift.ravel()
    return Pose(pose.position + pose.rotation @ position, pose.rotation @ rotation.T @ FLIP)


def _rms(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def as_targets(place: Pose, mount: Pose, lens: Lens) -> dict[str, float]:
    """What sim.targets calls it: x, y, z along the mount's axes [m], pitch, yaw, roll about the camera's own [rad], and
    the principal point from the middle, in image widths and heights. `mount` is the camera of the MJCF."""
    x, y, z = mount.rotation.T @ (place.position - mount.position)
    turn = mount.rotation.T @ place.rotation  # Rx(pitch) Ry(yaw) Rz(roll)
    return {
        "x": float(x), "y": float(y), "z": float(z),
        "pitch": float(np.arctan2(-turn[1, 2], turn[2, 2])),
        "yaw": float(np.arcsin(np.clip(turn[0, 2], -1.0, 1.0))),
        "roll": float(np.arctan2(-turn[0, 1], turn[0, 0])),
        "principal_x": lens.cx / lens.width - 0.5, "principal_y": lens.cy / lens.height - 0.5,
    }  # fmt: skip


def fovy_deg(lens: Lens) -> float:
    """Vertical field of view [deg]."""
    return float(np.degrees(2.0 * np.arctan(0.5 * lens.height / lens.fy)))


def pictures(source: Path) -> list[tuple[str, Image]]:
    """Name and picture (RGB): of a folder's files in the order of their names, or of a video's frames, by number."""
    if source.is_dir():
        read: list[tuple[str, Any]] = [(p.name, cv2.imread(str(p))) for p in sorted(source.iterdir()) if p.is_file()]
    elif source.is_file():
        capture, read = cv2.VideoCapture(str(source)), []
        while (got := capture.read())[0]:
            read.append((str(len(read)), got[1]))
        capture.release()
    else:
        raise ConfigError(f"path={source}: there is no such folder or video.")
    found = [(name, np.asarray(cv2.cvtColor(i, cv2.COLOR_BGR2RGB), np.uint8)) for name, i in read if i is not None]
    if not found:
        raise ConfigError(f"path={source}: there is no picture in it.")
    return found

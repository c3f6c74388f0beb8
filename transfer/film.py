"""Motions as an mp4, through the cameras of the model and the renderers of sim/render.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robot import files
from robot.config import ConfigError
from sim.motion import Motion
from sim.render import Camera

CHUNK = 64
"""Frames drawn at once."""


def write_film(path: Path, motions: Sequence[Motion], camera: str | None, width: int, height: int) -> Path:
    """Write the motions one after the other, at the pace of the first; returns `path`.

    ConfigError when the model has no such camera, or OpenCV cannot write the file.
    """
    import cv2

    with files.replacing(path) as temporary:
        scratch = temporary.with_suffix(".mp4")  # OpenCV knows the container by its suffix
        writer = cv2.VideoWriter(
            str(scratch), cv2.VideoWriter.fourcc(*"mp4v"), 1.0 / motions[0].frame_s, (width, height)
        )
        if not writer.isOpened():
            raise ConfigError(f"{path}: OpenCV cannot write mp4 here; use format=html.")
        try:
            for motion in motions:
                _draw(writer, motion, camera, width, height)
        finally:
            writer.release()
        scratch.replace(temporary)
    return path


def _draw(writer: object, motion: Motion, camera: str | None, width: int, height: int) -> None:
    mj = motion.robot.mj
    if camera is None and not mj.ncam:
        raise ConfigError(f"robot '{motion.robot.spec.name}' has no camera in its MJCF; use format=html.")
    eye = Camera(motion.robot, camera or mj.cam(0).name, width, height)
    for first in range(0, len(motion.qpos), CHUNK):
        for image in eye.images(motion.qpos[first : first + CHUNK]):
            writer.write(np.ascontiguousarray(image[:, :, ::-1]))  # type: ignore[attr-defined]

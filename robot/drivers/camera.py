"""Cameras beside a driver: OpenCV captures them in threads of their own, and each picture has its own time stamp.

`video=side:0,wrist:/dev/video2` names a source for each camera of the robot: a number or device (V4L2), a file, which
is played at its own rate, or an address. `lens=FILE` is what `terrafirma calibrate` wrote of the lenses: pictures then
are as through a pinhole, which is how the simulator draws them. The stamp is the machine's monotonic clock when the
frame was there, which is that of all drivers on a bus.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robot import config
from robot.config import ConfigError, nearest
from robot.driver import Driver, DriverError, StopReason
from robot.realtime import step_back
from robot.spec import CameraSpec, RobotSpec
from robot.state import JointCommand, Sample

Image = npt.NDArray[np.uint8]

OPEN_S = 5.0
"""Time in which a camera must give its first picture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lens:
    """What a calibration found of one camera, in pixels of pictures of width x height."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...]
    """k1, k2, p1, p2, k3 of the Brown-Conrady model, as OpenCV has them."""

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """(3, 3) camera matrix."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])


def load_lenses(path: Path) -> dict[str, Lens]:
    """lens.yaml: camera -> Lens."""
    data = config.load_yaml(path)
    if not isinstance(data, Mapping):
        raise ConfigError(f"{path}: has no cameras; `terrafirma calibrate` writes such a file.")
    return {str(name): config.convert(Lens, value, str(path), str(name)) for name, value in data.items()}


class Camera:
    """One camera, read by a thread so that a slow one holds up nothing."""

    def __init__(self, spec: CameraSpec, source: str, lens: Lens | None = None) -> None:
        """DriverError when the source cannot be opened or gives no picture; ConfigError without OpenCV."""
        self.name, self._source = spec.name, source
        self._capture = _opened(spec, source)
        self._lens, self._maps = lens, None if lens is None else _maps(lens)
        self._period_s = 0.0 if source.isdigit() or not Path(source).is_file() else 1.0 / self._rate(spec)
        self._newest: tuple[int, Image] | None = None
        self.problem: str | None = None
        """Why there are no further pictures; None while there are."""
        self._first, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"camera {spec.name}", daemon=True)
        self._thread.start()
        if not self._first.wait(OPEN_S) or self._newest is None:
            self.close()
            raise DriverError(f"camera '{self.name}' ({source}) gives no picture: {self.problem or 'nothing came'}")

    @property
    def newest(self) -> tuple[int, Image]:
        """When the newest picture came in [ns], and it, RGB (height, width, 3); DriverError when no more come."""
        if self.problem is not None:
            raise DriverError(f"camera '{self.name}': {self.problem}")
        assert self._newest is not None
        return self._newest

    def close(self) -> None:
        """End the thread and release the device; safe to call twice."""
        self._over.set()
        self._thread.join(2.0)

    def _rate(self, spec: CameraSpec) -> float:
        import cv2

        return float(self._capture.get(cv2.CAP_PROP_FPS)) or spec.rate_hz

    def _run(self) -> None:
        step_back()
        begin, count = time.monotonic(), 0
        while not self._over.is_set():
            good, frame = self._capture.read()
            t_ns = time.monotonic_ns()
            if not good:
                self.problem = "no further pictures come"
                break
            try:
                self._newest = (t_ns, self._straight(frame))
            except Exception as error:  # OpenCV's own; a thread that died would leave the last picture for ever
                self.problem = str(error).strip() or type(error).__name__
                break
            self._first.set()
            count += 1
            if self._period_s:
                self._over.wait(max(0.0, begin + count * self._period_s - time.monotonic()))
        self._first.set()
        self._capture.release()

    def _straight(self, frame: npt.NDArray[Any]) -> Image:
        """A frame of OpenCV as RGB, its lens's distortion taken out."""
        import cv2

        if self._lens is not None and self._maps is not None:
            if frame.shape[:2] != (self._lens.height, self._lens.width):
                size = f"{frame.shape[1]} x {frame.shape[0]}"
                raise ValueError(f"pictures are {size}; it was calibrated at {self._lens.width} x {self._lens.height}")
            frame = cv2.remap(frame, *self._maps, cv2.INTER_LINEAR)
        return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)


class Seeing:
    """A driver whose samples have pictures: everything else is the driver's own."""

    def __init__(self, driver: Driver, cameras: Mapping[str, Camera]) -> None:
        self._driver, self._cameras = driver, dict(cameras)

    def now_ns(self) -> int:
        """The driver's clock, which must be the machine's."""
        return self._driver.now_ns()

    def wait(self, until_ns: int) -> None:
        """The driver's."""
        self._driver.wait(until_ns)

    def read(self, timeout_s: float) -> Sample:
        """The driver's reading, with the newest picture of each camera; DriverError when a camera has none any more."""
        sample = self._driver.read(timeout_s)
        seen = {name: camera.newest for name, camera in self._cameras.items()}
        return replace(sample, images={**sample.images, **seen})

    def write(self, command: JointCommand) -> JointCommand:
        """The driver's."""
        return self._driver.write(command)

    def stop(self, reason: StopReason) -> None:
        """The driver's."""
        self._driver.stop(reason)

    def close(self) -> None:
        """Release driver and cameras."""
        self._driver.close()
        for camera in self._cameras.values():
            camera.close()


def open_cameras(spec: RobotSpec, video: str, lens: Path | None) -> dict[str, Camera]:
    """The cameras of `video=NAME:SOURCE,…`. ConfigError names what is wrong, DriverError who gives no picture."""
    lenses = {} if lens is None else load_lenses(lens)
    known = {camera.name: camera for camera in spec.cameras}
    opened: dict[str, Camera] = {}
    try:
        for part in video.split(","):
            name, colon, source = part.strip().partition(":")
            if not colon or not source:
                raise ConfigError(f"video={video}: '{part}' is not CAMERA:SOURCE, for instance side:0.")
            if name not in known:
                raise ConfigError(
                    f"video={video}: robot '{spec.name}' has no camera '{name}'. {nearest(name, [*known])}"
                )
            opened[name] = Camera(known[name], source, lenses.get(name))
    except BaseException:
        for camera in opened.values():
            camera.close()
        raise
    return opened


def _opened(spec: CameraSpec, source: str) -> Any:
    try:
        import cv2
    except ImportError as error:
        raise ConfigError("video= needs OpenCV, which is not installed: pip install 'terrafirma[camera]'.") from error
    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    if not capture.isOpened():
        raise DriverError(f"camera '{spec.name}': {source} cannot be opened: check its number, cable and permissions")
    if source.isdigit() or source.startswith("/dev/"):
        capture.set(cv2.CAP_PROP_FPS, spec.rate_hz)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # a queue of old frames is latency
    return capture


def _maps(lens: Lens) -> tuple[Any, Any]:
    """Where each pixel of a picture without distortion comes from."""
    import cv2

    size, matrix = (lens.width, lens.height), lens.matrix
    return cv2.initUndistortRectifyMap(matrix, np.array(lens.distortion), None, matrix, size, cv2.CV_16SC2)

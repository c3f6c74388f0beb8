"""Videos by PyAV: frames at exact times out of an MP4 file, and frames into one at a constant rate.

A file is read as MP4 and nothing else (a playlist that calls itself .mp4 would open other files), and its size is
compared with what was declared before a frame is decoded.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError
from transfer.formats.parquet import short

Images = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float64]

TOLERANCE_S = 1e-4
"""How far a frame may be from the time asked for, as LeRobot has it."""
ENCODERS: dict[str, dict[str, str]] = {
    "libsvtav1": {"preset": "12", "crf": "30", "g": "2"},
    "libx264": {"preset": "veryfast", "crf": "18", "g": "2"},
}
"""Encoder -> its options: every second frame is a key frame, so that any frame is near one. The first is LeRobot's."""
CODECS = {"libsvtav1": "av1", "libx264": "h264"}
AV1_FPS = 240
"""The fastest rate that SVT-AV1 takes."""


class VideoRefused(ValueError):
    """A file is no video, or not the one that was declared, or lacks frames."""


def pyav() -> ModuleType:
    """PyAV; ConfigError says how to install it."""
    try:
        import av
    except ImportError as error:
        raise ConfigError("videos need PyAV: pip install 'terrafirma[lerobot]'.") from error
    av.logging.set_level(av.logging.PANIC)
    return av


def frames_at(path: Path, seconds: Array, height: int, width: int) -> Images:
    """(n, height, width, 3) RGB: the frames of a video at increasing times (n,) [s], each within TOLERANCE_S.

    VideoRefused where the file is no MP4, has another size, breaks off, or has no frame at one of the times.
    """
    av = pyav()
    images = np.empty((len(seconds), height, width, 3), np.uint8)
    limits = {"max_pixels": str(max(height * width, 1 << 16) * 2)}  # codecs pad to whole blocks
    try:
        with path.open("rb") as stream, av.open(stream, format="mp4", options=limits) as container:
            video = next((s for s in container.streams.video if s.codec_context is not None), None)
            if video is None:
                raise VideoRefused("it has no video stream that can be decoded")
            declared = (video.codec_context.height, video.codec_context.width)
            if declared != (height, width):
                raise VideoRefused(f"its frames are {declared[1]} x {declared[0]}, not {width} x {height}")
            video.codec_context.options = limits
            done = _decode(container, video, seconds, images)
    except VideoRefused:
        raise
    except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
        why = getattr(error, "strerror", None) or short(error)
        raise VideoRefused(f"it cannot be decoded as MP4 ({why})") from error
    if done < len(seconds):
        raise VideoRefused(f"it has no frame at {seconds[done]:.4f} s; {done} of {len(seconds)} were found")
    return images


def _decode(container: Any, video: Any, seconds: Array, images: Images) -> int:
    """Fill `images`; how many were found, up to the first that is missing."""
    container.seek(max(int((seconds[0] - TOLERANCE_S) / video.time_base), 0), stream=video, backward=True)
    done = 0
    for frame in container.decode(video):
        if frame.pts is None:
            continue
        t = float(frame.pts * video.time_base)
        if t < seconds[done] - TOLERANCE_S:
            continue
        if t > seconds[done] + TOLERANCE_S:
            break
        if (frame.height, frame.width) != images.shape[1:3]:
            raise VideoRefused(f"frame {done + 1} is {frame.width} x {frame.height}")
        images[done] = frame.to_ndarray(format="rgb24")
        done += 1
        if done == len(seconds):
            break
    return done


class VideoWriter:
    """An MP4 of a constant rate: frame k is at exactly k / fps."""

    def __init__(self, path: Path, height: int, width: int, fps: int, encoder: str) -> None:
        self._file = path.open("wb")
        self._container = pyav().open(self._file, "w", format="mp4")
        self._stream = self._container.add_stream(encoder, rate=fps, options=dict(ENCODERS[encoder]))
        self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, fps)
        self._fps, self._encoder, self.frames = fps, encoder, 0

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()

    def add(self, image: Images) -> None:
        """Append a frame (height, width, 3) RGB."""
        frame = pyav().VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts, frame.time_base = self.frames, Fraction(1, self._fps)
        try:
            self._container.mux(self._stream.encode(frame))
        except pyav().FFmpegError as error:
            raise ConfigError(
                f"{self._encoder} cannot encode {frame.width} x {frame.height} at {self._fps} Hz "
                f"({short(error)}); choose another with lerobot.video=, or lerobot.pictures=image."
            ) from error
        self.frames += 1

    @property
    def n_bytes(self) -> int:
        """What has been written so far."""
        return self._file.tell()

    def close(self) -> None:
        """Write what the encoder still holds, and the index."""
        if not self._file.closed:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._file.close()


def encoder_of(name: str, fps: int) -> str:
    """`auto`: the first of ENCODERS that PyAV has for a rate; ConfigError where it lacks them, or the one named."""
    able = [n for n in ENCODERS if fps <= AV1_FPS or CODECS[n] != "av1"]
    av, wanted = pyav(), able if name == "auto" else [n for n in ENCODERS if CODECS[n] == name]
    for candidate in wanted:
        try:
            av.Codec(candidate, "w")
        except ValueError:
            continue
        return candidate
    raise ConfigError(f"this PyAV has no encoder {' or '.join(wanted)}; install PyAV from its wheels.")

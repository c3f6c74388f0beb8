"""ReplayDriver: a recorded episode as a robot that cannot be moved. The shortest driver, and the example for others.

Its clock starts at the log's first reading and moves in wait(), and in read() up to the timeout, as when a real
robot makes one wait. Commands are accepted and forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from robot import log as logs
from robot.config import ConfigError
from robot.driver import DriverError, EndOfLog, StaleState, StopReason
from robot.log import EpisodeLog, LogError
from robot.spec import RobotSpec
from robot.state import Imu, JointCommand, Joints, Sample


class ReplayDriver:
    """Serves the readings of an EpisodeLog at the times at which they were made."""

    simulated = True

    def __init__(self, log: EpisodeLog, spec: RobotSpec) -> None:
        """LogError when the log was made by another robot."""
        if log.fingerprint != spec.fingerprint():
            raise LogError(
                f"log '{log.name}' is of robot '{log.robot}' ({log.fingerprint}), not of '{spec.name}' "
                f"({spec.fingerprint()}): replay a log of this robot."
            )
        self.spec = spec
        self._samples = list(samples(log, spec))
        if not self._samples:
            raise LogError(f"log '{log.name}' has no reading of the joints.")
        self._next, self._now = 0, self._samples[0].t_ns
        self._closed = False

    @classmethod
    def from_config(cls, spec: RobotSpec, *, log: Path | None = None) -> ReplayDriver:
        """`log` is an MCAP episode."""
        if log is None:
            raise ConfigError("driver=replay needs log=FILE, an episode of this robot.")
        return cls(logs.load(Path(log)), spec)

    def now_ns(self) -> int:
        """The log's time [ns]."""
        return self._now

    def wait(self, until_ns: int) -> None:
        """Move the clock."""
        self._now = max(self._now, until_ns)

    def read(self, timeout_s: float) -> Sample:
        """The newest reading up to now, or the next one if it comes within the timeout."""
        if self._closed:
            raise DriverError("the replay driver is closed; open it again")
        if self._next >= len(self._samples):
            raise EndOfLog("the log has no further readings")
        limit = self._now + round(timeout_s * 1e9)
        if self._samples[self._next].t_ns > limit:
            self._now = limit
            raise StaleState(f"the log's next reading is {self._samples[self._next].t_ns - limit} ns away")
        self._now = max(self._now, self._samples[self._next].t_ns)
        while self._next + 1 < len(self._samples) and self._samples[self._next + 1].t_ns <= self._now:
            self._next += 1
        self._next += 1
        return self._samples[self._next - 1]

    def write(self, command: JointCommand) -> JointCommand:
        """Nothing moves; returns the command in the spec's order."""
        return command.ordered(self.spec.joint_names)

    def stop(self, reason: StopReason) -> None:
        """Nothing moves."""

    def close(self) -> None:
        """No further readings."""
        self._closed = True


def samples(log: EpisodeLog, spec: RobotSpec) -> Iterator[Sample]:
    """Every reading of a log in order; velocity, effort, imu and images are the newest at each position's stamp."""
    names = spec.joint_names
    position = log["joint.position"]
    rows = {
        name: (log[name].ordered(names), np.searchsorted(log[name].t_ns, position.t_ns, side="right") - 1)
        for name in ("joint.velocity", "joint.effort")
        if name in log
    }
    nothing = np.full(len(names), np.nan)

    def newest(name: str, k: int) -> np.ndarray:
        values, row = rows.get(name, (None, None))
        return nothing if values is None or row is None or row[k] < 0 else values[row[k]]

    for k, (t, value) in enumerate(zip(position.t_ns, position.ordered(names), strict=True)):
        joints = Joints(
            names=names,
            t_ns=int(t),
            position=value,
            velocity=newest("joint.velocity", k),
            effort=newest("joint.effort", k),
        )
        yield Sample(t_ns=int(t), joints=joints, imu=_imu(log, int(t)), images=_images(log, spec, int(t)))


def _imu(log: EpisodeLog, t_ns: int) -> Imu | None:
    if "imu.gyro" not in log or "imu.accel" not in log:
        return None
    gyro, accel = log["imu.gyro"], log["imu.accel"]
    i, j = (int(np.searchsorted(c.t_ns, t_ns, side="right")) - 1 for c in (gyro, accel))
    if min(i, j) < 0:
        return None
    orientation = None
    if "imu.orientation" in log:
        k = int(np.searchsorted(log["imu.orientation"].t_ns, t_ns, side="right")) - 1
        orientation = log["imu.orientation"].values[k] if k >= 0 else None
    return Imu(t_ns=int(gyro.t_ns[i]), gyro=gyro.values[i], accel=accel.values[j], orientation=orientation)


def _images(log: EpisodeLog, spec: RobotSpec, t_ns: int) -> dict[str, tuple[int, np.ndarray]]:
    images = {}
    for camera in spec.cameras:
        channel = log.channels.get(f"camera.{camera.name}")
        if channel is not None and (i := int(np.searchsorted(channel.t_ns, t_ns, side="right")) - 1) >= 0:
            images[camera.name] = (int(channel.t_ns[i]), channel.values[i])
    return images

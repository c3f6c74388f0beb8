"""A robot on a wire: motors in another process or thread that speak datagrams, and the driver for them.

    python -m tests.robot.wire run bundle=DIR driver=wire port=N …     the command line, with the driver known to it
    python -m tests.robot.wire motors PORT JOINTS                      motors as a process of their own

A frame is position, velocity, kp, kd, effort of each joint; the answer position, velocity, effort. As with MIT-mode
motors, reading is writing: the motors answer each frame, and keep the last one for ever.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections import deque

import numpy as np

from robot import cli
from robot.driver import DRIVERS, DriverError, StaleState, StopReason
from robot.spec import RobotSpec
from robot.state import JointCommand, Joints, Sample

HOST = "127.0.0.1"
INERTIA = 0.05
"""[kg m²] of each joint."""


class Motors(threading.Thread):
    """Joints without gravity, that obey the newest frame and answer it."""

    def __init__(self, joints: int, port: int = 0, keep: int = 100_000) -> None:
        super().__init__(daemon=True)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((HOST, port))
        self.port = self._socket.getsockname()[1]
        self.frames: deque[tuple[int, np.ndarray]] = deque(maxlen=keep)
        """(monotonic ns, (5, joints)) of every frame that came over the wire."""
        self._q, self._v = np.zeros(joints), np.zeros(joints)

    def run(self) -> None:
        last = time.monotonic_ns()
        frame, joints = np.zeros((5, len(self._q))), len(self._q)
        while True:
            data, sender = self._socket.recvfrom(4096)
            now = time.monotonic_ns()
            for _ in range(min(max((now - last) // 1_000_000, 1), 200)):
                position, velocity, kp, kd, effort = frame
                torque = kp * (position - self._q) + kd * (velocity - self._v) + effort
                self._v += 1e-3 * (torque - 0.02 * self._v) / INERTIA
                self._q += 1e-3 * self._v
            last, frame = now, np.frombuffer(data, np.float64).reshape(5, joints)
            self.frames.append((now, frame))
            self._socket.sendto(np.concatenate([self._q, self._v, frame[4]]).tobytes(), sender)


class WireDriver:
    """robot.driver.Driver of Motors, on the machine's monotonic clock."""

    def __init__(self, spec: RobotSpec, port: int) -> None:
        self.spec, self._address, self._n = spec, (HOST, port), len(spec.joints)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((HOST, 0))
        self._asked = False

    @classmethod
    def from_config(cls, spec: RobotSpec, *, port: int) -> WireDriver:
        return cls(spec, port)

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def wait(self, until_ns: int) -> None:
        while (rest := until_ns - time.monotonic_ns()) > 0:
            time.sleep(rest * 1e-9)

    def read(self, timeout_s: float) -> Sample:
        if not self._asked:
            self._put(JointCommand.of_effort(self.spec.joint_names, 0, np.zeros(self._n)))
        self._asked = False
        self._socket.settimeout(timeout_s)
        try:
            data = self._socket.recv(4096)
        except TimeoutError as error:
            raise StaleState("the motors do not answer") from error
        now = time.monotonic_ns()
        position, velocity, effort = np.frombuffer(data, np.float64).reshape(3, self._n)
        names = self.spec.joint_names
        return Sample(
            t_ns=now, joints=Joints(names=names, t_ns=now, position=position, velocity=velocity, effort=effort)
        )

    def write(self, command: JointCommand) -> JointCommand:
        self._put(command.ordered(self.spec.joint_names))
        return command

    def _put(self, c: JointCommand) -> None:
        try:
            self._socket.sendto(np.stack([c.position, c.velocity, c.kp, c.kd, c.effort]).tobytes(), self._address)
        except OSError as error:
            raise DriverError(f"the wire is gone ({error.strerror})") from error
        self._asked = True

    def stop(self, reason: StopReason) -> None:
        if self._socket.fileno() >= 0:
            self._put(JointCommand.safe(self.spec, 0, np.zeros(self._n)))

    def close(self) -> None:
        self._socket.close()


def is_safe(frame: np.ndarray) -> bool:
    """Whether a frame is the safe action of torque motors: kd 1, all else 0."""
    _, _, kp, kd, effort = frame
    return bool((kp == 0).all() and (kd == 1.0).all() and (effort == 0).all())


def children(pid: int) -> list[int]:
    """Processes that another has started."""
    with open(f"/proc/{pid}/task/{pid}/children") as stream:  # noqa: PTH123
        return [int(word) for word in stream.read().split()]


def main(words: list[str]) -> int:
    if words[0] == "motors":
        motors = Motors(int(words[2]), int(words[1]), keep=10)
        motors.start()
        motors.join()
    DRIVERS["wire"] = "tests.robot.wire:WireDriver"
    return cli.main(words)


if __name__ == "__main__":
    sys.stdout.flush()
    os._exit(main(sys.argv[1:])) if sys.argv[1] == "motors" else sys.exit(main(sys.argv[1:]))

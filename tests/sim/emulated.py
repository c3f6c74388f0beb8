"""Emulated motors in a thread of the test, on a real port: quick to start, and open to look into."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from robot.driver import Driver, StaleState, open_driver
from robot.spec import RobotSpec, load_spec
from robot.state import JointCommand, Sample
from sim.emulators.build import EmulatorOptions, make_server
from sim.emulators.client import Emulator, tell
from sim.emulators.motors import Body

ROBOTS = {"can": "double_pendulum_c1", "feetech": "so101", "dynamixel": "servo_bench"}
MOTORS = {"can": "mit", "feetech": "feetech", "dynamixel": "dynamixel"}
START = {"can": (0.0, 0.0), "feetech": (0.0, -0.337, 0.839, 1.402, 0.0, 0.5), "dynamixel": (0.0,)}
"""Where each robot stays when its motors are free [rad]; the arm lies on the table."""
PATIENCE_S = 2.0
"""On a machine that is busy, answers take long; none of these tests is about how long."""


def busy() -> bool:
    """Whether other processes hold this machine, so that no bus keeps its times."""
    return os.getloadavg()[0] > (os.cpu_count() or 1)


class Bench:
    """A driver's emulated motors."""

    def __init__(self, kind: str, port: Path, body: Body) -> None:
        self.kind, self.port, self.body = kind, port, body
        self.spec: RobotSpec = load_spec(ROBOTS[kind])
        self.names = self.spec.joint_names

    def open(self, **options: Any) -> Driver:
        """The driver of this bench; it waits patiently for its motors."""
        if self.kind == "can":
            options = {"interface": "slcan", "channel": str(self.port)} | options
        else:
            options = {"port": str(self.port)} | options
        if self.kind == "dynamixel":
            options = {"watchdog_s": 2.5} | options
        return open_driver(self.kind, self.spec, **options)

    @property
    def emulator(self) -> Emulator:
        """As those see it who have it in another process."""
        return Emulator(self.port)

    def tell(self, words: str) -> None:
        """Give the emulator an order."""
        assert tell(self.port, words, 60.0) == "ok"

    def fault(self, words: str) -> None:
        self.tell(f"fault {words}")

    def command(self, position: np.ndarray, share: float = 1.0) -> JointCommand:
        """A position command with the servos' own gains, or soft ones for torque motors."""
        n = len(self.names)
        kp, kd = np.zeros(n), np.zeros(n)
        kp[self.spec.driven] = [share * (a.kp or 8.0) for a in self.spec.actuators]
        kd[self.spec.driven] = [a.kd or 0.3 for a in self.spec.actuators]
        zero = np.zeros(n)
        return JointCommand(names=self.names, t_ns=0, position=position, velocity=zero, effort=zero, kp=kp, kd=kd)


@contextlib.contextmanager
def bench(kind: str, **options: Any) -> Iterator[Bench]:
    """Motors of a kind (`can`, `feetech`, `dynamixel`) on a port, until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        port = Path(folder) / "port"
        made = EmulatorOptions(
            **{"port": port, "robot": ROBOTS[kind], "motors": MOTORS[kind], "start": START[kind], **options}
        )
        server, body = make_server(made)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        try:
            yield Bench(kind, port, body)
        finally:
            server.obey("quit")
            thread.join(20.0)


def read(driver: Driver, tries: int = 20) -> Sample:
    """A reading, however long it takes."""
    for left in reversed(range(tries)):
        try:
            return driver.read(PATIENCE_S)
        except StaleState:
            if not left:
                raise
    raise AssertionError


def until(what: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether something becomes true in time."""
    import time

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.005)
    return False


def ticks(driver: Driver, seconds: float, period_s: float = 0.02) -> Iterator[int]:
    """Control periods of the driver's clock."""
    begin = driver.now_ns()
    for k in itertools.count():
        driver.wait(begin + round(k * period_s * 1e9))
        if driver.now_ns() - begin > seconds * 1e9:
            return
        yield k

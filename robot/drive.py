"""What the stages that move a robot have in common: their keys, the driver, signals, the recorder, and the loop."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from robot.config import ConfigError
from robot.driver import Driver, driver_options, on_simulated_clock, open_driver
from robot.drivers.camera import Seeing, open_cameras
from robot.loop import Commander, ControlLoop, LoopConfig, LoopReport
from robot.notify import Notifier
from robot.recorder import Recorder
from robot.result import Run
from robot.safety import Safety

QUICK_S = 2.0
SWITCH_S = 1e-4
"""How long a thread holds the interpreter while the loop waits for it [s]."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a stage ends with."""

    result: Path
    """Its result.json."""
    exit_code: int
    summary: str


@dataclass(frozen=True, kw_only=True)
class Options:
    """Keys of every stage."""

    out: Path | None = None
    seed: int = 0
    quick: bool = False

    def start(self, stage: str, more: Mapping[str, Any] | None = None) -> Run:
        """Open the stage's run directory."""
        settings = asdict(self) | dict(more or {})
        return Run(stage, self.out, seed=self.seed, budget="quick" if self.quick else "full", settings=settings)


@dataclass(frozen=True, kw_only=True)
class Moving(Options):
    """Keys of the stages that move a robot."""

    driver: str
    seconds: float
    video: str = ""
    """Sources of the robot's cameras, as robot/drivers/camera.py has them: `side:0,wrist:/dev/video2`."""
    lens: Path | None = None
    """lens.yaml of `terrafirma calibrate`."""

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ConfigError(f"seconds={self.seconds}: it must be above 0.")

    @property
    def budget_s(self) -> float:
        return min(self.seconds, QUICK_S) if self.quick else self.seconds

    def open(self, commander: Commander, robot: Path | None, extra: Mapping[str, Any]) -> Driver:
        """The driver, with the common seed, the robot's file and the cameras in use where it takes them."""
        known, spec = driver_options(self.driver), commander.spec
        given: dict[str, Any] = {"seed": self.seed} if "seed" in known else {}
        if commander.cameras and "cameras" in known:
            given["cameras"] = commander.cameras
        if robot is not None and "robot" in known:
            given["robot"] = robot
        if self.video and on_simulated_clock(self.driver):
            raise ConfigError(f"video={self.video}: driver '{self.driver}' has a clock of its own, and cameras do not.")
        driver = open_driver(self.driver, spec, **{**given, **extra})
        if not self.video:
            return driver
        try:
            return Seeing(driver, open_cameras(spec, self.video, self.lens))
        except BaseException:
            driver.close()
            raise


@dataclass(frozen=True)
class Job:
    """What is to be done with a driver."""

    commander: Commander
    safety: Safety
    robot: Path | None
    """File of the robot, for drivers that simulate it."""
    extra: Mapping[str, str]
    """Options of the driver."""
    meta: Mapping[str, str] = field(default_factory=dict)
    """What the log says of itself."""
    config: LoopConfig = field(default_factory=LoopConfig)
    armed: Callable[[], bool] | None = None
    check: Callable[[], None] | None = None
    """Called once a tick; raises CommanderLost when what decides is gone."""


def drive(options: Moving, job: Job, path: Path, name: str) -> LoopReport:
    """Open the driver, and run the loop on it with a recorder; the log is written to `path`, as the episode `name`."""
    commander, notifier = job.commander, Notifier()
    with closing(options.open(commander, job.robot, job.extra)) as driver:
        shadow = str(job.config.shadow).lower()
        meta = {**job.meta, "driver": options.driver, "shadow": shadow, "seed": str(options.seed)}
        recorder = Recorder(path, name, commander.spec, meta)

        def alive() -> None:
            notifier.alive()
            if job.check is not None:
                job.check()

        loop = ControlLoop(commander, driver, job.safety, recorder, job.config, job.armed, alive, notifier.ending)
        notifier.say("READY=1")
        with stopped_by_signals(loop), quick_switches():
            return loop.run(options.budget_s)


@contextmanager
def quick_switches() -> Iterator[None]:
    """Let no other thread hold the interpreter for long: Python's own 5 ms are ticks lost to the recorder's thread."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def stopped_by_signals(loop: ControlLoop) -> Iterator[None]:
    """SIGINT and SIGTERM end the run after the present tick, so that no frame is left half written.

    A second one interrupts what hangs, but never the safe action. In another thread than the main one the signals are
    left as they are.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught = (signal.SIGINT, signal.SIGTERM)

    asked = False

    def handle(number: int, _: Any) -> None:
        nonlocal asked
        if asked and not loop.stopping:
            loop.stopping = True  # a third one must not keep the safe action from beginning
            raise KeyboardInterrupt
        asked = True
        loop.ask_to_stop(signal.Signals(number).name)

    before = {s: signal.signal(s, handle) for s in caught}
    try:
        yield
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


def faults(report: LoopReport) -> list[dict[str, Any]]:
    """The faults as result.json lists them."""
    return [{"t_s": fault.t_ns * 1e-9, "kind": fault.kind, "reason": fault.reason} for fault in report.faults]


def reasons(report: LoopReport) -> list[str]:
    """The faults in sentences."""
    return [f"fault at {fault.t_ns * 1e-9:.3f} s: {fault.reason}" for fault in report.faults]


def exit_code(report: LoopReport) -> int:
    """5 after a fault."""
    return 5 if report.faults else 0

"""ControlLoop: wait, read, encode, infer, guard, write, log, once a period, on any Driver.

    idle ──first reading──► align ──ramp over──► run ──time up, user, end of log──► damp
                              └───────────── fault (latched) ◄──────────────┘

Deadlines are absolute and kept through the driver's clock alone, so a simulated driver runs this very loop,
deterministically. stop() of the driver is called whatever happens. In `align` the policy runs, and its command is
blended in from the measured pose and no torque, so that the first tick never jumps.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError
from robot.driver import Driver, DriverError, EndOfLog, StaleState, StopReason
from robot.log import EpisodeLog
from robot.recorder import Sink, write_command, write_sample
from robot.safety import Fault, Safety
from robot.spec import RobotSpec
from robot.state import JointCommand, Joints, Sample

State = Literal["idle", "align", "run", "damp", "fault"]


class Commander(Protocol):
    """What decides: a Controller, or an excitation that ignores what it reads."""

    spec: RobotSpec
    period_ns: int
    observation: npt.NDArray[np.float32] | None
    """(D,) what act() saw last; None where there is no network."""
    action: npt.NDArray[np.float32] | None
    """(A,) what the network answered last."""

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras whose images it needs."""
        ...

    def reset(self) -> None:
        """Begin an episode."""
        ...

    def act(self, sample: Sample) -> JointCommand:
        """One control step."""
        ...


class EpisodeRecorder(Sink, Protocol):
    """A Sink that ends as an EpisodeLog."""

    def close(self) -> EpisodeLog:
        """End the recording."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """How the loop begins and what it is allowed to do."""

    ramp_s: float = 0.05
    """Time over which the command is blended in [s]."""
    shadow: bool = False
    """Only watch: compute and log the policy's actions, never write a command."""

    def __post_init__(self) -> None:
        if self.ramp_s < 0:
            raise ConfigError(f"ramp_s is {self.ramp_s} s; it must be at least 0.")


@dataclass(frozen=True, slots=True)
class LoopReport:
    """What came of a run."""

    ticks: int
    """Control steps taken, those without a reading included."""
    missed_deadlines: int
    stale: int
    """Ticks in which no new reading came."""
    tick_us: dict[str, float]
    """p50, p99 and max of one tick's computing: encode, infer, guard [µs]."""
    faults: list[Fault]
    state: State
    reason: StopReason
    log: EpisodeLog | None


@dataclass
class ControlLoop:
    """One commander on one driver. Made for one run: a latched fault needs a person, and a new loop."""

    commander: Commander
    driver: Driver
    safety: Safety
    recorder: EpisodeRecorder | None = None
    config: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        self.state: State = "idle"
        self._ticks = self._missed = self._stale = 0
        self._tick_ns: list[int] = []
        self._seen: dict[str, int] = {}
        self._ramp = round(self.config.ramp_s * 1e9 / self.commander.period_ns)
        self._acted = 0

    def run(self, seconds: float) -> LoopReport:
        """Run for at most `seconds` of the driver's time; ends early on a fault, Ctrl-C or the end of a log."""
        reason: StopReason = "error"
        try:
            reason = self._run(round(seconds * 1e9))
        except KeyboardInterrupt:
            reason = "user"
        finally:
            log = self._finish(reason)
        return LoopReport(
            ticks=self._ticks,
            missed_deadlines=self._missed,
            stale=self._stale,
            tick_us=self._percentiles(),
            faults=list(self.safety.faults),
            state=self.state,
            reason=reason,
            log=log,
        )

    def _run(self, duration_ns: int) -> StopReason:
        period = self.commander.period_ns
        self.commander.reset()
        begin = self.driver.now_ns() + period
        self.safety.reset(begin)
        tick = 0
        try:
            while tick * period < duration_ns and not self.safety.tripped:
                self.driver.wait(begin + tick * period)
                self._tick()
                self._ticks += 1
                tick += 1
                late = self.driver.now_ns() - (begin + tick * period)
                if late > 0:
                    tick += late // period  # deadlines that passed whole are skipped, not caught up
                    self._missed += 1 + late // period
        except EndOfLog:
            return "done"
        except DriverError as error:
            self.safety.trip(self.driver.now_ns(), "driver", str(error))
        except OSError as error:
            self.safety.trip(self.driver.now_ns(), "recorder", f"the log cannot be written ({error.strerror})")
        return "fault" if self.safety.tripped else "done"

    def _tick(self) -> None:
        try:
            sample = self.driver.read(self.commander.period_ns * 0.5e-9)
            joints = self._joints(sample)
            if self.recorder is not None:
                write_sample(self.recorder, sample, self._seen)
            begin = time.perf_counter_ns()
            command = self._decide(sample, joints)
            self._tick_ns.append(time.perf_counter_ns() - begin)
        except StaleState as error:
            self._stale += 1
            if not self.safety.silent(self.driver.now_ns()):
                self._event(f"stale: {error}")  # the actuators keep the last command until the watchdog trips
            return
        if command is not None and not self.config.shadow:
            t_ns = self.driver.now_ns()
            sent = self.driver.write(command)
            if self.recorder is not None:
                write_command(self.recorder, sent, t_ns)
        if self.recorder is not None and self.commander.action is not None:
            # under the stamp of the reading that it answers, so that a replay can pair the two
            names = tuple(f"{i}" for i in range(len(self.commander.action)))
            self.recorder.row("action", names, joints.t_ns, self.commander.action)
        for warning in self.safety.warnings:
            self._event(warning)
        self.safety.warnings.clear()

    def _joints(self, sample: Sample) -> Joints:
        try:
            return sample.joints.ordered(self.commander.spec.joint_names)
        except KeyError as error:
            raise DriverError(str(error.args[0])) from error

    def _decide(self, sample: Sample, joints: Joints) -> JointCommand | None:
        """The command that may be sent for this reading; None when there is a fault."""
        now = self.driver.now_ns()
        if not self.safety.accept(joints, now):
            return None
        command = self.commander.act(sample)
        if not self.safety.familiar(self.commander.observation, now):
            return None
        self._acted += 1
        if self._acted <= self._ramp:
            self._enter("align")
            command = blend(command, joints, self._acted / (self._ramp + 1))
        else:
            self._enter("run")
        return self.safety.guard(command, joints, now)

    def _enter(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self._event(f"state: {state}")

    def _event(self, text: str) -> None:
        if self.recorder is not None:
            self.recorder.row("event", (), self.driver.now_ns(), text)

    def _finish(self, reason: StopReason) -> EpisodeLog | None:
        """Stop the driver first, then write down why and close the recording."""
        try:
            self.driver.stop(reason)
        except DriverError as error:
            self.safety.trip(self.driver.now_ns(), "driver", f"stop failed: {error}")
        self.state = "fault" if self.safety.tripped or reason == "error" else "damp"
        if self.recorder is None:
            return None
        try:
            for fault in self.safety.faults:
                self._event(f"fault: {fault.kind}: {fault.reason}")
            self._event(f"state: {self.state} ({reason})")
            return self.recorder.close()
        except OSError as error:
            self.safety.trip(self.driver.now_ns(), "recorder", f"the log cannot be written ({error.strerror})")
            return None

    def _percentiles(self) -> dict[str, float]:
        us = np.array(self._tick_ns or [0]) * 1e-3
        return {"p50": float(np.percentile(us, 50)), "p99": float(np.percentile(us, 99)), "max": float(us.max())}


def blend(command: JointCommand, joints: Joints, share: float) -> JointCommand:
    """Between no torque at the measured pose (share 0) and `command` (share 1)."""
    position = joints.position + share * (command.position - joints.position)
    return replace(command, position=position, velocity=share * command.velocity, effort=share * command.effort)

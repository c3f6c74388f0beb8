"""ControlLoop: wait, read, encode, infer, guard, write, log, once a period, on any Driver.

    idle ─first reading─► damp ─armed─► align ─at the default pose─► run ─time up, user, end of log─► damp or hold
                            └──────────────── fault (latched) ◄───────┘

Deadlines are absolute and kept through the driver's clock alone, so a simulated driver runs this very loop,
deterministically. Whatever happens, the driver's stop() ends a run in the actuators' safe action; in shadow mode, where
another controller drives, nothing is ever sent. Each change of state is logged with its reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from robot.align import AlignConfig, Alignment
from robot.comparison import Comparison
from robot.config import ConfigError
from robot.driver import Driver, DriverError, EndOfLog, StaleState, StopReason
from robot.log import EpisodeLog, LogError
from robot.recorder import Sink, write_command, write_sample
from robot.safety import Fault, Safety
from robot.spec import RobotSpec
from robot.state import JointCommand, Joints, Sample
from robot.timing import Stopwatch

State = Literal["idle", "damp", "align", "run", "hold", "fault"]


LEAST_PERIODS = 1.5
"""Of the control period that a robot's watchdog must bear: else it barks at the clock."""


class CommanderLost(RuntimeError):
    """What decides is gone, a killed process for instance; the run ends in the safe action."""


class Commander(Protocol):
    """What decides: a Controller, or an excitation that ignores what it reads."""

    spec: RobotSpec
    period_ns: int

    @property
    def action(self) -> npt.NDArray[np.float32] | None:
        """(A,) what the network answered last; None where there is none."""
        ...

    @property
    def unfamiliar(self) -> str | None:
        """Why what act() saw is not what training saw; None while it is, or nobody can tell."""
        ...

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras whose images it needs."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """Signals that it needs beside the joints': `imu.gyro`, `imu.accel`, `imu.orientation`."""
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

    damp_s: float = 0.0
    """Time in the safe action before anything moves [s]; a dead-man switch that is not held prolongs it."""
    align: AlignConfig | None = None
    """How joints with position gains are brought to the default pose first; None leaves them where they are."""
    ramp_s: float = 0.05
    """Time over which the policy's command is blended in [s]."""
    shadow: bool = False
    """Only watch: compute, log and compare the policy's commands, never send one."""

    def __post_init__(self) -> None:
        for name in ("damp_s", "ramp_s"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)} s; it must be at least 0.")


@dataclass(frozen=True, slots=True)
class LoopReport:
    """What came of a run."""

    ticks: int
    """Control steps taken in state `run`, those without a reading included."""
    missed_deadlines: int
    longest_miss: int
    """The most deadlines that were missed one after the other."""
    stale: int
    """Ticks in which no new reading came."""
    tick_us: dict[str, float]
    """p50, p99 and max of one tick's computing: encode, infer, guard [µs]."""
    faults: list[Fault]
    state: State
    reason: StopReason
    log: EpisodeLog | None
    shadow: dict[str, Any] | None = None
    """How far the policy's commands were from those of the controller that drove."""


@dataclass
class ControlLoop:
    """One commander on one driver. Made for one run: a latched fault needs a person, and a new loop."""

    commander: Commander
    driver: Driver
    safety: Safety
    recorder: EpisodeRecorder | None = None
    config: LoopConfig = field(default_factory=LoopConfig)
    armed: Callable[[], bool] | None = None
    """A dead-man switch: nothing moves while it says no, and the run ends when it stops saying yes."""
    alive: Callable[[], None] | None = None
    """Called once a tick, for whoever watches this process."""
    ending: Callable[[], None] | None = None
    """Called once, when the ticks are over and the safe action, which may take seconds, begins."""

    def __post_init__(self) -> None:
        period_s, watchdog_s = self.commander.period_ns * 1e-9, self.commander.spec.watchdog_s
        if watchdog_s < LEAST_PERIODS * period_s:
            raise ConfigError(
                f"a control period of {period_s:g} s on a robot whose watchdog_s is {watchdog_s:g}: that must be at "
                f"least {LEAST_PERIODS:g} periods."
            )
        self.state: State = "idle"
        self._spec, self._names = self.commander.spec, self.commander.spec.joint_names
        self._needs = self.commander.needs
        self._ticks = self._stale = 0
        self._watch = Stopwatch()
        self._seen: dict[str, int] = {}
        self._ramp = round(self.config.ramp_s * 1e9 / self.commander.period_ns)
        self._acted = 0
        self._alignment: Alignment | None = None
        self._rest, self._damp_until = self._spec.default_pose, 0
        self._answered = False
        """Whether the commander has answered the present reading."""
        self._asked: str | None = None
        self.stopping = False
        """Whether the safe action has begun, which nothing may interrupt."""
        self._comparison = Comparison(self._spec) if self.config.shadow else None

    def ask_to_stop(self, why: str) -> None:
        """End the run after the present tick; safe to call from a signal handler."""
        self._asked = self._asked or why

    def run(self, seconds: float) -> LoopReport:
        """Run the policy for at most `seconds` of the driver's time; ends early on a fault, a stop, or a log's end."""
        reason: StopReason = "error"
        try:
            reason = self._run(round(seconds * 1e9))
        except KeyboardInterrupt:
            reason = "user"
        finally:
            log = self._finish(reason)
        if reason == "done" and self._asked is not None:  # while it was being stopped
            reason = "user"
        return LoopReport(
            ticks=self._ticks,
            missed_deadlines=self._watch.missed,
            longest_miss=self._watch.longest_miss,
            stale=self._stale,
            tick_us=self._watch.percentiles(),
            faults=list(self.safety.faults),
            state=self.state,
            reason=reason,
            log=log,
            shadow=None if self._comparison is None else self._comparison.result(),
        )

    def _run(self, duration_ns: int) -> StopReason:
        period, driver = self.commander.period_ns, self.driver
        self.commander.reset()
        begin = driver.now_ns() + period
        self.safety.reset(begin)
        tick, end = 0, None
        try:
            while (end is None or tick < end) and not self.safety.faults and self._asked is None:
                driver.wait(begin + tick * period)
                if self.alive is not None:
                    self.alive()
                self._tick()
                if self.state == "run":
                    self._ticks += 1
                    end = tick - (-duration_ns // period) if end is None else end
                tick = self._watch.next_deadline(tick, driver.now_ns() - begin, period)
        except EndOfLog:
            return "done"
        except CommanderLost as error:
            self.safety.trip(driver.now_ns(), "policy", str(error))
        except DriverError as error:
            self.safety.trip(driver.now_ns(), "driver", str(error))
        except OSError as error:
            self.safety.trip(driver.now_ns(), "recorder", f"the log cannot be written ({error.strerror})")
        return "fault" if self.safety.faults else "done" if self._asked is None else "user"

    def _tick(self) -> None:
        self._answered = False
        try:
            sample = self.driver.read(self.commander.period_ns * 0.5e-9)
            joints = self._joints(sample)
            if self.recorder is not None:
                write_sample(self.recorder, sample, self._seen)
            self._watch.start()
            command = self._decide(sample, joints)
            self._watch.stop()
        except StaleState as error:
            self._stale += 1
            if not self.safety.silent(self.driver.now_ns(), str(error)):
                self._event(f"stale: {error}")  # the actuators keep the last command until the watchdog trips
            return
        if command is not None:
            self._send(command)
        if self.recorder is not None and self._answered and (action := self.commander.action) is not None:
            # under the stamp of the reading that it answers, so that a replay can pair the two
            self.recorder.row("action", tuple(f"{i}" for i in range(len(action))), joints.t_ns, action)
        for warning in self.safety.warnings:
            self._event(warning)
        self.safety.warnings.clear()

    def _send(self, command: JointCommand) -> None:
        t_ns = self.driver.now_ns()
        if self._comparison is not None:
            self._comparison.wished(command)
            if self.recorder is not None:
                self.recorder.row("shadow.effort", command.names, t_ns, command.effort)
            return
        sent = self.driver.write(command)
        self.safety.told(self.driver.now_ns())  # to give motors torque takes longer than a tick
        if self.recorder is not None:
            write_command(self.recorder, sent, t_ns)

    def _joints(self, sample: Sample) -> Joints:
        try:
            return sample.joints.ordered(self._names)
        except KeyError as error:
            raise DriverError(str(error.args[0])) from error

    def _decide(self, sample: Sample, joints: Joints) -> JointCommand | None:
        """The command that may be sent for this reading; None when there is a fault."""
        now, safety = self.driver.now_ns(), self.safety
        verdict = safety.accept(joints, now)
        if verdict == "repeated":
            raise StaleState("the reading bears the stamp of the one before")
        if self.state in ("align", "run") and not self.config.shadow and not safety.punctual(now):
            return None
        if verdict == "fault" or (sample.health is not None and not safety.healthy(sample.health, now)):
            return None
        if self._needs and (missing := lacking(sample, self._needs)) is not None:
            raise StaleState(f"the driver gives no {missing}, which the policy needs")
        if self._comparison is not None:
            self._comparison.saw(sample, joints)
        if self.state != "run" or self.armed is not None:
            self._advance(joints, now)
        if self.state == "run":
            command = self._act(sample, joints, now)
        elif self.state == "align" and self._alignment is not None:
            command = self._alignment.command(now)
        else:
            command = JointCommand.safe(self._spec, now, self._rest)
        return None if command is None else safety.guard(command, joints, now)

    def _act(self, sample: Sample, joints: Joints, now: int) -> JointCommand | None:
        """The policy's command, blended in from the measured pose; None when what it sees is to end the run."""
        commander = self.commander
        if commander.cameras and (blind := self.safety.seen(sample, commander.cameras, now)) is not None:
            raise StaleState(blind)
        command = commander.act(sample)
        self._answered = True
        if not self.safety.familiar(commander.unfamiliar, now):
            return None
        if self._acted < self._ramp:
            self._acted += 1
            command = blend(command, joints, self._acted / (self._ramp + 1))
        return command

    def _advance(self, joints: Joints, now: int) -> None:
        """Change state where its time has come; in damp with nothing to wait for, straight on to run."""
        held = self.armed is None or self.armed()
        if self.state == "idle":
            if self.config.shadow:
                self._enter("run", "another controller drives")
                return
            self._rest, self._damp_until = joints.position.copy(), now + round(self.config.damp_s * 1e9)
            self._enter("damp", "the first reading is sound")
        if self.state == "damp" and held and now >= self._damp_until:
            self._alignment = Alignment(self._spec, self.config.align, joints, now)
            self._enter("align", self._alignment.why)
        elif self.state in ("align", "run") and not held:
            self.ask_to_stop("the dead-man switch was released")
        if self.state == "align" and self._alignment is not None and self._alignment.over(joints, now):
            self.commander.reset()
            self._enter("run", "time for the policy")

    def _enter(self, state: State, why: str) -> None:
        self.state = state
        self._event(f"state: {state} ({why})")

    def _event(self, text: str) -> None:
        if self.recorder is not None:
            self.recorder.row("event", (), self.driver.now_ns(), text)

    def _finish(self, reason: StopReason) -> EpisodeLog | None:
        """Stop the driver first, then write down why and close the recording."""
        self.stopping = True
        if self.ending is not None:
            self.ending()
        if not self.config.shadow:
            self._stop(reason)
        holds = bool(self._spec.actuators) and all(a.safe_action == "hold" for a in self._spec.actuators)
        rest: State = "hold" if holds else "damp"
        self.state = "fault" if self.safety.tripped or reason == "error" else rest
        if self.recorder is None:
            return None
        try:
            for fault in self.safety.faults:
                self._event(f"fault: {fault.kind}: {fault.reason}")
            self._event(f"state: {self.state} ({self._asked if reason == 'user' and self._asked else reason})")
            self.stopping = False  # what hangs on the way to the disk may be broken off
            return self.recorder.close()
        except KeyboardInterrupt:  # what was written is on the disk, and the robot is at rest
            self.stopping = False
            return None
        except (OSError, LogError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            self.safety.trip(self.driver.now_ns(), "recorder", f"the log cannot be written ({why})")
            self.state = "fault"
            return None

    def _stop(self, reason: StopReason) -> None:
        """The safe action, asked for a second time where the first failed or somebody was impatient."""
        failed = False
        for _ in range(3):
            try:
                return self.driver.stop(reason)
            except KeyboardInterrupt:
                continue
            except (DriverError, OSError) as error:
                if failed:
                    return self.safety.trip(self.driver.now_ns(), "driver", f"stop failed: {error}")
                failed = True


def lacking(sample: Sample, needs: tuple[str, ...]) -> str | None:
    """The first of these signals of an IMU that a reading does not have."""
    imu = sample.imu
    return next((n for n in needs if imu is None or getattr(imu, n.removeprefix("imu.")) is None), None)


def blend(command: JointCommand, joints: Joints, share: float) -> JointCommand:
    """Between no torque at the measured pose (share 0) and `command` (share 1)."""
    position = joints.position + share * (command.position - joints.position)
    return replace(command, position=position, velocity=share * command.velocity, effort=share * command.effort)

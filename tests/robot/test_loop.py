"""ControlLoop on a robot that misbehaves: deadlines, ramp-in, faults, shadow mode, and that it always stops."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from robot import bundle
from robot.config import ConfigError
from robot.drive import stopped_by_signals
from robot.driver import StopReason
from robot.loop import ControlLoop, LoopConfig, LoopReport
from robot.recorder import MemoryRecorder
from robot.safety import Safety
from robot.spec import RobotSpec
from robot.state import JointCommand, Sample
from tests.robot.fakes import FakeDriver, make_bundle


class Constant:
    """Asks for the same torques for ever."""

    cameras: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    unfamiliar: str | None = None

    def __init__(self, spec: RobotSpec, *effort: float) -> None:
        self.spec, self.period_ns = spec, round(spec.control_period_s * 1e9)
        self.action: npt.NDArray[np.float32] | None = np.array(effort, np.float32)
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def act(self, sample: Sample) -> JointCommand:
        return JointCommand.of_effort(self.spec.joint_names, sample.t_ns, np.array(self.action, np.float64))


def go(
    spec: RobotSpec,
    trouble: Callable[[int], str] = lambda tick: "",
    seconds: float = 0.5,
    effort: tuple[float, float] = (0.1, 0.05),
    **config: object,
) -> tuple[LoopReport, FakeDriver]:
    driver = FakeDriver(spec, trouble)
    loop = ControlLoop(
        Constant(spec, *effort), driver, Safety(spec, spec.control_period_s), MemoryRecorder("test", spec),
        LoopConfig(**config),  # type: ignore[arg-type]
    )  # fmt: skip
    return loop.run(seconds), driver


def events(report: LoopReport) -> list[str]:
    assert report.log is not None
    return list(report.log["event"].values) if "event" in report.log else []


def test_run_keeps_every_deadline_and_ends_in_damp(two_link: RobotSpec) -> None:
    report, driver = go(two_link)
    assert (report.ticks, report.missed_deadlines, report.stale) == (50, 0, 0)
    assert (report.state, report.reason, report.faults) == ("damp", "done", [])
    assert driver.stopped == ["done"]
    assert report.log is not None
    np.testing.assert_array_equal(np.diff(report.log["joint.position"].t_ns), 10_000_000)
    assert len(report.log["command.effort"].t_ns) == len(report.log["action"].t_ns) == 50
    assert events(report) == [
        "state: damp (the first reading is sound)",
        "state: align (no joint has position gains)",
        "state: run (time for the policy)",
        "state: damp (done)",
    ]
    assert report.tick_us["p50"] > 0


def test_ramp_blends_in_from_nothing(two_link: RobotSpec) -> None:
    _, driver = go(two_link, effort=(0.6, 0.3), ramp_s=0.05)
    sent = np.array([c.effort for c in driver.written[:7]])
    np.testing.assert_allclose(sent[:, 0], 0.6 * np.array([1, 2, 3, 4, 5, 6, 6]) / 6)
    _, driver = go(two_link, effort=(0.6, 0.3), ramp_s=0.0)
    np.testing.assert_allclose(driver.written[0].effort, [0.6, 0.3])


def test_what_was_sent_is_logged_when_it_was_sent(two_link: RobotSpec) -> None:
    report, driver = go(two_link, effort=(9.0, 9.0))  # far above the limits
    assert report.log is not None
    logged = report.log["command.effort"]
    np.testing.assert_array_equal(logged.values, [c.effort for c in driver.written])
    assert np.abs(logged.values).max(axis=0).tolist() == [2.0, 1.0]
    assert any(e.startswith("clipped: torque/shoulder") for e in events(report))


@pytest.mark.parametrize(
    ("trouble", "kind", "words"),
    [
        ("lost", "driver", "motor 2 does not answer"),
        ("write", "driver", "the bus is off"),
        ("nan", "state", "'elbow' reads position nan"),
        ("fast", "velocity", "'shoulder' moves at -99"),
        ("old", "watchdog", "0.200 s old"),
    ],
)
def test_fault_latches_stops_and_is_logged(two_link: RobotSpec, trouble: str, kind: str, words: str) -> None:
    report, driver = go(two_link, lambda tick: trouble if tick == 20 else "")
    assert report.state == "fault" and report.reason == "fault"
    assert [f.kind for f in report.faults] == [kind] and words in report.faults[0].reason
    assert driver.stopped == ["fault"] and len(driver.written) == 20
    assert events(report)[-2:] == [f"fault: {kind}: {report.faults[0].reason}", "state: fault (fault)"]
    assert report.log is not None and len(report.log["joint.position"].t_ns) >= 20


def test_reading_that_caused_the_fault_is_in_the_log(two_link: RobotSpec) -> None:
    report, _ = go(two_link, lambda tick: "nan" if tick == 20 else "")
    assert report.log is not None and np.isnan(report.log["joint.position"].values[-1, 1])


def test_few_stale_reads_are_ridden_out(two_link: RobotSpec) -> None:
    report, driver = go(two_link, lambda tick: "stale" if tick in (10, 11, 30) else "")
    assert (report.state, report.stale, report.ticks) == ("damp", 3, 50)
    assert len(driver.written) == 47  # nothing is decided, or repeated, on an old reading
    assert sum(e == "stale: nothing new" for e in events(report)) == 3


def test_silence_trips_the_watchdog(two_link: RobotSpec) -> None:
    report, driver = go(two_link, lambda tick: "stale" if tick >= 10 else "")
    assert report.state == "fault" and [f.kind for f in report.faults] == ["watchdog"]
    assert report.stale == 6  # 0.05 s of silence at 0.01 s, then one more
    assert driver.stopped == ["fault"]


def test_robot_that_never_answers_is_a_fault_too(two_link: RobotSpec) -> None:
    report, driver = go(two_link, lambda tick: "stale")
    assert report.state == "fault" and driver.written == [] and report.ticks < 10


def test_late_ticks_are_counted_and_not_caught_up(two_link: RobotSpec) -> None:
    report, _ = go(two_link, lambda tick: "late" if tick == 5 else "")
    # the tick ends 1.5 periods after the next deadline: that one is skipped, the one after begins late
    assert report.missed_deadlines == 2 and report.ticks == 49
    assert report.state == "damp"


def test_shadow_mode_never_writes(two_link: RobotSpec) -> None:
    report, driver = go(two_link, shadow=True)
    assert driver.written == [] and driver.stopped == []  # another one drives, and goes on driving
    assert report.log is not None and len(report.log["action"].t_ns) == 50
    assert "command.effort" not in report.log


def test_end_of_a_log_is_no_fault(two_link: RobotSpec) -> None:
    report, driver = go(two_link, lambda tick: "end" if tick == 12 else "")
    assert (report.state, report.ticks, report.faults, driver.stopped) == ("damp", 12, [], ["done"])


def test_ctrl_c_stops_the_robot_and_keeps_the_log(two_link: RobotSpec) -> None:
    report, driver = go(two_link, lambda tick: "ctrl-c" if tick == 12 else "")
    assert (report.state, report.reason, driver.stopped) == ("damp", "user", ["user"])
    assert events(report)[-1] == "state: damp (user)"


def test_bug_in_the_policy_still_stops_the_robot(two_link: RobotSpec) -> None:
    class Broken(Constant):
        def act(self, sample: Sample) -> JointCommand:
            raise ZeroDivisionError

    driver = FakeDriver(two_link)
    with pytest.raises(ZeroDivisionError):
        ControlLoop(Broken(two_link, 0.0, 0.0), driver, Safety(two_link, 0.01)).run(1.0)
    assert driver.stopped == ["error"]


def test_full_disk_stops_the_robot(two_link: RobotSpec) -> None:
    class Full(MemoryRecorder):
        def row(self, channel: str, *rest: object) -> None:
            if channel == "command.effort":
                raise OSError(28, "No space left on device")
            super().row(channel, *rest)  # type: ignore[arg-type]

    driver = FakeDriver(two_link)
    report = ControlLoop(Constant(two_link, 0.1, 0.1), driver, Safety(two_link, 0.01), Full("x", two_link)).run(1.0)
    assert report.faults[0].kind == "recorder" and "No space left" in report.faults[0].reason
    assert driver.stopped == ["fault"]


def test_failing_stop_is_reported_and_the_log_kept(two_link: RobotSpec) -> None:
    from robot.driver import DriverError

    class Stuck(FakeDriver):
        def stop(self, reason: str) -> None:
            raise DriverError("brake does not answer")

    report = ControlLoop(
        Constant(two_link, 0.1, 0.1), Stuck(two_link), Safety(two_link, 0.01), MemoryRecorder("x", two_link)
    ).run(0.1)
    assert report.state == "fault" and "brake does not answer" in report.faults[-1].reason
    assert report.log is not None


def test_impatience_does_not_interrupt_the_safe_action(two_link: RobotSpec) -> None:
    """A second signal breaks off what hangs, but the stop begins again; through drive() it does not even reach it."""

    class Interrupted(FakeDriver):
        def stop(self, reason: StopReason) -> None:
            super().stop(reason)
            if len(self.stopped) == 1:
                raise KeyboardInterrupt

    driver = Interrupted(two_link, lambda tick: "ctrl-c" if tick == 12 else "")
    report = ControlLoop(
        Constant(two_link, 0.1, 0.1), driver, Safety(two_link, 0.01), MemoryRecorder("x", two_link)
    ).run(1.0)
    assert driver.stopped == ["user", "user"] and report.state == "damp" and report.log is not None

    class Signalled(FakeDriver):
        def stop(self, reason: StopReason) -> None:
            for _ in range(3):
                signal.raise_signal(signal.SIGINT)
            super().stop(reason)

    driver = Signalled(two_link, lambda tick: signal.raise_signal(signal.SIGINT) or "" if tick == 12 else "")
    loop = ControlLoop(Constant(two_link, 0.1, 0.1), driver, Safety(two_link, 0.01))
    with stopped_by_signals(loop):
        assert loop.run(1.0).reason == "user"
    assert driver.stopped == ["user"]

    driver = Signalled(two_link)
    loop = ControlLoop(Constant(two_link, 0.1, 0.1), driver, Safety(two_link, 0.01))
    with stopped_by_signals(loop):
        assert loop.run(0.1).reason == "user"  # who presses Ctrl-C while it stops does not want the next episode
    assert driver.stopped == ["done"]


def test_second_signal_breaks_off_what_hangs(two_link: RobotSpec) -> None:
    def hangs(tick: int) -> str:
        if tick == 12:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            raise AssertionError("the second one interrupts")
        return ""

    driver = FakeDriver(two_link, hangs)
    loop = ControlLoop(Constant(two_link, 0.1, 0.1), driver, Safety(two_link, 0.01))
    with stopped_by_signals(loop):
        assert loop.run(1.0).reason == "user"
    assert driver.stopped == ["user"]


def test_loop_that_stood_still_is_a_fault_though_the_readings_are_fresh(two_link: RobotSpec) -> None:
    """A stopped process leaves the motors with their last torque, and must not go on as if nothing had been."""
    report, driver = go(two_link, lambda tick: "stall" if tick == 20 else "")
    assert report.faults[0].kind == "watchdog" and "told nothing for 0.2" in report.faults[0].reason
    assert driver.stopped == ["fault"] and report.ticks < 25
    assert not go(two_link, lambda tick: "stall" if tick == 20 else "", shadow=True)[0].faults


def test_action_is_logged_only_where_the_policy_answered(two_link: RobotSpec) -> None:
    """A reading that ends the run before the policy sees it has no action, and a replay finds none to compare."""
    report, _ = go(two_link, lambda tick: "fast" if tick == 20 else "")
    assert report.log is not None
    assert report.log["joint.position"].t_ns[-1] not in report.log["action"].t_ns
    assert len(report.log["action"].t_ns) == 20


def test_signal_that_the_driver_lacks_ends_the_run_before_anything_moves(two_link: RobotSpec) -> None:
    class Balances(Constant):
        needs = ("imu.gyro",)

    driver = FakeDriver(two_link)
    loop = ControlLoop(Balances(two_link, 1.0, 1.0), driver, Safety(two_link, 0.01), MemoryRecorder("x", two_link))
    report = loop.run(1.0)
    assert report.faults[0].kind == "watchdog" and "no imu.gyro, which the policy needs" in report.faults[0].reason
    assert driver.written == [] and report.ticks == 0


def test_watchdog_that_would_bark_at_the_clock_is_refused(two_link: RobotSpec) -> None:
    slow = Constant(dataclasses.replace(two_link, control_period_s=0.04), 0.1, 0.1)
    with pytest.raises(ConfigError, match=r"at least 1.5 periods"):
        ControlLoop(slow, FakeDriver(two_link), Safety(two_link, 0.04))


def test_policy_that_answers_nan_is_stopped_before_it_writes(two_link: RobotSpec) -> None:
    report, driver = go(two_link, effort=(float("nan"), 0.0))
    assert report.faults[0].kind == "command" and driver.written == []


def test_bundle_runs_and_gives_the_same_run_twice(two_link: RobotSpec, tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "b", two_link, dataclasses.replace(_observation(), history=3))
    logs = []
    for _ in range(2):
        controller = bundle.load(made)
        safety = Safety(two_link, 0.01)
        loop = ControlLoop(controller, FakeDriver(two_link), safety, MemoryRecorder("x", two_link))
        report = loop.run(0.3)
        assert report.log is not None and report.state == "damp"
        logs.append(report.log)
    for name, channel in logs[0].channels.items():
        np.testing.assert_array_equal(channel.values, logs[1][name].values)
    assert len(logs[0]["action"].t_ns) == 30


def _observation() -> bundle.ObservationConfig:
    from tests.robot.fakes import OBSERVATION

    return OBSERVATION


def test_joint_that_the_driver_lacks_is_a_fault(two_link: RobotSpec) -> None:
    class Short(FakeDriver):
        def read(self, timeout_s: float) -> Sample:
            reading = super().read(timeout_s)
            return dataclasses.replace(reading, joints=reading.joints.ordered(("shoulder",)))

    driver = Short(two_link)
    report = ControlLoop(Constant(two_link, 0.1, 0.1), driver, Safety(two_link, 0.01)).run(0.1)
    assert "joint 'elbow' is not in this reading" in report.faults[0].reason and driver.written == []


def test_wall_clock_is_kept_by_absolute_deadlines(two_link: RobotSpec) -> None:
    class WallClock(FakeDriver):
        def now_ns(self) -> int:
            return time.monotonic_ns()

        def wait(self, until_ns: int) -> None:
            time.sleep(max(0, until_ns - time.monotonic_ns()) * 1e-9)
            super().wait(time.monotonic_ns())

        def read(self, timeout_s: float) -> Sample:
            time.sleep(0.004)  # relative waiting would add this to every period
            self.now = time.monotonic_ns()
            return super().read(timeout_s)

    begin = time.monotonic()
    report = ControlLoop(Constant(two_link, 0.1, 0.1), WallClock(two_link), Safety(two_link, 0.01)).run(0.5)
    assert 0.5 <= time.monotonic() - begin < 0.65
    assert report.ticks <= 50 <= report.ticks + report.missed_deadlines and report.state == "damp"

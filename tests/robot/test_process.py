"""What a run asks of the system: real-time steps that report how they went, words to systemd, a stopwatch."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from robot import cli, realtime
from robot.config import ConfigError
from robot.driver import StopReason
from robot.notify import Notifier
from robot.observation import ActionConfig
from robot.realtime import RealtimeConfig
from robot.spec import load_spec
from robot.timing import Stopwatch
from sim.driver import SimDriver
from tests.robot.fakes import make_bundle


def test_real_time_steps_report_how_they_went_and_are_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    pinned: list[object] = []
    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cpus: pinned.append(cpus))
    try:
        steps = {s["name"]: s for s in realtime.enter(RealtimeConfig(priority=50, cpu=0, lock_memory=False))}
        assert not gc.isenabled() and gc.get_freeze_count() > 0
    finally:
        realtime.leave()
    assert gc.isenabled() and gc.get_freeze_count() == 0
    assert pinned == [{0}] and steps["affinity"]["ok"] and steps["garbage"]["ok"]
    assert not steps["scheduler"]["ok"] and "CAP_SYS_NICE" in steps["scheduler"]["detail"]
    with pytest.raises(ConfigError, match="between 0 and 99"):
        RealtimeConfig(priority=100)


def test_systemd_hears_ready_and_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5.0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "1000000000")
        notifier = Notifier()
        notifier.say("READY=1")
        for _ in range(100):
            notifier.alive()
        notifier.ending()
        heard = [manager.recv(100) for _ in range(4)]
    assert heard[:2] == [b"READY=1", b"WATCHDOG=1"]  # once in 250 s
    assert heard[2:] == [b"WATCHDOG_USEC=60000000\nWATCHDOG=1", b"STOPPING=1"]
    notifier.say("STATUS=nobody listens any more")


def test_deadlines_that_passed_are_counted_and_skipped() -> None:
    watch, ms = Stopwatch(), 1_000_000
    assert watch.next_deadline(0, 4 * ms, 10 * ms) == 1
    assert watch.next_deadline(1, 35 * ms, 10 * ms) == 3  # 20 was missed by 15 ms: the one at 30 is under way
    assert (watch.missed, watch.longest_miss) == (2, 2)
    assert watch.next_deadline(3, 41 * ms, 10 * ms) == 4
    assert (watch.missed, watch.longest_miss) == (3, 3)
    assert watch.next_deadline(4, 42 * ms, 10 * ms) == 5 and watch.longest_miss == 3
    assert watch.percentiles() == {"p50": 0.0, "p99": 0.0, "max": 0.0}
    watch.start()
    watch.stop()
    found = watch.percentiles()
    assert 0.0 < found["p50"] <= found["p99"] and found["max"] > 0.0


def test_a_run_feeds_the_watchdog_until_the_robot_is_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damping an arm and closing a log take longer than the watchdog's second."""
    spec = load_spec("simple_pendulum")
    folder = make_bundle(tmp_path / "bundle", spec, action=ActionConfig(actuators=("shoulder",), scale=(0.1,)))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60.0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "4000")  # a tick in simulation takes less than a quarter of it
        heard: list[bytes] = []
        listener = threading.Thread(target=lambda: heard.extend(iter(lambda: manager.recv(100), b"over")), daemon=True)
        listener.start()
        before: list[bytes] = []
        stop = SimDriver.stop

        def slowly(self: SimDriver, reason: StopReason) -> None:
            end = time.monotonic() + 5.0
            while b"STOPPING=1" not in heard and time.monotonic() < end:
                time.sleep(0.002)
            before.extend(heard)
            stop(self, reason)

        monkeypatch.setattr(SimDriver, "stop", slowly)
        cli.call("run", [f"bundle={folder}", "driver=sim", "seconds=0.2", f"out={tmp_path / 'out'}"])
        Notifier().say("over")
        listener.join(5.0)
    assert before[0] == b"READY=1" and before.count(b"WATCHDOG=1") > 2
    assert before[-2:] == [b"WATCHDOG_USEC=60000000\nWATCHDOG=1", b"STOPPING=1"] and heard == before


def test_thread_of_a_real_time_process_steps_back() -> None:
    """What writes the log inherits the loop's priority and core, and must not keep them."""
    found: list[object] = []
    cores, policy, param = os.sched_getaffinity(0), os.sched_getscheduler(0), os.sched_getparam(0)

    def work() -> None:
        found.extend([os.sched_getscheduler(0), os.sched_getaffinity(0)])
        realtime.step_back()
        found.extend([os.sched_getscheduler(0), os.sched_getaffinity(0)])

    try:
        os.sched_setaffinity(0, {min(cores)})
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except PermissionError:
            pytest.skip("needs the right to SCHED_FIFO")
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        os.sched_setscheduler(0, policy, param)
        os.sched_setaffinity(0, cores)
    assert found == [os.SCHED_FIFO, {min(cores)}, os.SCHED_OTHER, cores]

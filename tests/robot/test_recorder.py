"""The recorder loses at most the last moment, whatever kills the process."""

from __future__ import annotations

import contextlib
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from robot import log as logs
from robot.episode_file import EpisodeFile
from robot.loop import ControlLoop
from robot.recorder import MemoryRecorder, Recorder, write_command, write_sample
from robot.safety import Safety
from robot.spec import RobotSpec, load_spec
from robot.state import Imu, JointCommand, Joints, Sample
from tests.robot.fakes import FakeDriver
from tests.robot.test_loop import Constant

WRITER = """
import sys, time
import numpy as np
from pathlib import Path
from robot.recorder import Recorder
from robot.spec import load_spec
recorder = Recorder(Path(sys.argv[1]), "killed", load_spec("simple_pendulum"), flush_s=0.05)
for k in range(1_000_000):
    recorder.row("joint.position", ("shoulder",), k, np.array([float(k)]))
    print(k, time.monotonic(), flush=True)
    time.sleep(0.002)
"""


def test_kill_9_loses_at_most_the_last_flush(tmp_path: Path) -> None:
    path = tmp_path / "episode.mcap"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    rows = [process.stdout.readline() for _ in range(200)]
    process.send_signal(signal.SIGKILL)
    rest = process.communicate()[0].splitlines()
    assert process.returncode == -signal.SIGKILL
    written = [line.split() for line in (*rows, *rest) if len(line.split()) == 2]
    last = float(written[-1][1])
    certain = sum(float(t) < last - 0.05 - 0.02 for _, t in written)  # the flush comes with the next row
    recovered = logs.load(path)
    values = recovered["joint.position"].values[:, 0]
    assert len(values) >= certain > 50
    np.testing.assert_array_equal(values, np.arange(len(values)))
    assert recovered.robot == "simple_pendulum" and "torn" in recovered.meta


def reading(spec: RobotSpec, k: int) -> Sample:
    n = len(spec.joints)
    joints = Joints(
        names=spec.joint_names, t_ns=k * 10, position=np.full(n, k), velocity=np.zeros(n), effort=np.full(n, np.nan)
    )
    image = np.full((4, 5, 3), k // 2, np.uint8)
    imu = Imu(t_ns=k * 10 + 1, gyro=np.ones(3), accel=np.zeros(3))
    return Sample(t_ns=k * 10 + 2, joints=joints, imu=imu, images={"side": (k // 2 * 20, image)})


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_rows_keep_their_own_stamps(two_link: RobotSpec, tmp_path: Path, kind: str) -> None:
    recorder = (
        Recorder(tmp_path / "a.mcap", "one", two_link, {"x": "y"})
        if kind == "file"
        else MemoryRecorder("one", two_link, {"x": "y"})
    )
    seen: dict[str, int] = {}
    position = np.zeros(2)
    for k in range(6):
        write_sample(recorder, reading(two_link, k), seen)
        write_command(recorder, JointCommand.of_effort(two_link.joint_names, 0, position + k), k * 10 + 5)
    recorder.row("event", (), 33, "state: run")
    position[:] = 99.0  # rows are copies
    log = recorder.close()
    assert dict(log.meta) == {"x": "y"} and log.fingerprint == two_link.fingerprint()
    np.testing.assert_array_equal(log["joint.position"].t_ns, np.arange(6) * 10)
    np.testing.assert_array_equal(log["command.effort"].t_ns, np.arange(6) * 10 + 5)
    np.testing.assert_array_equal(log["command.effort"].values[:, 1], np.arange(6))
    np.testing.assert_array_equal(log["imu.gyro"].t_ns, np.arange(6) * 10 + 1)
    np.testing.assert_array_equal(log["camera.side"].t_ns, [0, 20, 40])  # each image once, however often it is seen
    assert log["camera.side"].values[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert np.isnan(log["joint.effort"].values).all() and log["event"].values.tolist() == ["state: run"]
    assert "command.position" not in log  # without gains a target has no effect


def test_close_rewrites_chunked_under_the_same_name(two_link: RobotSpec, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a.mcap", "one", two_link)
    for k in range(500):
        write_sample(recorder, reading(two_link, k), {})
    log = recorder.close()
    size = (tmp_path / "a.mcap").stat().st_size
    assert [p.name for p in tmp_path.iterdir()] == ["a.mcap"]
    again = recorder.close()
    assert (tmp_path / "a.mcap").stat().st_size == size < 500 * 200
    assert list(again.channels) == list(log.channels) and "torn" not in log.meta


def test_row_is_cheap_enough_for_a_control_loop(two_link: RobotSpec, tmp_path: Path) -> None:
    recorder, n = Recorder(tmp_path / "a.mcap", "one", two_link), 3000
    value = np.zeros(2)
    begin = time.perf_counter()
    for k in range(n):
        recorder.row("joint.position", two_link.joint_names, k, value)
    assert (time.perf_counter() - begin) / n < 200e-6
    recorder.close()


def test_shipped_robot_is_recorded_with_its_fingerprint(tmp_path: Path) -> None:
    spec = load_spec("double_pendulum_c1")
    recorder = Recorder(tmp_path / "a.mcap", "empty", spec)
    assert recorder.close().fingerprint == spec.fingerprint()


@contextlib.contextmanager
def disk_of(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


class Paced(FakeDriver):
    """A simulated clock on which the recorder's thread gets its turns."""

    def wait(self, until_ns: int) -> None:
        time.sleep(0.001)
        super().wait(until_ns)


def test_full_disk_neither_stops_the_loop_nor_costs_what_was_written(two_link: RobotSpec, tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    recorder = Recorder(path, "full", two_link, flush_s=0.02)
    driver = Paced(two_link)
    with disk_of(60_000):
        report = ControlLoop(Constant(two_link, 0.1, 0.1), driver, Safety(two_link, 0.01), recorder).run(4.0)
    assert report.ticks == 400 and len(driver.written) == 400  # to the end, on a disk that held a part of it
    assert report.state == "fault" and [f.kind for f in report.faults] == ["recorder"]
    assert "cannot be written" in report.faults[0].reason and driver.stopped == ["done"] and report.log is None
    kept = logs.load(path)
    rows = len(kept["joint.position"].t_ns)
    assert 20 < rows < 400 and "torn" in kept.meta
    np.testing.assert_array_equal(kept["joint.position"].t_ns, (1 + np.arange(rows)) * 10_000_000)


def test_disk_without_room_for_the_rewriting_keeps_the_recording(two_link: RobotSpec, tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    recorder = Recorder(path, "tight", two_link)
    for k in range(50):
        write_sample(recorder, reading(two_link, k), {})
    recorder._ending.set()
    recorder._thread.join()
    whole = path.read_bytes()
    with disk_of(1000), pytest.raises(OSError):
        recorder.close()
    assert path.read_bytes() == whole and len(logs.load(path)["joint.position"].t_ns) == 50
    assert [p.name for p in tmp_path.iterdir()] == ["a.mcap"]


def test_slow_disk_never_blocks_the_loop_and_lost_rows_are_told(
    two_link: RobotSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, row = threading.Event(), EpisodeFile.row

    def stuck(self: EpisodeFile, *arguments: object) -> None:
        go.wait(20.0)
        row(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(EpisodeFile, "row", stuck)
    recorder = Recorder(tmp_path / "a.mcap", "slow", two_link, flush_s=0.01, queue_bytes=100_000)
    begin = time.monotonic()
    for k in range(1000):
        recorder.row("joint.position", two_link.joint_names, k, np.zeros(2))
    assert time.monotonic() - begin < 10.0 and 600 < recorder.dropped < 800
    dropped = recorder.dropped
    go.set()
    log = recorder.close()
    assert len(log["joint.position"].t_ns) == 1000 - dropped and log.meta["dropped"] == str(dropped)


def test_long_recording_goes_on_in_parts(two_link: RobotSpec, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a.mcap", "long", two_link, flush_s=0.005, part_bytes=20_000)
    for k in range(600):
        recorder.row("joint.position", two_link.joint_names, k, np.full(2, k))
        if k % 100 == 99:
            time.sleep(0.05)
    log = recorder.close()
    np.testing.assert_array_equal(log["joint.position"].values[:, 0], np.arange(600))
    parts = sorted(p.name for p in tmp_path.iterdir())
    assert len(parts) >= 2 and parts[0] == "a.1.mcap" and parts[-1] == "a.mcap"
    rows = [len(logs.load(tmp_path / name)["joint.position"].t_ns) for name in parts]
    assert sum(rows) == 600 and logs.load(tmp_path / "a.mcap").meta["parts"] == str(len(parts))


def test_row_that_no_file_can_hold_ends_the_recording_and_not_the_log(tmp_path: Path) -> None:
    """A stamp before the beginning of time, for instance: the thread must not die of it without a word."""
    recorder = Recorder(tmp_path / "episode.mcap", "odd", load_spec("simple_pendulum"), flush_s=0.01)
    for k in range(100):
        recorder.row("joint.position", ("shoulder",), k, np.array([float(k)]))
    time.sleep(0.1)
    recorder.row("joint.position", ("shoulder",), -1, np.array([0.0]))
    with pytest.raises(OSError, match="cannot be written"):
        recorder.close()
    assert len(logs.load(tmp_path / "episode.mcap")["joint.position"].t_ns) == 100


def test_log_that_cannot_be_ended_costs_neither_the_report_nor_the_safe_action(two_link: RobotSpec) -> None:
    class Torn(MemoryRecorder):
        def close(self) -> logs.EpisodeLog:
            raise logs.LogError("episode.mcap is larger than what is read")

    driver = FakeDriver(two_link)
    report = ControlLoop(Constant(two_link, 0.1, 0.1), driver, Safety(two_link, 0.01), Torn("x", two_link)).run(0.1)
    assert driver.stopped == ["done"] and report.log is None and report.state == "fault"
    assert "larger than what is read" in report.faults[0].reason

"""The policy in a process of its own: the same commands, and no end of it that leaves the motors without the brake."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from robot import bundle
from robot import log as logs
from robot.bundle import BundleRefused
from robot.config import ConfigError
from robot.driver import StaleState
from robot.loop import CommanderLost, ControlLoop
from robot.recorder import MemoryRecorder
from robot.safety import Safety
from robot.spec import RobotSpec
from robot.state import Imu, Joints, Sample
from robot.supervisor import PolicyProcess
from tests.robot.fakes import OBSERVATION, FakeDriver, make_bundle
from tests.robot.wire import Motors, children, is_safe

LIMIT_S = 0.1
"""The safe action must be on the wire so soon after the policy's death."""


@pytest.fixture
def patient(two_link: RobotSpec) -> RobotSpec:
    """With a watchdog that does not bark at a busy machine."""
    return dataclasses.replace(two_link, watchdog_s=20.0)


@pytest.fixture
def made(tmp_path: Path, patient: RobotSpec) -> Path:
    return make_bundle(tmp_path / "bundle", patient, dataclasses.replace(OBSERVATION, history=3))


@pytest.fixture
def remote(made: Path) -> Iterator[PolicyProcess]:
    process = PolicyProcess([made], [bundle.load(made)], patience_s=20.0)
    yield process
    process.close()


def soon_enough(seconds: float, limit_s: float = LIMIT_S) -> bool:
    """Whether something came in time; where other processes hold the machine, in a time that bounds a hang."""
    quiet = os.getloadavg()[0] < (os.cpu_count() or 1)
    return seconds < (limit_s if quiet else 5.0)


def reading(spec: RobotSpec, k: int, **more: object) -> Sample:
    position, velocity, effort = np.random.default_rng(k).normal(size=(3, len(spec.joints)))
    joints = Joints(names=spec.joint_names, t_ns=k, position=position, velocity=velocity, effort=effort)
    return Sample(t_ns=k, joints=joints, **more)  # type: ignore[arg-type]


def test_it_commands_what_the_controller_commands(made: Path, remote: PolicyProcess, two_link: RobotSpec) -> None:
    controller = bundle.load(made)
    for episode in range(2):
        controller.reset()
        remote.reset()
        for k in range(10):
            sample = reading(two_link, 10 * episode + k)
            mine, theirs = controller.act(sample), remote.act(sample)
            for name in ("position", "velocity", "effort", "kp", "kd"):
                np.testing.assert_array_equal(getattr(theirs, name), getattr(mine, name))
            np.testing.assert_array_equal(remote.action, controller.action)
            assert (theirs.names, theirs.t_ns, remote.unfamiliar) == (mine.names, mine.t_ns, controller.unfamiliar)


def test_images_imu_and_goal_reach_the_other_process(tmp_path: Path, two_link: RobotSpec) -> None:
    observation = dataclasses.replace(OBSERVATION, cameras=("side",), features=("joint_velocity", "goal"), goal=("x",))
    made = make_bundle(tmp_path / "b", two_link, observation, state=3)
    controller, remote = bundle.load(made), PolicyProcess([made], [bundle.load(made)], patience_s=20.0)
    try:
        with pytest.raises(StaleState, match="'side' has given no image yet"):
            remote.act(reading(two_link, 0))
        remote.reset()
        rng, goal = np.random.default_rng(0), np.array([0.7])
        controller.goal, remote.goal = goal, goal
        images = [rng.integers(0, 256, (24, 40, 3), dtype=np.uint8), rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)]
        imu = Imu(t_ns=1, gyro=np.ones(3), accel=np.ones(3), orientation=np.eye(4)[0])
        for k, shown in enumerate(({"side": (0, images[0])}, {}, {"side": (2, images[1])})):
            sample = reading(two_link, k, images=shown, imu=imu)
            np.testing.assert_array_equal(remote.act(sample).effort, controller.act(sample).effort)
    finally:
        remote.close()


def test_bundle_that_was_exchanged_meanwhile_is_refused(made: Path, tmp_path: Path, two_link: RobotSpec) -> None:
    other = make_bundle(tmp_path / "other", two_link, task="another")
    with pytest.raises(BundleRefused, match="was exchanged"):
        PolicyProcess([other], [bundle.load(made)])


def test_bundles_with_other_goals_are_refused_where_they_would_share_memory(
    made: Path, tmp_path: Path, two_link: RobotSpec
) -> None:
    aimed = dataclasses.replace(OBSERVATION, features=(*OBSERVATION.features, "goal"), goal=("x", "y"))
    other = make_bundle(tmp_path / "aimed", two_link, aimed)
    with pytest.raises(ConfigError, match=r"outputs and the goal \['x', 'y'\]"):
        PolicyProcess([made, other], [bundle.load(made), bundle.load(other)])


def test_death_is_noticed_at_once_and_named(remote: PolicyProcess, two_link: RobotSpec) -> None:
    remote.check()
    os.kill(remote.pid, signal.SIGKILL)
    begin = time.monotonic()
    while time.monotonic() - begin < 5.0:
        try:
            remote.check()
        except CommanderLost as error:
            assert "killed by signal 9" in str(error) or "closed its pipe" in str(error)
            break
    with pytest.raises(CommanderLost):
        remote.act(reading(two_link, 0))


def test_process_that_hangs_is_silence(remote: PolicyProcess, two_link: RobotSpec) -> None:
    remote._patience_s = 0.01
    os.kill(remote.pid, signal.SIGSTOP)
    try:
        with pytest.raises(StaleState, match="did not answer within 10 ms"):
            remote.act(reading(two_link, 0))
        with pytest.raises(StaleState, match="still busy"):
            remote.act(reading(two_link, 1))
        with pytest.raises(CommanderLost, match="hangs"):
            remote.reset()
    finally:
        os.kill(remote.pid, signal.SIGCONT)


def test_killed_policy_is_a_latched_fault_of_the_loop(remote: PolicyProcess, two_link: RobotSpec) -> None:
    driver = FakeDriver(two_link, lambda tick: os.kill(remote.pid, signal.SIGKILL) or "" if tick == 20 else "")
    loop = ControlLoop(remote, driver, Safety(two_link, 0.01), MemoryRecorder("x", two_link), alive=remote.check)
    report = loop.run(1.0)
    assert report.state == "fault" and driver.stopped == ["fault"]
    assert report.faults[0].kind == "policy" and report.ticks in (20, 21)
    assert report.log is not None and "fault: policy" in " ".join(report.log["event"].values)


def test_child_does_not_outlive_its_supervisor(made: Path) -> None:
    code = (
        "import sys, os; from pathlib import Path; from robot import bundle; from robot.supervisor import *\n"
        "p = PolicyProcess([Path(sys.argv[1])], [bundle.load(Path(sys.argv[1]))]); print(p.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(made)], capture_output=True, text=True, timeout=60)
    child = int(done.stdout)
    deadline = time.monotonic() + 10.0
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "the policy process goes on without its supervisor"
        time.sleep(0.02)


class Running:
    """`terrafirma run` on motors in this process, as a process of its own with a policy process beside it."""

    def __init__(self, made: Path, out: Path, *words: str) -> None:
        self.motors = Motors(2)
        self.motors.start()
        self.out = out
        command = [sys.executable, "-m", "tests.robot.wire", "run", f"bundle={made}", "driver=wire", "damp=0"]
        command += [f"port={self.motors.port}", "seconds=60", f"out={out}", *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        deadline = time.monotonic() + 60.0
        while not any(frame[4].any() for _, frame in list(self.motors.frames)[-5:]):
            assert time.monotonic() < deadline and self.process.poll() is None, self.process.communicate()
            time.sleep(0.01)
        (self.policy,) = children(self.process.pid)

    def seconds_to_safe_action(self, since_ns: int) -> float:
        """From `since_ns` until the first safe frame on the wire."""
        deadline = time.monotonic() + 10.0
        while time.monotonic() < deadline:
            found = [t for t, frame in list(self.motors.frames) if t >= since_ns and is_safe(frame)]
            if found:
                return (found[0] - since_ns) * 1e-9
            time.sleep(0.001)
        raise AssertionError("no safe action on the wire")

    def end(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=30)
        return self.process.returncode, output


def test_termination_stops_the_robot_and_keeps_the_log(made: Path, tmp_path: Path) -> None:
    running = Running(made, tmp_path / "out")
    begin = time.monotonic_ns()
    running.process.send_signal(signal.SIGTERM)
    assert soon_enough(running.seconds_to_safe_action(begin))
    code, output = running.end()
    assert code == 0, output
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["state"] == "damp" and result["faults"] == []
    log = logs.load(tmp_path / "out" / "episode.mcap")
    assert log["event"].values[-1] == "state: damp (SIGTERM)"
    assert not Path(f"/proc/{running.policy}").exists()

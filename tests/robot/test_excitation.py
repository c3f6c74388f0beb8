"""Excitations stay inside the robot's limits, begin and end gently, and move every joint on its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from robot.config import ConfigError
from robot.excitation import KINDS, Excitation, Exciter, from_file
from robot.loop import ControlLoop
from robot.recorder import MemoryRecorder
from robot.safety import Safety
from robot.spec import RobotSpec
from robot.state import Joints, Sample
from tests.robot.fakes import FakeDriver


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("amplitude", [0.3, 1.0])
def test_stays_inside_the_torque_limits_and_fades(two_link: RobotSpec, kind: str, amplitude: float) -> None:
    made = KINDS[kind](two_link, 6.0, np.random.default_rng(0), amplitude)
    peak = np.abs(made.values).max(axis=0)
    assert (peak <= amplitude * np.array([2.0, 1.0]) + 1e-12).all() and (
        peak > 0.5 * amplitude * np.array([2.0, 1.0])
    ).all()
    assert np.abs(made.values[[0, -1]]).max() < 1e-3 * amplitude
    assert np.abs(made.at(99.0)).max() == 0.0


@pytest.mark.parametrize("kind", list(KINDS))
def test_same_seed_same_signal_and_joints_differ(two_link: RobotSpec, kind: str) -> None:
    a, b, c = (KINDS[kind](two_link, 8.0, np.random.default_rng(seed), 0.5).values for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    assert abs(np.corrcoef(a.T)[0, 1]) < 0.8


def test_chirp_sweeps_slow_and_fast(two_link: RobotSpec) -> None:
    made = KINDS["chirp"](two_link, 10.0, np.random.default_rng(0), 0.5)
    times = made.t_s[1:][np.diff(np.sign(made.values[:, 0])) != 0]
    gaps = np.diff(times)
    assert gaps.max() > 0.7 and gaps.min() < 0.3  # half periods [s]


@pytest.mark.parametrize("kind", list(KINDS))
def test_joint_with_travel_is_kept_inside_it(two_link: RobotSpec, kind: str) -> None:
    driver = FakeDriver(two_link)
    made = KINDS[kind](two_link, 8.0, np.random.default_rng(3), 1.0)
    safety = Safety(two_link, two_link.control_period_s)
    report = ControlLoop(Exciter(two_link, made), driver, safety, MemoryRecorder("x", two_link)).run(8.0)
    assert report.log is not None
    speed = np.abs(report.log["joint.velocity"].values).max(axis=0)
    assert report.faults == [] and (speed < 10.0).all() and speed.min() > 0.05


def test_torque_fades_towards_the_wall_and_the_speed_limit(two_link: RobotSpec) -> None:
    def torque(position: float, velocity: float) -> float:
        exciter = Exciter(two_link, Excitation("x", np.array([0.0, 1.0]), np.full((2, 2), 0.5)))
        zeros = np.zeros(2)
        joints = Joints(
            names=two_link.joint_names, t_ns=0, position=zeros + position, velocity=zeros + velocity, effort=zeros
        )
        return float(exciter.act(Sample(t_ns=0, joints=joints)).effort[1])

    assert torque(0.0, 0.0) == 0.5 and torque(2.0, 0.0) == 0.0 and torque(2.5, 0.0) == 0.0
    assert 0.0 < torque(1.8, 0.0) < 0.5
    assert torque(-1.99, 0.0) == 0.5  # back inwards
    assert torque(0.0, 9.0) == 0.0 and 0.0 < torque(0.0, 6.0) < 0.5 and torque(0.0, -9.0) == 0.5


def test_position_servo_is_moved_about_its_rest_pose(two_link: RobotSpec) -> None:
    stiff = tuple(dataclasses.replace(a, kind="position_pd", kp=20.0, kd=0.5) for a in two_link.actuators)
    spec = dataclasses.replace(two_link, actuators=stiff)
    made = KINDS["chirp"](spec, 4.0, np.random.default_rng(0), 1.0)
    exciter, seen = Exciter(spec, made), []
    for k in range(400):
        zeros = np.zeros(2)
        joints = Joints(names=spec.joint_names, t_ns=0, position=zeros, velocity=zeros, effort=zeros)
        command = exciter.act(Sample(t_ns=k * 10_000_000, joints=joints))
        seen.append(command.position)
    assert not command.effort.any() and (command.kp == 20.0).all()
    elbow = np.array(seen)[:, 1]
    assert elbow.min() >= -1.0 - 1e-9 and elbow.max() <= 2.0 + 1e-9 and elbow.max() > 1.7  # 0.5 +- 1.5


def test_other_actuators_and_senseless_options_are_refused(two_link: RobotSpec) -> None:
    rng = np.random.default_rng(0)
    speedy = tuple(dataclasses.replace(a, kind="velocity") for a in two_link.actuators)
    with pytest.raises(ConfigError, match="'velocity', which cannot be excited"):
        KINDS["prbs"](dataclasses.replace(two_link, actuators=speedy), 4.0, rng, 0.5)
    with pytest.raises(ConfigError, match=r"seconds=0\.5"):
        KINDS["prbs"](two_link, 0.5, rng, 0.5)
    with pytest.raises(ConfigError, match=r"amplitude=1\.5"):
        KINDS["chirp"](two_link, 4.0, rng, 1.5)


def test_file_is_read_by_column_name(two_link: RobotSpec, tmp_path: Path) -> None:
    path = tmp_path / "torques.csv"
    path.write_text("time,elbow\n1.0,0\n2.0,0.5\n3.0,0\n")
    made = from_file(path, two_link)
    assert made.name == "torques"
    np.testing.assert_allclose(made.at(0.5), [0.0, 0.25])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("time,elbw\n0,0\n1,0\n", r"'elbw' is no actuator of 'two_link'.*Did you mean 'elbow'"),
        ("time,elbow\n0,0\n1,2.5\n", r"line 3: 'elbow' is 2\.5; its limit is 1"),
        ("time,elbow\n0,0\n0,0\n", "line 3: time does not increase"),
        ("time,elbow\n0,0\n1,x\n", "line 3: could not convert"),
        ("time,elbow\n0,0\n1\n", "line 3: 2 finite numbers"),
        ("time,elbow\n0,0\n1,nan\n", "line 3: 2 finite numbers"),
        ("t,elbow\n0,0\n1,0\n", "needs a head `time,shoulder,elbow`"),
        ("", "needs a head"),
        ("\ntime,elbow\n0,0\n1,0\n", "needs a head"),
        ("time,elbow\n0," + "1" * 200_000 + "\n1,0\n", "field larger than field limit"),
    ],
)
def test_bad_file_is_one_sentence_with_the_line(two_link: RobotSpec, tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "torques.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        from_file(path, two_link)
    assert str(path) in str(caught.value)

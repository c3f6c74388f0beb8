"""Playback of recordings of position servos: whose frame goals are in, gains of a recording, torque that is off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robot.log import EpisodeLog
from sim.model import Model, RobotConfig, find_robot
from sim.randomization import Point, Randomization, Term
from tests.transfer.servo_logs import record_servo
from transfer.playback import Playback
from transfer.prediction import POSITION, evaluate, whole_episodes
from transfer.series import series_of
from transfer.shots import cut


@pytest.fixture(scope="module")
def bench() -> RobotConfig:
    return find_robot("servo_bench")


def waves(n: int = 700) -> np.ndarray:
    t = 0.005 * np.arange(n)
    return (0.6 * np.sin(3.0 * t) + 0.3 * np.sin(7.0 * t))[:, None]


def law(**values: float) -> Randomization:
    return Randomization(
        name="law",
        terms=tuple(Term(targets=(k.replace("__", "/"),), law=Point(values=(v,))) for k, v in values.items()),
    )


def rms(log: EpisodeLog, robot: RobotConfig, parameters: Randomization) -> float:
    return evaluate([log], Model(robot), parameters, nthread=1).position_rmse(1)


def test_the_truth_foretells_its_own_recording(bench: RobotConfig) -> None:
    assert rms(record_servo(bench, {}, waves()), bench, law()) < 2e-3


def test_goals_are_in_the_frame_of_the_servo_s_own_encoder(bench: RobotConfig) -> None:
    """A servo whose zero is off holds its load at another angle to gravity, and still goes where its encoder reads."""
    log = record_servo(bench, {}, waves(), zero=0.4)
    right, wrong = rms(log, bench, law(sensor__servo__offset=0.4)), rms(log, bench, law())
    assert right < 2e-3 and wrong > 5.0 * right


def test_the_p_gain_that_a_recording_tells_is_in_force(bench: RobotConfig) -> None:
    quarter = {"actuator/servo/kp": 0.25 * 0.830949}
    log = record_servo(bench, quarter, waves(), meta={"motor": "xl330", "kp": "100"})
    assert series_of(log, bench.spec, POSITION.fit).stiffness == 0.25
    untold = replace(log, meta={})
    assert rms(log, bench, law()) < 2e-3 < 0.02 < rms(untold, bench, law())


def test_torque_that_was_off_is_off(bench: RobotConfig) -> None:
    on = np.arange(700) < 300
    log = record_servo(bench, {}, np.full((700, 1), 1.2), on=on)
    always = replace(log, channels={k: v for k, v in log.channels.items() if k != "servo.torque_enable"})
    assert rms(log, bench, law()) < 5e-3 < 0.1 < rms(always, bench, law())
    whole = whole_episodes([log], Model(bench), law(), nthread=1)
    assert whole["mae_full"]["mean"] < 0.02 and whole["mae_full_files"] == {"bench": whole["mae_full"]["mean"]}


def test_a_late_sensor_shows_the_past(bench: RobotConfig) -> None:
    """A reading that is 20 ms old, foretold with and without that delay."""
    log = record_servo(bench, {}, waves())
    position = log["joint.position"]
    late = np.concatenate([np.repeat(position.values[:1], 4, axis=0), position.values[:-4]])
    old = replace(log, channels=log.channels | {"joint.position": replace(position, values=late)})
    delay = Randomization(
        name="late", terms=(Term(targets=("sensor/joint.position/delay",), law=Point(values=(0.02,))),)
    )
    assert rms(old, bench, delay) < 0.6 * rms(old, bench, law())


def test_points_that_differ_in_delay_get_their_own_commands(bench: RobotConfig) -> None:
    log = record_servo(bench, {}, waves(300))
    shots = cut([series_of(log, bench.spec, POSITION.fit)], 0.1, 0.3, 0.3)
    play = Playback(Model(bench), shots, 0.002, 1)
    points = [{"timing/command/delay": 0.0}, {"timing/command/delay": 0.03}]
    read, _ = play(points, np.zeros((2, len(shots), 1)))
    alone, _ = play(points[1:], np.zeros((1, len(shots), 1)))
    assert read[1] == pytest.approx(alone[0], abs=1e-12) and np.abs(read[1] - read[0]).max() > 0.01

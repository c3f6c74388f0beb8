"""Every fault, put at random places of a clean recording, is named; the recording itself is not accused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robot.log import UNITS, Channel, EpisodeLog
from sim.model import RobotConfig, find_robot
from sim.surrogate import record_episode
from tests.benchmarks.screening import named_right
from tests.transfer.faults import FAULTS, stretch
from transfer.screen import KINDS, notice

DRAWS, TRIES = 3, 40


def test_a_clean_recording_and_its_parts_have_no_findings(clean: EpisodeLog, double_pendulum: RobotConfig) -> None:
    for start in (0.0, 1.7, 3.1):
        assert not notice(stretch(clean, start, 4.5), double_pendulum.spec)
    assert not notice(clean, double_pendulum.spec)


def waves() -> EpisodeLog:
    """Joints that move independently, as those of an arm do."""
    t_ns = np.arange(1500) * 4_000_000
    t = t_ns[:, None] * 1e-9
    values = {
        "joint.position": np.hstack([0.8 * np.sin(3.0 * t), 0.5 * np.sin(5.2 * t + 1.0)]),
        "joint.velocity": np.hstack([2.4 * np.cos(3.0 * t), 2.6 * np.cos(5.2 * t + 1.0)]),
        "command.effort": np.hstack([0.8 * np.sin(7.0 * t), 0.5 * np.cos(4.0 * t)]),
    }
    names = ("shoulder", "elbow")
    channels = {n: Channel(n, UNITS[n], names, t_ns, v) for n, v in values.items()}
    return EpisodeLog("waves", "double_pendulum_c1", "", channels)


def test_exchanged_joints_are_named(double_pendulum: RobotConfig) -> None:
    fault = FAULTS["swapped"](waves(), np.random.default_rng(0))
    assert fault is not None and not notice(waves(), double_pendulum.spec)
    assert {n.kind for n in notice(fault.log, double_pendulum.spec)} == {"joint_order"}


@pytest.mark.parametrize(("sign", "late_rows", "kind"), [(-1.0, 1, "sign"), (1.0, 25, "lag"), (1.0, 1, None)])
def test_a_torque_that_repeats_is_mirrored_or_late_not_both(
    sign: float, late_rows: int, kind: str | None, double_pendulum: RobotConfig
) -> None:
    """Mirrored, a sine of 2 Hz is also a quarter of a second late; on time it is so only mirrored."""
    log = waves()
    t = log["command.effort"].seconds()[:, None]
    command = np.hstack([0.8 * np.sin(12.6 * t), 0.5 * np.cos(13.5 * t)])
    effort = sign * 0.97 * np.vstack([np.zeros((late_rows, 2)), command[:-late_rows]])
    values = {"command.effort": command, "joint.effort": effort}
    more = {n: Channel(n, UNITS[n], ("shoulder", "elbow"), log["command.effort"].t_ns, v) for n, v in values.items()}
    found = notice(replace(log, channels={**log.channels, **more}), double_pendulum.spec)
    assert {n.kind for n in found if n.channel == "joint.effort"} == ({kind} if kind else set())


@pytest.mark.parametrize("name", [n for n in FAULTS if n != "swapped"])
def test_a_fault_is_named_with_its_channel_and_place(
    name: str, clean: EpisodeLog, double_pendulum: RobotConfig
) -> None:
    rng = np.random.default_rng(5)
    drawn = [found for _ in range(TRIES) if (found := FAULTS[name](clean, rng)) is not None][:DRAWS]
    assert len(drawn) == DRAWS
    for fault in drawn:
        found = notice(fault.log, double_pendulum.spec)
        said = [(n.kind, n.channel, n.where) for n in found]
        assert named_right(found, fault), f"{fault.kind} in {fault.channels} at {fault.at}, but it says {said}"
        assert fault.kind in KINDS


@pytest.mark.parametrize("seed", [1, 3])
def test_a_torque_that_is_always_as_late_does_not_drift(seed: int) -> None:
    """In short recordings of a chirp, of which parts hardly change."""
    robot = find_robot("simple_pendulum")
    found = notice(record_episode(robot, "chirp", 6.0, seed=seed), robot.spec)
    assert {f.kind for f in found} <= {"lag", "saturated"}, [f.detail for f in found]

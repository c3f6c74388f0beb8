"""Limits, watchdog and latch: which command may leave."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from robot.monitor import Monitor
from robot.safety import Limits, Safety
from robot.spec import RobotSpec
from robot.state import JointCommand, Joints

PERIOD = 0.01
MS = 1_000_000


def joints(
    position: tuple[float, float] = (0.0, 0.0), velocity: tuple[float, float] = (0.0, 0.0), t: int = 0
) -> Joints:
    names = ("shoulder", "elbow")
    nothing = np.full(2, np.nan)  # a robot without torque sensing
    return Joints(names=names, t_ns=t, position=np.array(position), velocity=np.array(velocity), effort=nothing)


def effort(*values: float) -> JointCommand:
    return JointCommand.of_effort(("shoulder", "elbow"), 0, np.array(values))


def servo(position: tuple[float, float], kp: float = 10.0, velocity: float = 0.0) -> JointCommand:
    n = np.zeros(2)
    return JointCommand(
        names=("shoulder", "elbow"), t_ns=0, position=np.array(position), velocity=n + velocity, effort=n, kp=n + kp,
        kd=n + 0.1,
    )  # fmt: skip


@pytest.fixture
def fast_slew(two_link: RobotSpec) -> RobotSpec:
    return dataclasses.replace(
        two_link, actuators=tuple(dataclasses.replace(a, effort_rate_limit=np.inf) for a in two_link.actuators)
    )


def test_command_inside_the_limits_passes_untouched(fast_slew: RobotSpec) -> None:
    command = effort(1.9, -0.9)
    allowed, clipped = Limits(fast_slew, PERIOD).apply(command, joints())
    assert allowed is command and clipped == ()


def test_torque_is_clipped_per_joint_and_named(fast_slew: RobotSpec) -> None:
    allowed, clipped = Limits(fast_slew, PERIOD).apply(effort(-7.0, 0.5), joints())
    np.testing.assert_array_equal(allowed.effort, [-2.0, 0.5])
    assert clipped == ("torque/shoulder",)


def test_first_tick_cannot_jump_and_torque_slews(two_link: RobotSpec) -> None:
    limits = Limits(two_link, PERIOD)  # 100 N m/s x 10 ms = 1 N m a tick
    seen = [limits.apply(effort(2.0, -1.0), joints())[0].effort for _ in range(3)]
    np.testing.assert_allclose(seen, [[1.0, -1.0], [2.0, -1.0], [2.0, -1.0]])
    limits.reset()
    np.testing.assert_allclose(limits.apply(effort(2.0, 0.0), joints())[0].effort, [1.0, 0.0])


@pytest.mark.parametrize(
    ("q", "wish", "allowed"), [(2.1, 0.5, 0.0), (2.1, -0.5, -0.5), (-2.0, -0.5, 0.0), (0, 0.5, 0.5)]
)
def test_joint_at_the_end_of_its_travel_is_not_pushed_out(
    fast_slew: RobotSpec, q: float, wish: float, allowed: float
) -> None:
    command, _ = Limits(fast_slew, PERIOD).apply(effort(0.3, wish), joints((99.0, q)))
    np.testing.assert_array_equal(command.effort, [0.3, allowed])  # the shoulder may turn for ever


def test_position_target_leaves_from_the_measured_pose_at_the_speed_limit(fast_slew: RobotSpec) -> None:
    limits = Limits(fast_slew, PERIOD)  # 10 rad/s x 10 ms = 0.1 rad a tick
    first, clipped = limits.apply(servo((3.0, 3.0)), joints((1.0, 1.0)))
    np.testing.assert_allclose(first.position, [1.1, 1.1])
    assert set(clipped) >= {"position/elbow", "speed/shoulder", "speed/elbow"}
    np.testing.assert_allclose(limits.apply(servo((3.0, 3.0)), joints((1.0, 1.0)))[0].position, [1.2, 1.2])
    for _ in range(20):
        last = limits.apply(servo((3.0, 3.0)), joints((1.0, 1.0)))[0]
    np.testing.assert_allclose(last.position, [3.0, 2.0])  # the elbow's travel ends at 2


def test_torque_of_the_motors_own_gains_counts(fast_slew: RobotSpec) -> None:
    command, _ = Limits(fast_slew, PERIOD).apply(servo((1.1, 1.1), kp=100.0), joints((1.0, 1.0)))
    own = command.kp * (command.position - 1.0) + command.effort
    np.testing.assert_allclose(own, [2.0, 1.0])
    stiff = tuple(dataclasses.replace(a, kind="position_pd") for a in fast_slew.actuators)
    command, _ = Limits(dataclasses.replace(fast_slew, actuators=stiff), PERIOD).apply(
        servo((1.1, 1.1), kp=100.0), joints((1.0, 1.0))
    )
    np.testing.assert_array_equal(command.effort, [0.0, 0.0])  # a position servo bounds its own torque


def test_velocity_targets_are_clipped(fast_slew: RobotSpec) -> None:
    command, clipped = Limits(fast_slew, PERIOD).apply(servo((0.0, 0.0), velocity=50.0), joints())
    np.testing.assert_array_equal(command.velocity, [10.0, 10.0])
    assert "velocity/shoulder" in clipped


@pytest.mark.parametrize(
    ("reading", "kind", "words"),
    [
        (joints((np.nan, 0.0)), "state", "'shoulder' reads position nan"),
        (joints((0.0, 0.0), (0.0, np.inf)), "state", "'elbow' reads position 0.0, velocity inf"),
        (joints((0.0, 0.0), (0.0, -10.5)), "velocity", "'elbow' moves at -10.5; its velocity_limit is 10"),
    ],
)
def test_unsound_reading_is_a_fault_with_a_reason(two_link: RobotSpec, reading: Joints, kind: str, words: str) -> None:
    safety = Safety(two_link, PERIOD)
    assert not safety.accept(reading, 0)
    assert [f.kind for f in safety.faults] == [kind] and words in safety.faults[0].reason


def test_unmeasured_effort_is_no_fault(two_link: RobotSpec) -> None:
    assert Safety(two_link, PERIOD).accept(joints(), 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_command_that_is_no_number_is_a_fault_and_stays_one(two_link: RobotSpec, bad: float) -> None:
    safety = Safety(two_link, PERIOD)
    assert safety.guard(effort(0.0, bad), joints(), 0) is None
    assert safety.faults[0].kind == "command" and "'elbow'" in safety.faults[0].reason
    assert safety.guard(effort(0.0, 0.0), joints(), 1) is None  # latched
    safety.reset(2)
    assert safety.tripped


def test_watchdog_trips_after_silence_and_latches(two_link: RobotSpec) -> None:
    safety = Safety(two_link, PERIOD)  # watchdog_s: 0.05
    safety.reset(0)
    assert not safety.silent(50 * MS)
    assert safety.silent(51 * MS) and "0.051 s" in safety.faults[0].reason
    assert not safety.accept(joints(t=52 * MS), 52 * MS)


def test_reading_that_is_old_on_arrival_trips_the_watchdog(two_link: RobotSpec) -> None:
    safety = Safety(two_link, PERIOD)
    assert safety.accept(joints(t=10 * MS), 60 * MS)
    assert not safety.accept(joints(t=10 * MS), 61 * MS)
    assert safety.faults[0].kind == "watchdog"


def test_only_a_decision_feeds_the_watchdog(two_link: RobotSpec) -> None:
    safety = Safety(two_link, PERIOD)
    for t in range(0, 60, 10):
        assert safety.accept(joints(t=t * MS), t * MS)  # readings come, but a camera does not
    assert safety.silent(60 * MS)


def test_clipping_warns_once_until_it_ends(two_link: RobotSpec) -> None:
    safety = Safety(two_link, PERIOD)
    for wish in (1.0, 9.0, 9.0, 2.0, 2.0, 9.0):
        safety.guard(effort(wish, 0.0), joints(), 0)
    assert safety.warnings == ["clipped: torque/shoulder", "clipped: torque/shoulder"]


def training() -> np.ndarray:
    rng = np.random.default_rng(0)
    angle = rng.uniform(-np.pi, np.pi, 2000)
    return np.stack([np.cos(angle), np.sin(angle), rng.normal(size=2000), np.zeros(2000)], axis=1)


NAMES = ("cos", "sin", "velocity", "still")


def test_monitor_knows_its_training_data() -> None:
    data = training()
    monitor = Monitor.fit(NAMES, data)
    assert all(monitor.unfamiliar(x) is None for x in data)
    assert monitor.unfamiliar(np.array([0.0, 1.0, 0.3, 0.0])) is None
    strange = monitor.unfamiliar(np.array([0.0, 1.0, 20.0, 0.0]))
    assert strange is not None and "'velocity' is 20" in strange
    assert "'still'" in str(monitor.unfamiliar(np.array([0.0, 1.0, 0.0, 1.0])))  # never moved in training


def test_monitor_survives_its_file_and_refuses_too_little() -> None:
    monitor = Monitor.fit(NAMES, training())
    again = Monitor.of_arrays(monitor.arrays())
    x = np.array([0.1, 0.2, 3.0, 0.0])
    assert again.distance(x) == monitor.distance(x) and again.components == NAMES
    with pytest.raises(ValueError, match="n >= 2"):
        Monitor.fit(NAMES, training()[:1])


def test_unfamiliar_observation_warns_or_faults_as_asked(two_link: RobotSpec) -> None:
    monitor, strange = Monitor.fit(NAMES, training()), np.array([0.0, 1.0, 20.0, 0.0])
    warning = Safety(two_link, PERIOD, monitor)
    assert warning.familiar(strange, 0) and warning.familiar(strange, 1)
    assert len(warning.warnings) == 1 and not warning.tripped
    strict = Safety(two_link, PERIOD, monitor, unfamiliar="fault")
    assert not strict.familiar(strange, 0) and strict.faults[0].kind == "unfamiliar"

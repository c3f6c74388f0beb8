"""Limits, watchdog and latch: which command may leave."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from robot.comparison import torque_of
from robot.limits import Limits
from robot.monitor import Monitor
from robot.safety import Safety, SafetyConfig
from robot.spec import RobotSpec
from robot.state import Health, JointCommand, Joints

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


def servo(position: tuple[float, float], kp: float = 10.0, velocity: float = 0.0, kd: float = 0.1) -> JointCommand:
    n = np.zeros(2)
    return JointCommand(
        names=("shoulder", "elbow"), t_ns=0, position=np.array(position), velocity=n + velocity, effort=n, kp=n + kp,
        kd=n + kd,
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
    last = first
    for _ in range(25):  # the joints follow
        last = limits.apply(servo((3.0, 3.0)), joints((float(last.position[0]), float(last.position[1]))))[0]
    np.testing.assert_allclose(last.position, [3.0, 2.0])  # the elbow's travel ends at 2


@pytest.mark.parametrize("between", [servo((0.0, 0.0), kp=0.0, kd=0.5), effort(0.0, 0.0)], ids=["damped", "torque"])
def test_joint_that_moved_without_a_target_gets_the_next_one_where_it_is(
    fast_slew: RobotSpec, between: JointCommand
) -> None:
    """Damped, or moved by torque, it may have sagged or been turned by hand: no target is where it was before."""
    limits = Limits(fast_slew, PERIOD)
    limits.apply(servo((1.0, 1.0)), joints((1.0, 1.0)))
    for q in np.linspace(1.0, 0.2, 50):
        limits.apply(between, joints((q, q)))
    limits.lapse()  # nor does a command that may have got lost bring it back
    sent, clipped = limits.apply(servo((0.2, 0.2)), joints((0.2, 0.2)))
    np.testing.assert_allclose(sent.position, [0.2, 0.2])
    assert clipped == ()


def test_targets_that_may_have_been_lost_count_for_the_speed_limit(fast_slew: RobotSpec) -> None:
    """A dead bus swallows goals without a word: whichever of them a servo has, the next one is no jump."""
    safety, here = Safety(fast_slew, PERIOD), joints((1.0, 1.0))  # 10 rad/s x 10 ms = 0.1 rad a tick

    def target(wish: float) -> float:
        command = safety.guard(servo((wish, wish), kp=1.0), here, 0)
        assert command is not None
        return float(command.position[0])

    assert [target(3.0), target(3.0)] == pytest.approx([1.1, 1.2])
    assert not safety.silent(5 * MS)  # so the servo may still have 1.1
    assert target(3.0) == pytest.approx(1.2)
    assert not safety.silent(15 * MS)  # and now still
    assert target(0.0) == pytest.approx(1.1)
    assert not safety.silent(25 * MS)  # 1.1 or 1.2
    assert [target(0.0), target(0.0)] == pytest.approx([1.1, 1.0])  # a reading came: 1.1 has arrived


def test_torque_that_no_frame_can_carry_moves_no_target(fast_slew: RobotSpec) -> None:
    """The shoulder was turned away from its target at 5 rad/s, and the policy asks for ten times its torque."""
    limits = Limits(fast_slew, PERIOD)
    before, _ = limits.apply(servo((0.0, 0.0), kp=3.0), joints())
    reading = joints((-0.6, 0.0), (-5.0, 0.0))
    wish = dataclasses.replace(servo((0.0, 0.0), kp=3.0), effort=np.array([-20.0, 0.0]))
    command, clipped = limits.apply(wish, reading)
    assert "torque/shoulder" in clipped
    np.testing.assert_array_equal(command.position, before.position)
    np.testing.assert_allclose(command.effort, [-2.0, 0.0])
    np.testing.assert_allclose(torque_of(command, reading.position, reading.velocity), [0.3, 0.0])


@pytest.mark.parametrize("read", [-3.2, 3.4])
def test_a_reading_that_tells_of_a_joint_far_away_moves_no_target_beyond_its_speed(
    fast_slew: RobotSpec, read: float
) -> None:
    """A corrupt one, after a pause in which the joint might have moved so far; in truth it is where it was."""
    limits, wish = Limits(fast_slew, PERIOD), servo((0.08, 0.08), kp=8.0)
    before, _ = limits.apply(wish, joints())
    command, _ = limits.apply(wish, joints((read, 0.0), (1.0, 0.0)))
    assert abs(command.position[0] - before.position[0]) <= 0.1 + 1e-12  # 10 rad/s x 10 ms
    as_read = torque_of(command, np.array([read, 0.0]), np.array([1.0, 0.0]))
    in_truth = torque_of(command, np.zeros(2), np.zeros(2))
    assert np.abs(as_read).max() <= 2.0 + 1e-9 and 0.0 < command.kp[0] < 8.0
    assert np.abs(in_truth).max() < 1.2 * 2.0  # with its target gone after the reading it would be 20 N m and more
    back, _ = limits.apply(wish, joints())
    assert back.kp[0] == 8.0 and abs(back.position[0] - command.position[0]) <= 0.1 + 1e-12


def test_torque_of_the_motors_own_gains_counts(fast_slew: RobotSpec) -> None:
    command, _ = Limits(fast_slew, PERIOD).apply(servo((1.1, 1.1), kp=100.0), joints((1.0, 1.0)))
    own = command.kp * (command.position - 1.0) + command.effort
    np.testing.assert_allclose(own, [2.0, 1.0])
    stiff = tuple(dataclasses.replace(a, kind="position_pd") for a in fast_slew.actuators)
    command, _ = Limits(dataclasses.replace(fast_slew, actuators=stiff), PERIOD).apply(
        servo((1.1, 1.1), kp=100.0), joints((1.0, 1.0))
    )
    np.testing.assert_array_equal(command.effort, [0.0, 0.0])  # a position servo bounds its own torque


def test_joint_that_is_held_back_gets_no_more_than_its_torque(fast_slew: RobotSpec) -> None:
    """The target runs away from where somebody holds it; what a frame can carry of feed-forward must be enough."""
    limits, still = Limits(fast_slew, PERIOD), joints((0.0, 0.5))
    for _ in range(60):
        command, _ = limits.apply(servo((3.0, 2.0), kp=50.0), still)
        assert (np.abs(command.effort) <= fast_slew.effort_limits + 1e-9).all()
        total = torque_of(command, still.position, still.velocity)
        np.testing.assert_allclose(total, fast_slew.effort_limits)
    assert (command.position - still.position <= 2 * fast_slew.effort_limits / 50.0 + 1e-9).all()  # and it waits there


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
    assert safety.accept(reading, 0) == "fault"
    assert [f.kind for f in safety.faults] == [kind] and words in safety.faults[0].reason


def test_unmeasured_effort_is_no_fault(two_link: RobotSpec) -> None:
    assert Safety(two_link, PERIOD).accept(joints(), 0) == "fresh"


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
    assert safety.accept(joints(t=52 * MS), 52 * MS) == "fault"


def test_reading_that_is_old_on_arrival_trips_the_watchdog(two_link: RobotSpec) -> None:
    safety = Safety(two_link, PERIOD)
    assert safety.accept(joints(t=10 * MS), 60 * MS) == "fresh"
    assert safety.accept(joints(t=10 * MS), 61 * MS) == "fault"
    assert safety.faults[0].kind == "watchdog"


def test_only_a_decision_feeds_the_watchdog(two_link: RobotSpec) -> None:
    safety = Safety(two_link, PERIOD)
    for t in range(0, 60, 10):
        assert safety.accept(joints(t=t * MS), t * MS) == "fresh"  # readings come, but a camera does not
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


def test_whether_a_reading_is_unfamiliar_is_told_with_and_without_a_sentence_alike() -> None:
    rng = np.random.default_rng(2)
    monitor = Monitor.fit(NAMES, training(), contexts=rng.normal(size=(2000, 3)))
    found = []
    for _ in range(200):
        x, context = rng.normal(size=4) * [1.0, 1.0, 4.0, 0.0], rng.normal(size=3) * rng.choice([0.5, 4.0])
        found.append(monitor.beyond(x, context))
        assert found[-1] == (monitor.unfamiliar(x, context) is not None)
        assert monitor.beyond(x) == (monitor.unfamiliar(x) is not None)
    assert 20 < sum(found) < 180
    assert not monitor.beyond(np.full(4, np.nan))


def test_monitor_survives_its_file_and_refuses_too_little() -> None:
    monitor = Monitor.fit(NAMES, training(), contexts=np.random.default_rng(1).normal(size=(2000, 3)))
    again = Monitor.of_arrays(monitor.arrays())
    x = np.array([0.1, 0.2, 3.0, 0.0])
    assert again.observation.distance(x) == monitor.observation.distance(x)
    assert again.observation.components == NAMES and again.context is not None
    assert "context" in str(again.unfamiliar(x * 0.1, np.array([9.0, 0.0, 0.0])))
    with pytest.raises(ValueError, match="n >= 2"):
        Monitor.fit(NAMES, training()[:1])


def test_limit_keeps_its_rate_of_false_alarms_on_episodes_that_nothing_was_fitted_to() -> None:
    """Readings that drift, as those of a robot do: three in a row beyond the limit, one time in a thousand."""

    def episodes(n: int, seed: int) -> np.ndarray:
        rng, x = np.random.default_rng(seed), []
        state = rng.normal(size=(n, 2))
        for _ in range(500):
            state = 0.95 * state + np.sqrt(1 - 0.95**2) * rng.normal(size=(n, 2))
            x.append(state)
        return np.array(x)

    monitor = Monitor.fit(("a", "b"), episodes(60, 0), false_alarm=0.01)
    assert (monitor.patience, monitor.false_alarm) == (3, 0.01)
    fresh = monitor.observation.distances(episodes(60, 1)) > monitor.observation.limit
    lasting = (fresh[:-2] & fresh[1:-1] & fresh[2:]).mean()
    assert 0.003 < lasting < 0.03  # 60 episodes of some 20 independent readings each: known to a factor
    shifted = monitor.observation.distances(episodes(60, 2) + 4.0) > monitor.observation.limit
    assert shifted.mean() > 0.8


def test_unfamiliar_warns_limits_or_faults_as_asked(two_link: RobotSpec) -> None:
    text = "observation is 9 times as far"
    warning = Safety(two_link, PERIOD)
    assert warning.familiar(text, 0) and warning.familiar("observation is 8 times as far", 1)
    assert len(warning.warnings) == 1 and not warning.tripped
    limited = Safety(two_link, PERIOD, SafetyConfig(unfamiliar="limit", limited=0.25))
    assert limited.familiar(text, 0)
    command = limited.guard(effort(2.0, 0.1), joints(), 0)
    assert command is not None and command.effort.tolist() == [0.5, 0.1]
    assert limited.familiar(None, 1)
    again = limited.guard(effort(1.4, 0.1), joints(), 1)
    assert again is not None and again.effort[0] == 1.4  # the whole torque again
    strict = Safety(two_link, PERIOD, SafetyConfig(unfamiliar="fault"))
    assert not strict.familiar(text, 0) and strict.faults[0].kind == "unfamiliar"


def test_repeated_early_and_backward_stamps_are_told_apart(two_link: RobotSpec) -> None:
    safety = Safety(two_link, PERIOD)
    assert safety.accept(joints(t=10 * MS), 10 * MS) == "fresh"
    assert safety.accept(joints(t=10 * MS), 20 * MS) == "repeated" and not safety.tripped
    for t, words in ((5 * MS, "older than the one before"), (60 * MS, "from the future")):
        safety = Safety(two_link, PERIOD)
        safety.accept(joints(t=10 * MS), 10 * MS)
        assert safety.accept(joints(t=t), 20 * MS) == "fault"
        assert safety.faults[0].kind == "clock" and words in safety.faults[0].reason


@pytest.mark.parametrize(
    ("health", "words"),
    [
        (Health(temperature=np.array([80.0, np.nan]), voltage=np.full(2, 24.0)), "'shoulder' is 80 °C hot; 75"),
        (Health(temperature=np.full(2, 30.0), voltage=np.array([24.0, 9.0])), "supply of 'elbow' is 9.0 V"),
        (Health(temperature=np.full(2, 30.0), voltage=np.full(2, np.nan), errors=("motor 2: overload",)), "overload"),
    ],
)
def test_hot_starved_or_failing_actuator_is_a_fault(two_link: RobotSpec, health: Health, words: str) -> None:
    safety = Safety(two_link, PERIOD, SafetyConfig(voltage=(18.0, 30.0)))
    assert not safety.healthy(health, 0)
    assert safety.faults[0].kind == "health" and words in safety.faults[0].reason


def test_warm_actuator_is_warned_of_and_unknown_values_are_none(two_link: RobotSpec) -> None:
    safety = Safety(two_link, PERIOD)
    assert safety.healthy(Health(temperature=np.array([70.0, np.nan]), voltage=np.full(2, np.nan)), 0)
    assert safety.warnings == ["health: actuator of 'shoulder' is warm, near its 75 °C"]


def test_joint_that_flies_towards_its_end_is_braked(fast_slew: RobotSpec) -> None:
    """The elbow ends at 2 rad; at 1.9 rad and 5 rad/s it would be there in 20 ms."""
    limits = Limits(fast_slew, PERIOD)
    command, clipped = limits.apply(effort(0.3, 0.5), joints((0.0, 1.9), (0.0, 1.4)))
    np.testing.assert_allclose(command.effort, [0.3, -(1.4 - 0.1 / 0.1)])  # safe_kd x the speed that is too much
    assert clipped == ("travel/elbow",)
    command, _ = limits.apply(effort(0.3, 0.5), joints((0.0, 1.9), (0.0, 5.0)))
    np.testing.assert_allclose(command.effort, [0.3, -1.0])  # no more than its torque limit
    command, clipped = limits.apply(effort(0.3, 0.5), joints((0.0, 1.9), (0.0, 0.5)))
    np.testing.assert_array_equal(command.effort, [0.3, 0.5])  # slow enough
    command, _ = limits.apply(effort(0.3, -0.5), joints((0.0, -1.9), (0.0, -5.0)))
    np.testing.assert_allclose(command.effort, [0.3, 1.0])


def test_limits_are_applied_in_their_order(two_link: RobotSpec) -> None:
    """Position, then velocity, then torque, then rate: what the first let through the last still slews."""
    limits = Limits(two_link, PERIOD)
    wish = dataclasses.replace(servo((9.0, 9.0), kp=100.0, velocity=50.0), effort=np.full(2, 9.0))
    reading = joints((1.0, 1.95))
    command, clipped = limits.apply(wish, reading)
    kinds = [c.split("/")[0] for c in clipped]
    assert list(dict.fromkeys(kinds)) == ["position", "velocity", "speed", "torque", "rate"]
    assert 1.95 < command.position[1] <= 2.0
    assert np.abs(torque_of(command, reading.position, reading.velocity)).max() <= 1.0 + 1e-12  # 100 N m/s x 10 ms


def test_pure_damping_comes_at_once_whatever_was_before(two_link: RobotSpec) -> None:
    limits, reading = Limits(two_link, PERIOD), joints((0.0, 0.0), (1.5, -0.9))
    limits.apply(effort(1.0, 1.0), reading)
    brake = JointCommand.damping(two_link.joint_names, 0, np.ones(2))
    command, clipped = limits.apply(brake, reading)
    np.testing.assert_array_equal(command.effort, [0.0, 0.0])
    assert clipped == () and command.kd.tolist() == [1.0, 1.0]


def test_guard_keeps_every_command_inside_the_limits_whatever_is_asked(two_link: RobotSpec) -> None:
    """Random wishes, with and without gains, at random states: none leaves the torque limit, the travel or the slew."""
    rng, safety = np.random.default_rng(0), Safety(two_link, PERIOD)
    limit, slew = two_link.effort_limits, 1.0 + 1e-9
    last, began = np.zeros(2), 0.0
    for k in range(1_500):
        reading = joints(tuple(rng.uniform(-3, 3, 2)), tuple(rng.uniform(-10, 10, 2)), t=k)
        wish = effort(*rng.normal(size=2) * 10.0 ** rng.integers(-2, 6))
        here = float(reading.position[1])
        if rng.random() < 0.5:
            gains = servo(tuple(rng.normal(size=2) * 5), kp=50.0, velocity=float(rng.normal()) * 20)
            wish = dataclasses.replace(gains, effort=wish.effort)
        sent = safety.guard(wish, reading, k)
        assert sent is not None
        if sent.kp.any():  # a joint that is beyond its travel is called back from where it is, at its torque limit
            assert min(-2.0, here, began) - 0.1 <= sent.position[1] <= max(2.0, here, began) + 0.1
        began = (began or here) if wish.kp.any() else 0.0  # where it was at the first of targets one after the other
        total = torque_of(sent, reading.position, reading.velocity)
        assert (np.abs(total) <= limit + 1e-9).all() and (np.abs(sent.effort) <= limit + 1e-9).all()
        assert (np.abs(total - last) <= slew).all()
        last = total

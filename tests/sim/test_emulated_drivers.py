"""The hardware drivers against emulated motors: conformance, wiring, troubles on the bus, and how they stop."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("can")
pytest.importorskip("serial")

from robot.config import ConfigError
from robot.driver import Driver, DriverError, StaleState
from robot.spec import RobotSpec
from robot.state import JointCommand, Sample
from sim.emulators.client import emulate
from tests.robot.driver_conformance import DriverConformance
from tests.sim.emulated import Bench, bench, read, until

KINDS = ("can", "feetech", "dynamixel")
COUNT = {"can": 25.0 / 65535, "feetech": 2 * np.pi / 4096, "dynamixel": 2 * np.pi / 4096}
"""One step of the reported position [rad]."""
UPWARDS = {"can": 1.0, "feetech": np.array([1, -1, -1, 1, 1, 1]), "dynamixel": 1.0}
"""The arm lies on the table, and can move away from it only."""


@pytest.fixture(scope="module", params=KINDS)
def shared(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with bench(request.param) as made:
        yield made


@pytest.fixture
def motors(shared: Bench) -> Iterator[Bench]:
    """Motors without troubles, at rest."""
    shared.tell("rest")
    yield shared
    shared.tell("clear")


@pytest.fixture
def opened(motors: Bench) -> Iterator[Driver]:
    driver = motors.open()
    yield driver
    driver.close()


class TestConformance(DriverConformance):
    @pytest.fixture
    def spec(self, motors: Bench) -> RobotSpec:
        return motors.spec

    @pytest.fixture
    def driver(self, opened: Driver) -> Driver:
        return opened

    def next_sample(self, driver: Driver, spec: RobotSpec) -> Sample:
        driver.wait(driver.now_ns() + round(spec.control_period_s * 1e9))
        return read(driver)


def test_reading_is_the_truth_within_one_count(motors: Bench, opened: Driver) -> None:
    reading = read(opened)
    np.testing.assert_allclose(
        reading.joints.position, motors.body.world.joints.position, atol=1.01 * COUNT[motors.kind]
    )
    assert reading.health is not None
    volts, celsius = {"can": (np.nan, np.nan), "feetech": (7.4, 31.0), "dynamixel": (5.0, 31.0)}[motors.kind]
    np.testing.assert_allclose(reading.health.voltage, volts)
    np.testing.assert_allclose(reading.health.temperature, celsius)


def test_positions_are_followed_and_mapped_by_name(motors: Bench, opened: Driver) -> None:
    here = read(opened).joints.position
    goal = here + UPWARDS[motors.kind] * np.linspace(0.12, 0.18, len(here))
    sent = opened.write(motors.command(goal, 3.0 if motors.kind == "can" else 1.0).ordered(motors.names[::-1]))
    assert sent.names == motors.names
    np.testing.assert_allclose(sent.position, goal, atol=COUNT[motors.kind])

    def arrived() -> bool:
        moved = read(opened).joints.position - here
        return bool((moved / (goal - here) > 0.4).all())

    assert until(arrived), (read(opened).joints.position - here, goal - here)
    opened.write(motors.command(here))
    opened.stop("done")


def test_values_that_are_not_finite_are_never_sent(motors: Bench, opened: Driver) -> None:
    here = read(opened).joints.position
    for bad in (np.nan, np.inf):
        with pytest.raises(DriverError, match="not finite"):
            opened.write(motors.command(here + bad))
    with pytest.raises(DriverError, match="nothing was sent"):
        opened.write(JointCommand.of_effort(("spoon",), 0, np.zeros(1)))
    assert all(row[5] == 0.0 for row in motors.body.record.orders)


def test_an_answer_that_does_not_come_is_stale_and_names_the_joint(motors: Bench, opened: Driver) -> None:
    name = motors.names[-1]
    motors.fault(f"lost joint={name}")
    for _ in range(2):
        with pytest.raises(StaleState, match=f"'{name}'"):
            opened.read(0.05)
    motors.tell("clear")
    assert read(opened).joints.names == motors.names


def test_what_else_is_on_the_bus_never_shows_in_the_readings(motors: Bench, opened: Driver) -> None:
    truth = read(opened).joints.position
    for trouble in ("foreign", "echo", "noise", "duplicated", "stale"):
        motors.fault(trouble)
        for _ in range(4):
            opened.wait(opened.now_ns() + 20_000_000)
            try:
                np.testing.assert_allclose(opened.read(0.5).joints.position, truth, atol=5 * COUNT[motors.kind])
            except StaleState:
                continue
            except DriverError as error:  # motors that answer twice all the time are a fault of their own
                assert trouble in ("duplicated", "stale") and "nobody asked" in str(error)
        motors.tell("clear")
    opened.wait(opened.now_ns() + 1_100_000_000)
    np.testing.assert_allclose(read(opened).joints.position, truth, atol=5 * COUNT[motors.kind])


def test_corrupt_answers_are_lost_answers(motors: Bench, opened: Driver) -> None:
    truth = read(opened).joints.position
    motors.fault("corrupt amount=0.5")
    for _ in range(10):
        try:
            joints = opened.read(0.05).joints
        except DriverError:
            continue
        # a CAN frame's own check is not part of the emulated bus: small changes pass, jumps do not
        assert np.abs(joints.position - truth).max() < (0.6 if motors.kind == "can" else 0.01)


def test_a_hot_motor_is_a_fault_that_names_the_joint(motors: Bench) -> None:
    driver = motors.open()
    name = motors.names[0]
    motors.fault(f"hot joint={name}")
    with pytest.raises(DriverError, match=f"'{name}'") as error:
        for _ in range(20):
            read(driver)
    assert not isinstance(error.value, StaleState)
    driver.close()
    if motors.kind == "dynamixel":  # it has shut down, and stays so until it is rebooted
        with pytest.raises(DriverError, match="reboot"):
            motors.open()


def test_a_dead_bus_is_reported_and_stopping_does_not_hang(motors: Bench, opened: Driver) -> None:
    opened.write(motors.command(read(opened).joints.position))
    motors.fault("bus_off")
    with pytest.raises(DriverError):
        for _ in range(3):
            opened.read(0.05)
    begin = time.monotonic()
    with pytest.raises(DriverError):
        opened.stop("fault")
    assert time.monotonic() - begin < 15.0
    motors.tell("clear")


def test_a_port_that_is_pulled_is_a_driver_error(motors: Bench, opened: Driver) -> None:
    read(opened)
    motors.fault("unplugged seconds=0.3")
    with pytest.raises(DriverError):
        for _ in range(200):
            opened.wait(opened.now_ns() + 5_000_000)
            opened.read(0.01)
            opened.write(JointCommand.of_effort(motors.names, 0, np.zeros(len(motors.names))))
    assert until(lambda: motors.port.exists())


def test_opening_names_what_is_missing(motors: Bench, tmp_path: Path) -> None:
    n = len(motors.names)
    ids = (*range(1, n), 77)
    with pytest.raises(DriverError, match=f"'{motors.names[-1]}' \\(id 77\\)"):
        motors.open(ids=ids)
    options = {"channel" if motors.kind == "can" else "port": str(tmp_path / "nothing")}
    with pytest.raises(DriverError, match="cannot be opened"):
        motors.open(**options)
    with pytest.raises(ConfigError, match="values for"):
        motors.open(ids=(1,) * (n + 1))


@pytest.mark.parametrize("kind", KINDS)
def test_ids_senses_and_zeros_come_from_a_calibration_file(kind: str, tmp_path: Path) -> None:
    n = {"can": 2, "feetech": 6, "dynamixel": 1}[kind]
    ids, direction = tuple(range(n + 10, 10, -1)), tuple(-1 if k % 2 == 0 else 1 for k in range(n))
    zero = tuple(0.05 * (k + 1) for k in range(n))
    with bench(kind, ids=ids, direction=direction, zero=zero) as motors:
        wires = {
            name: {"id": i, "direction": d, "zero": z}
            for name, i, d, z in zip(motors.names, ids, direction, zero, strict=True)
        }
        path = tmp_path / "wires.yaml"
        path.write_text(yaml.safe_dump(dict(reversed(wires.items()))))
        driver = motors.open(calibration=path)
        atol = 1.01 * COUNT[kind]
        here = read(driver).joints.position
        np.testing.assert_allclose(here, motors.body.world.joints.position, atol=atol)
        goal = here + 0.05
        sent = driver.write(motors.command(goal))
        np.testing.assert_allclose(sent.position, goal, atol=atol)
        assert until(lambda: bool((np.array(motors.body.world._orders[0]) - here > 0.04).all()))
        driver.stop("done")
        driver.close()


def test_motors_are_not_enabled_while_a_joint_moves() -> None:
    with bench("can", start=(2.0, 0.0)) as motors:
        driver = motors.open()
        # the motors are free: what is not held falls
        assert until(lambda: float(np.abs(motors.body.world.joints.velocity).max()) > 1.0)
        for _ in range(50):
            joints = read(driver).joints
            if np.abs(joints.velocity).max() > 0.5:
                break
        with pytest.raises(DriverError, match="at rest only"):
            driver.write(motors.command(joints.position))
        assert not any(row[-1] for row in motors.body.record.orders)
        driver.close()


def test_enabling_moves_nothing(motors: Bench) -> None:
    """A servo's goal register holds what it was told long ago; torque comes with the present position as goal."""
    driver = motors.open()
    here = read(driver).joints.position
    driver.write(motors.command(here))
    read(driver)  # and the frames have arrived
    orders = [row for row in motors.body.record.orders if row[-1]]
    assert orders and all(abs(row[2] - here[row[1]]) < 0.02 or row[5] == 0.0 for row in orders)
    driver.stop("done")
    driver.close()


def test_stop_is_the_safe_action_of_the_motors(motors: Bench) -> None:
    driver = motors.open()
    here = read(driver).joints.position
    driver.write(motors.command(here + 0.05))
    read(driver)  # and the frames have arrived
    motors.tell("forget")
    driver.stop("fault")
    orders = motors.body.record.orders
    first = [next(row for row in orders if row[1] == k) for k in range(len(motors.names))]
    if motors.kind == "can":
        for row in first:
            assert row[5] == 0.0 and row[6] == pytest.approx(1.0, abs=5 / 4095) and abs(row[4]) < 0.003 and row[7]
        assert until(lambda: not orders[-1][7])  # disabled, but only once it is still
        quiet = [row[0] for row in orders if not row[7]]
        assert quiet[0] - first[0][0] >= 100_000_000
    else:
        for row in first:
            assert abs(row[2] - read(driver).joints.position[row[1]]) < 0.15 and row[7]
        assert all(row[7] for row in orders)  # it holds
    driver.close()
    if motors.kind == "feetech":
        assert until(lambda: motors.body.record.orders[-1][5] == 0.0 and motors.body.record.orders[-1][6] > 0.0)


def test_a_silent_servo_keeps_its_goal_and_the_others_hold_where_they_are(motors: Bench) -> None:
    """Its last reading is from long ago: to make that its goal would send it back, and the others with it."""
    if motors.kind != "feetech":
        pytest.skip("torque motors damp, and one servo has no others")
    driver = motors.open()
    here = read(driver).joints.position
    target = here + np.where(np.arange(len(here)) < 5, 0.3, 0.0)
    driver.write(motors.command(target))
    time.sleep(0.5)  # on their way, unread
    motors.fault("lost joint=shoulder_pan seconds=5")
    motors.tell("forget")
    with pytest.raises(DriverError, match="shoulder_pan"):
        driver.stop("fault")
    driver.close()
    assert until(lambda: len({row[1] for row in motors.body.record.orders}) >= len(here) - 1)
    last = {row[1]: row[2] for row in motors.body.record.orders if row[5] > 0.0}
    assert abs(last.get(0, target[0]) - target[0]) < 0.01  # a servo may be too deaf to be told again
    there = {row[1]: row[2] for row in motors.body.record.states}
    for k in range(1, len(here)):
        assert abs(last[k] - there[k]) < 0.05 and (k == 5 or abs(there[k] - here[k]) > 0.06)


def test_a_servo_that_wraps_is_followed(motors: Bench, opened: Driver) -> None:
    if motors.kind == "can":
        pytest.skip("MIT motors wrap by themselves: the next test")
    before = read(opened).joints.position
    motors.fault(f"wrapped joint={motors.names[0]}")
    after = read(opened).joints.position
    np.testing.assert_allclose(after, before, atol=5 * COUNT[motors.kind])
    with pytest.raises(DriverError, match="past the end of its encoder"):
        opened.write(motors.command(before))


def test_a_joint_that_turns_past_the_motors_range_is_followed() -> None:
    """The motor's own position is 12.49 rad where the joint's is 0, and its range ends at 12.5."""
    with bench("can", zero=(12.49, 0.0)) as motors:
        driver = motors.open(zero=(12.49, 0.0))
        seen = [read(driver).joints.position[0]]
        driver.write(JointCommand.of_effort(motors.names, 0, np.array([1.5, 0.0])))
        assert until(lambda: seen.append(read(driver).joints.position[0]) or seen[-1] > 0.1)  # type: ignore[func-returns-value]
        assert seen[0] < 0.01 and np.abs(np.diff(seen)).max() < 1.0
        with pytest.raises(DriverError, match="past the end of its encoder"):
            driver.write(motors.command(np.array([seen[-1], 0.0])))
        driver.close()


def test_late_answers_are_never_taken_for_new_ones(motors: Bench) -> None:
    """Each answer comes more than a cycle late, for a while and then no more: no reading is another cycle's."""
    driver = motors.open()
    motors.fault("late seconds=0.4 amount=0.03")
    stamps = []
    for _ in range(40):
        driver.wait(driver.now_ns() + 20_000_000)
        try:
            stamps.append(driver.read(0.01).joints.t_ns)
        except DriverError:
            continue
    assert all(a < b for a, b in itertools.pairwise(stamps))
    assert read(driver).joints.names == motors.names
    driver.close()


OTHERS = {
    "udp": (
        "can",
        {"motors": "mit", "bus": "udp_multicast", "channel": "239.74.163.2:43977", "temperature": True},
        lambda port: {"interface": "udp_multicast", "channel": "239.74.163.2:43977"},
    ),
    "dynamixel": ("dynamixel", {"motors": "dynamixel"}, lambda port: {"port": str(port)}),
}


@pytest.mark.parametrize("name", list(OTHERS))
def test_emulators_run_in_a_process_of_their_own(name: str) -> None:
    from robot.driver import open_driver
    from robot.spec import load_spec
    from tests.sim.emulated import ROBOTS

    kind, keys, options = OTHERS[name]
    if name == "udp":
        pytest.importorskip("msgpack")
    spec = load_spec(ROBOTS[kind])
    with emulate(robot=spec.name, **keys) as emulator:
        driver = open_driver(kind, spec, **options(emulator.port))
        assert read(driver).joints.names == spec.joint_names
        emulator.fault("bus_off", seconds=1.0)
        with pytest.raises(DriverError, match="off after too many" if name == "udp" else "no answer"):
            for _ in range(5):
                driver.read(0.05)
        assert len(emulator.record()["states"])
        with pytest.raises(ConfigError, match="Did you mean 'lost'"):
            emulator.tell("fault losst")
        driver.close()
    with pytest.raises(ConfigError, match="no emulator answers"):
        emulator.tell("ping")

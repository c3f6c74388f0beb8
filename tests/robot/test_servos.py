"""PositionServos on a bus without a port: what is told to servos, and when they count as stopped."""

from __future__ import annotations

import dataclasses
import time
import types
from collections.abc import Mapping

import numpy as np
import pytest

from robot.driver import DriverError
from robot.drivers import servos
from robot.drivers.readings import STILL
from robot.drivers.servos import DAMPED, OFF, ON, PositionServos, ServoState
from robot.drivers.wiring import MIDDLE, RAD_PER_COUNT, wiring
from robot.spec import load_spec
from robot.state import JointCommand

SWING_RAD_S, DECAY = 12.0, 4.0
"""Frequency [rad/s] and decay [1/s] of the swing: it turns round twice before it is over."""


class SwingingServo:
    """One servo that has torque and swings about its goal from the moment in which it is told to hold."""

    can_damp = False
    lowest, highest = np.zeros(1), np.full(1, 4095.0)

    def __init__(self) -> None:
        self.goals: list[int] = []
        self.now_ns = self._told_ns = 10**9

    def wait(self, until_ns: int) -> None:
        self.now_ns = max(self.now_ns, until_ns)

    def state(self, timeout_s: float) -> ServoState:
        self.now_ns += 1_000_000
        t, nothing = (self.now_ns - self._told_ns) * 1e-9, np.full(1, 30.0)
        velocity = 5.0 * np.exp(-DECAY * t) * np.cos(SWING_RAD_S * t) if self.goals else 0.0
        return ServoState(self.now_ns, np.full(1, MIDDLE), np.full(1, velocity), nothing, nothing)

    def positions(self, timeout_s: float) -> dict[int, int]:
        return {1: MIDDLE}

    def settings(self) -> list[tuple[int, int]]:
        return [(ON, MIDDLE + round(0.3 / RAD_PER_COUNT))]

    def tell_goals(self, goals: Mapping[int, int]) -> None:
        self._told_ns = self.now_ns
        self.goals += goals.values()

    def tell_torque(self, torques: Mapping[int, int]) -> None:
        """Nothing is switched here."""

    def close(self) -> None:
        """There is no port."""


def test_turning_point_of_a_swing_is_no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held in motion, a joint runs past its goal; where it turns round it is slow, and far from where it will end."""
    spec, bus = load_spec("servo_bench"), SwingingServo()
    monkeypatch.setattr(servos, "time", types.SimpleNamespace(monotonic_ns=lambda: bus.now_ns))
    monkeypatch.setattr(servos, "wait", bus.wait)
    driver = PositionServos(spec, bus, wiring(spec, (1,), None, None, None), turn=np.inf, settle_s=5.0, release="hold")
    begin = bus.now_ns
    driver.stop("done")
    seconds = (bus.now_ns - begin) * 1e-9
    assert bus.goals == [MIDDLE]
    assert 5.0 * np.exp(-DECAY * (seconds - 0.1)) < 3.0 * STILL  # the whole swing is over, not one half of it
    assert seconds < 2.0


class Deaf:
    """Six servos at rest, of which the last does not take its torque register."""

    can_damp = True
    lowest, highest = np.zeros(6), np.full(6, 4095.0)

    def __init__(self, torque: int = OFF) -> None:
        self.torque, self.goals = [torque] * 6, [MIDDLE] * 6
        self.deaf = True

    def state(self, timeout_s: float) -> ServoState:
        nothing = np.full(6, 7.0)
        return ServoState(time.monotonic_ns(), np.full(6, float(MIDDLE)), np.zeros(6), nothing, nothing)

    def positions(self, timeout_s: float) -> dict[int, int]:
        return dict.fromkeys(range(1, 7), MIDDLE)

    def settings(self) -> list[tuple[int, int]]:
        return list(zip(self.torque, self.goals, strict=True))

    def tell_goals(self, goals: Mapping[int, int]) -> None:
        for id, goal in goals.items():
            self.goals[id - 1] = goal

    def tell_torque(self, torques: Mapping[int, int]) -> None:
        for id, torque in torques.items():
            if not (self.deaf and id == 6):
                self.torque[id - 1] = torque

    def close(self) -> None:
        """There is no port."""


@pytest.mark.parametrize(("release", "value"), [("off", OFF), ("damp", DAMPED)])
def test_servos_that_took_their_torque_are_released_though_another_one_did_not(release: str, value: int) -> None:
    spec, bus = load_spec("so101"), Deaf()
    driver = PositionServos(spec, bus, wiring(spec), turn=2 * np.pi, settle_s=0.05, release=release)
    gains, zero = np.full(6, 5.0), np.zeros(6)
    with pytest.raises(DriverError, match="does not switch its torque"):
        driver.write(
            JointCommand(
                names=spec.joint_names, t_ns=0, position=np.array(driver.read(0.1).joints.position), velocity=zero,
                effort=zero, kp=gains, kd=zero,
            )
        )  # fmt: skip
    assert bus.torque == [ON] * 5 + [OFF]
    driver.stop("fault")
    driver.close()
    assert bus.torque[:5] == [value] * 5


def test_servos_that_were_only_watched_keep_what_they_had() -> None:
    """An arm that another run left holding must not sink when somebody has looked at it."""
    spec, bus = load_spec("so101"), Deaf(torque=ON)
    driver = PositionServos(spec, bus, wiring(spec), turn=2 * np.pi, settle_s=0.05, release="damp")
    driver.read(0.1)
    driver.close()
    assert bus.torque == [ON] * 6


def test_stop_that_failed_is_told_again_and_not_taken_for_done() -> None:
    """What a servo was told on a bus that was away has not arrived: the next stop may not rest on it."""
    spec = load_spec("so101")
    spec = dataclasses.replace(
        spec, actuators=tuple(dataclasses.replace(a, safe_action="zero") for a in spec.actuators)
    )

    class Away(Deaf):
        away = False

        def tell_torque(self, torques: Mapping[int, int]) -> None:
            if self.away:
                raise DriverError("the bus is away")
            super().tell_torque(torques)

    bus = Away(torque=ON)
    bus.deaf, bus.away = False, True
    driver = PositionServos(spec, bus, wiring(spec), turn=2 * np.pi, settle_s=0.05, release="off")
    with pytest.raises(DriverError, match="told to stop"):
        driver.stop("fault")
    with pytest.raises(DriverError, match="told to stop"):
        driver.stop("fault")
    bus.away = False
    driver.stop("fault")
    assert bus.torque == [OFF] * 6

"""PositionServos on a bus without a port: what is told to servos, and when they count as stopped."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from robot.drivers.readings import STILL
from robot.drivers.servos import ON, PositionServos, ServoState
from robot.drivers.wiring import MIDDLE, RAD_PER_COUNT, wiring
from robot.spec import load_spec

SWING_RAD_S, DECAY = 12.0, 4.0
"""Frequency [rad/s] and decay [1/s] of the swing: it turns round twice before it is over."""


class SwingingServo:
    """One servo that has torque and swings about its goal from the moment in which it is told to hold."""

    can_damp = False
    lowest, highest = np.zeros(1), np.full(1, 4095.0)

    def __init__(self) -> None:
        self.goals: list[int] = []
        self._told = 0.0

    def velocity(self) -> float:
        t = time.monotonic() - self._told
        return 5.0 * np.exp(-DECAY * t) * np.cos(SWING_RAD_S * t) if self.goals else 0.0

    def state(self, timeout_s: float) -> ServoState:
        nothing = np.full(1, 30.0)
        return ServoState(time.monotonic_ns(), np.full(1, MIDDLE), np.full(1, self.velocity()), nothing, nothing)

    def positions(self, timeout_s: float) -> dict[int, int]:
        return {1: MIDDLE}

    def settings(self) -> list[tuple[int, int]]:
        return [(ON, MIDDLE + round(0.3 / RAD_PER_COUNT))]

    def tell_goals(self, goals: Mapping[int, int]) -> None:
        self._told = self._told or time.monotonic()
        self.goals += goals.values()

    def tell_torque(self, torques: Mapping[int, int]) -> None:
        """Nothing is switched here."""

    def close(self) -> None:
        """There is no port."""


def test_turning_point_of_a_swing_is_no_rest() -> None:
    """Held in motion, a joint runs past its goal; where it turns round it is slow, and far from where it will end."""
    spec, bus = load_spec("servo_bench"), SwingingServo()
    driver = PositionServos(spec, bus, wiring(spec, (1,), None, None, None), turn=np.inf, settle_s=5.0, release="hold")
    begin = time.monotonic()
    driver.stop("done")
    seconds = time.monotonic() - begin
    assert bus.goals == [MIDDLE]
    assert 5.0 * np.exp(-DECAY * (seconds - 0.1)) <= 2.0 * STILL  # the whole swing is over, not one half of it
    assert seconds < 4.0

"""What a recording's first seconds say of itself, and when they are not believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from robot.log import EpisodeLog
from sim.model import Model, RobotConfig
from sim.randomization import NOMINAL
from sim.servos import SERVOS
from tests.transfer.servo_logs import feetech_bench, record_servo, waves
from transfer.dataset import DataRefused
from transfer.own import find_own
from transfer.prediction import evaluate

Simulate = Callable[..., EpisodeLog]


def test_a_zero_that_lasts_is_found_and_helps_the_rest(pendulum: RobotConfig, simulate: Simulate) -> None:
    log = simulate(pendulum, {}, seed=1, seconds=7.0, zero=0.06)
    own = find_own([log], Model(pendulum), NOMINAL, 2.5, nthread=1)["episode1"]
    assert own.zero == pytest.approx([0.06], abs=3e-3) and own.ratio < 0.5
    zeros = {"episode1": own.zero}
    late, found = (
        evaluate([log], Model(pendulum), NOMINAL, zeros=z, from_s=2.5, nthread=1).position_rmse(1)
        for z in (None, zeros)
    )
    assert found < 0.3 * late


def test_a_zero_that_one_half_denies_is_refused(pendulum: RobotConfig, simulate: Simulate) -> None:
    """A push in the first second only looks like a zero there, and hurts in the second."""
    log = simulate(pendulum, {}, seed=1, seconds=7.0)
    command = log["command.effort"]
    pushed = command.values.copy()
    pushed[:120] += 0.4
    log = replace(log, channels=log.channels | {"command.effort": replace(command, values=pushed)})
    own = find_own([log], Model(pendulum), NOMINAL, 2.5, nthread=1)["episode1"]
    assert own.zero is None and own.ratio > 1.0


def test_the_register_of_a_session_is_found() -> None:
    bench = feetech_bench()
    values = {"actuator/servo/error_kd": 0.03}
    model = replace(bench, model=replace(bench.model, parameters=values))
    ceiling = {"actuator/servo/acceleration_ceiling": SERVOS["sts3215"].accelerations[0]}
    goals = waves(7.0, 0.02, seed=2)
    logs = [
        record_servo(model, more, goals, name=name, period_s=0.02)
        for name, more in (("plain", {}), ("limited", ceiling))
    ]
    own = find_own(logs, Model(model), NOMINAL, 4.0, nthread=1)
    assert dict(own["plain"].setting) == {} and dict(own["limited"].setting) == ceiling


def test_too_few_seconds_are_refused(pendulum: RobotConfig, simulate: Simulate) -> None:
    with pytest.raises(DataRefused, match="at least"):
        find_own([simulate(pendulum, {}, seed=1)], Model(pendulum), NOMINAL, 0.8)

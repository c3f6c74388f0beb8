"""Identification of position servos: loops, gearboxes, zeros and delays come back, and what a session had set up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robot.log import EpisodeLog
from sim.model import Model, RobotConfig, find_robot
from sim.servos import SERVOS
from tests.transfer.servo_logs import feetech_bench, record_servo, waves
from transfer.chosen_unknowns import chosen_unknowns
from transfer.identify import Effort, Identification, identify
from transfer.prediction import evaluate
from transfer.settings import candidates

ACCELERATION = SERVOS["sts3215"].accelerations[0]
TRUTH = {
    "actuator/servo/kp": 1.0,
    "actuator/servo/error_kd": 0.035,
    "joint/servo/damping": 0.05,
    "joint/servo/frictionloss": 0.03,
    "joint/servo/armature": 0.0025,
    "actuator/servo/speed_ceiling": 5.0,
    "timing/command/delay": 0.014,
}
ZERO = 0.02
EFFORT = Effort(windows=24, search=8, finish=2)


@pytest.fixture(scope="module")
def bench() -> RobotConfig:
    return feetech_bench()


@pytest.fixture(scope="module")
def logs(bench: RobotConfig) -> list[EpisodeLog]:
    """Two sessions without a ceiling of acceleration, and one with the register at 254."""
    out = []
    for seed, more in enumerate(({}, {}, {"actuator/servo/acceleration_ceiling": ACCELERATION})):
        goals = waves(9.0, 0.02, seed)
        out.append(record_servo(bench, TRUTH | more, goals, zero=ZERO, name=f"session{seed}", period_s=0.02))
    return out


@pytest.fixture(scope="module")
def found(bench: RobotConfig, logs: list[EpisodeLog]) -> Identification:
    return identify(logs, Model(bench), effort=EFFORT, nthread=1)


def test_what_the_loop_shows_is_found(found: Identification) -> None:
    for name, width in (("actuator/servo/kp", 0.25), ("joint/servo/damping", 0.3), ("actuator/servo/error_kd", 0.4)):
        estimate = found.parameters[name]
        low, high = estimate["ci95"]
        assert low <= TRUTH[name] <= high, (name, estimate)
        assert high - low < width * TRUTH[name] and estimate["identified"], (name, estimate)
    assert found.parameters["sensor/servo/offset"]["estimate"] == pytest.approx(ZERO, abs=0.01)


def test_the_delay_is_found_within_a_millisecond(found: Identification) -> None:
    assert abs(found.delay_ms["mean"] - 14.0) < 1.0


def test_each_session_s_register_is_found_and_becomes_part_of_the_law(found: Identification) -> None:
    assert found.settings == {
        "session0": {},
        "session1": {},
        "session2": {"actuator/servo/acceleration_ceiling": ACCELERATION},
    }
    term = next(t for t in found.posterior.terms if t.targets == ("actuator/servo/acceleration_ceiling",))
    assert term.law.kind == "categorical" and term.law.weights == (2.5, 1.5)


def test_the_plant_is_one_for_both_kinds_of_session(
    bench: RobotConfig, logs: list[EpisodeLog], found: Identification
) -> None:
    settings = {name: dict(values) for name, values in found.settings.items()}
    told = evaluate(logs, Model(bench), found.posterior, nthread=1, settings=settings)
    alike = evaluate(logs, Model(bench), found.posterior, nthread=1)
    last = np.flatnonzero(told.file == 2)
    assert told.position_rmse(1, last) < 4e-3 < 3.0 * told.position_rmse(1, last) < alike.position_rmse(1, last)


def test_robots_without_such_registers_have_no_choice(bench: RobotConfig) -> None:
    assert candidates(Model(find_robot("simple_pendulum"))) == ({},)
    assert len(candidates(Model(bench))) == 2


def test_only_what_is_asked_for_is_estimated(bench: RobotConfig, logs: list[EpisodeLog]) -> None:
    """Gravity's direction, say: a bench that leans by 3 degrees, all else known."""
    known = replace(bench, model=replace(bench.model, parameters={k: v for k, v in TRUTH.items() if "timing" not in k}))
    leaning = record_servo(
        known, {"timing/command/delay": 0.014, "world/gravity/tilt_y": 0.05}, waves(5.0, 0.02, 5), period_s=0.02
    )
    unknowns = chosen_unknowns(Model(known), ["world/gravity/tilt_y", "timing/command/delay"], by_row=False)
    result = identify([leaning], Model(known), unknowns, effort=Effort(windows=5, search=4, finish=1), nthread=1)
    low, high = result.parameters["world/gravity/tilt_y"]["ci95"]
    assert set(result.parameters) == {"world/gravity/tilt_y", "timing/command/delay"}
    assert low <= 0.05 <= high and high - low < 0.03

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
EFFORT = Effort(windows=16, search=8, finish=2)


@pytest.fixture(scope="module")
def bench() -> RobotConfig:
    return feetech_bench()


@pytest.fixture(scope="module")
def logs(bench: RobotConfig) -> list[EpisodeLog]:
    """A session without a ceiling of acceleration, and one with the register at 254."""
    out = []
    for seed, more in ((0, {}), (2, {"actuator/servo/acceleration_ceiling": ACCELERATION})):
        goals = waves(9.0, 0.02, seed)
        out.append(record_servo(bench, TRUTH | more, goals, zero=ZERO, name=f"session{seed}", period_s=0.02))
    return out


def known(bench: RobotConfig, *names: str) -> Model:
    """The bench with the truth of some targets."""
    return Model(replace(bench, model=replace(bench.model, parameters={n: TRUTH[n] for n in names})))


@pytest.fixture(scope="module")
def found(bench: RobotConfig, logs: list[EpisodeLog]) -> Identification:
    model = known(bench, "joint/servo/frictionloss", "joint/servo/armature", "actuator/servo/speed_ceiling")
    asked = [n for n in TRUTH if n not in model.robot.model.parameters]
    unknowns = chosen_unknowns(model, [*asked, "sensor/servo/offset"], by_row=False)
    return identify(logs, model, unknowns, effort=EFFORT, nthread=1)


def test_what_the_loop_shows_is_found(found: Identification) -> None:
    name = "actuator/servo/kp"
    low, high = found.parameters[name]["ci95"]
    assert low <= TRUTH[name] <= high and high - low < 0.25 * TRUTH[name] and found.parameters[name]["identified"]
    assert found.parameters["sensor/servo/offset"]["estimate"] == pytest.approx(ZERO, abs=0.01)


def test_how_late_the_servo_is_in_all_is_found_within_two_milliseconds(found: Identification) -> None:
    """A delay and what viscous friction makes the loop lag are told apart badly; their sum is known."""
    kp, damping = (found.parameters[n]["estimate"] for n in ("actuator/servo/kp", "joint/servo/damping"))
    truth = TRUTH["timing/command/delay"] + TRUTH["joint/servo/damping"] / TRUTH["actuator/servo/kp"]
    assert 1e-3 * found.delay_ms["mean"] + damping / kp == pytest.approx(truth, abs=2e-3)


def test_each_session_s_register_is_found_and_becomes_part_of_the_law(found: Identification) -> None:
    assert found.settings == {"session0": {}, "session2": {"actuator/servo/acceleration_ceiling": ACCELERATION}}
    term = next(t for t in found.posterior.terms if t.targets == ("actuator/servo/acceleration_ceiling",))
    assert term.law.kind == "categorical" and term.law.weights == (1.5, 1.5)


def test_the_plant_is_one_for_both_kinds_of_session(
    bench: RobotConfig, logs: list[EpisodeLog], found: Identification
) -> None:
    settings = {name: dict(values) for name, values in found.settings.items()}
    model = known(bench, "joint/servo/frictionloss", "joint/servo/armature", "actuator/servo/speed_ceiling")
    told = evaluate(logs, model, found.posterior, nthread=1, settings=settings)
    alike = evaluate(logs, model, found.posterior, nthread=1)
    last = np.flatnonzero(told.file == 1)
    assert told.position_rmse(1, last) < 4e-3 < 3.0 * told.position_rmse(1, last) < alike.position_rmse(1, last)


def test_robots_without_such_registers_have_no_choice(bench: RobotConfig) -> None:
    assert candidates(Model(find_robot("simple_pendulum"))) == ({},)
    assert len(candidates(Model(bench))) == 2


def test_only_what_is_asked_for_is_estimated(bench: RobotConfig, logs: list[EpisodeLog]) -> None:
    """Gravity's direction, say: a bench that leans by 3 degrees, all else known."""
    model = known(bench, *(k for k in TRUTH if "timing" not in k))
    leaning = record_servo(
        model.robot, {"timing/command/delay": 0.014, "world/gravity/tilt_y": 0.05}, waves(5.0, 0.02, 5), period_s=0.02
    )
    unknowns = chosen_unknowns(model, ["world/gravity/tilt_y", "timing/command/delay"], by_row=False)
    result = identify([leaning], model, unknowns, effort=Effort(windows=5, search=4, finish=1), nthread=1)
    low, high = result.parameters["world/gravity/tilt_y"]["ci95"]
    assert set(result.parameters) == {"world/gravity/tilt_y", "timing/command/delay"}
    assert low <= 0.05 <= high and high - low < 0.03

"""The start of a window tells which value a session had given to its servos' registers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from robot.log import EpisodeLog
from sim.model import Model, RobotConfig
from sim.randomization import NOMINAL, Categorical, Randomization, Term
from sim.servos import SERVOS
from sim.targets.motors import UNLIMITED_ACCELERATION
from tests.transfer.servo_logs import feetech_bench, record_servo, waves
from transfer.prediction import evaluate, metric_for, shots_for
from transfer.session import possible, told_by_start

Array = npt.NDArray[np.float64]

TARGET, CEILING = "actuator/servo/acceleration_ceiling", SERVOS["sts3215"].accelerations[0]
PLANT = {
    "actuator/servo/kp": 1.0,
    "actuator/servo/error_kd": 0.035,
    "joint/servo/damping": 0.05,
    "joint/servo/frictionloss": 0.03,
    "joint/servo/armature": 0.0025,
    "actuator/servo/speed_ceiling": 5.0,
}
LAW = Randomization(
    name="sessions",
    terms=(
        Term(
            targets=(TARGET,), law=Categorical(values=(UNLIMITED_ACCELERATION, CEILING), weights=(3.0, 1.0)), tie=True
        ),
    ),
)


@pytest.fixture(scope="module")
def bench() -> RobotConfig:
    robot = feetech_bench()
    return replace(robot, model=replace(robot.model, parameters=PLANT))


LAW_SHARES = (0.75, 0.25)


def likely(bench: RobotConfig, log: EpisodeLog) -> Array:
    """(2, W) probability of no ceiling, and of the register's."""
    model = Model(bench)
    shots = shots_for([log], bench.spec, metric_for(bench.spec))
    values = {name: np.full(len(shots), v[0]) for name, v in LAW.center(model).items()}
    return told_by_start(shots, model, possible(LAW, values, len(shots)), np.zeros_like(shots.position), nthread=1)


def sweep(bench: RobotConfig, ceiling: float) -> EpisodeLog:
    return record_servo(bench, {TARGET: ceiling}, waves(10.0, 0.02, 2), name=f"{ceiling:g}", period_s=0.02)


@pytest.mark.parametrize(("ceiling", "number"), [(UNLIMITED_ACCELERATION, 0), (CEILING, 1)])
def test_a_joint_in_fast_motion_tells(bench: RobotConfig, ceiling: float, number: int) -> None:
    """Goals below 1 Hz, in the first five seconds, hardly do."""
    told = likely(bench, sweep(bench, ceiling))[number]
    assert told[5:].min() > 0.99 and told.mean() > LAW_SHARES[number] + 0.1


def test_where_nothing_moved_the_law_of_the_sessions_stands(bench: RobotConfig) -> None:
    still = record_servo(bench, {TARGET: CEILING}, np.full((300, 1), 0.3), period_s=0.02)
    np.testing.assert_allclose(likely(bench, still), np.tile([[0.75], [0.25]], 4), atol=1e-6)


def test_what_is_expected_is_nearly_what_the_register_s_true_value_foretells(bench: RobotConfig) -> None:
    log, model = sweep(bench, CEILING), Model(bench)

    def error(settings: dict[str, dict[str, float]] | None = None) -> float:
        return evaluate([log], model, LAW, from_s=5.0, nthread=1, settings=settings).position_rmse(1)

    best, worst = (error({log.name: {TARGET: value}}) for value in (CEILING, UNLIMITED_ACCELERATION))
    assert error() < best + 0.05 * (worst - best)


def test_no_later_row_is_looked_at(bench: RobotConfig) -> None:
    """Another end of a recording, from the rows on that the first windows' starts do not see, changes nothing there."""
    log = sweep(bench, CEILING)
    channel = log["joint.position"]
    late = channel.t_ns > channel.t_ns[0] + 5.1e9
    other = replace(channel, values=np.where(late[:, None], 0.0, channel.values))
    changed = replace(log, channels={**log.channels, "joint.position": other})
    np.testing.assert_array_equal(likely(bench, log)[:, :5], likely(bench, changed)[:, :5])


def test_a_value_that_no_session_has_gets_no_weight(bench: RobotConfig) -> None:
    model, log = Model(bench), sweep(bench, CEILING)
    never = Categorical(values=(UNLIMITED_ACCELERATION, CEILING), weights=(1.0, 0.0))
    law = replace(LAW, terms=(replace(LAW.terms[0], law=never),))
    shots = shots_for([log], bench.spec, metric_for(bench.spec))
    values = {name: np.full(len(shots), v[0]) for name, v in law.center(model).items()}
    told = told_by_start(shots, model, possible(law, values, len(shots)), np.zeros_like(shots.position), nthread=1)
    np.testing.assert_array_equal(told, np.tile([[1.0], [0.0]], len(shots)))


def test_robots_without_such_registers_have_no_choice(bench: RobotConfig) -> None:
    model = Model(bench)
    shots = shots_for([sweep(bench, CEILING)], bench.spec, metric_for(bench.spec))
    choices = possible(NOMINAL, {}, len(shots))
    assert choices == [(1.0, {})]
    np.testing.assert_array_equal(told_by_start(shots, model, choices, np.zeros_like(shots.position)), 1.0)

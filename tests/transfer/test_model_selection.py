"""Selection among friction models by recordings that the fit did not see."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from robot.log import EpisodeLog
from sim.model import Model, RobotConfig, find_robot
from sim.randomization import NOMINAL, Point, Randomization, Term
from tests.transfer.servo_logs import record_servo
from transfer.dataset import DataRefused
from transfer.friction_models import unknowns_of
from transfer.identify import Effort, identify
from transfer.model_selection import Selection, select
from transfer.prediction import evaluate


@pytest.fixture(scope="module")
def bench() -> RobotConfig:
    return find_robot("servo_bench")


def slow(seed: int) -> np.ndarray:
    """Goals that creep through a half turn and back, where friction under load shows."""
    t = 0.01 * np.arange(800)
    return (1.2 * np.sin((0.8 + 0.3 * seed) * t) + 0.2 * np.sin(5.0 * t + seed))[:, None]


TRUTH = {"joint/servo/frictionloss": 0.004, "joint/servo/motor_friction": 0.25, "joint/servo/load_friction": 0.25}


def test_friction_under_load_is_preferred_where_it_is_true(bench: RobotConfig) -> None:
    logs = [record_servo(bench, TRUTH, slow(s), name=f"log{s}", period_s=0.01) for s in range(3)]
    effort = Effort(windows=21, search=5, finish=1)

    def fit(some: Sequence[EpisodeLog], name: str) -> Randomization:
        return identify(some, Model(bench), unknowns_of(Model(bench), name, False), effort=effort, nthread=1).posterior

    selection = select(logs, lambda: Model(bench), ["M1", "M3"], fit)
    assert selection.chosen == "M3"
    rows = selection.rows()
    assert [row["chosen"] for row in rows] == [False, True]
    assert rows[0]["more_than_chosen"]["ci95"][0] > 0.0 and set(rows[0]["files"]) == {"log0", "log1", "log2"}


def test_the_simplest_is_kept_where_none_is_better(bench: RobotConfig) -> None:
    log = record_servo(bench, {}, slow(0), period_s=0.01)
    same = evaluate([log], Model(bench), NOMINAL, nthread=1)
    stiff = Randomization(name="stiff", terms=(Term(targets=("actuator/servo/kp",), law=Point(values=(2.0,))),))
    worse = evaluate([log], Model(bench), stiff, nthread=1)
    assert Selection({"M1": same, "M2": same, "M3": worse}, 1.0).chosen == "M1"
    assert Selection({"M1": worse, "M2": same, "M3": same}, 1.0).chosen == "M2"


def test_a_single_recording_is_refused(bench: RobotConfig) -> None:
    with pytest.raises(DataRefused, match="two recordings"):
        select([record_servo(bench, {}, slow(0)[:100])], lambda: Model(bench), ["M1"], lambda some, name: NOMINAL)

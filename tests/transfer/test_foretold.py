"""A simulation identified from another robot's logs is caught by recordings of this one, before anything is trained."""

from __future__ import annotations

import pytest

from robot.log import EpisodeLog
from sim import truths
from sim.model import Model, RobotConfig, find_robot
from sim.randomization import Point, Randomization, Term
from sim.surrogate import record_episode
from transfer.foretold import foretold


@pytest.fixture(scope="module")
def robot() -> RobotConfig:
    return find_robot("simple_pendulum")


@pytest.fixture(scope="module")
def held_out(robot: RobotConfig) -> list[EpisodeLog]:
    return [record_episode(robot, kind, 4.0, truth=1, seed=k) for k, kind in enumerate(("chirp", "prbs"))]


def test_the_truth_is_not_contradicted(robot: RobotConfig, held_out: list[EpisodeLog]) -> None:
    found = foretold(held_out, robot, truths.truth(Model(robot), 1))
    assert found is not None and found.change["ci95"][1] < 0.0 and not found.contradicted
    assert found.identified_rad < 0.5 * found.nominal_rad


def test_half_the_length_is_contradicted_in_words(robot: RobotConfig, held_out: list[EpisodeLog]) -> None:
    half = Term(targets=("body/pendulum/com",), how="scale", law=Point(values=(0.5,)))
    found = foretold(held_out, robot, Randomization(name="another", terms=(half,), robot="simple_pendulum"))
    assert found is not None and found.contradicted and found.identified_rad > found.nominal_rad
    assert found.why.startswith("negative transfer: ") and "are they of one robot?" in found.why


def test_recordings_that_are_too_short_contradict_nothing(robot: RobotConfig) -> None:
    assert foretold([record_episode(robot, "chirp", 1.1, truth=1)], robot, truths.truth(Model(robot), 1)) is None

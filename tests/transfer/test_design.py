"""Experiment design: the proposal is a file that `record` plays, and shrinks a posterior more than a random motion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robot import excitation as excitations
from robot.config import ConfigError
from sim.model import Model, RobotConfig, find_robot
from sim.randomization import NOMINAL, JointGaussian, Randomization, Term
from transfer.design import Judge, Multisine, propose


def broad(robot: str, targets: dict[str, tuple[float, float]]) -> Randomization:
    """A posterior, independent: target -> middle and sd of its logarithm."""
    law = JointGaussian(
        transform=("log",) * len(targets),
        bounds=((0.0, 1.0),) * len(targets),
        mean=tuple(float(np.log(m)) for m, _ in targets.values()),
        covariance=tuple(map(tuple, np.diag([s**2 for _, s in targets.values()]).tolist())),
    )
    return Randomization(name="broad", robot=robot, terms=(Term(targets=tuple(targets), law=law),))


PENDULUM = {
    "body/pendulum/mass": (0.7, 0.1), "body/pendulum/com": (0.5, 0.1), "joint/shoulder/damping": (0.02, 0.5),
    "joint/shoulder/frictionloss": (0.08, 0.4),
}  # fmt: skip


@pytest.fixture(scope="module")
def judge(pendulum: RobotConfig) -> Judge:
    return Judge(Model(pendulum), broad("simple_pendulum", PENDULUM))


def test_the_proposal_tells_more_than_random_motions_of_equal_length_and_size(
    pendulum: RobotConfig, judge: Judge
) -> None:
    """Over seeds: against the mean of as many excitations as a person would draw."""
    model, law = Model(pendulum), broad("simple_pendulum", PENDULUM)
    for seed in range(2):
        proposal = propose(model, law, 4.0, np.random.default_rng(seed), quick=True)
        rng = np.random.default_rng(100 + seed)
        random = [Multisine.drawn(1, rng).excitation(pendulum.spec, 4.0, 0.5) for _ in range(3)]
        gains = [judge.gain(judge.information(e)) for e in random]
        assert proposal.gain > np.mean(gains) + 0.2, (proposal.gain, gains)
        assert all(share < 1.0 for share in proposal.spread.values())


def test_record_plays_the_file(pendulum: RobotConfig, tmp_path: Path) -> None:
    proposal = propose(Model(pendulum), broad("simple_pendulum", PENDULUM), 3.0, np.random.default_rng(0), quick=True)
    (tmp_path / "next.csv").write_text(proposal.csv(pendulum.spec))
    read = excitations.from_file(tmp_path / "next.csv", pendulum.spec)
    assert read.t_s[-1] == pytest.approx(proposal.excitation.t_s[-1], abs=0.02)
    assert np.abs(read.values).max() <= 0.5 * pendulum.spec.actuators[0].effort_limit + 1e-9
    assert abs(read.values[0, 0]) < 1e-6 and abs(read.values[-1, 0]) < 1e-3


def test_a_motion_that_is_stuck_in_friction_tells_next_to_nothing(pendulum: RobotConfig, judge: Judge) -> None:
    sines = Multisine.drawn(1, np.random.default_rng(0))
    weak, strong = (judge.gain(judge.information(sines.excitation(pendulum.spec, 4.0, a))) for a in (0.02, 0.6))
    assert weak < 0.3 * strong


def test_equal_rotors_are_one_unknown(double_pendulum: RobotConfig) -> None:
    rotors = ("motor/shoulder/rotor_inertia", "motor/elbow/rotor_inertia")
    law = broad("double_pendulum_c1", {t: (6e-5, 0.3) for t in rotors} | {"joint/elbow/damping": (0.01, 0.5)})
    term = law.terms[0]
    assert isinstance(term.law, JointGaussian)
    tied = np.array(term.law.covariance)
    tied[0, 1] = tied[1, 0] = tied[0, 0]
    term = replace(term, law=replace(term.law, covariance=tuple(map(tuple, tied.tolist()))))
    judge = Judge(Model(double_pendulum), replace(law, terms=(term,)))
    assert [u.targets for u in judge.unknowns] == [rotors, ("joint/elbow/damping",)]
    assert [u.joint for u in judge.unknowns] == ["", "elbow"]


def test_a_law_with_nothing_left_to_find_out_is_refused(pendulum: RobotConfig) -> None:
    with pytest.raises(ConfigError, match="nothing"):
        Judge(Model(find_robot("simple_pendulum")), NOMINAL)

"""Cases of the robustness: one term at a time, the rest where it belongs."""

from __future__ import annotations

import numpy as np
import pytest

from robot.config import ConfigError
from sim.arranged import Arranged
from sim.model import Model, RobotConfig
from sim.randomization import Point, Randomization, Term, Uniform
from transfer.robustness import BEYOND, NOMINAL, PRIOR, PRIORS, Case, arrange, label, ranking

COM, GAIN, FRICTION = "body/pendulum/com", "actuator/shoulder/gain", "joint/shoulder/frictionloss"


@pytest.fixture()
def prior() -> Randomization:
    return Randomization(
        name="three",
        terms=(
            Term(targets=(COM,), how="scale", law=Uniform(low=0.8, high=1.2)),
            Term(targets=(GAIN,), law=Uniform(low=0.9, high=1.1)),
            Term(targets=(FRICTION,), law=Point(values=(0.02,))),
        ),
    )


def test_each_case_moves_one_term_and_leaves_the_others_nominal(pendulum: RobotConfig, prior: Randomization) -> None:
    model = Model(pendulum)
    cases = arrange(prior, model, 4, np.random.default_rng(0))
    drawn = cases.randomization.draw(model, np.random.default_rng(9), len(cases.of))
    group, com, nominal = np.arange(len(cases.of)), drawn[COM], model.nominal(COM)

    def of(case: Case) -> np.ndarray:
        return cases.rows(case, group)

    assert {c.term for c in cases.cases} == {NOMINAL.term, PRIOR.term, COM, GAIN}  # what does not vary has no case
    assert np.all(com[of(NOMINAL)] == nominal) and np.unique(com[of(PRIOR)]).size == 4 * PRIORS
    low, high = Case(COM, "low"), Case(COM, "high")
    np.testing.assert_allclose(com[of(low)], 0.8 * nominal, rtol=0.02)
    np.testing.assert_allclose(com[of(high)], 1.2 * nominal, rtol=0.02)
    for case in (low, high):
        assert np.all(drawn[GAIN][of(case)] == model.nominal(GAIN))
        assert np.all(drawn[FRICTION][of(case)] == model.nominal(FRICTION))
    beyond = of(Case(COM, BEYOND))
    assert np.all(com[beyond] > 1.5 * nominal) and np.unique(drawn[GAIN][beyond]).size == 4
    assert np.all(drawn[FRICTION][beyond] == 0.02)


def test_mixing_keeps_what_belongs_together(pendulum: RobotConfig, prior: Randomization) -> None:
    cases = arrange(prior, Model(pendulum), 3, np.random.default_rng(0))
    mixed = cases.mixed()
    count = len(cases.cases)
    assert mixed.of.tolist() == list(range(count)) * 3
    for row, mixed_row in zip(cases.randomization.rows, mixed.randomization.rows, strict=True):
        np.testing.assert_array_equal(mixed_row[:, 0].reshape(3, count).T.ravel(), row[:, 0])


def test_arranged_rows_are_given_to_as_many_simulations_only(pendulum: RobotConfig) -> None:
    arranged = Arranged.of("mine", {GAIN: np.array([1.0, 1.1, 1.2])})
    assert arranged.draw(Model(pendulum), np.random.default_rng(0), 3)[GAIN].tolist() == [1.0, 1.1, 1.2]
    with pytest.raises(ConfigError, match="'mine': actuator/shoulder/gain has 3 rows for 4 simulations"):
        arranged.draw(Model(pendulum), np.random.default_rng(0), 4)
    with pytest.raises(ConfigError, match=r"actuator/shoulder/gain.*outside its valid range"):
        Arranged.of("bad", {GAIN: np.array([-5.0])}).draw(Model(pendulum), np.random.default_rng(0), 1)


def test_beyond_turns_around_where_no_more_is_valid(pendulum: RobotConfig) -> None:
    """A drop rate of 90 to 100 % cannot grow: one width below is beyond, too."""
    rate = "timing/command/drop"
    prior = Randomization(name="lossy", terms=(Term(targets=(rate,), law=Uniform(low=0.5, high=0.9)),))
    model = Model(pendulum)
    cases = arrange(prior, model, 2, np.random.default_rng(0))
    drawn = cases.randomization.draw(model, np.random.default_rng(0), len(cases.of))[rate]
    assert drawn[cases.rows(Case(rate, BEYOND), np.arange(len(cases.of)))][0] == pytest.approx(0.1, abs=0.02)


def test_the_most_harmful_term_comes_first() -> None:
    cases = [NOMINAL, *(Case(t, s) for t in ("mild", "cruel") for s in ("low", "high"))]
    errors = dict(zip(cases, ({"mean": m, "ci95": [m, m], "n": 1} for m in (0.1, 0.2, 0.1, 0.1, 0.9)), strict=True))
    rows = ranking(errors, cases)
    assert [row["term"] for row in rows] == ["cruel", "mild"] and rows[0]["high"]["mean"] == 0.9


def test_a_term_of_many_targets_has_a_short_name() -> None:
    law = Uniform(low=0.0, high=1.0)
    assert label(Term(targets=(COM,), law=law)) == COM
    assert label(Term(targets=("geom/rod/red", "geom/disc/red"), law=law)) == "geom/rod..disc/red"
    assert label(Term(targets=("geom/rod/red", "geom/rod/green"), law=law)) == "geom/rod/red and 1 more"

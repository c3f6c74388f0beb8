"""Laws of parameters: what they draw, that they survive a file, and that wrong ones are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from robot import config
from robot.config import ConfigError
from sim import randomization
from sim.curriculum import of
from sim.model import Model, RobotConfig, find_robot
from sim.randomization import JointGaussian, LogUniform, Point, Randomization, Term, Uniform

CONFIGS = Path(__file__).parents[2] / "configs"
MASS, COM, DAMPING = "body/pendulum/mass", "body/pendulum/com", "joint/shoulder/damping"


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def posterior() -> Randomization:
    gaussian = JointGaussian(
        transform=("log", "logit", "none"),
        bounds=((0.0, 10.0), (0.1, 0.9), (0.0, 1.0)),
        mean=(np.log(0.7), 0.3, 0.04),
        covariance=((0.01, 0.004, 0.0), (0.004, 0.09, 0.0), (0.0, 0.0, 1e-6)),
    )
    return Randomization(
        name="posterior", robot="simple_pendulum", terms=(Term(targets=(MASS, COM, DAMPING), law=gaussian),)
    )


def test_each_way_of_combining_starts_from_the_nominal(pendulum: RobotConfig) -> None:
    model = Model(pendulum)
    for how, expected in (("set", 0.5), ("scale", 0.5 * 0.6755), ("offset", 0.5 + 0.6755)):
        term = Term(targets=(MASS,), how=how, law=Point(values=(0.5,)))
        drawn = Randomization(name=how, terms=(term,)).draw(model, rng(), 3)
        np.testing.assert_allclose(drawn[MASS], expected, rtol=1e-15)


def test_uniform_laws_stay_inside_and_fill_their_range(pendulum: RobotConfig) -> None:
    model = Model(pendulum)
    terms = (
        Term(targets=(MASS, COM), how="scale", law=Uniform(low=0.9, high=1.1)),
        Term(targets=(DAMPING,), law=LogUniform(low=1e-3, high=1e-1)),
    )
    drawn = Randomization(name="prior", terms=terms).draw(model, rng(), 4000)
    assert 0.9 * 0.6755 <= drawn[MASS].min() < 0.905 * 0.6755 and 1.095 * 0.6755 < drawn[MASS].max() <= 1.1 * 0.6755
    assert abs(np.corrcoef(drawn[MASS], drawn[COM])[0, 1]) < 0.06, "each target of a term is drawn by itself"
    assert np.median(drawn[DAMPING]) == pytest.approx(1e-2, rel=0.15)


def test_tied_targets_get_one_value_in_all_simulations(double_pendulum: RobotConfig) -> None:
    rotors = ("motor/shoulder/rotor_inertia", "motor/elbow/rotor_inertia")
    term = Term(targets=rotors, how="scale", law=Uniform(low=0.5, high=2.0), tie=True)
    drawn = Randomization(name="tied", terms=(term,)).draw(Model(double_pendulum), rng(), 50)
    np.testing.assert_array_equal(drawn[rotors[0]], drawn[rotors[1]])
    assert np.unique(drawn[rotors[0]]).size == 50


def test_a_joint_gaussian_keeps_its_correlation_and_never_leaves_what_is_physical(pendulum: RobotConfig) -> None:
    drawn = posterior().draw(Model(pendulum), rng(), 5000)
    assert (drawn[MASS] > 0).all() and ((drawn[COM] > 0.1) & (drawn[COM] < 0.9)).all()
    logit = np.log((drawn[COM] - 0.1) / (0.9 - drawn[COM]))
    assert np.corrcoef(np.log(drawn[MASS]), logit)[0, 1] == pytest.approx(0.004 / np.sqrt(0.01 * 0.09), abs=0.05)
    center = posterior().center(Model(pendulum))
    assert center[MASS][0] == pytest.approx(0.7) and center[DAMPING][0] == pytest.approx(0.04)


def test_coordinates_and_physical_values_are_inverse() -> None:
    kinds, bounds = ("log", "logit", "none"), ((0.0, 1.0), (0.2, 0.8), (0.0, 1.0))
    x = rng().normal(size=(100, 3))
    back = randomization.to_coordinates(randomization.from_coordinates(x, kinds, bounds), kinds, bounds)
    np.testing.assert_allclose(back, x, atol=1e-12)


def test_the_same_seed_draws_the_same(pendulum: RobotConfig) -> None:
    model = Model(pendulum)
    for law in (posterior(), randomization.load(CONFIGS / "dr" / "simple_pendulum_default.yaml")):
        first, again, other = law.draw(model, rng(1), 5), law.draw(model, rng(1), 5), law.draw(model, rng(2), 5)
        for name in law.targets:
            np.testing.assert_array_equal(first[name], again[name])
            assert (first[name] != other[name]).all()


def test_prior_and_posterior_come_back_from_a_file_as_they_were(tmp_path: Path) -> None:
    for law in (posterior(), randomization.load(CONFIGS / "dr" / "double_pendulum_c1_default.yaml")):
        config.save(tmp_path / "law.yaml", law)
        assert randomization.load(tmp_path / "law.yaml") == law


@pytest.mark.parametrize("path", sorted((CONFIGS / "dr").glob("*.yaml")) + sorted((CONFIGS / "model").glob("*.yaml")))
def test_every_shipped_file_fits_its_robot(path: Path) -> None:
    law = randomization.load(path)
    model = Model(find_robot(law.robot))
    law.check(model)
    assert law.name == path.stem and law.source
    drawn = law.draw(model, rng(), 100)
    assert set(drawn) == set(law.targets)
    assert law.fixed == path.stem.startswith("published")


def test_a_law_for_another_robot_is_refused_by_name(double_pendulum: RobotConfig) -> None:
    with pytest.raises(ConfigError, match="made for robot 'simple_pendulum'; this robot is 'double_pendulum_c1'"):
        posterior().check(Model(double_pendulum))
    nameless = dataclasses.replace(posterior(), robot="")
    with pytest.raises(ConfigError, match="has no body 'pendulum'"):
        nameless.check(Model(double_pendulum))


def test_a_draw_outside_what_is_physical_is_an_error(pendulum: RobotConfig) -> None:
    wild = Randomization(name="wild", terms=(Term(targets=(MASS,), how="offset", law=Uniform(low=-2.0, high=-1.0)),))
    with pytest.raises(ConfigError, match=r"'body/pendulum/mass'.*outside its valid range"):
        wild.draw(Model(pendulum), rng(), 10)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{targets: [body/x/mas], law: {kind: uniform, low: 0, high: 1}}", "Did you mean 'body/<name>/mass'"),
        ("{targets: [body/x/mass], law: {kind: unifrom, low: 0, high: 1}}", "Did you mean 'uniform'"),
        ("{targets: [body/x/mass], law: {kind: uniform, low: 2, high: 1}}", "low 2.0 is above high 1.0"),
        ("{targets: [body/x/mass], law: {kind: log_uniform, low: 0, high: 1}}", "0 < low"),
        ("{targets: [body/x/mass], law: {kind: point, values: [1, 2]}}", "2 values for 1 targets"),
        ("{targets: [body/x/mass], hwo: scale, law: {kind: point, values: [1]}}", "Did you mean 'how'"),
        ("{targets: [body/x/mass], how: twice, law: {kind: point, values: [1]}}", "terms\\[0\\].how is 'twice'"),
        (
            "{targets: [body/x/mass], law: {kind: joint_gaussian, transform: [log], bounds: [[0, 1]], mean: [0],"
            " covariance: [[-1]]}}",
            "not symmetric positive semidefinite",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_the_place_and_the_reason(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "law.yaml"
    path.write_text(f"name: wrong\nterms:\n  - {text}\n")
    with pytest.raises(ConfigError, match=words) as caught:
        randomization.load(path)
    assert str(path) in str(caught.value)


def test_a_target_in_two_terms_is_refused() -> None:
    term = Term(targets=(MASS,), law=Point(values=(1.0,)))
    with pytest.raises(ConfigError, match="stands in two terms"):
        Randomization(name="double", terms=(term, term))


@pytest.mark.parametrize("path", sorted((CONFIGS / "dr").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_prior_fits_its_robot_and_never_leaves_a_valid_range(path: Path) -> None:
    """Also where laws have tails: a draw outside a target's range would end a training."""
    prior = randomization.load(path)
    assert prior.name == path.stem and prior.robot and prior.source
    model = Model(find_robot(prior.robot))
    prior.check(model)
    drawn = prior.draw(model, rng(), 5000)
    assert set(drawn) == set(prior.targets)
    moved = [name for name, values in drawn.items() if np.ptp(values) > 0]
    fixed = {n for term in prior.terms if isinstance(term.law, Point) for n in term.targets}
    assert moved == [name for name in drawn if name not in fixed], "a prior that never varies is none"
    assert of(prior, 4).draw(model, rng(), np.arange(4)).keys() == drawn.keys()

"""Curricula against policies of which it is known where they succeed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from robot.config import ConfigError, convert
from sim import curriculum
from sim.curriculum import Adr, Adversarial, Curriculum, Ramp
from sim.laws import Categorical, LogUniform, Normal, Point, Uniform
from sim.model import Model, RobotConfig
from sim.randomization import Randomization, Term
from sim.tasks import load_task
from sim.vecenv import BatchedEnv

Array = npt.NDArray[np.float64]
MASS, DAMPING, FRICTION = "body/pendulum/mass", "joint/shoulder/damping", "joint/shoulder/frictionloss"
NSIM = 32
NOMINAL_MASS = 0.6755


def prior(settings: Any) -> Randomization:
    terms = (
        Term(targets=(MASS,), how="scale", law=Uniform(low=0.5, high=2.0)),
        Term(targets=(DAMPING,), law=LogUniform(low=1e-3, high=1e-1)),
        Term(targets=(FRICTION,), law=Normal(mean=0.05, sd=0.005)),
    )
    return Randomization(name="prior", robot="simple_pendulum", terms=terms, curriculum=settings)


def train(found: Curriculum, model: Model, succeeds: Any, rounds: int, seed: int = 0) -> dict[str, Array]:
    """Episodes in all simulations, round by round; returns the draws of the last quarter."""
    rng, ids, late = np.random.default_rng(seed), np.arange(NSIM), []
    for i in range(rounds):
        drawn = found.draw(model, rng, ids)
        success = succeeds(drawn)
        found.report(ids, np.where(success, 10.0, -1.0), success)
        if i >= 3 * rounds // 4:
            late.append(drawn)
    return {name: np.concatenate([d[name] for d in late]) for name in late[0]}


def test_without_a_curriculum_draws_are_those_of_the_randomization(pendulum: RobotConfig) -> None:
    plain, model = prior(None), Model(pendulum)
    found = curriculum.of(plain, NSIM)
    drawn = found.draw(model, np.random.default_rng(3), np.arange(5))
    for name, values in plain.draw(model, np.random.default_rng(3), 5).items():
        np.testing.assert_array_equal(drawn[name], values)
    assert found.state() == {} and found.summary() == {}


def test_adr_begins_close_around_the_nominal(pendulum: RobotConfig) -> None:
    found, model = curriculum.of(prior(Adr(start=0.1)), 2000), Model(pendulum)
    drawn = found.draw(model, np.random.default_rng(0), np.arange(2000))
    scale = drawn[MASS] / NOMINAL_MASS
    assert scale.min() == pytest.approx(1.0 - 0.15) and scale.max() == pytest.approx(1.0 + 0.15)
    assert np.std(drawn[FRICTION]) == pytest.approx(0.005, rel=0.1), "a normal law is drawn as it stands"


def test_adr_grows_as_far_as_the_policy_can_follow(pendulum: RobotConfig) -> None:
    """A policy that lifts up to 1.4 times the nominal mass, and does not care about damping."""
    found, model = curriculum.of(prior(Adr(step=0.05, episodes=20)), NSIM), Model(pendulum)
    late = train(found, model, lambda d: d[MASS] < 1.4 * NOMINAL_MASS, rounds=1500)
    scale = late[MASS] / NOMINAL_MASS
    assert scale.min() == pytest.approx(0.5), "the low end is easy: the bound reaches the law's own"
    assert 1.35 < scale.max() < 1.4 + 2 * 0.05 * 1.5
    assert late[DAMPING].min() == pytest.approx(1e-3) and late[DAMPING].max() == pytest.approx(1e-1)
    summary = found.summary()
    assert summary[f"width/{DAMPING}"] == pytest.approx(1.0) and 0.5 < summary[f"width/{MASS}"] < 0.7


def test_adr_shrinks_where_the_policy_fails(pendulum: RobotConfig) -> None:
    found, model = curriculum.of(prior(Adr(start=0.3, episodes=10)), NSIM), Model(pendulum)
    late = train(found, model, lambda d: d[MASS] < 1.0 * NOMINAL_MASS, rounds=600)
    assert late[MASS].max() / NOMINAL_MASS < 1.15 and late[MASS].min() / NOMINAL_MASS == pytest.approx(0.5)


def test_half_of_the_episodes_are_at_a_bound(pendulum: RobotConfig) -> None:
    found, model = curriculum.of(prior(Adr(boundary=0.5, start=0.2)), 8000), Model(pendulum)
    scale = found.draw(model, np.random.default_rng(0), np.arange(8000))[MASS] / NOMINAL_MASS
    at = np.isclose(scale, scale.min()) | np.isclose(scale, scale.max())
    assert np.mean(at) == pytest.approx(0.25, abs=0.02), "two of the four bounds are of the mass"


def test_adversarial_sampling_goes_where_the_policy_fails_and_keeps_the_rest(pendulum: RobotConfig) -> None:
    """It fails above 1.7 times the mass, a fifth of the law: that region gets much more, the others do not vanish."""
    settings = Adversarial(worst=0.2, share=0.5, width=0.05, memory=200)
    found, model = curriculum.of(prior(settings), NSIM), Model(pendulum)
    late = train(found, model, lambda d: d[MASS] < 1.7 * NOMINAL_MASS, rounds=200)
    scale = late[MASS] / NOMINAL_MASS
    assert np.mean(scale > 1.7) > 0.45, "half of the episodes near failures, and a fifth of the rest"
    assert np.mean(scale < 1.2) > 0.15
    assert scale.min() >= 0.5 and scale.max() <= 2.0
    assert found.summary()["worst"] == -1.0 and found.summary()["score"] > -1.0


def test_adversarial_sampling_forgets(pendulum: RobotConfig) -> None:
    """What was bad and is good now is no longer sought."""
    found, model = curriculum.of(prior(Adversarial(memory=200, width=0.05)), NSIM), Model(pendulum)
    train(found, model, lambda d: d[MASS] < 1.7 * NOMINAL_MASS, rounds=100)
    late = train(found, model, lambda d: d[MASS] > 0.8 * NOMINAL_MASS, rounds=200, seed=1)
    scale = late[MASS] / NOMINAL_MASS
    assert np.mean(scale < 0.8) > 0.4 and np.mean(scale > 1.7) < 0.25


def test_an_environment_tells_its_curriculum_how_episodes_end(pendulum: RobotConfig) -> None:
    """Without torque the pendulum never stands up: bounds do not grow, and an evaluation draws from the whole law."""
    task, settings = load_task("pendulum_swingup"), Adr(episodes=2, start=0.2, step=0.1, score="success", boundary=1.0)
    task = dataclasses.replace(task, episode_s=0.05, explore_s=0.05)
    env = BatchedEnv(task, pendulum, prior(settings), 16, seed=1, nthread=1)
    env.reset()
    for _ in range(60):
        env.step(np.zeros((16, 1)))
    assert env.curriculum.summary()["width"] == pytest.approx(0.0, abs=1e-12), "every bound shrank to nothing"
    names, values = env.parameters
    assert np.ptp(values[:, names.index(MASS)]) == pytest.approx(0.0, abs=1e-12)
    held_out = BatchedEnv(task, pendulum, prior(settings), 64, seed=1, start="evaluate", nthread=1)
    held_out.reset()
    assert np.ptp(held_out.parameters[1][:, names.index(MASS)]) > 1.2 * NOMINAL_MASS


@pytest.mark.parametrize("settings", [Adr(episodes=5), Adversarial(memory=50)])
def test_a_restored_curriculum_draws_as_the_one_that_went_on(pendulum: RobotConfig, settings: Any) -> None:
    model = Model(pendulum)
    one = curriculum.of(prior(settings), NSIM)
    train(one, model, lambda d: d[MASS] < 1.4 * NOMINAL_MASS, rounds=50)
    other = curriculum.of(prior(settings), NSIM)
    other.restore({name: np.array(values) for name, values in one.state().items()})
    results = [train(c, model, lambda d: d[MASS] < 1.4 * NOMINAL_MASS, rounds=40, seed=7) for c in (one, other)]
    for name in (MASS, DAMPING, FRICTION):
        np.testing.assert_array_equal(results[0][name], results[1][name])


def test_a_state_of_another_randomization_is_refused() -> None:
    one = curriculum.of(prior(Adr()), NSIM)
    other = curriculum.of(dataclasses.replace(prior(Adr()), terms=prior(None).terms[:1]), NSIM)
    with pytest.raises(ConfigError, match="another randomization"):
        other.restore(one.state())


def test_what_a_curriculum_cannot_move_is_refused() -> None:
    fixed = (Term(targets=(MASS,), law=Point(values=(0.5,))),)
    for settings, words in ((Adr(), "there are none"), (Adversarial(), "a law that varies")):
        with pytest.raises(ConfigError, match=words):
            curriculum.of(Randomization(name="fixed", terms=fixed, curriculum=settings), NSIM)
    for make, words in (
        (lambda: Adr(good=0.3, bad=0.4), "below good"),
        (lambda: Adr(step=0.0), "shares up to 1"),
        (lambda: Adversarial(share=1.0), "share stays below 1"),
        (lambda: Adversarial(memory=3), "is none"),
    ):
        with pytest.raises(ConfigError, match=words):
            make()


def test_a_curriculum_is_a_part_of_the_yaml() -> None:
    data = {"name": "r", "curriculum": {"kind": "adr", "good": 0.9}}
    assert convert(Randomization, data, "test").curriculum == Adr(good=0.9)
    with pytest.raises(ConfigError, match=r"curriculum\.kind is 'ard'.*Did you mean 'adr'"):
        convert(Randomization, {"name": "r", "curriculum": {"kind": "ard"}}, "test")


def test_a_ramp_goes_from_the_nominal_to_the_terms_in_step_with_the_training(pendulum: RobotConfig) -> None:
    ramp = Ramp(from_env_steps=300, over_env_steps=1000)
    found, model = curriculum.of(prior(ramp), 2000), Model(pendulum)
    ids = np.arange(2000)

    def spread() -> tuple[float, float]:
        drawn = found.draw(model, np.random.default_rng(0), ids)
        return float(np.ptp(drawn[MASS]) / NOMINAL_MASS), float(np.std(drawn[FRICTION]))

    begin = {name: model.nominal(name) for name in (MASS, FRICTION)}
    begin[DAMPING] = 1e-2  # the middle of a law that does not hold the nominal
    for steps in (0, 300):
        found.advance(steps)
        drawn = found.draw(model, np.random.default_rng(0), ids)
        assert all(drawn[name] == pytest.approx(value, rel=1e-12) for name, value in begin.items())
    found.advance(500)
    half = spread()
    found.advance(500)
    full = spread()
    assert half == pytest.approx((0.75, 0.0025), rel=0.1) and full == pytest.approx((1.5, 0.005), rel=0.1)
    found.advance(10**6)
    assert spread() == full and found.summary() == {"share": 1.0}


def test_a_ramp_goes_on_from_its_state_and_counts_the_environments_steps(pendulum: RobotConfig) -> None:
    law = prior(Ramp(start=0.2, end=0.6, over_env_steps=400))
    env = BatchedEnv(load_task("pendulum_swingup"), pendulum, law, 8, nthread=1)
    env.reset()
    for _ in range(25):
        env.step(np.zeros((8, 1)))
    other = curriculum.of(law, 8)
    other.restore(env.curriculum.state())
    assert env.curriculum.summary() == other.summary() == {"share": pytest.approx(0.4)}
    with pytest.raises(ConfigError, match="the saved state is of another randomization"):
        other.restore({})
    with pytest.raises(ConfigError, match="over_env_steps is 0 and from_env_steps 0; they must be at least 1 and 0"):
        Ramp(over_env_steps=0)


def test_a_ramp_keeps_a_categorical_draw_with_its_share(pendulum: RobotConfig) -> None:
    terms = (Term(targets=(DAMPING,), law=Categorical(values=(0.5, 0.6))),)
    found = curriculum.of(Randomization(name="x", terms=terms, curriculum=Ramp(start=0.3, over_env_steps=1)), 4000)
    model = Model(pendulum)
    drawn = found.draw(model, np.random.default_rng(0), np.arange(4000))[DAMPING]
    assert set(np.unique(drawn)) == {model.nominal(DAMPING), 0.5, 0.6}
    assert np.mean(drawn >= 0.5) == pytest.approx(0.3, abs=0.03)


def test_of_a_ramp_some_terms_take_part_in_an_episode(pendulum: RobotConfig) -> None:
    found, model = curriculum.of(prior(Ramp(over_env_steps=1, some=0.3)), 4000), Model(pendulum)
    found.advance(1)
    drawn = found.draw(model, np.random.default_rng(0), np.arange(4000))
    mass, damping = ~np.isclose(drawn[MASS], model.nominal(MASS), 1e-9), ~np.isclose(drawn[DAMPING], 1e-2, 1e-9)
    assert [np.mean(mass), np.mean(damping)] == pytest.approx([0.3, 0.3], abs=0.03)
    assert np.mean(mass & damping) == pytest.approx(0.09, abs=0.03)
    with pytest.raises(ConfigError, match="some is 0"):
        Ramp(over_env_steps=1, some=0.0)

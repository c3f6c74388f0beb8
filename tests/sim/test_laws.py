"""Laws draw what they say: moments, bounds, shares; steps to near values keep them; wrong ones are refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from robot import config
from robot.config import ConfigError
from sim.laws import Categorical, JointGaussian, LogUniform, Normal, Point, TruncatedNormal, Uniform
from sim.randomization import Randomization, Term

Array = npt.NDArray[np.float64]
N = 40_000
GAUSSIAN = JointGaussian(
    transform=("log", "logit"), bounds=((0, 1), (1.0, 3.0)), mean=(0.2, -0.5), covariance=((0.04, 0.03), (0.03, 0.09))
)
LAWS: list[Any] = [
    Uniform(low=-1.0, high=3.0),
    LogUniform(low=0.01, high=10.0),
    Normal(mean=2.0, sd=0.5),
    TruncatedNormal(mean=0.0, sd=1.0, low=-0.5, high=2.0),
    TruncatedNormal(mean=0.0, sd=1.0, low=2.5, high=4.0),
    Categorical(values=(1.0, 2.0, 5.0), weights=(1.0, 2.0, 1.0)),
]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def phi(x: float) -> float:
    return 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))


def cdf(law: Any, x: float) -> float:
    """The probability that the law's definition gives to values up to x."""
    if isinstance(law, Uniform):
        return (x - law.low) / (law.high - law.low)
    if isinstance(law, LogUniform):
        return math.log(x / law.low) / math.log(law.high / law.low)
    if isinstance(law, Normal):
        return phi((x - law.mean) / law.sd)
    if isinstance(law, TruncatedNormal):
        low, high = (phi((b - law.mean) / law.sd) for b in (law.low, law.high))
        return (phi((x - law.mean) / law.sd) - low) / (high - low)
    weights = np.array(law.weights) / np.sum(law.weights)
    return float(weights[np.array(law.values) <= x].sum())


def distance(draws: Array, law: Any) -> float:
    """Kolmogorov's distance of draws from the law, at the draws' own quantiles."""
    points = np.unique(np.quantile(draws, np.linspace(0.02, 0.98, 60)))
    return max(abs(float(np.mean(draws <= x)) - cdf(law, float(x))) for x in points)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.kind)
def test_draws_have_the_laws_distribution(law: Any) -> None:
    """1.95 / sqrt(n) is exceeded once in a thousand draws of a true law."""
    draws = law.draw(rng(), N // 2, 2)
    assert draws.shape == (N // 2, 2)
    assert distance(draws.ravel(), law) < 1.95 / math.sqrt(N)
    if not isinstance(law, Categorical):
        assert abs(np.corrcoef(draws.T)[0, 1]) < 0.03, "each target is drawn by itself"


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.kind)
def test_a_step_to_near_values_keeps_the_law_and_stays_near(law: Any) -> None:
    draws = law.draw(rng(), N, 1)
    moved = law.near(draws, rng(1), 0.1)
    spread = float(np.std(draws))
    if isinstance(law, Categorical):
        assert np.mean(moved != draws) == pytest.approx(0.1 * (1 - 3 / 8), abs=0.01)
    else:
        assert 0.0 < np.median(np.abs(moved - draws)) < 0.4 * spread
    assert distance(moved.ravel(), law) < 1.95 / math.sqrt(N)
    if hasattr(law, "low"):
        assert moved.min() >= law.low and moved.max() <= law.high
    np.testing.assert_allclose(law.near(draws, rng(2), 0.0), draws, rtol=1e-12, atol=1e-12)


def test_the_joint_gaussian_is_gaussian_in_its_coordinates() -> None:
    draws = GAUSSIAN.draw(rng(), N, 2)
    x = np.stack([np.log(draws[:, 0]), np.log((draws[:, 1] - 1.0) / (3.0 - draws[:, 1]))], axis=1)
    np.testing.assert_allclose(x.mean(axis=0), GAUSSIAN.mean, atol=0.006)
    np.testing.assert_allclose(np.cov(x.T), GAUSSIAN.covariance, atol=0.003)
    moved = GAUSSIAN.near(draws, rng(1), 0.3)
    y = np.stack([np.log(moved[:, 0]), np.log((moved[:, 1] - 1.0) / (3.0 - moved[:, 1]))], axis=1)
    np.testing.assert_allclose(np.cov(y.T), GAUSSIAN.covariance, atol=0.003)
    assert np.corrcoef(x[:, 0], y[:, 0])[0, 1] == pytest.approx(math.sqrt(1 - 0.3**2), abs=0.01)


def test_a_far_tail_is_drawn_in_finite_time_and_never_outside() -> None:
    law = TruncatedNormal(mean=0.0, sd=1.0, low=8.0, high=9.0)
    draws = law.draw(rng(), 2000, 1)
    assert 8.0 <= draws.min() < 8.001 and draws.max() <= 9.0
    assert np.mean(draws - 8.0) == pytest.approx(1 / 8, rel=0.1), "an exponential tail of rate 8"


def test_shares_of_a_range_and_values_invert_each_other() -> None:
    share = np.linspace(0.0, 1.0, 7)
    for law in (Uniform(low=2.0, high=5.0), LogUniform(low=0.1, high=100.0)):
        np.testing.assert_allclose(law.share(law.at(share)), share, atol=1e-12)
        assert law.at(0.0) == pytest.approx(law.low) and law.at(1.0) == pytest.approx(law.high)
    assert Uniform(low=1.0, high=1.0).share(1.0) == 0.5


@pytest.mark.parametrize("law", [*LAWS, GAUSSIAN, Point(values=(1.0, 2.0))], ids=lambda law: law.kind)
def test_every_law_survives_a_file(law: Any) -> None:
    targets = ("joint/shoulder/damping", "joint/elbow/damping")
    randomization = Randomization(name="r", terms=(Term(targets=targets, law=law),))
    text = config.dump_yaml(config.to_plain(randomization))
    assert config.convert(Randomization, config.parse_yaml(text, "test"), "test") == randomization


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Uniform(low=2.0, high=1.0), "low 2.0 is above high 1.0"),
        (lambda: LogUniform(low=0.0, high=1.0), "0 < low"),
        (lambda: Normal(mean=0.0, sd=-1.0), "at least 0"),
        (lambda: TruncatedNormal(mean=0.0, sd=0.0, low=0.0, high=1.0), "sd above 0"),
        (lambda: TruncatedNormal(mean=0.0, sd=1.0, low=1.0, high=0.0), "low below high"),
        (lambda: Categorical(values=()), "needs values"),
        (lambda: Categorical(values=(1.0, 2.0), weights=(1.0,)), "as many weights"),
        (lambda: Categorical(values=(1.0, 2.0), weights=(0.0, 0.0)), "not all 0"),
    ],
)
def test_a_law_that_is_none_is_refused(make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()

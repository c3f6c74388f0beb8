"""KPIs as the contract defines them, on scores whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from transfer import kpi


def scores(successes: int, n: int = 100) -> np.ndarray:
    return np.arange(n) < successes


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_transfer_efficiency_is_the_share_of_what_training_on_the_truth_would_gain(rng: np.random.Generator) -> None:
    value = kpi.transfer_efficiency(scores(70), scores(20), scores(100), rng)
    assert value["mean"] == pytest.approx((0.7 - 0.2) / (1.0 - 0.2))
    low, high = value["ci95"]
    assert low < 0.625 < high and 0.1 < high - low < 0.4 and value["n"] == 100


def test_a_denominator_of_zero_is_undefined_and_says_so(rng: np.random.Generator) -> None:
    value = kpi.transfer_efficiency(scores(70), scores(100), scores(100), rng)
    assert value["mean"] is None and value["ci95"] is None and "denominator" in value["note"]


def test_adaptation_gap_and_forgetting(rng: np.random.Generator) -> None:
    assert kpi.adaptation_gap(scores(90), scores(100), rng)["mean"] == pytest.approx(0.1)
    before = np.full(50, -4.0)
    lost = kpi.forgetting(before, before - 1.0, rng)
    assert lost["mean"] == pytest.approx(0.25)  # a return of -5 after -4: a quarter of |before| was lost
    assert kpi.forgetting(before, before + 2.0, rng)["mean"] == pytest.approx(-0.5)


def test_paired_differences_are_sharper_than_unpaired_ones(rng: np.random.Generator) -> None:
    starts = rng.normal(size=60)
    after, before = starts + 0.1, starts
    paired = kpi.difference(after, before, rng)
    loose = kpi.difference(after, before, rng, paired=False)
    assert paired["ci95"] == pytest.approx([0.1, 0.1])
    assert loose["ci95"][0] < 0.0 < loose["ci95"][1]


def test_data_efficiency_counts_the_data_that_scratch_needs_and_says_when_it_never_gets_there() -> None:
    curve = [(10.0, 0.5), (20.0, 0.3), (80.0, 0.1)]
    assert kpi.data_efficiency_ratio(curve, 5.0, 0.3) == {"mean": pytest.approx(4.0), "censored": False}
    between = kpi.data_efficiency_ratio(curve, 5.0, np.sqrt(0.1 * 0.3))
    assert between["mean"] == pytest.approx(40.0 / 5.0) and not between["censored"]  # the middle of both, in logs
    never = kpi.data_efficiency_ratio(curve, 5.0, 0.01)
    assert never["mean"] == 16.0 and never["censored"] == "below" and "at least" in never["note"]
    at_once = kpi.data_efficiency_ratio(curve, 5.0, 0.6)
    assert at_once["mean"] == 2.0 and at_once["censored"] == "above"


def test_missing_policies_leave_their_kpis_open(rng: np.random.Generator) -> None:
    some = kpi.kpis(scores(90), np.ones(10), np.ones(10), rng, scratch=scores(10))
    assert some["forgetting"]["mean"] == 0.0
    assert some["transfer_efficiency"]["mean"] is None and "truth" in some["transfer_efficiency"]["note"]
    full = kpi.kpis(scores(90), np.ones(10), np.ones(10), rng, scratch=scores(10), oracle=scores(95))
    assert full["transfer_efficiency"]["mean"] == pytest.approx(80 / 85)


def test_the_same_seed_gives_the_same_interval() -> None:
    one, two = (kpi.mean(scores(30).astype(float), np.random.default_rng(5)) for _ in range(2))
    assert one == two

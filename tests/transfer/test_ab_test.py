"""Differences of success rates against published examples, and power against counting."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from transfer import ab_test, power


def outcomes(successes: int, n: int) -> np.ndarray:
    return np.arange(n) < successes


def test_independent_runs_give_newcombes_published_interval() -> None:
    # Newcombe 1998 (17:873), table II: 56/70 against 48/80 is 0.20 with method 10 from 0.0524 to 0.3339
    found = ab_test.two_samples(outcomes(56, 70), outcomes(48, 80))
    assert found["mean"] == pytest.approx(0.2)
    assert found["ci95"] == pytest.approx([0.0524, 0.3339], abs=5e-5)
    assert found["verdict"] == "better" and 0.0 < found["p_value"] < 0.05
    swapped = ab_test.two_samples(outcomes(48, 80), outcomes(56, 70))
    assert swapped["ci95"] == pytest.approx([-0.3339, -0.0524], abs=5e-5) and swapped["verdict"] == "worse"
    extreme = ab_test.two_samples(outcomes(10, 10), outcomes(0, 20))  # table II, (g): 0.6791 to 1
    assert extreme["ci95"] == pytest.approx([0.6791, 1.0], abs=5e-5)
    assert ab_test.two_samples(outcomes(0, 10), outcomes(0, 10))["verdict"] == "not told apart"


@pytest.mark.parametrize(
    ("cells", "interval"),
    [  # Newcombe 1998 (17:2635), method 10: both, new alone, old alone, neither
        ((36, 12, 2, 0), (0.0569, 0.3404)),
        ((20, 12, 2, 16), (0.0562, 0.3292)),
    ],
)
def test_pairs_give_newcombes_published_interval(cells: tuple[int, ...], interval: tuple[float, float]) -> None:
    both, gained, lost, neither = cells
    new = np.repeat([True, True, False, False], [both, gained, lost, neither])
    old = np.repeat([True, False, True, False], [both, gained, lost, neither])
    found = ab_test.pairs(new, old)
    assert (found["gained"], found["lost"], found["n"]) == (gained, lost, sum(cells))
    assert found["ci95"] == pytest.approx(interval, abs=5e-5)


def test_pairs_that_succeed_together_tell_more_than_independent_runs() -> None:
    new, old = outcomes(30, 40), outcomes(24, 40)  # whatever succeeds with the old one does so with the new one
    paired, loose = ab_test.pairs(new, old), ab_test.two_samples(new, old)
    assert paired["mean"] == loose["mean"] == pytest.approx(0.15)
    assert paired["verdict"] == "better" and loose["verdict"] == "not told apart"
    assert paired["p_value"] == pytest.approx(2 * 0.5**6) and loose["p_value"] > 0.05


def test_power_is_the_share_of_series_in_which_the_interval_excludes_zero() -> None:
    n, new, old = 12, 0.9, 0.4
    told = sum(
        stats.binom.pmf(a, n, new) * stats.binom.pmf(b, n, old)
        for a in range(n + 1)
        for b in range(n + 1)
        if ab_test._told(ab_test._interval(_rate(a, n), _rate(b, n), 0.0), 1.0, "")["verdict"] != "not told apart"
    )
    assert power.chance(n, new, old) == pytest.approx(told, abs=1e-12)


def _rate(successes: int, n: int) -> dict:
    from robot.result import wilson

    return wilson(successes, n)


def test_what_n_runs_tell_and_how_many_a_difference_needs_belong_together() -> None:
    for rate in (None, 0.5):
        least = power.smallest_difference(40, rate)
        assert least is not None and power.chance(40, *power.rates(least, rate)) >= 0.8
        assert power.chance(40, *power.rates(least - 0.01, rate)) < 0.8
        needed = power.runs_needed(least, rate)
        assert needed is not None and 36 <= needed <= 40
    # the textbook's normal approximation: (1.96 + 0.84)^2 (0.6 0.4 + 0.4 0.6) / 0.2^2 = 94
    assert power.runs_needed(0.2) == pytest.approx(94, abs=5)
    assert power.smallest_difference(1) is None and power.runs_needed(0.005) is None
    assert power.false_alarms(40) < 0.065 and power.half_width(20) == pytest.approx(0.2007, abs=1e-4)

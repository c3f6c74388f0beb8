"""Calibration: estimates whose errors are as large as stated, or not."""

from __future__ import annotations

import numpy as np
import pytest

from policies.encoders.calibration import CURVE, Estimates, by_group, calibration, half_width, miscalibration


def estimates(rng: np.random.Generator, stated: float, n: int = 4000) -> Estimates:
    """Two quantities with errors of 0.3: the first with `stated` deviation, the second with the right one."""
    truth = rng.normal(0.0, 2.0, (n, 2))
    mean = truth + 0.3 * rng.standard_normal((n, 2))
    deviation = np.tile([stated, 0.3], (n, 1))
    return Estimates(("one", "two"), mean, deviation, truth, np.arange(n) // 4, np.full(2, 2.0))


def test_what_is_stated_rightly_covers_what_it_says(rng: np.random.Generator) -> None:
    found = calibration(estimates(rng, 0.3))["one"]
    for level, coverage in found["coverage"].items():
        low, high = coverage["ci95"]
        assert low - 0.01 <= float(level) <= high + 0.01 and coverage["n"] == 1000
    assert miscalibration(found["curve"]) < 0.02
    assert found["error"] == pytest.approx(0.15, rel=0.05) and found["sharpness"] == pytest.approx(0.15)
    # Gaussian: log of the deviation and a constant
    assert found["nll"]["mean"] == pytest.approx(np.log(0.15) + 0.5 * np.log(2.0 * np.pi) + 0.5, abs=0.05)
    assert found["nll_prior"]["mean"] == pytest.approx(0.5 * np.log(2.0 * np.pi) + 0.5, abs=0.05)


@pytest.mark.parametrize(("stated", "sign"), [(0.1, -1.0), (0.9, 1.0)])
def test_too_sure_and_too_cautious_are_told_apart(rng: np.random.Generator, stated: float, sign: float) -> None:
    found = calibration(estimates(rng, stated))
    wrong, right = found["one"], found["two"]
    assert sign * (wrong["coverage"]["0.5"]["mean"] - 0.5) > 0.2
    assert wrong["nll"]["mean"] > right["nll"]["mean"] + 0.2
    assert miscalibration(wrong["curve"]) > 0.1 > miscalibration(right["curve"])
    assert len(wrong["curve"]) == len(CURVE) and np.all(np.diff(wrong["curve"]) >= 0.0)


def test_intervals_go_by_group_not_by_row() -> None:
    """A hundred copies of four windows are four windows."""
    values, group = np.array([0.0, 1.0, 0.0, 1.0]), np.arange(4)
    once, often = by_group(values, group), by_group(np.repeat(values, 100), np.repeat(group, 100))
    assert once == often and once["n"] == 4


def test_half_widths_are_the_gaussians() -> None:
    assert half_width(0.95) == pytest.approx(1.959964, abs=1e-5) and half_width(0.5) == pytest.approx(0.67449, abs=1e-5)

"""Quantities that follow from the parameters: when a time constant counts as known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from sim.model import Model, find_robot
from transfer.derived import derived
from transfer.posterior import Fit
from transfer.unknowns import default_unknowns

NAME = "motor/motor/time_constant"
PERIOD_S = 0.0054


def told(inertia: float, sd: float) -> dict[str, Any]:
    """Of a motor whose inertia is so many times the nominal, all coordinates known to `sd`."""
    model = Model(find_robot("motor_bench"))
    unknowns = default_unknowns(model, by_row=True)
    x = np.array([u.mean + np.log(inertia) * u.name.endswith("/inertia") for u in unknowns])
    series = (SimpleNamespace(t=PERIOD_S * np.arange(10)),)
    fit = SimpleNamespace(unknowns=unknowns, x=x, covariance=np.diag(np.full(len(x), sd**2)), series=series)
    return derived(cast(Fit, fit), model)[NAME]


def test_a_time_constant_well_above_the_period_is_known() -> None:
    found = told(inertia=2.0, sd=0.05)
    assert found["estimate"] == pytest.approx(2.0 * 4.5e-7 / (0.00706**2 + 0.002 * 0.00706), rel=0.01)
    assert found["identified"] and found["why"] == ""


def test_an_interval_that_reaches_below_the_period_tells_nothing() -> None:
    found = told(inertia=1.0, sd=0.15)
    assert found["estimate"] > PERIOD_S > found["ci95"][0]
    assert not found["identified"] and "5.4 ms" in found["why"]


def test_a_wide_one_is_not_known_however_slow() -> None:
    found = told(inertia=100.0, sd=1.0)
    assert found["ci95"][0] > PERIOD_S and not found["identified"] and "do not tell" in found["why"]

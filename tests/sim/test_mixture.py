"""A mixture draws from its parts in their shares, and leaves at the nominal what a part does not name."""

from __future__ import annotations

import numpy as np
import pytest

from robot.config import ConfigError
from sim.mixture import Mixture
from sim.model import Model, find_robot
from sim.randomization import Point, Randomization, Term, Uniform

DAMPING, COM = "joint/shoulder/damping", "body/pendulum/com"


def test_each_draw_is_of_one_part() -> None:
    model = Model(find_robot("simple_pendulum"))
    stiff = Randomization(name="stiff", terms=(Term(targets=(DAMPING,), law=Point(values=(0.5,))),))
    long = Randomization(name="long", terms=(Term(targets=(COM,), how="scale", law=Uniform(low=1.1, high=1.2)),))
    mixture = Mixture.of(model, [stiff, long], [3.0, 1.0])
    drawn = mixture.draw(model, np.random.default_rng(0), 400)
    of_stiff = drawn[DAMPING] == 0.5
    assert 0.7 < of_stiff.mean() < 0.8 and not mixture.fixed
    assert np.all(drawn[COM][of_stiff] == model.nominal(COM))
    assert np.all(drawn[DAMPING][~of_stiff] == model.nominal(DAMPING))
    assert np.all(drawn[COM][~of_stiff] > 1.09 * model.nominal(COM))


def test_what_does_not_fit_is_refused() -> None:
    model = Model(find_robot("simple_pendulum"))
    other = Randomization(name="other", robot="so101")
    with pytest.raises(ConfigError, match="made for robot 'so101'"):
        Mixture.of(model, [other], [1.0])
    with pytest.raises(ConfigError, match="as many weights"):
        Mixture.of(model, [Randomization(name="a")], [0.0])

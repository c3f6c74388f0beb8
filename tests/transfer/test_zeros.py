"""Joint zeros from an episode's first seconds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from robot.log import EpisodeLog
from sim.model import Model, RobotConfig
from sim.randomization import NOMINAL
from transfer.dataset import DataRefused
from transfer.prediction import TORQUE, evaluate, shots_for
from transfer.zeros import find_zeros

Simulate = Callable[..., EpisodeLog]


def test_the_zero_of_each_episode_is_found_and_helps_the_rest_of_it(pendulum: RobotConfig, simulate: Simulate) -> None:
    logs = [simulate(pendulum, {}, seed=s, seconds=6.0, zero=z) for s, z in ((1, 0.05), (2, -0.03))]
    zeros = find_zeros(logs, Model(pendulum), NOMINAL, seconds=2.5)
    assert zeros["episode1"] == pytest.approx([0.05], abs=2e-3) and zeros["episode2"] == pytest.approx(
        [-0.03], abs=2e-3
    )
    before = evaluate(logs, Model(pendulum), NOMINAL, from_s=2.5)
    after = evaluate(logs, Model(pendulum), NOMINAL, zeros=zeros, from_s=2.5)
    assert after.position_rmse(1) < 0.25 * before.position_rmse(1)


def test_rows_that_were_adapted_to_are_not_scored(pendulum: RobotConfig, simulate: Simulate) -> None:
    log = simulate(pendulum, {}, seed=1, seconds=6.0)
    assert shots_for([log], pendulum.spec, TORQUE, from_s=2.4).start.min() == pytest.approx(2.5)
    everything = shots_for([log], pendulum.spec, TORQUE).start
    assert np.array_equal(shots_for([log], pendulum.spec, TORQUE, from_s=2.5).start, everything[everything >= 2.5])


def test_too_few_seconds_are_refused(pendulum: RobotConfig, simulate: Simulate) -> None:
    with pytest.raises(DataRefused, match=r"at least 0\.75 s"):
        find_zeros([simulate(pendulum, {}, seed=1)], Model(pendulum), NOMINAL, seconds=0.5)

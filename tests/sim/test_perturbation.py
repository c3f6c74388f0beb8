"""Pulses: their law keeps them apart, within bounds, and inside the episode."""

from __future__ import annotations

import numpy as np
import pytest

from robot.config import ConfigError
from sim.perturbation import Pulse, PulseLaw, pushing

BENCHMARK = PulseLaw(pulses=3, each=True, gap=0.1, width_s=(0.05, 0.1), size=(0.5, 5.0))
LIMITS = {"shoulder": 6.0, "elbow": 6.0}


def test_the_benchmarks_pushes_are_a_second_apart_and_three_a_joint() -> None:
    signs = []
    for seed in range(200):
        pulses = BENCHMARK.draw(LIMITS, 10.0, np.random.default_rng(seed))
        times = np.array([p.time_s for p in pulses])
        assert len(pulses) == 6 and sorted(p.channel for p in pulses) == ["elbow"] * 3 + ["shoulder"] * 3
        assert times[0] >= 1.0 and times[-1] <= 9.0 and np.diff(times).min() >= 1.0
        assert all(0.05 <= p.width_s <= 0.1 and 0.5 <= abs(p.size) <= 5.0 for p in pulses)
        signs += [p.size > 0.0 for p in pulses]
    assert np.mean(signs) == pytest.approx(0.5, abs=0.05)


def test_relative_sizes_are_shares_of_the_limit_of_the_channel() -> None:
    law = PulseLaw(pulses=2, size=(0.5, 0.5), relative=True)
    for pulse in law.draw({"big": 10.0, "small": 1.0}, 3.0, np.random.default_rng(0)):
        assert abs(pulse.size) == pytest.approx({"big": 5.0, "small": 0.5}[pulse.channel])


def test_a_pulse_is_gaussian_and_pulses_add_up() -> None:
    pulse = Pulse(channel="elbow", time_s=1.0, width_s=0.1, size=2.0)
    height = pushing([pulse, pulse], ("shoulder", "elbow"), np.array([0.9, 1.0]))
    np.testing.assert_allclose(height, [[0.0, 4.0 * np.exp(-0.5)], [0.0, 4.0]])


def test_pulses_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="12 pulses that are 1 s apart do not fit into 10 s"):
        PulseLaw(pulses=6, each=True).draw(LIMITS, 10.0, np.random.default_rng(0))
    with pytest.raises(ConfigError, match=r"size is \[5\.0, 0\.5\]"):
        PulseLaw(size=(5.0, 0.5))
    with pytest.raises(ConfigError, match=r"width_s is 0\.0"):
        Pulse(channel="elbow", time_s=1.0, width_s=0.0, size=1.0)

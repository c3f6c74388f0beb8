"""Repairs put right what they say, only when asked, and leave a trace."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robot.log import EpisodeLog
from sim.model import RobotConfig
from tests.transfer.faults import FAULTS, Injected
from transfer.screen import notice
from transfer.screening.config import ScreenConfig
from transfer.screening.repair import REPAIRS, repair

FAULT_OF = {
    "clock_jump": "clock_jump", "decreasing_time": "clock_back", "repeated_stamp": "repeated", "nan": "nan",
    "drift": "drift", "lag": "velocity_lag", "wrapped": "wrapped",
}  # fmt: skip


def injected(name: str, log: EpisodeLog, seed: int) -> Injected:
    rng = np.random.default_rng(seed)
    return next(found for _ in range(40) if (found := FAULTS[FAULT_OF[name]](log, rng)) is not None)


@pytest.mark.parametrize("name", [n for n in REPAIRS if n != "resample"])
def test_a_repaired_fault_is_no_longer_found(name: str, clean: EpisodeLog, double_pendulum: RobotConfig) -> None:
    spec, fault = double_pendulum.spec, injected(name, clean, 5)
    assert name in {n.kind for n in notice(fault.log, spec)}
    fixed, told = repair(fault.log, spec, [name], ScreenConfig())
    assert name not in {n.kind for n in notice(fixed, spec)}
    assert [n.kind for n in told] == ["repaired"] and told[0].detail.startswith(f"{name}: ")
    assert fixed.meta[f"repaired.{name}"]


def test_a_closed_jump_gives_back_the_stamps_that_were(clean: EpisodeLog, double_pendulum: RobotConfig) -> None:
    fault = injected("clock_jump", clean, 5)
    fixed, _ = repair(fault.log, double_pendulum.spec, ["clock_jump"], ScreenConfig())
    for name in ("joint.position", "command.effort"):
        assert np.abs(fixed[name].t_ns - clean[name].t_ns).max() < 1e6  # ns; less than a millisecond


def test_a_moved_back_velocity_lies_over_the_true_one(clean: EpisodeLog, double_pendulum: RobotConfig) -> None:
    fault = injected("lag", clean, 8)
    fixed, _ = repair(fault.log, double_pendulum.spec, ["lag"], ScreenConfig())
    moved = (fixed["joint.velocity"].t_ns - clean["joint.velocity"].t_ns)[1000] * 1e-9
    t, v = clean["joint.velocity"].seconds(), clean["joint.velocity"].values[:, 0]
    again = np.interp(t[300:-300], fixed["joint.velocity"].seconds() + moved, fixed["joint.velocity"].values[:, 0])
    assert abs(moved) > 0.02 and np.corrcoef(again, v[300:-300])[0, 1] > 0.99


def test_nothing_is_repaired_unasked(clean: EpisodeLog, double_pendulum: RobotConfig) -> None:
    fault = injected("nan", clean, 2)
    same, told = repair(fault.log, double_pendulum.spec, ["clock_jump", "wrapped"], ScreenConfig())
    assert same is fault.log and told == []


def test_resampling_puts_readings_and_held_commands_on_the_control_period(
    clean: EpisodeLog, double_pendulum: RobotConfig
) -> None:
    spec = double_pendulum.spec
    rng = np.random.default_rng(0)
    jitter = np.sort(clean["joint.position"].t_ns + rng.integers(-900_000, 900_000, len(clean["joint.position"].t_ns)))
    position = replace(clean["joint.position"], t_ns=jitter - jitter.min())
    odd = replace(clean, channels={**clean.channels, "joint.position": position})
    even, _ = repair(odd, spec, ["resample"], ScreenConfig())
    steps = np.diff(even["joint.position"].t_ns)
    assert (steps == round(spec.control_period_s * 1e9)).all()
    assert np.array_equal(even["joint.position"].t_ns, even["command.effort"].t_ns)
    levels = np.unique(clean["command.effort"].values[:, 0])
    assert np.isin(even["command.effort"].values[:, 0], levels).all()  # held, never blended


def test_channels_that_share_no_time_are_not_resampled_into_nothing(
    clean: EpisodeLog, double_pendulum: RobotConfig
) -> None:
    position = clean["joint.position"]
    battery = replace(position, name="battery", components=("volts",), values=position.values[:, :1])
    later = replace(battery, t_ns=battery.t_ns + 10**12)
    odd = replace(clean, channels={**clean.channels, "battery": later})
    same, told = repair(odd, double_pendulum.spec, ["resample"], ScreenConfig())
    assert same is odd and told == []


def test_positions_with_holes_are_unwrapped_about_them(clean: EpisodeLog, double_pendulum: RobotConfig) -> None:
    """One value that is no number must not take all that follows with it, nor look like a turn."""
    position = clean["joint.position"]
    values = position.values.copy()
    values[100] = np.nan
    holed = replace(clean, channels={**clean.channels, "joint.position": replace(position, values=values)})
    same, told = repair(holed, double_pendulum.spec, ["wrapped"], ScreenConfig())
    assert same is holed and told == []
    values[500:] += 2.0 * np.pi
    fixed, told = repair(holed, double_pendulum.spec, ["wrapped"], ScreenConfig())
    assert [n.kind for n in told] == ["repaired"]
    whole = np.arange(len(values)) != 100
    np.testing.assert_allclose(fixed["joint.position"].values[whole], position.values[whole], atol=1e-9)

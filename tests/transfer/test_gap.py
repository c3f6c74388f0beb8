"""The gap budget: each part's share is its own, and a part that does nothing says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from robot.log import EpisodeLog
from sim.model import Model, RobotConfig
from sim.randomization import Point, Randomization, Term
from transfer.gap import budget, parts

Simulate = Callable[..., EpisodeLog]
HEAVY = {"body/pendulum/mass": 0.9, "joint/shoulder/damping": 0.05}


def law(values: dict[str, float]) -> Randomization:
    return Randomization(name="law", terms=(Term(targets=tuple(values), law=Point(values=tuple(values.values()))),))


def led(log: EpisodeLog, rows: int) -> EpisodeLog:
    """The log with commands that act so many rows after they were given."""
    position, command = log["joint.position"], log["command.effort"]
    kept = {"joint.position": (position, slice(None, -rows)), "command.effort": (command, slice(rows, None))}
    channels = {name: replace(c, t_ns=position.t_ns[:-rows], values=c.values[part]) for name, (c, part) in kept.items()}
    return replace(log, channels=channels)


def test_delay_and_parameters_each_have_their_share(pendulum: RobotConfig, simulate: Simulate) -> None:
    log = led(simulate(pendulum, HEAVY, seed=3, seconds=4.0), rows=3)
    nominal, delay, identified = budget([log], lambda: Model(pendulum), law({**HEAVY, "timing/command/delay": 0.03}))
    assert [nominal.name, delay.name, identified.name] == ["nominal", "+ delay", "+ identified"]
    errors = [s.prediction.position_rmse(1) for s in (nominal, delay, identified)]
    assert errors[0] > 1.05 * errors[1] > 10.0 * errors[2] and errors[2] < 3e-3
    assert nominal.gain is None and delay.gain is not None and identified.gain is not None
    assert delay.gain["0.5"]["mean"] == pytest.approx(errors[1] - errors[0])
    assert identified.gain["0.5"]["ci95"][1] < 0.0


def test_a_delay_that_is_none_changes_nothing(pendulum: RobotConfig, simulate: Simulate) -> None:
    log = simulate(pendulum, HEAVY, seed=4, seconds=3.0)
    steps = budget([log], lambda: Model(pendulum), law({**HEAVY, "timing/command/delay": 0.0}))
    assert steps[1].gain is not None and steps[1].gain["1.0"]["ci95"] == [0.0, 0.0]


def test_a_residual_is_a_step_of_its_own(pendulum: RobotConfig) -> None:
    residual = next(t for t in Model(pendulum).available() if t.startswith("residual/"))
    both = replace(law(HEAVY), terms=(*law(HEAVY).terms, *law({residual: 0.1}).terms))
    names = [(name, residual in part.targets) for name, part in parts(both, Model(pendulum))]
    assert names == [("nominal", False), ("+ identified", False), ("+ residual", True)]

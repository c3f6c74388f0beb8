"""The residual network: kept where recordings held out prove it, refused where they do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from robot.log import EpisodeLog
from sim.model import Model, RobotConfig
from sim.randomization import NOMINAL, Point, Randomization, Term
from transfer.dataset import DataRefused
from transfer.prediction import evaluate
from transfer.residual import _judge, fit_residual, kind_of, with_weights

Simulate = Callable[..., EpisodeLog]

ODD = {"joint/shoulder/motor_friction": 0.2, "joint/shoulder/frictionloss": 0.02}
"""Friction that grows with the motor's torque, which no default parameter stands for."""
BASE = Randomization(name="base", terms=(Term(targets=("joint/shoulder/frictionloss",), law=Point(values=(0.08,))),))


def test_a_loss_that_no_parameter_stands_for_is_learnt_and_kept(pendulum: RobotConfig, simulate: Simulate) -> None:
    logs = [simulate(pendulum, ODD, seed=s, seconds=5.0) for s in range(4)]
    law, told = fit_residual(logs, lambda: Model(pendulum), BASE, quick=True)
    assert told["kept"] and told["held_out"]["recordings"]["ci95"][1] < 0.0
    fresh = [simulate(pendulum, ODD, seed=9, seconds=8.0)]
    with_it, without = (evaluate(fresh, Model(pendulum), x, nthread=1).position_rmse(1) for x in (law, BASE))
    assert with_it < 0.8 * without
    draws = law.draw(Model(pendulum), np.random.default_rng(0), 3)  # training draws it like any other parameter
    assert draws["residual/shoulder/w0"].shape == (3,)


def test_where_nothing_is_left_to_learn_it_is_not_kept(pendulum: RobotConfig, simulate: Simulate) -> None:
    logs = [simulate(pendulum, {}, seed=s, seconds=5.0) for s in range(2)]
    law, told = fit_residual(logs, lambda: Model(pendulum), NOMINAL, quick=True)
    assert law == NOMINAL and not told["kept"] and "no proven gain" in told["why"]


def test_a_gain_on_one_kind_that_another_pays_for_is_refused(pendulum: RobotConfig, simulate: Simulate) -> None:
    logs = [simulate(pendulum, {}, seed=s, seconds=6.0) for s in range(2)]
    better = evaluate(logs, Model(pendulum), NOMINAL, nthread=1)
    worse = evaluate(logs, Model(pendulum), BASE, nthread=1)
    judged = _judge({"chirp": [(better, worse)], "swing": [(worse, better)]}, 0.5)
    assert not judged.kept and "'swing'" in judged.why
    assert _judge({"chirp": [(better, worse)]}, 0.5).kept


def test_the_kind_is_what_the_recording_tells(pendulum: RobotConfig, simulate: Simulate) -> None:
    log = simulate(pendulum, {}, seed=1, seconds=2.0)
    assert kind_of(log) == "recordings"
    assert kind_of(replace(log, meta={"excitation": "chirp"})) == "chirp"


def test_new_weights_take_the_place_of_old_ones() -> None:
    once = with_weights(BASE, {"residual/shoulder/w0": 1.0})
    twice = with_weights(once, {"residual/shoulder/w0": 2.0})
    assert len(twice.terms) == len(BASE.terms) + 1 and twice.terms[-1].law == Point(values=(2.0,))


def test_a_single_recording_is_refused(pendulum: RobotConfig, simulate: Simulate) -> None:
    with pytest.raises(DataRefused, match="two at least"):
        fit_residual([simulate(pendulum, {}, seed=1, seconds=2.0)], lambda: Model(pendulum), NOMINAL)

"""The way of a command to the motor: delay, jitter, loss and lag, each simulation by itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from sim.command import CommandLine
from sim.streams import Streams

Array = npt.NDArray[np.float64]

PERIOD, SUBSTEPS = 0.01, 4


def line_of(**timing: list[float]) -> CommandLine:
    """A line of one command per simulation; each keyword has one value a simulation."""
    n = len(next(iter(timing.values())))
    line = CommandLine(n, 1, PERIOD, SUBSTEPS, 0.1)
    values = {name: np.array(timing.get(name, [0.0] * n)) for name in ("delay_s", "lag_s", "jitter_s", "drop")}
    line.set(np.arange(n), **values)
    line.reset(np.arange(n), np.zeros((n, 1)))
    return line


def send(line: CommandLine, commands: Array) -> Array:
    """(n, periods * substeps) what acted under `commands` (periods,), the same for all."""
    n = len(line._lag)
    return np.concatenate([line.push(np.full((n, 1), c))[:, :, 0] for c in commands], axis=1)


@pytest.mark.parametrize("lag", [0.0, 0.004, 0.03])
@pytest.mark.parametrize("delay", [0.0, 0.0013, 0.01, 0.0125, 0.037])
def test_what_acts_is_the_mean_over_each_step_of_a_delayed_and_lagged_hold(delay: float, lag: float) -> None:
    fine = 500
    commands = np.random.default_rng(1).uniform(-1, 1, 20)
    acting = send(line_of(delay_s=[delay], lag_s=[lag]), commands)[0]
    dt = PERIOD / SUBSTEPS / fine
    t = (np.arange(20 * SUBSTEPS * fine) + 0.5) * dt - delay
    held = np.where(t >= 0, commands[np.clip((t / PERIOD).astype(int), 0, 19)], 0.0)
    if lag:
        state, keep = 0.0, np.exp(-dt / lag)
        for i, u in enumerate(held):
            state = u + (state - u) * keep
            held[i] = state
    expected = held.reshape(-1, fine).mean(axis=1)
    np.testing.assert_allclose(acting, expected, atol=2e-3)  # the oracle's own step is 5 us


def test_jitter_makes_each_command_late_by_its_own_time_and_none_overtakes() -> None:
    commands = np.arange(1.0, 400.0)
    acting = send(line_of(delay_s=[0.005], jitter_s=[0.02]), commands)[0]
    assert (np.diff(acting) >= -1e-12).all()
    # command k + 1 was sent in period k and takes 0.5 to 2.5 periods
    late = 1.0 + np.arange(1, len(acting) + 1) / SUBSTEPS - acting
    assert 0.5 < late[100:].min() < 1.0 and 2.2 < late[100:].max() < 3.5


def test_jitter_of_nothing_and_a_lag_beside_it_change_no_other_simulation() -> None:
    commands = np.random.default_rng(2).uniform(-1, 1, 30)
    both = send(line_of(delay_s=[0.012, 0.012, 0.004], jitter_s=[0.0, 0.01, 0.0], lag_s=[0.0, 0.0, 0.01]), commands)
    np.testing.assert_array_equal(both[0], send(line_of(delay_s=[0.012]), commands)[0])
    assert np.abs(both[1] - both[0]).max() > 0.1


def test_with_a_tiny_jitter_a_lagged_line_is_the_one_without() -> None:
    commands = np.random.default_rng(3).uniform(-1, 1, 30)
    plain = send(line_of(delay_s=[0.0125], lag_s=[0.008]), commands)
    jittered = send(line_of(delay_s=[0.0125], lag_s=[0.008], jitter_s=[1e-9]), commands)
    np.testing.assert_allclose(jittered, plain, atol=1e-6)


def test_a_lost_command_leaves_the_one_before_it_in_force() -> None:
    commands = np.arange(1.0, 1001.0)
    acting = send(line_of(drop=[0.3, 0.0]), commands)[:, ::SUBSTEPS]
    np.testing.assert_array_equal(acting[1], commands)
    lost = acting[0] != commands
    assert 0.25 < lost.mean() < 0.35
    assert set(acting[0][lost]) <= set(commands) | {0.0} and (np.diff(acting[0]) >= 0).all()


def test_a_simulation_does_not_notice_how_many_others_there_are() -> None:
    commands = np.random.default_rng(4).uniform(-1, 1, 200)
    values = {"delay_s": 0.0137, "lag_s": 0.006, "jitter_s": 0.012, "drop": 0.2}
    alone = send(line_of(**{k: [v] for k, v in values.items()}), commands)
    among = send(line_of(**{k: [v, 0.0, 2 * v / 3] + [v] * 20 for k, v in values.items()}), commands)
    np.testing.assert_array_equal(among[0], alone[0])
    assert np.abs(among[3] - among[0]).max() > 0.1, "each has jitter and losses of its own"


def test_forgetting_commands_at_a_reset_leaves_the_other_simulations_alone() -> None:
    line = line_of(delay_s=[0.01, 0.01], lag_s=[0.005, 0.005])
    send(line, np.ones(3))
    line.reset(np.array([1]), np.array([[0.0]]))
    acting = line.push(np.ones((2, 1)))
    assert (acting[0] > 0.9).all() and (acting[1] == 0.0).all()


def test_streams_are_uniform_repeatable_and_independent() -> None:
    streams = Streams(5000, seed=3)
    first, second = streams.uniform(), streams.uniform()
    assert first.min() >= 0.0 and first.max() < 1.0 and abs(first.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05 and abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.05
    again = Streams(3, seed=3)
    np.testing.assert_array_equal(again.uniform(), first[:3])
    assert Streams(3, seed=4).uniform()[0] != first[0]

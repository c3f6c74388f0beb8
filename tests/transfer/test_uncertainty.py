"""Bootstrap and profile of a fit: they agree with Laplace where it is right, and say where nothing is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from robot.log import EpisodeLog
from sim.model import Model, RobotConfig
from transfer.chosen_unknowns import chosen_unknowns
from transfer.identify import Effort, Identification, identify
from transfer.report import identification_page
from transfer.uncertainty import Draws, Equations, solve

Simulate = Callable[..., EpisodeLog]

TRUTH = {"body/pendulum/com": 0.46, "joint/shoulder/frictionloss": 0.08, "timing/command/delay": 0.012}


@pytest.fixture(scope="module")
def found(pendulum: RobotConfig, simulate: Simulate) -> Identification:
    logs = [simulate(pendulum, TRUTH, seed=s, seconds=3.5) for s in range(6)]
    asked = [*TRUTH, "body/pendulum/mass", "motor/shoulder/rotor_inertia", "timing/command/lag"]
    unknowns = chosen_unknowns(Model(pendulum), asked, by_row=False)
    effort = Effort(windows=30, search=6, finish=2, bootstrap=300, profile=True)
    return identify(logs, Model(pendulum), unknowns, effort=effort, nthread=1)


def test_the_bootstrap_over_episodes_is_near_the_truth_and_as_wide_as_laplace_says(found: Identification) -> None:
    for name in ("body/pendulum/com", "joint/shoulder/frictionloss"):
        low, high = found.bootstrap[name]
        laplace = found.parameters[name]["ci95"]
        width = high - low
        assert low - 0.5 * width <= TRUTH[name] <= high + 0.5 * width, (name, low, high)  # of one draw of few episodes
        assert low < found.parameters[name]["estimate"] < high
        assert 0.3 < width / (laplace[1] - laplace[0]) < 2.0, (name, low, high, laplace)


def test_what_is_not_known_spreads_over_its_prior_in_the_bootstrap_too(found: Identification) -> None:
    rotor = found.parameters["motor/shoulder/rotor_inertia"]
    low, high = found.bootstrap["motor/shoulder/rotor_inertia"]
    assert not rotor["identified"] and rotor["information"] < 0.5
    assert np.log(high / low) > 0.6 * np.log(rotor["ci95"][1] / rotor["ci95"][0])


def test_the_delay_s_profile_has_its_least_at_the_estimate_and_rises_to_both_sides(found: Identification) -> None:
    profile = found.profile
    assert profile is not None and profile.name == "timing/command/delay"
    least = int(np.argmin(profile.costs))
    assert abs(least - len(profile.costs) // 2) <= 1
    assert (np.diff(profile.costs[:least]) < 0).all() and (np.diff(profile.costs[least:]) > 0).all()
    assert min(profile.costs[0], profile.costs[-1]) > 1.92  # beyond the 95 % interval, three deviations away


def test_correlations_are_of_the_coordinates(found: Identification) -> None:
    matrix = np.array(found.correlation["matrix"])
    assert (np.diag(matrix) == 1.0).all() and np.abs(matrix).max() <= 1.0 and (matrix == matrix.T).all()
    names = found.correlation["names"]
    delay, lag = names.index("timing/command/delay"), names.index("timing/command/lag")
    assert matrix[delay, lag] < -0.5  # only their sum is known


def test_the_page_tells_it_all_without_a_network(found: Identification) -> None:
    profile = found.profile
    assert profile is not None
    interval = {"mean": 0.1, "ci95": [0.05, 0.2], "n": 3}
    figures = {"0.5": {k: interval for k in ("position_rmse", "velocity_rmse", "position_median")}}
    row = {"model": "M<1>", "held_out": figures, "files": {}, "more_than_chosen": None, "chosen": True}
    page = identification_page.build(
        "simple_pendulum",
        {
            "prediction": figures, "files": {"a": figures["0.5"] and figures}, "prediction_on": "test",
            "parameters": found.parameters, "bootstrap": found.bootstrap, "delay_ms": found.delay_ms,
            "correlation": found.correlation, "zeros": found.zeros, "settings": found.settings, "selection": [row],
            "profile": {"name": profile.name, "values": profile.values.tolist(), "costs": profile.costs.tolist()},
        },
    )  # fmt: skip
    for words in ("M&lt;1&gt;", "no: it stays at its prior", "Profile of the delay", "Correlation", "episode3"):
        assert words in page
    assert "<script src" not in page


def test_draws_lie_about_the_estimate_whatever_the_last_step_was() -> None:
    """The equations are those before the fit's last step, which a draw must not take for a second time."""
    clusters, size = 6, 2
    hessians = np.repeat(np.eye(size)[None] * 50.0, clusters, axis=0)
    gradients = np.random.default_rng(0).normal(size=(clusters, size)) + 20.0  # a step of 0.4 was taken
    columns, at = np.tile(np.arange(size), (clusters, 1)), np.array([1.0, -1.0])
    equations = Equations(columns, hessians, gradients, np.zeros(size), np.full(size, 1e-6), at)
    rng = np.random.default_rng(1)
    times = np.array([np.bincount(rng.integers(clusters, size=clusters), minlength=clusters) for _ in range(2000)])
    draws = solve(equations, Draws(times, np.zeros((2000, size))))
    np.testing.assert_allclose(draws.mean(axis=0), [1.0, -1.0], atol=3e-3)
    assert 0.002 < draws.std(axis=0).max() < 0.02

"""Identification: known truths come back, what the logs cannot tell is said, and real logs are predicted better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from policies.progress import Progress
from robot import config
from robot.log import EpisodeLog
from sim.model import Model, RobotConfig
from sim.randomization import NOMINAL, Randomization, load
from transfer import gauss_newton
from transfer.apart import refuse_shared
from transfer.dataset import DataRefused
from transfer.formats import csv
from transfer.gauss_newton import Objective, minimize
from transfer.identify import QUICK, Effort, Identification, identify
from transfer.prediction import Metric, difference, evaluate
from transfer.series import VelocityFit, series_of
from transfer.shooting import Estimate, Shooting
from transfer.shots import cut
from transfer.unknowns import Unknown, default_unknowns, physical

Simulate = Callable[..., EpisodeLog]

TRUTH = {
    "body/pendulum/mass": 0.81,
    "body/pendulum/com": 0.55,
    "joint/shoulder/damping": 0.045,
    "joint/shoulder/frictionloss": 0.10,
    "joint/shoulder/stribeck_ratio": 1.5,
    "actuator/shoulder/gain": 0.9,
    "timing/command/delay": 0.012,
}
ZEROS = (0.02, -0.03, 0.01)


@pytest.fixture(scope="module")
def episodes(pendulum: RobotConfig, simulate: Simulate) -> list[EpisodeLog]:
    """Three episodes of one robot whose zero was set anew before each."""
    return [simulate(pendulum, TRUTH, seed=s, zero=z) for s, z in enumerate(ZEROS, start=1)]


@pytest.fixture(scope="module")
def found(pendulum: RobotConfig, episodes: list[EpisodeLog]) -> Identification:
    return identify(episodes, Model(pendulum))


def of(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The combinations that torque and motion can tell, from targets; the gain is the unit of torque."""
    mass, com = values["body/pendulum/mass"], values["body/pendulum/com"]
    inertia = mass * com**2 + values["body/pendulum/inertia"] + 36 * values["motor/shoulder/rotor_inertia"]
    return {"gravity": mass * com, "inertia": inertia}


def test_the_truth_is_covered_and_narrowly(pendulum: RobotConfig, found: Identification) -> None:
    model = Model(pendulum)
    draws = found.posterior.draw(model, np.random.default_rng(0), 4000)
    gain = TRUTH["actuator/shoulder/gain"]
    mine = of(draws)
    names = ("body/pendulum/inertia", "motor/shoulder/rotor_inertia")
    true = of({n: np.array(TRUTH.get(n, model.nominal(n))) for n in (*TRUTH, *names)})
    mine |= {n: draws[f"joint/shoulder/{n}"] for n in ("damping", "frictionloss", "stribeck_ratio")}
    true |= {n: TRUTH[f"joint/shoulder/{n}"] for n in ("damping", "frictionloss")}
    true = {n: v / gain for n, v in true.items()} | {"stribeck_ratio": 1.5}
    widths = {"gravity": 0.03, "inertia": 0.05, "damping": 0.3, "frictionloss": 0.25, "stribeck_ratio": 0.5}
    for name, width in widths.items():
        low, high = np.quantile(mine[name], [0.005, 0.995])
        assert low <= true[name] <= high, (name, low, float(true[name]), high)
        assert high - low < width * true[name], (name, low, high)


def test_delay_and_lag_are_not_told_apart_and_it_is_said(found: Identification) -> None:
    parts = [found.parameters[f"timing/command/{q}"] for q in ("delay", "lag")]
    names = found.correlation["names"]
    i, j = (names.index(f"timing/command/{q}") for q in ("delay", "lag"))
    assert found.correlation["matrix"][i][j] < -0.9 and not any(p["identified"] for p in parts)


def test_the_delay_in_all_is_found(found: Identification) -> None:
    low, high = found.delay_ms["ci95"]
    assert low <= 12.3 and high >= 11.7 and abs(found.delay_ms["mean"] - 12.0) < 0.8


def test_each_episode_s_zero_is_found(found: Identification) -> None:
    for name, zero in zip(("episode1", "episode2", "episode3"), ZEROS, strict=True):
        assert found.zeros[name]["shoulder"] == pytest.approx(zero, abs=0.003)


def test_what_the_logs_cannot_tell_stays_at_its_prior_and_is_said(found: Identification) -> None:
    rotor = found.parameters["motor/shoulder/rotor_inertia"]  # 1 % of the inertia, and inseparable from it
    assert not rotor["identified"] and rotor["ci95"][0] < 6.07e-5 < rotor["ci95"][1]
    assert not found.parameters["body/pendulum/inertia"]["identified"]
    assert "actuator/shoulder/gain" not in found.parameters  # the unit of torque
    assert found.parameters["joint/shoulder/frictionloss"]["identified"]
    assert found.parameters["joint/shoulder/frictionloss"]["unit"] == "N m"


def test_a_parameter_without_influence_is_reported(pendulum: RobotConfig, simulate: Simulate) -> None:
    """A joint that moves one way at speed never shows how friction rises near standstill."""
    model = Model(pendulum)
    logs = [simulate(pendulum, {"joint/shoulder/frictionloss": 0.05}, seed=4, seconds=6.0)]
    unknowns = [u for u in default_unknowns(model, by_row=False) if "com" in u.name]
    unknowns.append(Unknown(targets=("joint/shoulder/stribeck_velocity",), transform="log", mean=np.log(0.1), sd=0.7))
    result = identify(logs, model, unknowns, effort=QUICK)  # the ratio stays 1, so its velocity has no effect
    assert result.parameters["body/pendulum/com"]["identified"]
    without = result.parameters["joint/shoulder/stribeck_velocity"]
    assert not without["identified"]
    assert without["ci95"] == pytest.approx([0.1 * np.exp(-1.96 * 0.7), 0.1 * np.exp(1.96 * 0.7)], rel=1e-3)


def test_a_new_episode_is_predicted_far_better_than_by_the_nominal(
    pendulum: RobotConfig, simulate: Simulate, found: Identification
) -> None:
    unseen = [simulate(pendulum, TRUTH, seed=9)]
    nominal = evaluate(unseen, Model(pendulum), NOMINAL)
    fitted = evaluate(unseen, Model(pendulum), found.posterior)
    assert fitted.position_rmse(1) < 0.1 * nominal.position_rmse(1)


def test_draws_of_the_posterior_predict_nearly_as_well_as_its_middle(
    pendulum: RobotConfig, episodes: list[EpisodeLog], found: Identification
) -> None:
    draws = found.posterior.draw(Model(pendulum), np.random.default_rng(1), 6)
    unknowns = default_unknowns(Model(pendulum), by_row=False)
    shots = cut([series_of(e, pendulum.spec, VelocityFit()) for e in episodes], 0.25, 0.5, 0.5, 0.01)
    shooting = Shooting(Model(pendulum), shots, unknowns, 0.002)
    zeros = np.array([[found.zeros[e.name]["shoulder"]] for e in episodes])
    at = replace(Estimate.prior(unknowns, shots), zeros=zeros)
    for i in range(6):
        x = np.array(
            [
                np.log(v) if u.transform == "log" else np.log((v - u.bounds[0]) / (u.bounds[1] - v))
                for u in unknowns
                for v in [draws[u.name][i]]
            ]
        )
        assert np.sqrt(np.mean(shooting.errors(replace(at, x=x)) ** 2)) < 5e-3  # the nominal's is 0.2


def test_the_posterior_is_a_file_that_is_read_back(
    found: Identification, pendulum: RobotConfig, tmp_path: Path
) -> None:
    config.save(tmp_path / "posterior.yaml", found.posterior)
    again = load(tmp_path / "posterior.yaml")
    assert again == found.posterior
    again.check(Model(pendulum))
    offset = again.draw(Model(pendulum), np.random.default_rng(0), 2000)["sensor/shoulder/offset"]
    assert np.std(offset) == pytest.approx(np.sqrt(np.mean(np.square(ZEROS))), rel=0.15)


def test_the_same_logs_give_the_same_posterior(pendulum: RobotConfig, episodes: list[EpisodeLog]) -> None:
    reports: list[Progress] = []
    effort = Effort(windows=20, search=2, finish=1)
    once = identify(episodes[:2], Model(pendulum), effort=effort, report=reports.append, nthread=1)
    assert once == identify(episodes[:2], Model(pendulum), effort=effort, nthread=2)
    assert reports[-1].done == reports[-1].total and all(a.done <= b.done for a, b in pairwise(reports))


def test_slopes_agree_with_differences_of_whole_rollouts(pendulum: RobotConfig, episodes: list[EpisodeLog]) -> None:
    """The batched perturbations are those of one parameter at a time, for the right episode."""
    model, spec = Model(pendulum), pendulum.spec
    unknowns = default_unknowns(model, by_row=False)
    shots = cut([series_of(e, spec, VelocityFit()) for e in episodes[:2]], 0.25, 2.0, 0.5, 0.01)
    shooting = Shooting(model, shots, unknowns, 0.004)
    at = replace(Estimate.prior(unknowns, shots), zeros=np.array([[0.01], [-0.02]]))
    slopes = shooting.linearize(at)
    i = [u.name for u in unknowns].index("timing/command/delay")
    moved = shooting.errors(replace(at, x=at.x + 1e-4 * np.eye(len(at.x))[i]))
    assert slopes.by_unknown[i] == pytest.approx((moved - slopes.error) / 1e-4, abs=1e-9)
    moved = shooting.errors(replace(at, zeros=at.zeros + np.array([[0.0], [1e-4]])))
    second = shots.episode[shots.window] == 1
    assert (moved - slopes.error)[second] / 1e-4 == pytest.approx(slopes.by_zero[0][second], abs=1e-9)
    assert np.all(moved[~second] == slopes.error[~second])
    third = np.eye(len(shots))[:, 2:3]
    moved = shooting.errors(replace(at, starts=at.starts + 1e-4 * third))
    mine = shots.window == 2
    assert (moved - slopes.error)[mine] / 1e-4 == pytest.approx(slopes.by_start[0][mine], abs=1e-9)
    assert np.all(moved[~mine] == slopes.error[~mine])


def test_a_gross_outlier_moves_the_estimate_far_less_than_without_huber(
    pendulum: RobotConfig, episodes: list[EpisodeLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push by hand during one second of one episode."""
    model, spec = Model(pendulum), pendulum.spec
    unknowns = [u for u in default_unknowns(model, by_row=False) if "stribeck" not in u.name]

    def estimate(logs: list[EpisodeLog]) -> float:
        shots = cut([series_of(e, spec, VelocityFit()) for e in logs], 0.25, 0.9, 0.5, 0.01)
        shooting = Shooting(model, shots, unknowns, 0.004)
        fit = minimize(shooting, Objective(shots, unknowns), Estimate.prior(unknowns, shots), 6)
        values = dict(zip((u.name for u in unknowns), physical(unknowns, fit.at.x[None])[0], strict=True))
        return float(values["body/pendulum/mass"] * values["body/pendulum/com"])

    clean = estimate(episodes[:2])
    command = episodes[0]["command.effort"].values
    command[500:600] += 1.5
    try:
        pushed = estimate(episodes[:2])
        monkeypatch.setattr(gauss_newton, "HUBER", 1e9)
        squares = estimate(episodes[:2])
    finally:
        command[500:600] -= 1.5
    assert abs(pushed - clean) < 0.03 * clean and abs(pushed - clean) < 0.3 * abs(squares - clean)


def test_episodes_too_short_are_refused(pendulum: RobotConfig, simulate: Simulate) -> None:
    with pytest.raises(DataRefused, match=r"0\.75 s of log"):
        identify([simulate(pendulum, {}, seed=1, seconds=0.5)], Model(pendulum))


def test_unseen_real_closed_loop_trials_are_predicted_better_than_by_the_published_models(
    real_logs: Path, double_pendulum: RobotConfig
) -> None:
    """As the second part of tests/benchmarks/lofo_c1.py, with little effort."""
    few, half = Effort(windows=30, search=4, finish=1), Metric(horizons_s=(0.5,))
    folder, spec = real_logs / "double_pendulum" / "c1", double_pendulum.spec
    logs, held_out = (
        [r.log for path in sorted((folder / part).glob("*.csv.gz")) for r in csv.read(path, spec) if r.log]
        for part in ("sysid", "closed_loop")
    )
    result = identify(logs, Model(double_pendulum), effort=few)
    ours = evaluate(held_out, Model(double_pendulum), result.posterior, half)
    models = Path(__file__).parents[2] / "configs" / "model"
    for model in ("1.0", "2.0"):
        published: Randomization = load(models / f"published_c1_{model}.yaml")
        theirs = evaluate(held_out, Model(double_pendulum), published, half)
        gap = difference(ours, theirs, 0.5, np.random.default_rng(0))
        assert gap["ci95"][1] < 0.0, (model, gap)
    assert result.parameters["timing/command/shift"]["estimate"] == 1.0 and 3.0 < result.delay_ms["mean"] < 8.0


def test_recordings_that_were_fitted_do_not_judge(pendulum: RobotConfig, simulate: Simulate) -> None:
    """A copy, or an overlapping cut of one on a clock of its own, would be called held out."""
    fitted, other = (simulate(pendulum, {}, seed=s, seconds=4.0, period_s=0.01) for s in (1, 2))
    refuse_shared([fitted], [other], pendulum.spec)
    late = {
        n: replace(c, t_ns=c.t_ns[150:] - c.t_ns[150], values=c.values[150:]) for n, c in fitted.channels.items()
        if len(c.t_ns) > 150
    }  # fmt: skip
    cut = replace(fitted, name="cut", channels={**fitted.channels, **late})
    with pytest.raises(DataRefused, match=rf"of 'cut' stand in '{fitted.name}'"):
        refuse_shared([other, fitted], [cut], pendulum.spec)

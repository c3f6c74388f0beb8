"""Suites: what runs they make, how they are counted, and what is wrong with those that a person wrote wrongly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robot import config
from robot.config import ConfigError
from sim.model import Model, RobotConfig, find_robot
from sim.mujoco_arena import MujocoArena, MujocoArenaConfig
from sim.published_arena import PublishedArena, PublishedArenaConfig
from sim.randomization import Normal, Point, Randomization, Term, Uniform
from sim.tasks import load_task
from transfer.stress import CRITERIA, SEEDS, Plan, Spread, Suite, Sweep, law_rows, plan, refused, score, sweep_rows
from transfer.suites import suite_for, take_suite_file

FOLDER = config.shipped() / "stress"
MASS, GAIN = "body/pendulum/mass", "actuator/shoulder/gain"


def load(name: str) -> Suite:
    return config.load(Suite, FOLDER / f"{name}.yaml")


def leaderboard(name: str = "pendubot_leaderboard") -> tuple[Suite, PublishedArena]:
    suite = load(name)
    assert isinstance(suite.arena, PublishedArenaConfig)
    return suite, PublishedArena(suite.arena, load_task(suite.task))


@pytest.mark.parametrize("name", ["pendubot_leaderboard", "acrobot_leaderboard"])
def test_the_leaderboards_suite_is_the_published_one(name: str) -> None:
    suite, arena = leaderboard(name)
    made = plan(suite, arena, seed=0)
    rows = {row.label: row for row in made.rows}
    assert len(made.runs) == 344
    assert [len(row.values) for row in made.rows] == [21] * 14 + [50]
    ends = {label: (row.settings[label][0], row.settings[label][-1]) for label, row in rows.items() if row.settings}
    nominal = {"m1r1": 0.52346 * 0.2, "I1": 0.0318872, "m2r2": 0.625568 * 0.255693, "m2": 0.625568, "I2": 0.0508698}
    expected = {k: (0.75 * v, 1.25 * v) for k, v in nominal.items()} | {
        "Ir": (0.0, 1e-4), "b1": (-0.1, 0.1), "b2": (-0.1, 0.1), "cf1": (-0.2, 0.2), "cf2": (-0.2, 0.2),
        "velocity_noise": (0.0, 0.5), "torque_noise": (0.0, 1.1), "torque_response": (0.1, 2.0), "delay": (0.0, 0.04),
    }  # fmt: skip
    assert ends.keys() == expected.keys()
    for label, pair in expected.items():
        assert ends[label] == pytest.approx(pair), label
    assert all(len(run.pulses) == 6 for run in made.runs[-50:]) and not any(run.pulses for run in made.runs[:-50])
    assert len({run.seed for run in made.runs}) == 344


def test_another_seed_has_other_pushes_and_noise_but_the_same_values() -> None:
    suite, arena = leaderboard()
    first, again, other = (plan(suite, arena, seed) for seed in (1, 1, 2))
    assert first.runs == again.runs
    assert [r.values for r in first.runs] == [r.values for r in other.runs]
    assert {r.seed for r in first.runs}.isdisjoint(r.seed for r in other.runs)
    assert first.runs[-1].pulses != other.runs[-1].pulses
    assert len(first.runs) < SEEDS


def test_repetitions_are_counted_by_runs_or_by_the_majority_at_a_value() -> None:
    suite, arena = leaderboard()
    noisy = replace(suite, model=(), torque_noise=(), torque_response=(), delay=(), pushes=None)
    noisy = replace(noisy, velocity_noise=(replace(suite.velocity_noise[0], count=4, repetitions=3),))
    made = plan(noisy, arena, 0)
    success = np.array([1, 1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0], dtype=bool)
    by_runs, by_majority = (score(made, success, counted) for counted in ("runs", "majority"))
    assert by_runs["velocity_noise"] == pytest.approx(0.5) and by_runs["intervals"]["velocity_noise"]["n"] == 12
    assert by_majority["velocity_noise"] == pytest.approx(0.5) and by_majority["intervals"]["velocity_noise"]["n"] == 4
    assert by_runs["rows"][0]["success"] == pytest.approx([1.0, 2 / 3, 1 / 3, 0.0])
    assert by_runs["delay"] is None and by_runs["overall"] == pytest.approx(0.5)


def test_scores_are_means_of_criteria_and_their_intervals_hold_them() -> None:
    suite, arena = leaderboard()
    made = plan(suite, arena, 0)
    success = np.random.default_rng(0).random(len(made.runs)) < 0.8
    result = score(made, success)
    for i, criterion in enumerate(CRITERIA):
        mine = [made.rows[row].criterion == criterion for row in made.row]
        assert result[criterion] == pytest.approx(success[mine].mean()), i
        low, high = result["intervals"][criterion]["ci95"]
        assert low < result[criterion] < high
    overall = result["intervals"]["overall"]
    assert result["overall"] == pytest.approx(np.mean([result[c] for c in CRITERIA]))
    widths = [np.ptp(result["intervals"][c]["ci95"]) for c in CRITERIA]
    assert np.ptp(overall["ci95"]) < np.mean(widths)  # a mean of six is known better than one of them
    assert sum(row["n"] for row in result["rows"] if row["criterion"] == "model") == 210


@pytest.mark.parametrize(
    ("task", "rows"), [("pendulum_swingup", 6), ("arm_reach", 8), ("quadruped_velocity", 14), ("pendubot_swingup", 6)]
)
def test_the_default_suite_fits_every_robot(task: str, rows: int) -> None:
    suite, chosen = load("default"), load_task(task)
    assert isinstance(suite.arena, MujocoArenaConfig)
    made = plan(suite, MujocoArena(suite.arena, chosen, find_robot(chosen.robot)), 0)
    assert {row.criterion for row in made.rows} == set(CRITERIA) and len(made.rows) >= rows
    assert all(np.isfinite(list(run.values.values())).all() for run in made.runs)


def test_the_targets_of_a_posterior_are_varied_over_its_central_part(pendulum: RobotConfig) -> None:
    law = Randomization(
        name="fit",
        terms=(
            Term(targets=(MASS,), law=Normal(mean=1.0, sd=0.01)),
            Term(targets=(GAIN,), law=Point(values=(0.9,))),
            Term(targets=("joint/shoulder/damping", "joint/shoulder/frictionloss"), law=Uniform(low=0.0, high=0.1)),
            Term(
                targets=("sensor/joint.velocity/bias", "sensor/joint.effort/bias"), tie=True, law=Uniform(low=0, high=1)
            ),
        ),
    )
    rows = {row.label: row for row in law_rows(law, Model(pendulum), Spread(share=0.95, count=5, repetitions=3))}
    assert GAIN not in rows and len(rows) == 4  # what is known exactly is not varied
    np.testing.assert_allclose(rows[MASS].values[[0, -1]], [1.0 - 0.0196, 1.0 + 0.0196], atol=0.002)
    assert rows[MASS].repetitions == 3 and len(rows[MASS].values) == 5
    tied = rows["sensor/joint.velocity/bias"].settings
    np.testing.assert_array_equal(*tied.values())
    task = load_task("pendulum_swingup")
    arena = MujocoArena(MujocoArenaConfig(), task, pendulum, law)
    made = plan(load("default"), arena, 0, (law, arena.model))
    varied = {row.label for row in made.rows if row.criterion == "model"}
    assert varied == set(rows)  # in place of the suite's own


def test_what_stands_still_has_no_row(pendulum: RobotConfig) -> None:
    arena = MujocoArena(MujocoArenaConfig(), load_task("pendulum_swingup"), pendulum)
    damping = Sweep(of="joint/*/damping", low=0.5, high=2.0, relative_to="nominal")
    assert sweep_rows("model", damping, arena) == []  # the nominal is 0
    together = Sweep(of="body/*/mass", low=0.5, high=2.0, relative_to="nominal", together=True)
    assert len(sweep_rows("model", together, arena)) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dealy": []}, "unknown key 'dealy'. Known: .* Did you mean 'delay'"),
        (
            {"delay": [{"of": "delay", "low": 0.04, "high": 0.0}]},
            r"the range of 'delay' is \[0.04, 0\]; low must be below",
        ),
        ({"delay": [{"of": "delay", "low": 0.0, "high": 0.04, "count": 1}]}, "'delay': needs count >= 2"),
        (
            {"delay": [{"of": "delay", "low": 0, "high": 1, "relative_to": "mass"}]},
            "relative_to is 'mass'; it must be one",
        ),
        ({"arena": {"kind": "gazebo"}}, "arena.kind is 'gazebo'. Known: published_double_pendulum, mujoco"),
        ({"min": {"push": 0.5}}, "criterion 'push', which is unknown.*Did you mean 'pushes'"),
        ({"pushes": {"pulses": 0}}, "needs at least one pulse"),
        ({"counted": "votes"}, "counted is 'votes'; it must be one of 'runs', 'majority'"),
    ],
)
def test_a_suite_that_is_written_wrongly_is_refused_in_a_sentence(change: dict[str, object], said: str) -> None:
    data = config.load_yaml(FOLDER / "default.yaml") | change
    with pytest.raises(ConfigError, match=said) as caught:
        config.convert(Suite, data, "mine.yaml")
    assert "mine.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_knob_is_refused_by_the_arena() -> None:
    suite, arena = leaderboard()
    with pytest.raises(ConfigError, match="varies 'm2r3', which this arena does not know"):
        plan(replace(suite, model=(Sweep(of="m2r3", low=0.0, high=1.0),)), arena, 0)
    with pytest.raises(ConfigError, match="do not fit into 10 s"):
        assert suite.pushes is not None
        plan(replace(suite, pushes=replace(suite.pushes, pulses=9)), arena, 0)
    with pytest.raises(ConfigError, match="is for task 'pendubot_swingup', not 'arm_reach'"):
        suite.check("arm_reach")


def test_thresholds_name_what_is_below_them() -> None:
    suite = replace(load("default"), min_overall=0.8, min={"delay": 0.5, "pushes": 0.1})
    told = refused(suite, {"overall": 0.79, "delay": None, "pushes": 0.1})
    assert told == ["delay is not measured, 0.5 is asked for", "overall is 0.790, 0.8 is asked for"]
    assert refused(replace(suite, min={}), {"overall": 0.8}) == []


def test_a_suite_follows_from_the_task_or_from_a_file_of_ones_own(tmp_path: Path) -> None:
    assert suite_for("acrobot_swingup") == "acrobot_leaderboard" and suite_for("arm_push") == "default"
    mine = tmp_path / "mine.yaml"
    mine.write_text("name: mine\narena: {kind: mujoco}\n")
    words = ["task=arm_push", f"stress={mine}", "stress.min={delay: 0.5}", "stress.arena.duration_s=3"]
    rest, suite = take_suite_file(words)
    assert rest == ["task=arm_push"]
    assert suite == {"name": "mine", "arena": {"kind": "mujoco", "duration_s": 3}, "min": {"delay": 0.5}}
    assert take_suite_file(["stress=default"]) == (["stress=default"], None)
    mine.write_text("[1, 2]")
    with pytest.raises(ConfigError, match="it is no stress suite"):
        take_suite_file([f"stress={mine}"])


def test_an_empty_suite_has_no_score() -> None:
    with pytest.raises(ConfigError, match="has no criterion"):
        score(Plan(rows=(), runs=(), row=np.zeros(0, np.intp), value=np.zeros(0, np.intp)), np.zeros(0, bool))

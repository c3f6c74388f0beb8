"""bench: every contestant plays the same task, missing ones are named, and the result has the contract's keys."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from robot.config import ConfigError
from robot.spec import RobotSpec
from tests.robot.conftest import two_link  # noqa: F401 - a fixture
from tests.robot.fakes import make_bundle
from transfer import cli
from transfer.bench import measure, peers
from transfer.bench.measure import Effort, Unavailable
from transfer.bench.ours import Arena, Bare, Ours, bare_of_gymnasium
from transfer.bench.scaling import thread_counts

pytest.importorskip("imageio", reason="gymnasium's MuJoCo environments import it")


def bench(tmp_path: Path, *words: str) -> dict[str, Any]:
    made = cli.call("bench", ["what=env", "quick=true", f"out={tmp_path / 'bench'}", *words])
    result: dict[str, Any] = json.loads(made.read_text())
    return result


def test_env_has_rows_with_a_spread_and_ratios_of_the_same_rounds(tmp_path: Path) -> None:
    result = bench(tmp_path, "tasks=[ant,pendulum_swingup]", "peers=[sync]")
    rows = {row["name"]: row for row in result["rows"]}
    assert set(rows) == {
        "ant/ours", "ant/bare", "ant/bare_gymnasium_xml", "ant/sync",
        "pendulum_swingup/ours", "pendulum_swingup/bare", "pendulum_swingup/sync",
    }  # fmt: skip
    for row in rows.values():
        assert 0 < row["min"] <= row["median"] <= row["max"] and row["unit"] == "control steps/s" and row["setting"]
    assert set(result["ratio"]) == {"bare", "bare_gymnasium_xml", "sync"} and result["missing"] == []
    for task, ratios in result["ratios"].items():
        for peer, ratio in ratios.items():
            assert ratio["min"] <= ratio["median"] <= ratio["max"], (task, peer)
            low = rows[f"{task}/ours"]["min"] / rows[f"{task}/{peer}"]["max"]
            high = rows[f"{task}/ours"]["max"] / rows[f"{task}/{peer}"]["min"]
            assert low <= ratio["median"] <= high
    assert {p["simulations"] for p in result["scaling"]} == {1, 4} and Path(result["figure"]).stat().st_size > 1e5
    assert {"rows", "ratio"} <= set(result["volatile"])


def test_a_peer_that_is_not_installed_is_named_with_its_pip_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "envpool", None)
    result = bench(tmp_path, "tasks=[ant]", "peers=[envpool]", "scaling=false")
    assert [(m["peer"], m["fix"]) for m in result["missing"]] == [("envpool", "pip install envpool")]
    assert "envpool" not in result["ratio"] and "pip install envpool" in capsys.readouterr().out


@pytest.mark.parametrize(("word", "told"), [("tasks=[ent]", "Did you mean 'ant'"), ("peers=[envpol]", "'envpool'")])
def test_a_mistyped_task_or_peer_is_told_the_nearest(tmp_path: Path, word: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        bench(tmp_path, word)


def test_a_peer_whose_observations_stand_still_does_not_take_part() -> None:
    """envpool#312: zeros with a new NumPy."""
    good = SimpleNamespace(
        frame_skip=5,
        post_constraint=True,
        use_contact_force=True,
        terminate_when_unhealthy=True,
        max_episode_steps=1000,
    )
    moving = np.random.default_rng(0).normal(size=(40, 105))
    peers._check(good, moving)
    with pytest.raises(Unavailable, match="only 0 of EnvPool's 105"):
        peers._check(good, 0 * moving)
    with pytest.raises(Unavailable, match="frame_skip"):
        peers._check(SimpleNamespace(**{**vars(good), "frame_skip": 4}), moving)


def test_the_bare_batch_takes_the_steps_of_ours() -> None:
    """Same states and commands in, same states out: nominal parameters, nothing ends within these steps."""
    ours = Ours(Arena.of("ant"), 4, 1, seed=0)
    bares = Bare(ours), bare_of_gymnasium(ours)
    ours.core.plant.set({})
    for bare in bares:
        bare.follow()
        ours._k = bare._k = 0
        ours.core._length[:] = 1000
        ours.play(3)
        bare.play(3)
        np.testing.assert_allclose(bare._batch.bind("qpos"), ours.core.plant.qpos, rtol=0, atol=1e-9)


class Counting:
    """A contestant that only counts."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name, self.simulations, self.setting = log, name, 2, ""

    def play(self, steps: int) -> None:
        self.log.append(self.name)

    def close(self) -> None:
        self.log.append(f"{self.name} closed")


def test_contestants_take_turns_and_each_begins_a_round_in_its_turn() -> None:
    log: list[str] = []
    field = {n: Counting(log, n) for n in "abc"}
    rates = measure.in_turns(field, Effort(rounds=6, seconds=1e-9, warm_up_steps=1), lambda: log.append("|"))
    rounds = "".join(log).split("|")[2:]
    assert rounds == ["abc", "bca", "cab"] * 2
    assert all(values.shape == (6,) and (values > 0).all() for values in rates.values())


def test_the_fastest_set_up_stays_open_and_the_others_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    effort = Effort(rounds=5, seconds=1e-9, warm_up_steps=1)
    speed = {"slow": 1.0, "fast": 3.0, "middle": 2.0}
    monkeypatch.setattr(measure, "rate", lambda contestant, steps: speed[contestant.name])
    best = measure.fastest([lambda n=n: Counting(log, n) for n in speed], effort)  # type: ignore[misc]
    assert getattr(best, "name", "") == "fast"
    assert [line for line in log if "closed" in line] == ["slow closed", "middle closed"]


def test_threads_are_counted_in_powers_of_two_up_to_all() -> None:
    assert [thread_counts(n) for n in (1, 2, 3, 8, 12)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 8], [1, 2, 4, 8, 12]]


def test_a_tick_has_its_percentiles_beside_those_of_the_network_alone(two_link: RobotSpec, tmp_path: Path) -> None:  # noqa: F811
    made = make_bundle(tmp_path / "bundle", two_link)
    path = cli.call("bench", ["what=tick", "quick=true", f"bundle={made}", f"out={tmp_path / 'bench'}"])
    result = json.loads(path.read_text())
    assert [row["name"] for row in result["rows"]] == ["tick", "onnxruntime"]
    for row in result["rows"]:
        assert 0 < row["p50_us"] <= row["p99_us"] <= row["p999_us"] and row["min"] <= row["median"] <= row["max"]
    assert result["ratio"]["onnxruntime"] > 1.0 and result["inputs"]


def test_a_trainings_time_is_split_into_parts_that_make_up_the_whole(tmp_path: Path) -> None:
    path = cli.call("bench", ["what=train", "quick=true", f"out={tmp_path / 'bench'}"])
    result = json.loads(path.read_text())
    rows = {row["name"]: row["median"] for row in result["rows"]}
    for who in ("ours", "stable_baselines3"):
        parts = [rows[f"pendulum_swingup/{who}/{part}"] for part in ("physics", "environment", "network", "learner")]
        assert min(parts) > 0.0 and sum(parts) == pytest.approx(1.0, abs=0.1)  # medians of shares that sum to 1
        assert rows[f"pendulum_swingup/{who}/rate"] > 0.0
    assert result["ratio"]["stable_baselines3"] > 0.0
    with pytest.raises(ConfigError, match="Did you mean 'arm_reach'"):
        cli.call("bench", ["what=train", "tasks=[arm_reech]", f"out={tmp_path / 'x'}"])


def test_a_gpu_is_asked_for_by_name_and_its_lack_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sim import warp

    with pytest.raises(ConfigError, match="measured by what=env alone; what is 'tick'"):
        cli.call("bench", ["what=tick", "backend=warp", f"out={tmp_path / 'a'}"])
    none = SimpleNamespace(init=lambda: None, get_cuda_device_count=lambda: 0)
    monkeypatch.setattr(warp, "_packages", lambda: (none, None))
    with pytest.raises(ConfigError, match="backend=warp needs a CUDA device"):
        cli.call("bench", ["what=env", "backend=warp", f"out={tmp_path / 'b'}"])

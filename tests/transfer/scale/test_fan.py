"""What fanning out promises where no Ray is needed: plain data alone, and this process as the reference."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from policies.progress import Progress
from robot import config
from robot.config import ConfigError
from robot.log import EpisodeLog
from robot.result import Run
from sim.model import RobotConfig
from tests.transfer.conftest import Simulate
from tests.transfer.scale import works
from transfer import cli, sweep
from transfer.scale import episodes, fits
from transfer.scale.cluster import ScaleConfig
from transfer.scale.fan import arriving, check_plain, fan_out, name_of, perform
from transfer.stages import stress, train
from transfer.sweep import train_trial

LOCAL = ScaleConfig()


def test_only_plain_data_goes_to_another_process() -> None:
    check_plain({"a": [1, 2.0, "x", None, True, b"", np.float32(1.0)], "b": (np.zeros(3), np.array(["u"]))}, "shared")
    with pytest.raises(TypeError, match=r"shared\.a\[1\] is a Path"):
        check_plain({"a": [0, type("Path", (), {})()]}, "shared")
    with pytest.raises(TypeError, match="task is a ndarray"):
        check_plain(np.array([object()]), "task")
    with pytest.raises(TypeError, match=r"what tests\.transfer\.scale\.works:a_set returns is a set"):
        perform("tests.transfer.scale.works:a_set", None, 0)
    with pytest.raises(TypeError, match="is no function of a module"):
        name_of(lambda shared, task: task)


def test_a_generator_of_tasks_sees_the_results_before() -> None:
    """What a sweep suggests next may depend on what came of the trials so far."""
    seen: list[int] = []

    def tasks() -> Iterator[int]:
        for i in range(4):
            assert seen == list(range(i))
            yield i

    for i, result in arriving(works.alone, tasks(), LOCAL):
        assert i == result
        seen.append(result)


def test_progress_is_told_with_its_total() -> None:
    told: list[Progress] = []
    assert fan_out(works.alone, [3, 1, 2], LOCAL, None, "things", told.append) == [3, 1, 2]
    assert [(p.what, p.done, p.total) for p in told] == [("things", i, 3) for i in (1, 2, 3)]


def test_a_recording_comes_back_as_it_was(pendulum: RobotConfig, simulate: Simulate) -> None:
    log: EpisodeLog = simulate(pendulum, {}, seed=0, seconds=0.5)
    data = fits.plain_log(log)
    check_plain(data, "log")
    back = fits.log_of(data)
    assert (back.name, back.robot, back.fingerprint, back.meta) == (log.name, log.robot, log.fingerprint, log.meta)
    assert list(back.channels) == list(log.channels)
    for name, channel in log.channels.items():
        assert np.array_equal(back[name].values, channel.values) and np.array_equal(back[name].t_ns, channel.t_ns)
        assert back[name].components == channel.components


def test_pieces_are_a_matter_of_the_suite() -> None:
    made = config.convert(stress.Config, {**_STRESS, "piece": 7}, "test")
    assert stress.piece_of(made) == 7
    made = config.convert(stress.Config, {**_STRESS, "scale": {"engine": "ray"}}, "test")
    assert stress.piece_of(made) == episodes.PIECE
    assert stress.piece_of(config.convert(stress.Config, _STRESS, "test")) == 0
    with pytest.raises(ConfigError, match="piece is -1"):
        config.convert(stress.Config, {**_STRESS, "piece": -1}, "test")


_STRESS = {
    "task": {"name": "pendubot_swingup"},
    "stress": {"name": "none", "arena": {"kind": "mujoco"}},
}


def test_a_sweep_is_for_hosts_that_see_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where the worker goes, too
    with pytest.raises(ConfigError, match=r"does not see .*study\.db.* all hosts of the cluster share"):
        train_trial({"folder": str(tmp_path), "study": f"{tmp_path}/study.db"}, {"folder": "", "trainings": []})


def test_a_trial_is_trained_by_one_process_and_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop of a sweep without Optuna: what is suggested is trained, seed by seed, and what came of it is told."""
    pytest.importorskip("torch")
    file, told = tmp_path / "sweep.yaml", list[tuple[int, Mapping[str, Any]]]()
    file.write_text("trials: 2\nseeds: 2\nspace: {recipe.epochs: {kind: int, low: 1, high: 9}}\n")
    trials = iter([SimpleNamespace(number=n, suggest_int=lambda *_, n=n, **__: 3 + n) for n in range(2)])

    def take(*_: object) -> tuple[Any, Any] | None:
        trial = next(trials, None)
        if trial is None:
            return None
        assert len(told) == trial.number, "suggested before the one before had ended"
        (tmp_path / "trials" / f"{trial.number:04d}").mkdir(parents=True)
        return trial, contextlib.nullcontext()

    def execute(stage: str, module: Any, cfg: train.Config) -> None:
        assert cfg.scale == ScaleConfig() and cfg.resume and cfg.sweep is None and cfg.out is not None
        keys = {"success": {"mean": cfg.recipe["epochs"] / 10}, "return": {"mean": cfg.seed}, "seconds": 1.0}
        cfg.out.mkdir(parents=True, exist_ok=True)
        (cfg.out / "result.json").write_text(json.dumps(keys | {"policy": str(cfg.out / "policy")}))

    def study(out: Path) -> Any:
        (out / sweep.STUDY).touch()
        return SimpleNamespace(get_trials=lambda deepcopy: [])

    monkeypatch.setattr(sweep, "_study", study)
    monkeypatch.setattr(sweep, "write_table", lambda *_: None)
    monkeypatch.setattr(sweep, "_take", take)
    monkeypatch.setattr(sweep, "_tell", lambda study, trial, settings, found: told.append((trial.number, found)))
    monkeypatch.setattr(sweep, "_result", lambda *_: {"told": len(told)})
    monkeypatch.setattr(cli, "execute", execute)
    cfg = config.convert(train.Config, cli.compose("train", []) | {"sweep": str(file), "seed": 4}, "test")
    assert sweep.run_sweep(cfg, Run("train", tmp_path)) == {"told": 2}
    assert [n for n, _ in told] == [0, 1]
    assert told[1][1]["success"] == pytest.approx(0.4) and told[1][1]["return"] == 4.5
    assert [Path(p).parent.name for p in told[1][1]["policies"]] == ["seed-4", "seed-5"]

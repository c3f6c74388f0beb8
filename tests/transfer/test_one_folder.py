"""One folder for several processes: a run has it alone, and the jobs of a sweep are shared out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from robot import cli as front
from robot import config
from robot.claims import FILE, claim
from robot.config import ConfigError
from robot.result import Run
from transfer import cli
from transfer.scale import torchrun

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (torchrun.VARIABLE, "RANK"):
        monkeypatch.delenv(name, raising=False)
    Run("evaluate", tmp_path / "source", seed=3).finish({"success": {"mean": 1.0, "ci95": [0.9, 1.0], "n": 9}})
    return tmp_path / "source"


def test_a_folder_in_use_is_left_alone_and_who_has_it_is_told(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with claim(Path("mine"), "terrafirma train"):
        assert front.main(["lineage", f"run={source}", "out=mine"]) == 2
        assert f"mine is in use by terrafirma train on {os.uname().nodename}, process" in capsys.readouterr().err
        assert [p.name for p in Path("mine").iterdir()] == [FILE]
    assert front.main(["lineage", f"run={source}", "out=mine"]) == 0
    assert FILE not in {p.name for p in Path("mine").iterdir()}


def test_a_stage_that_fails_gives_its_folder_back(source: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such"):
        cli.call("lineage", ["run=nowhere", "out=mine"])
    cli.call("lineage", [f"run={source}", "out=mine"])


def test_runs_that_start_at_once_without_out_have_folders_of_their_own(source: Path) -> None:
    assert len({Run("lineage", None).out for _ in range(20)}) == 20


def test_a_job_that_is_done_or_in_other_hands_is_left_to_them(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["lineage", "-m", "run=source", "seed=1,2,3", "out=jobs", "resume=true"]
    with claim(Path("jobs/1"), "terrafirma lineage"):
        assert front.main(words) == 0
    assert "jobs/1 is in use by terrafirma lineage on" in capsys.readouterr().err
    results = [Path(f"jobs/{i}/result.json") for i in range(3)]
    assert [p.exists() for p in results] == [True, False, True]
    before = results[0].read_bytes()
    assert front.main(words) == 0  # who had it has died: now it is done, and the others are not done again
    assert json.loads(results[1].read_text())["seed"] == 2 and results[0].read_bytes() == before


def test_jobs_of_other_settings_are_no_jobs_of_this_sweep(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert front.main(["lineage", "-m", "run=source", "seed=1,2", "out=jobs", "resume=true"]) == 0
    assert front.main(["lineage", "-m", "run=source", "seed=4,2", "out=jobs", "resume=true"]) == 2
    assert "jobs/0 was made with another seed: choose another out=" in capsys.readouterr().err


def test_two_hosts_share_out_an_ensemble_without_doing_a_member_twice(source: Path) -> None:
    code = "import sys; from robot.cli import main; sys.exit(main())"
    seeds = ",".join(map(str, range(12)))
    words = ["lineage", "-m", "run=source", f"seed={seeds}", "out=jobs", "resume=true"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    other = subprocess.Popen([sys.executable, "-c", code, *words], env=environment, stderr=subprocess.DEVNULL)
    assert front.main(words) == 0
    assert other.wait(60) == 0
    done = [json.loads(Path(f"jobs/{i}/result.json").read_text()) for i in range(12)]
    assert [result["seed"] for result in done] == list(range(12))


def test_torchrun_is_for_pretraining_into_a_folder_that_is_named(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(torchrun.VARIABLE, "some")
    with pytest.raises(ConfigError, match=r"torchrun is for `terrafirma pretrain` of one encoder"):
        cli.call("lineage", [f"run={source}"])
    with pytest.raises(ConfigError, match=r"under torchrun pretrain needs out=DIR, one folder that all hosts see"):
        cli.call("pretrain", ["encoder=physics"])
    with pytest.raises(ConfigError, match=r"start `terrafirma pretrain study=` without it"):
        cli.call("pretrain", ["encoder=physics", "study=data_efficiency", "out=a"])


def test_the_settings_of_a_job_are_compared_without_where_it_stands(tmp_path: Path) -> None:
    from dataclasses import replace

    from transfer.scale import one_folder

    cfg = cli._convert("lineage", cli.load_stage("lineage"), ["run=x", f"out={tmp_path}"])
    config.save(tmp_path / "config.yaml", cfg)
    one_folder.check(replace(cfg, resume=True))
    with pytest.raises(ConfigError, match="another seed"):
        one_folder.check(replace(cfg, seed=5))

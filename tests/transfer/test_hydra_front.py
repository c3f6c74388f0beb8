"""Hydra's habits: folders of one's own, --cfg, --info, --multirun; and which keys are paths."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from robot import cli as front
from robot import config, folders
from robot.config import ConfigError, parse_yaml
from robot.result import Run
from transfer import cli, hydra_front, words


def run_of(folder: Path) -> Path:
    Run("evaluate", folder, seed=3).finish({"success": {"mean": 1.0, "ci95": [0.9, 1.0], "n": 9}})
    return folder


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of configs with a robot, its model beside it, and a recipe."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(folders.VARIABLE, raising=False)
    folder = tmp_path / "my configs"
    for group in ("robot", "recipe"):
        (folder / group).mkdir(parents=True)
    data = config.load_yaml(folders.find("robot", "simple_pendulum"))
    data["model"]["mjcf"] = "bob.xml"
    config.save(folder / "robot" / "bob.yaml", data)
    (folder / "robot" / "bob.xml").write_text("<mujoco/>")
    recipe = folders.find("recipe", "pendulum_swingup").read_text().replace("64", "16")
    (folder / "recipe" / "bob.yaml").write_text(recipe)
    return folder


def job(capsys: pytest.CaptureFixture[str], *args: str) -> dict:
    capsys.readouterr()
    assert front.main([*args, "--cfg", "job"]) == 0
    return parse_yaml(capsys.readouterr().out, "job")


def test_names_are_found_in_a_folder_of_ones_own(
    mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = job(capsys, "train", "--config-dir", str(mine), "robot=bob", "recipe=bob")
    assert data["recipe"]["num_envs"] == 16 and data["robot"]["model"]["mjcf"] == str(mine / "robot" / "bob.xml")
    assert folders.VARIABLE not in os.environ  # gone with the command
    assert front.main(["train", "robot=bob", "--cfg", "job"]) == 2
    assert "there is no such robot. Known:" in capsys.readouterr().err
    monkeypatch.setenv(folders.VARIABLE, str(mine))
    assert job(capsys, "evaluate", "robot=bob")["robot"]["model"]["mjcf"].endswith("bob.xml")


def test_onboard_stages_look_there_too(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = ["record", "robot=bob", "driver=nowhere", "excitation=chirp", "seconds=2"]
    assert front.main([*record, f"--config-dir={mine}"]) == 2
    assert "driver 'nowhere' is unknown" in capsys.readouterr().err
    assert front.main(record) == 2 and "robot 'bob' is unknown" in capsys.readouterr().err
    assert front.main([*record, "--config-dir", "nowhere"]) == 2
    assert "--config-dir nowhere: there is no such folder" in capsys.readouterr().err
    assert front.main([*record, "--config-dir"]) == 2 and "needs a folder" in capsys.readouterr().err


def test_the_search_path_can_be_looked_at(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert front.main(["lineage", "--config-dir", str(mine), "--info", "searchpath"]) == 0
    assert f"file://{mine}" in capsys.readouterr().out


def test_a_file_of_a_robot_is_shown_as_the_job_has_it(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = job(capsys, "evaluate", f"robot={mine / 'robot' / 'bob.yaml'}", "n=7")
    assert data["n"] == 7 and data["robot"]["model"]["mjcf"].endswith("bob.xml") and data.get("dr") is None
    assert "model" in data and "model_" not in data  # as a person writes it, not as Hydra is told
    part = job(capsys, "evaluate", "task=pendubot_swingup", "--package", "robot.spec")
    assert part["name"] == "double_pendulum_c1"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--cfg", "jab"], "--cfg needs job | hydra | all"),
        (["--info=x"], "--info needs all | config"),
        (["--cfg", "job", "--package"], "--package needs the dotted name"),
        (["--cfg", "job", "--package", "robot.spek"], "Did you mean 'spec'?"),
        (["--multi"], "'--multi' is no option of `terrafirma evaluate`"),
        (["-m", "robot=so101,simple_pendulm"], "Did you mean 'simple_pendulum'?"),
        (["-m", "hydra/launcher=nonsense"], "Could not find 'hydra/launcher/nonsense'"),
    ],
)
def test_a_mistake_in_hydras_options_gets_a_sentence(args: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cli.main(["evaluate", *args])
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_launcher_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hydra_front, "_installed", lambda module: False)
    for launcher, package in (("joblib", "sweep"), ("submitit_local", "scale")):
        with pytest.raises(ConfigError, match=rf"needs the package 'hydra-.*pip install 'terrafirma\[{package}\]'"):
            cli.main(["evaluate", "-m", f"hydra/launcher={launcher}", "seed=1,2"])
    monkeypatch.setattr(hydra_front, "_installed", lambda module: True)
    monkeypatch.setattr("shutil.which", lambda program: None)
    with pytest.raises(ConfigError, match="there is no `srun` here"):
        hydra_front.check_launcher(["hydra/launcher=submitit_slurm"])


def test_a_job_that_fails_is_one_sentence_and_the_others_keep_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run_of(tmp_path / "source")
    assert front.main(["lineage", "-m", "run=source,nowhere", "out=jobs"]) == 2
    captured = capsys.readouterr()
    assert "run=nowhere: there is no such file or folder" in captured.err and "Traceback" not in captured.err
    assert json.loads((tmp_path / "jobs" / "0" / "result.json").read_text())["stage"] == "lineage"
    assert "running or failed" in (tmp_path / "jobs" / "sweep.html").read_text()


def test_keys_are_paths_where_their_stage_says_so() -> None:
    assert cli.to_override("keep=a b,c", "finetune") == "++keep='a b,c'"
    assert cli.to_override("keep=true", "trials") == "++keep=true"
    assert cli.to_override("path=[a b.csv,c.csv]", "ingest") == "++path=['a b.csv','c.csv']"
    assert cli.to_override("report=a b", "export") == "++report='a b'"
    assert cli.to_override("policy=a b,[c,d],'e,f'", "evaluate", sweep=True) == "++policy='a b',['c','d'],'e,f'"


def test_the_keys_that_may_be_paths_exist() -> None:
    for stage, keys in words.MAYBE_PATHS.items():
        assert set(keys) <= set(cli.load_stage(stage).Config.__dataclass_fields__)

"""The command line: quoting, composing, and errors that say what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robot import config
from robot.config import ConfigError, convert, parse_yaml
from transfer import cli, hydra_front


@pytest.mark.parametrize("stage", list(cli.STAGES))
def test_every_stage_composes_its_defaults_and_explains_itself(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([stage, "--help"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("Reads", "Writes", "Costs", f"terrafirma {stage}"))


@pytest.mark.parametrize(
    "path",
    [
        "a b.csv",
        "a,b.csv",
        "it's.csv",
        "x=1.csv",
        "~/logs",
        "logs/*.csv.gz",
        "[odd]/x.csv",
        "ü{}.csv",
        "c:\\logs",
        "$HOME",
        "${x}",
    ],
)
def test_raw_paths_survive_hydras_grammar(path: str) -> None:
    word = cli.to_override(f"run={path}", "report")
    composed = cli.compose("report", [word])
    expected = str(Path(path).expanduser()) if path.startswith("~") else path
    assert composed["run"] == expected


def test_lists_of_paths_are_split_at_commas_and_quoted_one_by_one() -> None:
    composed = cli.compose("ingest", [cli.to_override("path=[a b.csv, c*.csv,'d,e.csv']", "ingest")])
    assert composed["path"] == ["a b.csv", "c*.csv", "d,e.csv"]


def test_a_model_is_a_path_although_a_folder_of_configs_has_its_name() -> None:
    word = cli.to_override("model=configs/model/published_c1_1.0.yaml", "evaluate")
    assert cli.compose("evaluate", [word])["model"] == "configs/model/published_c1_1.0.yaml"
    assert cli.compose("evaluate", [])["model"] == "nominal"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["report", "rum=x"], "Did you mean 'run'?"),
        (["evaluate", "robot=simple_pendulm"], "Did you mean 'simple_pendulum'?"),
        (["evaluate", "task=pendulum_swing"], "Did you mean 'pendulum_swingup'?"),
        (["evaluate", "robot.spec.control_perod_s=0.01"], "Did you mean 'control_period_s'?"),
        (["evaluate", "n=many"], "n is 'many'; it must be a whole number"),
        (["evaluate", "n"], "is not key=value"),
        (["evaluate", "--fast"], "is no option"),
        (["evalute"], "Did you mean 'evaluate'?"),
        (["evaluate"], "needs one of logs=, policy=, bundle="),
        (["evaluate", "logs=nowhere"], "logs=nowhere: there is no such file or folder"),
        (["report", "run=nowhere"], "run=nowhere: there is no such file or folder"),
    ],
)
def test_a_mistake_gets_one_sentence_with_the_way_out(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        cli.main(words)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_prior_and_the_robot_follow_from_the_task() -> None:
    composed = cli.compose("train", ["task=pendubot_swingup"])
    assert composed["robot"]["spec"]["name"] == "double_pendulum_c1"
    assert composed["dr"]["robot"] == "double_pendulum_c1"


def test_a_recipe_brings_the_task_and_the_prior_of_its_name_unless_others_are_given() -> None:
    alone = cli.compose("train", ["recipe=pendubot_swingup"])
    assert alone["task"]["name"] == alone["dr"]["name"] == "pendubot_swingup" and alone["network"]["hold"]
    assert alone["robot"]["spec"]["name"] == "double_pendulum_c1"
    assert cli.compose("train", ["recipe=arm_reach"])["dr"]["name"] == "so101_default"  # there is no prior arm_reach
    given = cli.compose("train", ["recipe=pendubot_swingup", "dr=double_pendulum_c1_default", "network=wide"])
    assert given["dr"]["name"] == "double_pendulum_c1_default" and given["network"]["hidden"] == [256, 256]
    other = cli.compose("train", ["task=acrobot_swingup", "recipe=pendubot_swingup"])
    assert other["task"]["name"] == "acrobot_swingup" and other["dr"]["name"] == "double_pendulum_c1_default"
    assert cli.compose("train", ["task=pendubot_swingup"])["dr"]["name"] == "double_pendulum_c1_default"


def test_no_prior_is_the_nominal() -> None:
    assert cli.compose("train", ["dr=null"]).get("dr") is None
    assert cli.compose("export", [])["policy"] is None


def test_hydra_shows_the_job_it_would_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    cli.main(["evaluate", "--cfg", "job", "n=7", "task=pendubot_swingup"])
    job = parse_yaml(capsys.readouterr().out, "hydra")
    assert job["n"] == 7 and job["robot"]["spec"]["name"] == "double_pendulum_c1"


def test_multirun_runs_the_stage_once_for_each_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    cli.call("lineage", [f"run={_a_run(source)}", f"out={tmp_path / 'first'}"])
    monkeypatch.chdir(tmp_path)
    cli.main(["lineage", "--multirun", f"run={source}", "seed=1,2", f"hydra.sweep.dir={tmp_path / 'sweep'}"])
    seeds = [json.loads(p.read_text())["seed"] for p in sorted((tmp_path / "sweep").rglob("result.json"))]
    assert seeds == [1, 2]


def _a_run(folder: Path) -> Path:
    from robot.result import Run

    Run("evaluate", folder, seed=3).finish({"success": {"mean": 1.0, "ci95": [0.9, 1.0], "n": 9}})
    return folder


def test_results_of_one_seed_are_equal_but_for_the_volatile_keys(tmp_path: Path) -> None:
    source = _a_run(tmp_path / "source")
    results = []
    for i in range(2):
        results.append(json.loads(cli.call("lineage", [f"run={source}", f"out={tmp_path / str(i)}"]).read_text()))
    for result in results:
        for key in result["volatile"]:
            result.pop(key, None)
    assert results[0] == results[1]


def test_every_config_file_converts() -> None:
    """A YAML file that no stage can read is a trap for whoever picks it."""
    from sim.model import Model, RobotConfig, load_robot
    from sim.randomization import Randomization

    folder = config.shipped()
    models = {p.stem: Model(load_robot(p)) for p in (folder / "robot").glob("*.yaml")}
    assert models
    for path in [*(folder / "dr").glob("*.yaml"), *(folder / "model").glob("*.yaml")]:
        law = convert(Randomization, parse_yaml(path.read_text(), str(path)), str(path))
        law.check(models[law.robot])
        law.center(models[law.robot])
    assert RobotConfig


def test_the_jobs_of_a_multirun_stand_where_out_says() -> None:
    words = [cli.to_override(w, "train") for w in ("out=runs/a b", "seed=0,1", "hydra/launcher=joblib")]
    assert words[-1] == "hydra/launcher=joblib"
    overrides, folder = hydra_front.sweep_folder("train", words)
    assert folder == Path("runs/a b") and overrides == [
        "++seed=0,1",
        "hydra/launcher=joblib",
        "hydra.sweep.dir='runs/a b'",
    ]
    assert hydra_front.sweep_folder("train", ["hydra.sweep.dir=x"]) == (["hydra.sweep.dir=x"], Path("x"))
    assert hydra_front.sweep_folder("train", [])[1].parts[:2] == ("multirun", "train")

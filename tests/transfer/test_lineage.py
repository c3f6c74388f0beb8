"""What a removed recording takes with it, by hash; and what a chain cost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from robot import config, files
from robot.config import ConfigError
from robot.result import PAPERS, Run
from transfer import cli
from transfer.dataset import Dataset, Episode


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two recordings and a refused one in a data set; a fit, a policy, its bundle; and what knows nothing of them."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c"):
        Path(f"{name}.csv").write_text(f"recording {name}\n")
    ingested("logs", {"a": True, "b": True, "c": False})
    ingested("test", {"c": True})
    artefact("pretrain", "pretrain", {"encoder": "an encoder"})
    written = {"posterior.yaml": "a posterior", "left as it was": "an encoder"}
    artefact("identify", "identify", written, "runs/logs", "runs/test")
    artefact("train", "from the prior", {"policy/weights": "another policy"}, "runs/pretrain/encoder")
    artefact("train", "train", {"policy/weights": "a policy"}, "runs/pretrain/encoder", "runs/identify/posterior.yaml")
    artefact("export", "export", {"bundle/policy.onnx": "a bundle"}, "runs/train/policy")
    artefact("evaluate", "before", {}, "runs/test")
    return tmp_path


def ingested(name: str, accepted: dict[str, bool]) -> None:
    run = Run("ingest", Path("runs") / name)
    episodes = []
    for source, taken in accepted.items():
        digest = files.sha256(run.input(Path(f"{source}.csv")))
        file = f"{source}.mcap" if taken else ""
        if taken:
            (run.out / file).write_text(f"episode {source} of {Path(f'{source}.csv').read_text()}")
        episodes.append(Episode(file=file, source=f"{source}.csv", sha256=digest, seconds=1.0, accepted=taken))
    config.save(run.out / "dataset.yaml", Dataset(robot="r", fingerprint="f", episodes=tuple(episodes)))
    run.finish({"dataset": str(run.out), "episodes": []})


def artefact(stage: str, name: str, written: dict[str, str], *inputs: str) -> None:
    run = Run(stage, Path("runs") / name)
    for path in inputs:
        run.input(Path(path))
    for file, text in written.items():
        (run.out / file).parent.mkdir(exist_ok=True)
        (run.out / file).write_text(text)
    run.finish({})


def lineage(*words: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(cli.call("lineage", ["run=runs", "out=out", *words]).read_text())
    return result


def redo(recording: str) -> list[str]:
    return [Path(row["folder"]).name for row in lineage(f"remove={recording}")["remove"]["redo"]]


def test_a_recording_takes_with_it_all_that_was_made_from_it_in_order(
    chain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = lineage("remove=a.csv")["remove"]
    assert [(Path(r["folder"]).name, r["again"]) for r in found["redo"]] == [
        ("logs", "ingest"), ("identify", "fit"), ("train", "train"), ("export", "export")
    ]  # fmt: skip
    assert all(r["certain"] for r in found["redo"]) and found["sha256"] == files.sha256(Path("a.csv"))
    assert "3. train again: train in runs/train, for it read the output of identify" in capsys.readouterr().out
    for name in (found["sha256"][:10], "runs/logs/a.mcap"):  # by its hash; as the episode that the data set made of it
        assert redo(name) == ["logs", "identify", "train", "export"]
    # `c` was refused by one data set; what depends on it does so through the other
    assert redo("c.csv") == ["test", "identify", "train", "export", "before"]
    assert lineage("remove=c.csv")["remove"]["refused_by"] == ["runs/logs"]


def test_hashes_decide_and_not_names(chain: Path) -> None:
    Path("elsewhere").mkdir()
    Path("elsewhere/copy.csv").write_bytes(Path("b.csv").read_bytes())
    Path("runs/train/policy").rename("policy of last week")  # not where it was made any more
    artefact("export", "export", {"bundle/policy.onnx": "again"}, "policy of last week")
    artefact("replay", "replay", {}, "runs/logs/a.mcap")
    assert redo("elsewhere/copy.csv") == ["logs", "identify", "train"]  # nobody can tell any more whose policy it was
    assert redo("a.csv") == ["logs", "identify", "train", "replay"]
    Path("runs/again").mkdir()
    Path("policy of last week").rename("runs/train/policy")
    artefact("export", "again", {"bundle/policy.onnx": "again"}, "runs/train/policy")
    Path("moved").mkdir()
    Path("moved/policy").mkdir()
    Path("moved/policy/weights").write_text("a policy")
    artefact("export", "copied", {"bundle/policy.onnx": "of a copy"}, "moved/policy")
    assert redo("b.csv") == ["logs", "identify", "train", "export", "again", "copied"]
    Path("a.csv").write_text("another recording under the old name")
    with pytest.raises(
        ConfigError, match=r"nothing under run=runs has read this content .* Another content of that name"
    ):
        lineage("remove=a.csv")


def test_what_was_overwritten_may_have_held_it_and_that_is_said(chain: Path) -> None:
    ingested("logs", {"b": True})  # `a` is gone from the data set, but not from what was fitted to it
    Path("a.csv").rename("removed.csv")
    found = lineage("remove=b.csv")["remove"]["redo"]
    assert [(Path(r["folder"]).name, r["certain"]) for r in found[:3]] == [
        ("logs", True), ("identify", False), ("train", True)
    ]  # fmt: skip
    assert "overwritten since" in found[1]["because"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("aa.csv", "Did you mean 'a.csv'?"),
        ("ffffffffff", "nothing under run=runs has read it"),
        ("same.csv", "several"),
    ],
)
def test_an_unknown_recording_is_named(chain: Path, name: str, said: str) -> None:
    for k, content in enumerate(("one", "two")):
        Path("same.csv").write_text(content)
        artefact("evaluate", f"same{k}", {}, "same.csv")
    Path("same.csv").unlink()
    with pytest.raises(ConfigError, match=said.replace("?", r"\?")):
        lineage(f"remove={name}")


def test_energy_is_that_of_the_measured_time_under_stated_assumptions(chain: Path, tmp_path: Path) -> None:
    path = Path("runs/train/lineage.json")
    files.write_json(path, json.loads(path.read_text()) | {"cpu_seconds": 7200.0})
    demo = Run("demo", Path("runs/demo"))
    demo.finish({"stages": []})
    files.write_json(Path("runs/demo/lineage.json"), {"cpu_seconds": 9999.0})  # its parts' time, which counts once
    found = lineage("watts_per_core=50", "grid_g_per_kwh=100")["energy"]
    assert found["assumptions"] == {"watts_per_core": 50.0, "grid_g_per_kwh": 100.0}
    (row,) = [r for r in found["stages"] if Path(r["folder"]).name == "train"]
    assert (row["kwh"], row["co2_g"]) == pytest.approx((0.1, 10.0))
    assert 7200.0 <= found["cpu_seconds"] < 7260.0 and found["co2_g"] == pytest.approx(100 * found["kwh"])
    assert {Path(r["folder"]).name for r in found["stages"]} == {
        "logs", "test", "pretrain", "from the prior", "identify", "train", "export", "before"
    }  # fmt: skip
    report = json.loads(cli.call("report", ["run=runs/train", "out=page", "watts_per_core=50"]).read_text())["report"]
    page = Path(report).read_text()
    assert "50 W a busy core and 400 g CO2 a kWh" in page and "<td>7.2e+03</td><td>0.1</td><td>40</td>" in page
    with pytest.raises(ConfigError, match="watts_per_core is -1"):
        lineage("watts_per_core=-1")
    written = json.loads(Path("runs/export/lineage.json").read_text())
    assert "cpu_seconds" in written["volatile"] and not {"inputs", "seed", "stage"} & set(written["volatile"])
    assert {"lineage.json"} <= set(PAPERS)  # so that times are no part of what an artefact hashes to


def test_defaults_of_the_assumptions_are_those_that_every_run_writes_down() -> None:
    from transfer.energy import Assumptions

    for stage in ("lineage", "report"):
        given = cli.defaults_of(stage)
        assert Assumptions(**{k: given[k] for k in ("watts_per_core", "grid_g_per_kwh")}) == Assumptions()
    assert replace(Assumptions(), watts_per_core=0.0).estimate(5.0)["kwh"] == 0.0

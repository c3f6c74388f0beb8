"""The stage: keys, page and exit code; a repair on request, thresholds, and a set that must share nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot.config import ConfigError
from robot.log import EpisodeLog
from sim.model import RobotConfig
from tests.transfer.faults import FAULTS, changed, stretch
from transfer import cli
from transfer.dataset import DataRefused

Simulate = Callable[..., EpisodeLog]


@pytest.fixture(scope="module")
def log(pendulum: RobotConfig, simulate: Simulate) -> EpisodeLog:
    return simulate(pendulum, {}, seed=1, seconds=6.0, effort=1.45, name="run")


def ingest(out: Path, *words: str) -> dict[str, Any]:
    path = cli.call("ingest", ["robot=simple_pendulum", *words, f"out={out}"])
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def test_a_faulty_episode_waits_for_a_person_or_a_repair(log: EpisodeLog, tmp_path: Path) -> None:
    good = log.save(tmp_path / "good.mcap")
    rng = np.random.default_rng(0)
    jumped = next(f for _ in range(40) if (f := FAULTS["clock_jump"](stretch(log, 0.5, 5.0), rng)) is not None)
    bad = jumped.log.save(tmp_path / "bad.mcap")
    result = ingest(tmp_path / "set", f"path=[{good},{bad}]")
    rows = {Path(e["source"]).stem: e for e in result["episodes"]}
    assert rows["good"]["accepted"] and rows["good"]["file"] == "good.mcap"
    assert not rows["bad"]["accepted"] and rows["bad"]["file"] == ""
    (found,) = [f for f in rows["bad"]["findings"] if f["kind"] == "clock_jump"]
    assert set(found) == {"kind", "channel", "where", "detail", "blocking"} and found["blocking"]
    page = Path(result["screening"]).read_text()
    assert "clock_jump" in page and "bad.mcap" in page and "http" not in page.split("</style>")[0]
    assert len(result["inputs"]) == 2

    mended = ingest(tmp_path / "mended", f"path=[{good},{bad}]", "repair=[clock_jump]")["episodes"][1]
    assert mended["accepted"] and {"clock_jump", "repaired"} <= {f["kind"] for f in mended["findings"]}
    taken = ingest(tmp_path / "taken", f"path={bad}", "accept=[clock_jump]")["episodes"][0]
    assert taken["accepted"] and "repaired" not in {f["kind"] for f in taken["findings"]}


def test_findings_of_a_refused_ingestion_stay_readable(log: EpisodeLog, tmp_path: Path) -> None:
    values = log["joint.position"].values.copy()
    values[40] = np.nan
    bad = changed(log, "joint.position", values).save(tmp_path / "bad.mcap")
    with pytest.raises(DataRefused):
        ingest(tmp_path / "set", f"path={bad}")
    result = json.loads((tmp_path / "set" / "result.json").read_text())
    assert [f["kind"] for f in result["episodes"][0]["findings"]] == ["nan"]
    assert (tmp_path / "set" / "screening.html").is_file() and not (tmp_path / "set" / "dataset.yaml").exists()


def test_a_set_held_against_another_shares_nothing_with_it(log: EpisodeLog, tmp_path: Path) -> None:
    ingest(tmp_path / "test", f"path={log.save(tmp_path / 'run.mcap')}")
    part = stretch(log, 1.0, 3.0).save(tmp_path / "part.mcap")
    with pytest.raises(DataRefused, match="leakage"):
        ingest(tmp_path / "train", f"path={part}", f"against={tmp_path / 'test'}")
    with pytest.raises(ConfigError, match="cannot be held against itself"):
        ingest(tmp_path / "test", f"path={part}", f"against={tmp_path / 'test'}")


def test_a_threshold_is_set_on_the_command_line_and_checked(log: EpisodeLog, tmp_path: Path) -> None:
    path = stretch(log, 0.0, 2.0).save(tmp_path / "run.mcap")
    short = ingest(tmp_path / "set", f"path={path}", "screen.short_s=3.0")["episodes"][0]
    assert [f["kind"] for f in short["findings"]] == ["short"]
    with pytest.raises(ConfigError, match=r"screen\.short_s is -1"):
        ingest(tmp_path / "other", f"path={path}", "screen.short_s=-1.0")
    with pytest.raises(ConfigError, match="Did you mean 'clock_jump'"):
        ingest(tmp_path / "other", f"path={path}", "repair=[clock_jum]")


def test_it_says_what_it_understood_and_writes_a_lerobot_set_that_it_reads(
    log: EpisodeLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = stretch(log, 0.0, 2.0).save(tmp_path / "run.mcap")
    result = ingest(tmp_path / "set", f"path={source}", "write=lerobot", 'lerobot.task="swing up, then hold"')
    told = capsys.readouterr().out
    assert "run.mcap: terrafirma MCAP, 1 of 1 episode(s) accepted" in told and "joint.position [rad] at " in told
    (row,) = result["understood"]
    heard = {c["name"]: c for c in row["channels"]}
    assert (row["episodes"], row["accepted"]) == (1, 1) and heard["command.effort"]["unit"] == "N m"
    written = result["lerobot"]
    assert written["episodes"] == 1 and written["lost_rows"] == {} and "LeRobotDataset v3.0, 1 episode(s)" in told
    again = ingest(tmp_path / "again", f"path={written['folder']}")
    assert again["episodes"][0]["accepted"] and again["understood"][0]["format"].startswith("LeRobotDataset v3.0")
    assert "swing up" in (tmp_path / "set/lerobot/meta/tasks.parquet").read_bytes().decode("latin-1")

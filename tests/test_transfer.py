"""docs/transfer.md, run line by line as it is written, on a CSV that a surrogate robot made."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot import cli
from robot.log import EpisodeLog
from sim.model import find_robot
from sim.surrogate import record_episode

PAGE = Path(__file__).parents[1] / "docs" / "transfer.md"
NM_PER_A = 0.546


def lines() -> list[str]:
    """What the page says is run."""
    stripped = [line.strip() for line in PAGE.read_text().splitlines()]
    return [line.removeprefix("$ ") for line in stripped if line.startswith("$ ")]


def write_files(folder: Path) -> None:
    """The files that the page shows: a block of code belongs to the last file that was named before it."""
    text = PAGE.read_text()
    for block in re.finditer(r"```(xml|yaml)\n(.*?)```", text, re.DOTALL):
        name = re.findall(rf"`(\w+\.{block[1]})`", text[: block.start()])[-1]
        (folder / name).write_text(block[2])


def as_csv(log: EpisodeLog) -> str:
    """A recording as that laboratory's logger writes it."""
    q, v, u = (log[c].values[:, 0] for c in ("joint.position", "joint.velocity", "command.effort"))
    ms = (log["joint.position"].t_ns - log["joint.position"].t_ns[0]) * 1e-6
    rows = min(len(q), len(v), len(u))
    table = np.stack([ms[:rows], -np.degrees(q[:rows]), -np.degrees(v[:rows]), -u[:rows] / NM_PER_A], axis=1)
    return "ms,angle,speed,amps\n" + "\n".join(",".join(f"{x:.6f}" for x in row) for row in table)


@pytest.fixture(scope="module")
def recordings() -> dict[str, str]:
    """Two recordings to fit and one to judge by, as CSV."""
    robot, kinds = find_robot("simple_pendulum"), {"logs/a": "chirp", "logs/b": "prbs", "test/c": "prbs"}
    logs = [record_episode(robot, kind, 4.0, truth=4, seed=n, amplitude=0.5) for n, kind in enumerate(kinds.values())]
    return {f"{name}.csv": as_csv(log) for name, log in zip(kinds, logs, strict=True)}


@pytest.fixture()
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recordings: dict[str, str]) -> Path:
    """A folder as the reader of the page has it."""
    write_files(tmp_path)
    for name, text in recordings.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str) -> int:
    words = line.split()
    assert words[0] == "terrafirma"
    return cli.main([*words[1:], "quick=true"])


def result(folder: str) -> dict[str, Any]:
    return dict(json.loads(Path(folder, "result.json").read_text()))


def test_a_forgotten_unit_is_refused_as_the_page_says(bench: Path) -> None:
    columns = bench / "columns.yaml"
    columns.write_text(columns.read_text().replace("unit: deg,", ""))
    doctor, ingest = lines()[:2]
    assert run(doctor) == 0 and run(ingest.replace("out=runs/logs", "out=refused")) == 4
    kinds = {f["kind"] for e in result("refused")["episodes"] for f in e["findings"]}
    assert "unit" in kinds


def test_every_line_of_the_page_runs_and_the_budget_shows_the_gain(bench: Path) -> None:
    assert len(lines()) == 8
    for line in lines():
        assert run(line) == 0, line
    assert all(e["accepted"] for part in ("logs", "test") for e in result(f"runs/{part}")["episodes"])
    steps = result("runs/after")["gap_budget"]
    assert [s["step"] for s in steps] == ["nominal", "+ delay", "+ identified"]
    error = [s["prediction"]["0.5"]["position_rmse"]["mean"] for s in steps]
    assert error[0] == result("runs/before")["prediction"]["0.5"]["position_rmse"]["mean"]
    assert error[2] < 0.8 * error[0] and steps[2]["change"]["0.5"]["mean"] < 0.0
    assert "Gap budget" in (bench / "report" / "report.html").read_text()
    again = [Path(row["folder"]).name for row in result("lineage")["remove"]["redo"]]
    assert again == ["logs", "identify", "after"]

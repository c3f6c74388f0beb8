"""The report: one page that opens without a network and shows what a run's files say."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from robot.config import ConfigError
from robot.result import Run, wilson
from transfer import cli
from transfer.report.collect import lineage_tree

ERROR = {"mean": 0.061, "ci95": [0.055, 0.068], "n": 40}


def prediction(scale: float) -> dict[str, Any]:
    rmse = {"mean": 0.06 * scale, "ci95": [0.05 * scale, 0.07 * scale], "n": 40}
    return {h: {"position_rmse": rmse, "velocity_rmse": rmse, "position_median": rmse} for h in ("0.1", "0.5", "1.0")}


@pytest.fixture()
def chain(tmp_path: Path) -> Path:
    """The files of a small chain, with figures that can be found again on the page."""
    top = tmp_path / "chain"
    data = Run("ingest", top / "ingest")
    source = tmp_path / "one.csv"
    source.write_text("time\n")
    data.input(source)
    finding = {"kind": "time_gap", "channel": "joint.position", "where": "row 7", "detail": "a gap of <0.4 s>"}
    episode = {"source": str(source), "seconds": 9.9, "accepted": True, "findings": [finding]}
    data.finish({"dataset": str(top / "ingest"), "episodes": [episode]})
    for name, model, scale in (("before", "nominal", 5.0), ("after", "posterior.yaml", 1.0)):
        run = Run("evaluate", top / name)
        run.input(top / "ingest" / "result.json")
        run.finish({"model": model, "prediction": prediction(scale), "windows": 40})
    settings = {"robot": cli.compose("evaluate", ["robot=simple_pendulum"])["robot"]}
    parameters = {
        "body/pendulum/mass": {"estimate": 0.812, "ci95": [0.80, 0.83], "unit": "kg", "identified": True},
        "joint/shoulder/damping": {"estimate": 0.02, "ci95": [0.0, 0.1], "unit": "N m s/rad", "identified": False},
    }
    Run("identify", top / "identify", settings=settings).finish({"parameters": parameters, "delay_ms": 12.0})
    trained = Run("train", top / "train")
    (top / "train" / "curve.jsonl").write_text(json.dumps({"env_steps": 1000, "success": 0.5, "return": 3.0}) + "\n")
    trained.finish({"success": wilson(5, 10)})
    for name, wins in (("zero-shot", 30), ("fine-tuned", 96)):
        Run("trials", top / f"trials_{name}").finish({"success": wilson(wins, 100)})
    found = {"mean": 0.25, "ci95": [0.1, 0.4], "n": 40, "verdict": "better"}
    compared = {"success": wilson(37, 40), "against": {"success": wilson(27, 40)}, "difference": found}
    Run("trials", top / "trials_compared").finish(compared)
    return top


class Cells(HTMLParser):
    """Text of the page's table cells, and the addresses that it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.loads: list[str] = []
        self.rows: list[int] = []
        self._inside = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "td"
        if tag == "td":
            self.cells.append("")
        if tag == "tbody":
            self.rows.append(0)
        if tag == "tr" and self.rows:
            self.rows[-1] += 1
        self.loads += [v or "" for k, v in attributes if k in ("src", "href") and not (v or "").startswith("data:")]

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.cells[-1] += data


def test_the_page_is_offline_and_complete(chain: Path, tmp_path: Path) -> None:
    result = json.loads(cli.call("report", [f"run={chain}", f"out={tmp_path / 'report'}"]).read_text())
    text = Path(result["report"]).read_text()
    page = Cells()
    page.feed(text)
    assert page.loads == [], "the page must not fetch anything"
    assert page.rows and all(count > 0 for count in page.rows), "no table may be empty"
    shown = " ".join(page.cells)
    for expected in (
        "96% [90%, 98%], n = 100",
        "0.812",
        "no: stays at the prior",
        "time_gap: a gap of <0.4 s>",
        "0.06 [0.05, 0.07]",
        "compared: against",
        "68% [52%, 80%], n = 40",
    ):
        assert expected in shown
    assert "compared: difference 0.25 [0.1, 0.4], better." in text
    assert len(re.findall(r"class=\"plotly-graph-div\"", text)) == 5


def test_variants_stand_on_the_page_with_the_reason_why_not(tmp_path: Path) -> None:
    figures = {
        "bytes": 900,
        "latency_us_p50": 11.0,
        "latency_us_p99": 20.0,
        "return": ERROR,
        "accepted": True,
        "why": "",
    }
    slower = {"mean": 1.4, "ci95": [1.3, 1.5], "n": 20}
    none = dict.fromkeys(("bytes", "latency_us_p50", "latency_us_p99", "return"))
    variants = [
        {"name": "float32", **figures},
        {"name": "int8", **figures, "accepted": False, "why": "slower: a run", "latency_ratio": slower},
        {"name": "student", **none, "accepted": False, "why": "teaches no student"},
    ]
    Run("export", tmp_path / "export").finish({"parity_max_error": 1e-7, "variants": variants})
    result = json.loads(cli.call("report", [f"run={tmp_path / 'export'}", f"out={tmp_path / 'r'}"]).read_text())
    page = Cells()
    page.feed(Path(result["report"]).read_text())
    for expected in ("slower: a run", "1.4 [1.3, 1.5]", "teaches no student", "int8: latency p50 / p99 [us]"):
        assert expected in page.cells
    assert "student: latency p50 / p99 [us]" not in page.cells


def test_a_stage_alone_gets_a_page_of_its_own(chain: Path, tmp_path: Path) -> None:
    result = json.loads(cli.call("report", [f"run={chain / 'identify'}", f"out={tmp_path / 'report'}"]).read_text())
    assert "body/pendulum/mass" in Path(result["report"]).read_text()


def test_a_folder_without_results_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no result\.json"):
        cli.call("report", [f"run={tmp_path}", f"out={tmp_path / 'out'}"])


def test_lineage_leads_back_to_the_recording(chain: Path) -> None:
    tree = lineage_tree(chain / "after")
    assert tree["stage"] == "evaluate"
    (entry,) = tree["inputs"]
    made = entry["made_by"]
    assert made["stage"] == "ingest" and made["inputs"][0]["path"].endswith("one.csv")
    assert len(made["inputs"][0]["sha256"]) == 64

"""docs/results.md says what the files in docs/results say."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def results() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results", ROOT / "tests" / "benchmarks" / "results.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_script_makes_of_the_kept_results(results: ModuleType) -> None:
    assert (ROOT / "docs" / "results.md").read_text() == results.page(ROOT / "docs" / "results")


def test_seeds_are_averaged_beside_what_was_published(results: ModuleType, tmp_path: Path) -> None:
    success = {"mean": 0.9, "ci95": [0.8, 0.95], "n": 100}
    for seed, overall in ((0, 0.8), (1, 0.9)):
        scores = dict.fromkeys(results.CRITERIA, overall)
        papers = {
            "result": {"stage": "train", "success": success},
            "curve": [{"env_steps": 1_000, "seconds": 90.0}],
            "stress": scores,
        }
        folder = tmp_path / f"pendubot_swingup-{seed}"
        folder.mkdir()
        for name, paper in papers.items():
            (folder / f"{name}.json").write_text(json.dumps(paper))
    page = results.page(tmp_path)
    assert "| pendubot_swingup | 1 | 0.90 [0.80, 0.95] | 100 | 1,000 | 1.5 |" in page
    assert "| **mean of 2 seeds** |" in page and page.count("**0.850**") == 7
    assert "| AR-EAPO, published | 0.876 |" in page

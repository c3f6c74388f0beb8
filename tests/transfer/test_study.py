"""The study's queue can be killed at any cell, and its ratios say what they do not know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from robot.config import ConfigError
from transfer import study
from transfer.study import Cell


class Falling:
    """Errors that fall as a known power of the amount: from scratch four times the data is needed."""

    unit, error = "pictures", "error [deg]"
    ways = (study.PRETRAINED, study.SCRATCH)

    def __init__(self, dies_at: int | None = None, **settings: Any) -> None:
        self.settings, self._dies_at = settings, dies_at
        self.ran: list[Cell] = []

    def amounts(self, way: str) -> tuple[int, ...]:
        return (4, 16) if way == study.PRETRAINED else (4, 16, 64, 256)

    def run(self, cell: Cell) -> dict[str, float]:
        if len(self.ran) == self._dies_at:
            raise KeyboardInterrupt
        self.ran.append(cell)
        needs = 1.0 if cell.way == study.PRETRAINED else 4.0
        return {"error": (needs / cell.amount) ** 0.5 * (1.0 + 0.01 * cell.seed)}


def test_the_ratio_is_the_known_one(tmp_path: Path) -> None:
    result = study.study(Falling(), tmp_path, [0, 1, 2])
    found = result["data_efficiency_ratio"][study.SCRATCH]["16"]
    assert found["mean"] == pytest.approx(4.0) and found["n"] == 3
    assert found["censored"] == {"below": 0, "above": 0}
    assert found["ci95"][0] <= 4.0 <= found["ci95"][1]
    page = study.markdown(result)
    assert "| pretrained |" in page and "4 [4, 4]" in page


def test_what_scratch_never_reaches_is_a_bound(tmp_path: Path) -> None:
    class Short(Falling):
        def amounts(self, way: str) -> tuple[int, ...]:
            return (4, 16)

    result = study.study(Short(), tmp_path, [0, 1, 2])
    bound = result["data_efficiency_ratio"][study.SCRATCH]["16"]
    assert bound["mean"] == pytest.approx(1.0) and bound["censored"]["below"] == 3
    assert "≥ 1" in study.markdown(result) and "3 of 3 censored" in study.markdown(result)


def test_a_killed_study_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = study.study(Falling(), tmp_path / "whole", [0, 1])
    with pytest.raises(KeyboardInterrupt):
        study.study(Falling(dies_at=5), tmp_path / "killed", [0, 1])
    rest = Falling()
    assert study.study(rest, tmp_path / "killed", [0, 1]) == whole
    assert len(rest.ran) == 12 - 5


def test_cells_of_other_settings_are_refused(tmp_path: Path) -> None:
    study.study(Falling(updates=10), tmp_path, [0])
    with pytest.raises(ConfigError, match="other updates"):
        study.study(Falling(updates=20), tmp_path, [0])

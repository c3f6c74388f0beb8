"""The data-efficiency study: held-out error against the amount of adaptation data, for several ways to use it.

A study is a queue of cells, one a (way, amount, seed). Each finished cell is a file, so a study that was killed goes on
where it was; what a cell does is up to its arms (transfer/study_images.py, transfer/study_logs.py). To add a study: a
module with such arms, and its row in transfer.stages.pretrain.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from policies.progress import Meter, Report, silent
from robot import files
from robot.config import ConfigError
from robot.result import mean_ci
from transfer import kpi

PRETRAINED, FROZEN, SCRATCH, SHIFTED = "pretrained", "frozen", "scratch", "scratch+shift"
"""Pretrained and fine-tuned whole; pretrained, and only its heads fitted; the same network from a random start; that
with random-shift augmentation, which is the honest baseline (Hansen et al., ICML 2023)."""
ZERO_SHOT = "zero-shot"
"""Pretrained, and no data at all."""
BASELINES = (SCRATCH, SHIFTED)


@dataclass(frozen=True, slots=True)
class Cell:
    """One training of a study."""

    way: str
    amount: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.way}-{self.amount}-{self.seed}"


class Arms(Protocol):
    """What a study compares. Every seed is another robot, with other recordings."""

    unit: str
    """What amounts count: labelled pictures, seconds of log."""
    error: str
    """What the error is, with its unit."""
    settings: dict[str, Any]
    """What the figures depend on, beside way, amount and seed; a cell of other settings is not taken for this one's."""

    def amounts(self, way: str) -> tuple[int, ...]:
        """The amounts of data that a way is tried with, rising."""
        ...

    @property
    def ways(self) -> tuple[str, ...]: ...

    def run(self, cell: Cell) -> dict[str, float]:
        """Train and judge one cell on held-out recordings of its robot: at least {"error"}; less is better."""
        ...


def study(arms: Arms, out: Path, seeds: Sequence[int], report: Report = silent) -> dict[str, Any]:
    """Run all cells that are not there yet, smallest amounts first, and return the table and the ratios.

    Writes `out`/cells/NAME.json as it goes. ConfigError when the folder holds cells of other settings.
    """
    cells = [Cell(way, n, seed) for way in arms.ways for n in arms.amounts(way) for seed in seeds]
    cells.sort(key=lambda c: (c.amount, c.seed, arms.ways.index(c.way)))
    done = {cell: read for cell in cells if (read := _read(out, cell, arms.settings)) is not None}
    meter = Meter("study", len(cells), "cells", report, done=len(done))
    for cell in cells:
        if cell in done:
            continue
        done[cell] = dict(arms.run(cell))
        files.write_json(_path(out, cell), {"settings": arms.settings, "scores": done[cell]})
        meter(len(done), error=done[cell]["error"])
    errors = {way: {n: [done[Cell(way, n, s)]["error"] for s in seeds] for n in arms.amounts(way)} for way in arms.ways}
    return {
        "unit": arms.unit,
        "error": arms.error,
        "seeds": list(seeds),
        "table": {way: {str(n): mean_ci(e) for n, e in rows.items()} for way, rows in errors.items()},
        "scores": {cell.name: scores for cell, scores in done.items()},
        "data_efficiency_ratio": {base: ratios(errors, base) for base in BASELINES if base in errors},
    }


def _path(out: Path, cell: Cell) -> Path:
    return Path(out) / "cells" / f"{cell.name}.json"


def _read(out: Path, cell: Cell, settings: Mapping[str, Any]) -> dict[str, float] | None:
    path = _path(out, cell)
    if not path.is_file():
        return None
    there = json.loads(path.read_text())
    if there["settings"] != json.loads(json.dumps(settings)):
        changed = sorted(k for k in {*there["settings"], *settings} if there["settings"].get(k) != settings.get(k))
        raise ConfigError(f"{path} is of a study with other {', '.join(changed)}; choose another out=.")
    scores: dict[str, float] = there["scores"]
    return scores


def ratios(errors: Mapping[str, Mapping[int, Sequence[float]]], baseline: str) -> dict[str, Any]:
    """Amount -> how many times as much data the baseline needs for the error of the pretrained encoder with it.

    The geometric mean over the seeds with its t interval. Where some seeds are censored the mean is a bound, and
    `censored` counts them: "below" (the true ratio is larger), "above" (smaller).
    """
    out: dict[str, Any] = {}
    for amount, values in errors[PRETRAINED].items():
        each = [
            kpi.data_efficiency_ratio([(n, e[i]) for n, e in errors[baseline].items()], amount, error)
            for i, error in enumerate(values)
        ]
        told = mean_ci(np.log([r["mean"] for r in each]))
        ends = None if told["ci95"] is None else [float(np.exp(e)) for e in told["ci95"]]
        out[str(amount)] = {
            "mean": float(np.exp(told["mean"])),
            "ci95": ends,
            "n": told["n"],
            "censored": {side: sum(r["censored"] == side for r in each) for side in ("below", "above")},
        }
    return out


def markdown(result: Mapping[str, Any]) -> str:
    """The table as documentation shows it."""
    amounts = sorted({int(n) for row in result["table"].values() for n in row})
    lines = [f"| {result['error']}, by {result['unit']} |" + "".join(f" {n:g} |" for n in amounts)]
    lines.append("|---|" + "---|" * len(amounts))
    for way, row in result["table"].items():
        cells = [_figure(row.get(str(n))) for n in amounts]
        lines.append(f"| {way} |" + "".join(f" {c} |" for c in cells))
    for base, row in result["data_efficiency_ratio"].items():
        cells = [_ratio(row.get(str(n))) for n in amounts]
        lines.append(f"| *data-efficiency ratio over {base}* |" + "".join(f" {c} |" for c in cells))
    return "\n".join(lines) + "\n"


def _figure(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return ""
    ends = f" [{value['ci95'][0]:.3g}, {value['ci95'][1]:.3g}]" if value["ci95"] else ""
    return f"{value['mean']:.3g}{ends}"


def _ratio(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return ""
    below, above = value["censored"]["below"], value["censored"]["above"]
    sign = "≥ " if below and not above else "≤ " if above and not below else ""
    return sign + _figure(value) + (f" ({below + above} of {value['n']} censored)" if below or above else "")

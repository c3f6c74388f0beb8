"""One HTML page of a run that opens without a network:

    terrafirma report run=runs/demo

Reads   every result.json, lineage.json and curve.jsonl in the folder and below it.
Writes  report.html (about 5 MB: the plotting code is inside) and result.json.
Costs   a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot import config, files
from robot.config import ConfigError
from robot.result import Run
from sim.model import Model, RobotConfig
from transfer.choices import existing
from transfer.cli import Common
from transfer.energy import Assumptions
from transfer.report.collect import StageResult, collect
from transfer.report.page import build_page

VOLATILE = ("report",)


@dataclass(frozen=True, kw_only=True)
class Config(Common, Assumptions):
    run: Path | None = None
    """The folder of a stage, or of a chain of stages."""


def run(cfg: Config, run: Run) -> dict[str, Any]:
    folder = existing(cfg.run, "run", "demo")
    stages = [s for s in collect(folder) if s.folder.resolve() != run.out.resolve() and s.stage != "report"]
    path = run.out / "report.html"
    files.write_text(path, build_page(f"terrafirma: {folder.resolve().name}", stages, nominal_of(stages), cfg))
    for stage in stages:
        run.input(stage.folder / "result.json")
    return {"report": str(path)}


def nominal_of(stages: list[StageResult]) -> dict[str, float]:
    """Nominal values of the targets that an identification among the stages estimated."""
    for stage in stages:
        settings = stage.folder / "config.yaml"
        if stage.stage == "identify" and settings.exists():
            robot = config.convert(RobotConfig, config.load_yaml(settings)["robot"], str(settings))
            model = Model(robot)
            try:
                return {name: model.nominal(name) for name in stage.result["parameters"]}
            except ConfigError:
                return {}
    return {}

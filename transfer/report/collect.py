"""What a run directory holds: the results, curves and lineages of a stage, or of a chain of stages below it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robot.config import ConfigError


@dataclass(frozen=True, slots=True)
class StageResult:
    """One stage's files."""

    name: str
    """Folder name under the run, or the stage's name for the run itself."""
    folder: Path
    result: dict[str, Any]
    lineage: dict[str, Any]
    curves: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Name of a training -> rows of its learning curve."""

    @property
    def stage(self) -> str:
        return str(self.result["stage"])


def collect(run: Path) -> list[StageResult]:
    """Results in `run` and in the folders below it, in the order in which they finished.

    ConfigError when there are none. Folders that only hold inputs (data sets, bundles) are passed over.
    """
    if not run.is_dir():
        raise ConfigError(f"run={run}: there is no such folder.")
    found = [_read(path.parent, run) for path in sorted(run.rglob("result.json"))]
    if not found:
        raise ConfigError(f"run={run}: no result.json in it or below; give the folder that a stage printed.")
    return sorted(found, key=lambda s: (s.folder / "result.json").stat().st_mtime_ns)


def _read(folder: Path, top: Path) -> StageResult:
    result = json.loads((folder / "result.json").read_text())
    lineage_file = folder / "lineage.json"
    lineage = json.loads(lineage_file.read_text()) if lineage_file.exists() else {}
    name = folder.relative_to(top).as_posix()
    name = result["stage"] if name == "." else name
    curves = {}
    for path in sorted(folder.glob("curve*.jsonl")):
        method = path.stem.removeprefix("curve").removeprefix("-")
        curves[f"{name}: {method}" if method else name] = [json.loads(line) for line in path.read_text().splitlines()]
    return StageResult(name, folder, result, lineage, curves)


def lineage_tree(run: Path, stages: list[StageResult]) -> dict[str, Any]:
    """What a run was made from: each input with its hash, and the run that wrote it where that is known."""
    made = {stage.folder.resolve(): stage for stage in stages}

    def node(stage: StageResult, seen: frozenset[Path]) -> dict[str, Any]:
        inputs = []
        for path, digest in stage.lineage.get("inputs", {}).items():
            entry: dict[str, Any] = {"path": path, "sha256": digest}
            maker = next((made[p] for p in [Path(path).resolve(), *Path(path).resolve().parents] if p in made), None)
            if maker is not None and maker.folder not in seen and maker.folder != stage.folder:
                entry["made_by"] = node(maker, seen | {stage.folder})
            inputs.append(entry)
        keep = ("seed", "budget", "code", "cpu_seconds", "co2_kg_estimate", "finished")
        return (
            {"stage": stage.stage, "folder": str(stage.folder)}
            | {k: stage.lineage.get(k) for k in keep}
            | {"inputs": inputs}
        )

    last = next((s for s in reversed(stages) if s.folder.resolve() == run.resolve()), stages[-1])
    return node(last, frozenset())

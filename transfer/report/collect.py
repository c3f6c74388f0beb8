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


def lineage_tree(run: Path) -> dict[str, Any]:
    """What a run was made from: each input with its hash, and the run that wrote it where its papers are still there.

    ConfigError when the folder has no result.json. The stages that a demo ran are its parts.
    """
    if not (run / "result.json").is_file():
        raise ConfigError(f"run={run}: it has no result.json; give the folder that a stage printed.")
    return _node(_read(run, run), frozenset())


def _node(stage: StageResult, seen: frozenset[Path]) -> dict[str, Any]:
    seen = seen | {stage.folder.resolve()}
    inputs = []
    for path, digest in stage.lineage.get("inputs", {}).items():
        entry: dict[str, Any] = {"path": path, "sha256": digest}
        maker = _maker(Path(path))
        if maker is not None and maker.resolve() not in seen:
            entry["made_by"] = _node(_read(maker, maker), seen)
        inputs.append(entry)
    keep = ("seed", "budget", "code", "cpu_seconds", "co2_kg_estimate", "finished")
    node: dict[str, Any] = {"stage": stage.stage, "folder": str(stage.folder), "inputs": inputs}
    node |= {key: stage.lineage.get(key) for key in keep}
    parts = [Path(row["result"]).parent for row in stage.result.get("stages", [])]
    if parts:
        node["parts"] = [_node(_read(p, p), seen) for p in parts if (p / "result.json").is_file()]
    return node


def _maker(path: Path) -> Path | None:
    """The run directory that an artefact lies in."""
    above = [path, *path.parents][:4]
    return next((p for p in above if (p / "result.json").is_file()), None)

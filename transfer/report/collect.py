"""What a run directory holds: the results, curves and lineages of a stage, or of a chain of stages below it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robot.config import ConfigError

_KEPT = ("seed", "budget", "code", "cpu_seconds", "co2_kg_estimate", "finished")
"""What a tree tells of each stage."""


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

    @property
    def inputs(self) -> dict[str, str]:
        """Path -> sha256 of what it read."""
        found: dict[str, str] = self.lineage.get("inputs", self.result.get("inputs", {}))
        return found


def collect(run: Path) -> list[StageResult]:
    """Results in `run` and in the folders below it, in the order in which they finished.

    ConfigError when there are none. Folders that only hold inputs (data sets, bundles) are passed over.
    """
    if not run.is_dir():
        raise ConfigError(f"run={run}: there is no such folder.")
    found = [read_stage(path.parent, run) for path in sorted(run.rglob("result.json"))]
    if not found:
        raise ConfigError(f"run={run}: no result.json in it or below; give the folder that a stage printed.")
    return sorted(found, key=lambda s: (s.folder / "result.json").stat().st_mtime_ns)


def read_stage(folder: Path, top: Path) -> StageResult:
    """One stage's files; `top` is the folder that its name begins at."""
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


def with_makers(run: Path) -> list[StageResult]:
    """Results in `run` and below it, and those that their inputs came from, in the order in which they finished."""
    found = {s.folder.resolve(): s for s in collect(run)}
    open_ = list(found.values())
    while open_:
        for path in open_.pop().inputs:
            maker = maker_of(Path(path))
            if maker is not None and maker.resolve() not in found:
                stage = read_stage(maker, maker)
                found[maker.resolve()] = stage
                open_.append(stage)
    return sorted(found.values(), key=_finished)


def _finished(stage: StageResult) -> tuple[str, int]:
    """When a stage ended, by its own word, which a copy of its folder keeps; what ended in one second by the clock."""
    return str(stage.lineage.get("finished", "")), (stage.folder / "result.json").stat().st_mtime_ns


def lineage_tree(run: Path) -> dict[str, Any]:
    """What a run was made from: each input with its hash, and the run that wrote it where its papers are still there.

    The stages that a demo ran are its parts; so are those below a folder that is no run itself, and that no other stage
    there has used. ConfigError when there are none.
    """
    if (run / "result.json").is_file():
        return _node(read_stage(run, run), frozenset())
    below = collect(run)
    used = {maker.resolve() for s in below for path in s.inputs if (maker := maker_of(Path(path))) is not None}
    ends = [s for s in below if s.folder.resolve() not in used]
    parts = [_node(s, frozenset()) for s in ends]
    return {"stage": "folder", "folder": str(run), "inputs": [], "parts": parts, **dict.fromkeys(_KEPT)}


def _node(stage: StageResult, seen: frozenset[Path]) -> dict[str, Any]:
    seen = seen | {stage.folder.resolve()}
    inputs = []
    for path, digest in stage.inputs.items():
        entry: dict[str, Any] = {"path": path, "sha256": digest}
        maker = maker_of(Path(path))
        if maker is not None and maker.resolve() not in seen:
            entry["made_by"] = _node(read_stage(maker, maker), seen)
        inputs.append(entry)
    node: dict[str, Any] = {"stage": stage.stage, "folder": str(stage.folder), "inputs": inputs}
    node |= {key: stage.lineage.get(key) for key in _KEPT}
    parts = [Path(row["result"]).parent for row in stage.result.get("stages", [])]
    if parts:
        node["parts"] = [_node(read_stage(p, p), seen) for p in parts if (p / "result.json").is_file()]
    return node


def maker_of(path: Path) -> Path | None:
    """The run directory that an artefact lies in."""
    above = [path, *path.parents][:4]
    return next((p for p in above if (p / "result.json").is_file()), None)

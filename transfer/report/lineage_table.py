"""The stages of a run as a table: seeds, code, inputs by hash, and what each took."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transfer.energy import Assumptions, spent
from transfer.report.collect import StageResult

HEAD = ("folder", "stage", "seed", "budget", "seconds", "CPU s", "kWh", "CO2 [g]", "code", "inputs (sha256)")


def of(stages: Sequence[StageResult], assumed: Assumptions) -> tuple[str, Sequence[str], list[Sequence[Any]]]:
    """What all took together with the assumptions, the table's head, and a row a stage."""
    energy = spent(stages, assumed)
    took = {row["folder"]: row for row in energy["stages"]}
    total = f"Together {energy['cpu_seconds']:.0f} CPU s, {energy['kwh']:.2g} kWh and {energy['co2_g']:.2g} g of CO2."
    return f"{total} {energy['note']}", HEAD, [_row(s, took.get(str(s.folder))) for s in stages]


def _row(stage: StageResult, took: dict[str, Any] | None) -> Sequence[Any]:
    shown = ("", "", "") if took is None else tuple(f"{took[k]:.3g}" for k in ("cpu_seconds", "kwh", "co2_g"))
    inputs = ", ".join(f"{Path(p).name} {digest[:8]}" for p, digest in stage.inputs.items()) or "none"
    result = stage.result
    head = (stage.name, stage.stage, result["seed"], result["budget"], f"{result['seconds']:.1f}")
    return (*head, *shown, stage.lineage.get("code", ""), inputs)

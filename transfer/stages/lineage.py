"""What a run was made from, back to the recordings and the seeds:

    terrafirma lineage run=runs/demo

Reads   lineage.json in the folder, and in those that its inputs came from.
Writes  result.json with the tree, and prints it.
Costs   nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot.result import Run
from transfer.choices import existing
from transfer.cli import Common
from transfer.report.collect import lineage_tree


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    run: Path | None = None
    """The folder of a stage, or of a chain of stages."""


def run(cfg: Config, run: Run) -> dict[str, Any]:
    folder = existing(cfg.run, "run", "demo")
    tree = lineage_tree(folder)
    print(drawn(tree))
    return {"tree": tree}


def drawn(node: dict[str, Any], indent: str = "") -> str:
    """The tree as indented text, one line a stage or input."""
    lines = [f"{indent}{node['stage']}  seed {node['seed']}  {node['finished']}  code {node['code']}"]
    for entry in node["inputs"]:
        lines.append(f"{indent}  <- {entry['path']}  sha256 {entry['sha256'][:12]}")
        if "made_by" in entry:
            lines.append(drawn(entry["made_by"], indent + "     "))
    lines += [drawn(part, indent + "  ") for part in node.get("parts", [])]
    return "\n".join(lines)

"""What a run was made from, back to the recordings and the seeds:

    terrafirma lineage run=runs/demo
    terrafirma lineage run=runs/demo remove=logs/monday_3.csv

Reads   lineage.json in the folder, and in those that its inputs came from.
Writes  result.json with the tree, the CPU time of each stage, and energy and CO2 estimated from it; prints both.
Costs   nothing; with remove= some seconds, for files are hashed.
remove= is a recording (a file, an episode of a data set, or the first digits of its sha256): what was computed from it
is listed in the order in which it must be made again without it. Hashes decide, not names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot.result import Run
from transfer.choices import existing
from transfer.cli import Common
from transfer.dependence import without
from transfer.energy import Assumptions, spent
from transfer.report.collect import lineage_tree, with_makers

VOLATILE = ("tree", "energy")
"""Both have times in them."""


@dataclass(frozen=True, kw_only=True)
class Config(Common, Assumptions):
    run: Path | None = None
    """The folder of a stage, or of a chain of stages."""
    remove: str | None = None
    """A recording that is to be taken away."""


def run(cfg: Config, run: Run) -> dict[str, Any]:
    folder = existing(cfg.run, "run", "demo")
    removed = None if cfg.remove is None else without(folder, cfg.remove)
    if removed is not None:
        print("\n".join(told(removed)))
    own = run.out.resolve()
    energy = spent((s for s in with_makers(folder) if s.folder.resolve() != own), cfg)
    tree = lineage_tree(folder)
    if cfg.remove is None:
        print(drawn(tree))
    print(f"{energy['cpu_seconds']:.0f} CPU s, {energy['kwh']:.3g} kWh, {energy['co2_g']:.3g} g CO2. {energy['note']}")
    return {"tree": tree, "energy": energy} | ({} if removed is None else {"remove": removed})


def told(removed: dict[str, Any]) -> list[str]:
    """What is to be done again, one line a stage."""
    lines = [
        f"{i}. {row['again']} again{'' if row['certain'] else ' (perhaps)'}: {row['stage']} in {row['folder']}, for "
        f"{row['because']}"
        for i, row in enumerate(removed["redo"], 1)
    ]
    if not lines:
        by = ", ".join(removed["refused_by"])
        lines = ["nothing depends on it" + (f"; it was refused by the ingest in {by}." if by else ".")]
    return [f"without {removed['recording']} (sha256 {removed['sha256'][:12]}):", *lines]


def drawn(node: dict[str, Any], indent: str = "") -> str:
    """The tree as indented text, one line a stage or input."""
    made = f"  seed {node['seed']}  {node['finished']}  code {node['code']}" if node["finished"] else ""
    lines = [f"{indent}{node['stage']} {node['folder']}{made}"]
    for entry in node["inputs"]:
        lines.append(f"{indent}  <- {entry['path']}  sha256 {entry['sha256'][:12]}")
        if "made_by" in entry:
            lines.append(drawn(entry["made_by"], indent + "     "))
    lines += [drawn(part, indent + "  ") for part in node.get("parts", [])]
    return "\n".join(lines)

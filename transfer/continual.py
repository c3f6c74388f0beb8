"""A second robot or day without losing the first: what earlier fine-tunings leave for later ones.

A fine-tuning writes, under `tasks` of its result.json, what it was about and all that it had kept: the posterior that
it trained in, the evidence that it was judged by, and its policy. A later one that is told to keep it trains on the
mixture of the posteriors, is judged on all of the evidence, and makes the matrix of tasks by time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot.config import ConfigError
from transfer import kpi
from transfer.select import Episodes, success_of

RESERVED = ("source", "success", "return")
"""Names that mean something beside those of tasks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned:
    """One robot, or one day of it, that a policy was fine-tuned for."""

    name: str
    posterior: str
    """File of what was trained in."""
    evidence: str
    """File of what was judged by."""
    policy: str
    """Folder of what came of it."""

    def row(self) -> dict[str, str]:
        """As result.json lists it."""
        return asdict(self)


def learned(folders: Sequence[Path]) -> tuple[Learned, ...]:
    """What the fine-tunings in these folders were about, and what they had kept themselves, in order, each once.

    ConfigError where a folder holds no fine-tuning of a policy, or lost one of its files.
    """
    found: dict[str, Learned] = {}
    for folder in folders:
        for row in _rows(folder):
            for key in ("posterior", "evidence", "policy"):
                if not Path(row[key]).exists():
                    raise ConfigError(
                        f"keep={folder}: its {key} {row[key]} is no longer there; put it back, or run it again."
                    )
            found.setdefault(str(Path(row["evidence"]).resolve()), Learned(**row))
    names = [item.name for item in found.values()]
    return tuple(i if names.count(i.name) == 1 and i.name not in RESERVED else _renamed(i) for i in found.values())


def _rows(folder: Path) -> list[dict[str, str]]:
    path = Path(folder) / "result.json"
    try:
        result = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigError(
            f"keep={folder}: it holds no result.json of a fine-tuning ({type(error).__name__})."
        ) from error
    if result.get("stage") != "finetune" or "tasks" not in result:
        raise ConfigError(
            f"keep={folder}: it is no fine-tuning of a policy, or one of before this version; run it again."
        )
    rows: list[dict[str, str]] = result["tasks"]
    return rows


def _renamed(item: Learned) -> Learned:
    return Learned(name=item.evidence, posterior=item.posterior, evidence=item.evidence, policy=item.policy)


def matrix(ran: Mapping[str, Mapping[str, Episodes]], rng: np.random.Generator) -> dict[str, Any]:
    """Success of each time's policy (rows) at each task (columns), and what later learning did to earlier tasks.

    `ran`: time -> task -> episodes, the times in order; a time has the name of the task that was learned then.
    `backward_transfer` of each task is success at the end minus success just after it was learned (Lopez-Paz and
    Ranzato, NeurIPS 2017): below 0 it was forgotten.
    """
    last = ran[list(ran)[-1]]
    backward = {
        task: kpi.difference(last[task].success.astype(float), row[task].success.astype(float), rng)
        for task, row in list(ran.items())[:-1]
    }
    return {
        "tasks": list(last),
        "times": list(ran),
        "success": [[success_of(row[task]) for task in last] for row in ran.values()],
        "backward_transfer": backward,
    }
